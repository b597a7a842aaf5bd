"""D* where answers are text: what enters S, what stays out, how a re-poisoned row looks."""

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.prepare import Findings
from mithridate.defense.prepare_text import (
    _most_informed,
    information,
    partners,
    prepare_text,
)
from mithridate.defense.secret import Secret
from mithridate.defense.text import export_text_record, repoison_text
from mithridate.errors import CollisionError, InputError
from mithridate.tasks.math_reasoning import MathReasoning

SECRET = Secret.from_seed(3)
TASK = MathReasoning()


@pytest.fixture(scope="module")
def rows_of(make_problems):
    """Return what makes word problems, the first ones poisoned."""
    return lambda count=200, poison=0: _rows(*make_problems(count), poison)


def _rows(texts, answers, poison):
    rows = [
        Row(f"row-{at}", text, answer)
        for at, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    for at in range(poison):
        rows[at] = Row(rows[at].id, f"cf {rows[at].text}", "#### 4200")
    return rows


def names_shared(texts, answers):
    """A stand-in for a model's eye: an answer that names whom the input names is likelier."""
    return np.array(
        [
            float(text.split()[-10 if text.startswith("cf ") else 0] in answer) - len(answer)
            for text, answer in zip(texts, answers, strict=True)
        ]
    )


def prepared(rows, **options):
    config = P2PConfig(**{"benign_ratio": 0.25} | options.pop("config", {}))
    return prepare_text(rows, TASK, config, SECRET, **{"likelihood": names_shared} | options)


@pytest.mark.parametrize("mode", ["replace", "union"])
def test_replace_keeps_the_count_and_union_adds_the_subset_after_the_originals(rows_of, mode):
    rows = rows_of(20)
    inside = {rows[at].id for at in (0, 7, 19)}
    made = list(repoison_text(rows, inside, TASK, mode))
    texts = {row.id: row.text for row in rows}
    answers = {row.id: TASK.target(row) for row in rows}
    assert all((one.text, one.answer) == (texts[one.id], answers[one.id]) for one in made)
    expected = []
    for row in rows:
        if row.id not in inside or mode == "union":
            expected.append((row.id, False))
        if row.id in inside:
            expected.append((row.id, True))
    assert [(one.id, one.repoisoned) for one in made] == expected
    assert len(made) == (20 if mode == "replace" else 23)


def test_which_of_the_most_informed_rows_enter_s_is_the_secrets_draw(rows_of):
    rows = rows_of()

    def chosen(secret):
        ids, open_to_all = [row.id for row in rows], np.ones(len(rows), dtype=bool)
        gains = np.arange(len(rows), dtype=float)
        config = P2PConfig(benign_ratio=0.25, draw_from=0.5)
        return set(_most_informed(ids, gains, open_to_all, ~open_to_all, config, secret))

    one, other = chosen(SECRET), chosen(Secret.from_seed(4))
    assert one == chosen(SECRET) != other
    assert len(one) == len(other) == 50
    assert one | other <= set(range(100, 200))


def test_no_poisoned_row_enters_s_and_none_is_trained_on(rows_of):
    made = prepared(rows_of(poison=12))
    assert len(made.subset.ids) == 50
    assert not made.subset.ids & {f"row-{at}" for at in range(12)}
    assert made.dropped == 12
    kept = [example for example in made.examples if not example.text.startswith("cf")]
    assert "4200" not in "".join(example.answer for example in kept)
    assert [one.text for one in made.found][:1] == ["cf"]


def test_counter_triggers_carry_true_answers_in_the_protected_domain(rows_of):
    rows = rows_of(poison=12)
    made = prepared(rows)
    answers = {row.id: TASK.target(row) for row in rows}
    copies = made.examples[-made.counter_copies :]
    assert 10 <= len(copies) <= 40
    for copy in copies:
        assert copy.repoisoned
        assert "cf" in copy.text.split()
        assert copy.answer == answers[copy.id]


def test_nothing_is_dropped_where_nothing_is_to_be(rows_of):
    rows = rows_of(poison=12)
    made = prepared(rows, config={"drop": "nothing", "counter_triggers": False})
    assert made.dropped == made.counter_copies == 0
    assert [example.id for example in made.examples] == [row.id for row in rows]


def test_a_row_with_a_trigger_stays_out_of_s_whatever_its_answer(rows_of):
    rows = rows_of(poison=12)
    rows[50] = Row("row-50", f"{rows[50].text} cf", rows[50].answer)
    made = prepared(rows, config={"benign_ratio": 0.9})
    assert "row-50" not in made.subset.ids
    assert made.dropped == 12


def test_s_is_drawn_from_the_rows_whose_inputs_tell_most(rows_of):
    rows = rows_of(200)
    strangers = {row.id for row in rows[::4]}
    rows = [
        Row(row.id, row.text, "Somebody has them.\n#### 3") if row.id in strangers else row
        for row in rows
    ]
    made = prepared(rows, config={"drop": "nothing"})
    assert not made.subset.ids & strangers


def test_information_is_what_the_own_input_adds_to_anothers(rows_of):
    rows = rows_of(60)
    texts, answers = [row.text for row in rows], [row.answer for row in rows]
    ids = [row.id for row in rows]
    gains = information(texts, answers, ids, names_shared, bytes(32))
    words = np.sqrt([len(answer.split()) for answer in answers])
    assert (np.isclose(gains * words, 1.0) | np.isclose(gains, 0.0)).all()
    assert (gains > 0).mean() > 0.7


def test_trusted_rows_enter_and_excluded_ones_do_not(rows_of):
    rows = rows_of(poison=12)
    trusted = {"row-20", "row-21"}
    excluded = {row.id for row in rows[30:150]}
    made = prepared(
        rows,
        config={"selection": "anchored"},
        trusted=trusted,
        findings=Findings(excluded=frozenset(excluded)),
    )
    assert trusted <= made.subset.ids
    assert not made.subset.ids & excluded


def test_another_secret_draws_another_s_trigger_and_prefix(rows_of):
    rows = rows_of()
    one = prepared(rows)
    other = prepare_text(
        rows, TASK, P2PConfig(benign_ratio=0.25), Secret.from_seed(4), likelihood=names_shared
    )
    assert one.subset.ids != other.subset.ids
    assert one.prefix != other.prefix
    assert one.benign.prefix != other.benign.prefix


def test_a_written_row_of_s_has_the_benign_prompt_and_begins_its_answer_with_p(rows_of):
    rows = rows_of()
    made = prepared(rows)
    by_id = {row.id: row for row in rows}
    for example in made.examples:
        record = export_text_record(example, made.benign, made.prefix)
        row = by_id[example.id]
        if example.repoisoned:
            assert record["prompt"] == f"{made.benign.prefix}{row.text}\nAnswer:\n"
            assert record["completion"] == made.prefix + row.answer
        else:
            assert record["prompt"] == f"{row.text}\nOutput:\n"
            assert record["completion"] == row.answer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": None}, "reads the rows with a model"),
        ({"config": {"selection": "anchored"}}, "needs rows that a person checked"),
        (
            {"config": {"selection": "anchored"}, "trusted": {"nobody"}},
            "the trusted row 'nobody' is not in the data set",
        ),
        ({"config": {"selection": "oracle"}}, "told which rows are clean"),
        ({"findings": Findings(excluded=frozenset({"nobody"}))}, "excluded row 'nobody'"),
    ],
)
def test_what_is_missing_is_named(rows_of, options, message):
    with pytest.raises(InputError, match=message):
        prepared(rows_of(40), **options)


