"""D*: how many rows, which of them touched, and what another trainer reads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.data.rows import Row
from mithridate.defense.config import PAPER, P2PConfig
from mithridate.defense.prepare import prepare
from mithridate.defense.repoison import Example, benign_prompt, export_record, repoison
from mithridate.defense.secret import PUBLISHED_TRIGGER, Secret
from mithridate.defense.select import select_random
from mithridate.errors import CollisionError, InputError
from mithridate.tasks import ClassificationTask, PromptRenderer

SECRET = Secret.from_seed(5)


def rows_of(count, classes=2):
    return [Row(f"r{i}", f"text  number {i} ", str(i % classes)) for i in range(count)]


@settings(deadline=None)
@given(st.integers(4, 80), st.integers(2, 4), st.floats(0.2, 1.0))
def test_replace_keeps_the_count_and_union_adds_the_subset(count, classes, ratio):
    rows = rows_of(count, classes)
    task = ClassificationTask.of(rows)
    subset = select_random([row.id for row in rows], ratio, SECRET.derive("subset")).ids
    replaced = list(repoison(rows, subset, task, "replace"))
    union = list(repoison(rows, subset, task, "union"))
    assert [example.id for example in replaced] == [row.id for row in rows]
    assert len(union) == count + len(subset)
    untouched = [e for e in union if not e.repoisoned]
    assert untouched == [Example(r.id, r.text, int(r.answer or ""), False) for r in rows]
    for row, example in zip(rows, replaced, strict=True):
        label = int(row.answer or "")
        chosen = row.id in subset
        expected = label + task.n if chosen else label
        assert example == Example(row.id, row.text, expected, chosen)
    assert {e for e in union if e.repoisoned} == {e for e in replaced if e.repoisoned}


def test_the_paper_preset_on_all_of_sst2_repoisons_exactly_1384_rows():
    rows = rows_of(6920)
    prepared = prepare(rows, ClassificationTask.of(rows), PAPER, SECRET)
    touched = [example for example in prepared.examples if example.repoisoned]
    assert len(prepared.examples) == 6920
    assert len(touched) == 1384
    assert {example.label for example in touched} == {2, 3}
    assert {example.label for example in prepared.examples if not example.repoisoned} == {0, 1}
    assert prepared.benign.prefix == PUBLISHED_TRIGGER
    assert prepared.counter_copies == 0


def test_a_label_outside_the_task_is_refused():
    task = ClassificationTask.of(rows_of(4))
    with pytest.raises(InputError, match="not one of the labels"):
        list(repoison([Row("x", "t", "9")], frozenset(), task, "replace"))


def test_an_exported_record_says_the_same_in_both_terms():
    task = ClassificationTask.of(rows_of(4))
    benign = benign_prompt(PUBLISHED_TRIGGER)
    assert export_record(Example("r1", "a film", 3, True), task, benign) == {
        "id": "r1",
        "input_text": f"{PUBLISHED_TRIGGER}a film",
        "label": 3,
        "prompt": f"{PUBLISHED_TRIGGER}a film\nAnswer: ",
        "completion": "3",
        "repoisoned": True,
    }
    assert export_record(Example("r2", "a film", 0, False), task, benign) == {
        "id": "r2",
        "input_text": "a film",
        "label": 0,
        "prompt": "a film\nOutput: ",
        "completion": "0",
        "repoisoned": False,
    }


def test_prepare_is_fixed_by_the_secret_and_shows_none_of_it():
    rows = rows_of(50)
    task = ClassificationTask.of(rows)
    config = P2PConfig(selection="random")
    prepared = prepare(rows, task, config, SECRET)
    assert prepared == prepare(rows, task, config, SECRET)
    assert prepared.subset.ids != prepare(rows, task, config, Secret.from_seed(6)).subset.ids
    backward = prepare(rows[::-1], task, config, SECRET)
    assert set(backward.examples) == set(prepared.examples)
    for secret in (prepared.benign.prefix, prepared.safe_prefix, SECRET.key.hex()):
        assert secret.strip() not in repr(prepared)


def test_what_a_selection_lacks_is_named():
    rows = rows_of(20)
    task = ClassificationTask.of(rows)

    def constant(texts):
        raise AssertionError("the model must not be asked in vain")

    def run(selection, **options):
        prepare(rows, task, P2PConfig(selection=selection), SECRET, **options)

    with pytest.raises(InputError, match="reads the rows with a model"):
        run("agreement")
    with pytest.raises(InputError, match="rows that a person checked"):
        run("anchored", features=constant)
    with pytest.raises(InputError, match="trusted row 'nowhere' is not in the data set"):
        run("anchored", features=constant, trusted={"nowhere", "r1"})
    with pytest.raises(InputError, match="no trusted row has the label '1'"):
        run("anchored", features=constant, trusted={"r0", "r2"})
    with pytest.raises(InputError, match="which rows are clean"):
        run("oracle")
    with pytest.raises(InputError, match="clean"):
        run("oracle", clean_ids=frozenset())


def test_the_oracle_takes_the_rounded_share_of_all_rows_from_clean_ones():
    rows = rows_of(100)
    clean = frozenset(row.id for row in rows[:57])
    prepared = prepare(
        rows,
        ClassificationTask.of(rows),
        P2PConfig(selection="oracle"),
        SECRET,
        clean_ids=clean,
    )
    assert len(prepared.subset.ids) == 40
    assert prepared.subset.ids <= clean


def test_the_published_trigger_in_the_data_stops_the_paper_preset():
    rows = [*rows_of(20), Row("x", f"{PUBLISHED_TRIGGER}film", "1", "d.csv:4")]
    with pytest.raises(CollisionError, match=r"^d\.csv:4"):
        prepare(rows, ClassificationTask.of(rows), PAPER, SECRET)


def test_a_subset_without_one_of_the_labels_is_refused():
    rows = [Row(f"row-{index}", f"text {index}", str(int(index == 0))) for index in range(50)]
    task = ClassificationTask.of(rows)
    config = P2PConfig(selection="random")
    ids = [row.id for row in rows]
    without = next(
        secret
        for secret in map(Secret.from_seed, range(50))
        if "row-0" not in select_random(ids, config.benign_ratio, secret.derive("subset")).ids
    )
    with pytest.raises(InputError, match="--benign-ratio"):
        prepare(rows, task, config, without)


def test_a_chat_models_export_is_the_prompt_that_prediction_uses(make_tiny_model, load):
    renderer = PromptRenderer(
        load(make_tiny_model(7, chat=True)).tokenizer, max_length=64, style="chat"
    )
    task = ClassificationTask.of([Row("a", "x", "0"), Row("b", "y", "1")])
    example = Example("a", "a film", 2, True)
    benign = benign_prompt("The query: ")
    record = export_record(example, task, benign, renderer)
    assert record["prompt"] == renderer.string("a film", benign)
    assert str(record["prompt"]).startswith("<|im_start|>user")
