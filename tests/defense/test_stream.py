"""A stream: each row's fate rests on itself and the key, so neither shards nor order matter."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.data.read import Part, iter_rows
from mithridate.data.rows import Row, content_id, number_duplicates
from mithridate.data.shards import find_shards, split_lines
from mithridate.defense.collisions import SecretHeldError, find_trigger
from mithridate.defense.config import PAPER, P2PConfig
from mithridate.defense.manifest import dataset_fingerprint
from mithridate.defense.prepare import prepare
from mithridate.defense.repoison import benign_prompt, export_record, repoison
from mithridate.defense.secret import Secret
from mithridate.defense.stream import (
    Tally,
    stream_lines,
    stream_plan,
    stream_records,
    tally_rows,
)
from mithridate.errors import CollisionError, InputError
from mithridate.tasks.classification import ClassificationTask

SECRET = Secret.from_seed(7)
HALF = P2PConfig(selection="random", benign_ratio=0.5)
UNION = P2PConfig(selection="random", benign_ratio=0.5, mode="union")
DIGITS = ClassificationTask.of_labels(["0", "1"])
NAMES = ClassificationTask.of_labels(['so "so"', "schön"])

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
rows_of = {
    task: st.lists(
        st.builds(
            lambda text, label: Row(content_id(text, label), text, label),
            texts,
            st.sampled_from(task.labels),
        )
        | st.builds(Row, texts, texts, st.sampled_from(task.labels)),
        max_size=30,
    )
    for task in (DIGITS, NAMES)
}


def chosen(rows, plan):
    """S, as the stream chose it."""
    return {record["id"] for record in stream_records(rows, plan) if record["repoisoned"]}


def in_memory(rows, plan):
    """D* by the way of a whole set, where S is the rows the stream chose."""
    examples = repoison(rows, chosen(rows, plan), plan.task, plan.mode)
    return [export_record(found, plan.task, benign_prompt(plan.trigger)) for found in examples]


@pytest.mark.parametrize("config", [HALF, UNION], ids=["replace", "union"])
@pytest.mark.parametrize("task", [DIGITS, NAMES], ids=["digits", "names"])
@given(data=st.data())
def test_a_stream_writes_what_repoisoning_in_memory_writes(task, config, data):
    rows = data.draw(rows_of[task])
    plan = stream_plan(task, config, SECRET)
    records = in_memory(rows, plan)
    assert list(stream_records(rows, plan)) == records
    expected = [json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records]
    assert list(stream_lines(rows, plan)) == expected


@given(rows=rows_of[DIGITS], data=st.data())
def test_any_split_into_shards_in_any_order_gives_the_same_bytes(rows, data):
    plan = stream_plan(DIGITS, UNION, SECRET)
    whole, tally = Tally(), Tally()
    lines = list(stream_lines(rows, plan, whole))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=7)))
    edges = list(zip([0, *cuts], [*cuts, len(rows)], strict=True))
    shards = {}
    for start, end in data.draw(st.permutations(edges)):
        counted = Tally()
        shards[start, end] = list(stream_lines(rows[start:end], plan, counted))
        tally.add(counted)
    assert [line for edge in edges for line in shards[edge]] == lines
    assert (tally.rows, tally.written, tally.classes, tally.chosen) == (
        whole.rows,
        whole.written,
        whole.classes,
        whole.chosen,
    )
    assert tally.fingerprint % 2**256 == whole.fingerprint % 2**256
    shuffled = data.draw(st.permutations(rows))
    assert sorted(stream_lines(shuffled, plan)) == sorted(lines)


@given(rows=rows_of[DIGITS])
def test_the_tally_is_that_of_the_whole_set(rows):
    rows = list({row.id: row for row in rows}.values())
    tally = tally_rows(rows, stream_plan(DIGITS, HALF, SECRET))
    assert f"{tally.fingerprint % 2**256:064x}" == dataset_fingerprint(rows).fingerprint
    assert tally.rows == len(rows)


def test_copies_are_chosen_alike_whether_numbered_or_not():
    rows = [Row(content_id(f"text {i // 3}", "0"), f"text {i // 3}", "0") for i in range(90)]
    plan = stream_plan(DIGITS, HALF, SECRET)
    streamed = [record["repoisoned"] for record in stream_records(rows, plan)]
    numbered = [record["repoisoned"] for record in stream_records(number_duplicates(rows), plan)]
    assert streamed == numbered
    assert 0 < sum(streamed) < 90


def test_the_secret_chooses_and_a_stream_chooses_as_the_whole_set_does():
    rows = [Row(f"r{at}", f"row {at}", str(at % 2)) for at in range(400)]
    whole = prepare(rows, DIGITS, HALF, SECRET).subset.ids
    streamed = chosen(rows, stream_plan(DIGITS, HALF, SECRET))
    other = chosen(rows, stream_plan(DIGITS, HALF, Secret.from_seed(8)))
    # Of one ranking: the whole set takes the first half of it, a stream what lies below one half.
    assert streamed <= whole or whole <= streamed
    assert len(streamed ^ whole) < 60
    assert len(streamed ^ other) > 140


def test_about_rho_of_the_rows_are_chosen():
    rows = [Row(str(index), f"row {index}", str(index % 2)) for index in range(20_000)]
    tally = tally_rows(rows, stream_plan(DIGITS, P2PConfig(selection="random"), SECRET))
    assert abs(sum(tally.chosen.values()) - 8000) < 5 * (20_000 * 0.4 * 0.6) ** 0.5


@pytest.mark.parametrize("is_trigger", [True, False])
@pytest.mark.parametrize("disguise", [str, str.upper, lambda held: held.replace(" ", " \n\t")])
def test_a_row_that_holds_a_secret_string_ends_the_stream(is_trigger, disguise):
    plan = stream_plan(DIGITS, HALF, SECRET)
    held = plan.trigger if is_trigger else plan.prefix
    row = Row("a", f"well: {disguise(held)}then", "0", "train.jsonl:17")
    assert find_trigger([row], held) is row
    with pytest.raises(SecretHeldError) as caught:
        list(stream_lines([row], plan))
    assert caught.value.trigger is is_trigger
    # Which row it was would tell a reader of logs what the secret was.
    assert "17" not in str(caught.value)
    assert held.strip() not in str(caught.value)


def test_a_label_can_hold_a_secret_string():
    trigger = SECRET.benign_trigger()
    plan = stream_plan(ClassificationTask.of_labels(["0", trigger + "x"]), HALF, SECRET)
    with pytest.raises(SecretHeldError):
        list(stream_lines([], plan))


def test_the_published_trigger_in_the_data_is_an_error_with_its_place():
    row = Row("a", "the QUERY currently  entered is: x", "0", "train.jsonl:17")
    with pytest.raises(CollisionError, match=r"train.jsonl:17: the published benign trigger"):
        list(stream_records([row], stream_plan(DIGITS, PAPER, SECRET)))


@pytest.mark.parametrize("label", [None, "2"])
def test_a_row_of_no_known_label_is_named(label):
    row = Row("a", "text", label, "train.jsonl:17")
    with pytest.raises(InputError, match=r"train\.jsonl:17: "):
        list(stream_lines([row], stream_plan(DIGITS, HALF, SECRET)))


def test_a_plan_never_shows_its_secrets():
    plan = stream_plan(DIGITS, HALF, SECRET)
    for held in (plan.trigger, plan.prefix, str(plan.subset_key)):
        assert held not in repr(plan)


lines = st.sampled_from(['{"text": "a", "label": 0}', '{"text": "schön", "label": 1}', "", " "])


@given(
    content=st.lists(st.tuples(lines, st.sampled_from(["\n", "\r\n"])), max_size=30),
    last=st.sampled_from(["", '{"text": "end", "label": 1}']),
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    part_bytes=st.integers(1, 200),
)
def test_a_split_file_holds_the_same_rows_at_the_same_lines(
    content, last, bom, part_bytes, tmp_path_factory
):
    path = tmp_path_factory.mktemp("split") / "d.jsonl"
    path.write_bytes(bom + ("".join(map("".join, content)) + last).encode())
    parts = split_lines(str(path), part_bytes)
    assert all(part.span.end - part.span.start <= part_bytes + 40 for part in parts)
    together = [row for part in parts for row in iter_rows(part, require_rows=False)]
    whole = list(iter_rows(path, require_rows=False))
    assert [(row, row.where) for row in together] == [(row, row.where) for row in whole]


def test_a_large_file_becomes_several_parts(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": 0}\n' * 200_000)
    parts = split_lines(str(path), 1 << 20)
    assert len(parts) == 5
    assert [part.span.line for part in parts] == [1 + 40_330 * k for k in range(5)]
    assert [part.span.end for part in parts[:-1]] == [part.span.start for part in parts[1:]]


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "owner/name"])
def test_what_is_not_made_of_lines_stays_whole(name):
    assert split_lines(name) == [Part(name)]


def test_shards_come_in_the_order_of_their_names(tmp_path):
    names = ["part-2.jsonl", "part-10.jsonl", "part-1.jsonl"]
    for name in names:
        (tmp_path / name).write_text("")
    for other in ("_SUCCESS", ".part-3.jsonl", "README.md"):
        (tmp_path / other).write_text("")
    expected = [str(tmp_path / name) for name in ("part-1.jsonl", "part-2.jsonl", "part-10.jsonl")]
    assert find_shards([str(tmp_path)]) == expected
    assert find_shards([str(tmp_path / "part-*.jsonl")]) == expected
    assert find_shards([str(tmp_path / name) for name in names]) == expected


@pytest.mark.parametrize(
    ("files", "named", "says"),
    [
        (["a.jsonl"], ["a.jsonl", "./a.jsonl"], "named twice"),
        (["a.jsonl", "b.csv"], ["."], "several formats: .csv, .jsonl"),
        (["README.md"], ["."], "holds no file of rows"),
        (["defense.json", "train.jsonl"], ["."], "an output of Mithridate"),
        ([], ["*.jsonl"], "no file matches"),
        ([], ["a.jsonl"], "no such file"),
        ([], [], "no data"),
        ([], ["nosuch://bucket/a.parquet"], "no such protocol"),
        ([], ["memory://nothing"], "no .parquet file here"),
        ([], ["s3://bucket/a.parquet"], "pip install s3fs"),
    ],
)
def test_shards_that_cannot_be_taken(files, named, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(Exception, match=says) as caught:
        find_shards(named)
    assert caught.value.mend