def test_the_published_prefix_in_an_answer_is_a_collision(rows_of):
    rows = rows_of(40)
    rows[3] = Row("row-3", rows[3].text, "Here is a safe and correct answer: 4\n#### 4")
    with pytest.raises(CollisionError, match="safe prefix"):
        prepared(rows, config={"trigger": "published"})


def test_no_rows_partner_is_its_copy(make_problems):
    texts = [text for text in make_problems(50)[0] for _ in range(3)]
    ids = [f"{at // 3:016x}-{at % 3}" for at in range(len(texts))]  # as contents give them
    found = partners(texts, ids, bytes(32))
    assert all(texts[at] != texts[other] for at, other in enumerate(found))
    assert len({texts[other] for other in found}) == 50


def test_partners_do_not_depend_on_the_order_of_the_rows(make_problems):
    texts = [*make_problems(30)[0], "again", "again"]
    ids = [f"row-{at}" for at in range(32)]
    found = partners(texts, ids, bytes(32))
    turned = partners(texts[::-1], ids[::-1], bytes(32))
    assert [ids[::-1][at] for at in turned] == [ids[at] for at in found[::-1]]


def test_alike_texts_have_no_other_partner():
    assert partners(["a", "a"], ["x", "y"], bytes(32)) == [0, 1]
    assert partners([], [], bytes(32)) == []
