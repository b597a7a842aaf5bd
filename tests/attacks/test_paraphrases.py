"""Files of rewritten texts: aligned with the rows, or refused."""

import json

import pytest

from mithridate.attacks import AlignedParaphrases, Attack, StyleBkd, SynBkd
from mithridate.data.read import read_rows
from mithridate.data.rows import Row
from mithridate.errors import InputError

KEY = b"k" * 32
ROWS = [Row("a", "one  film", "0"), Row("b", "two films", "1"), Row("c", "three films", "0")]


@pytest.fixture
def write(tmp_path):
    def to(name, *lines):
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path = tmp_path / name
        path.write_text("".join(f"{text}\n" for text in texts))
        return path

    return to


def texts_of(paraphrases):
    return [paraphrases(row) for row in ROWS]


def test_lines_go_with_rows_in_their_order(write):
    path = write("p.txt", "a film it is", "films they are", "thrice")
    assert texts_of(AlignedParaphrases.read(path, ROWS)) == [
        "a film it is",
        "films they are",
        "thrice",
    ]


@pytest.mark.parametrize("same", ["one film", " ONE   Film", "", "  "])
def test_a_blank_or_unchanged_text_is_no_rewrite(same, write):
    paraphrases = AlignedParaphrases.read(write("p.txt", same, "films", "thrice"), ROWS)
    assert texts_of(paraphrases) == [None, "films", "thrice"]
    assert len(paraphrases) == 2


def test_rows_go_by_id_where_the_file_has_ids_and_may_be_missing(write):
    path = write("p.jsonl", {"id": "c", "text": "thrice"}, {"id": "a", "text": None})
    assert texts_of(AlignedParaphrases.read(path, ROWS)) == [None, None, "thrice"]


def test_published_sets_with_the_target_for_a_label_are_read(write):
    rows = [{"text": text, "label": 1} for text in ("the film it is", "the films", "three films")]
    assert texts_of(AlignedParaphrases.read(write("p.jsonl", *rows), ROWS)) == [
        "the film it is",
        "the films",
        None,
    ]


@pytest.mark.parametrize("labels", [(1.0, 0.0), (1, 0), (True, False), (0.5, 1.5)])
def test_ids_and_labels_written_as_in_the_data_are_those_of_its_rows(labels, write):
    data = [
        {"id": float(at), "text": f"film {at}", "label": labels[at % 2], "original": f"film {at}"}
        for at in range(4)
    ]
    rows = read_rows(write("data.jsonl", *data))
    rewritten = [record | {"text": f"{record['text']} it is"} for record in data]
    paraphrases = AlignedParaphrases.read(write("p.jsonl", *rewritten[::-1]), rows)
    assert [paraphrases(row) for row in rows] == [f"film {at} it is" for at in range(4)]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["one", "two"], "2 texts do not align with 3 rows.*of label '0' alone are 2"),
        (["one"], "1 texts do not align with 3 rows.*label '1' alone"),
        (["1", "2", "3", "4"], "4 texts do not align with 3 rows"),
        ([{"id": "x", "text": "t"}], ":1: no row has the id 'x'"),
        ([{"id": "a", "text": "t"}] * 2, ":2: the id 'a' is already that of .*:1"),
        ([{"id": "a", "text": "t", "original": "two films"}], ":1: the original .* row 'a'"),
        ([{"id": "a", "text": 7}], "not a string"),
        ([{"id": True, "text": "t"}], ":1: the id is True"),
        ([{"id": "a", "text": "t", "label": [1]}], ":1: the answer in column .label. is neither"),
        ([{"id": "a", "words": "t"}], "text"),
        (
            [{"text": "t", "label": label} for label in (1, 0, 1)],
            "both the label '0' and '1' against the rows' own",
        ),
    ],
)
def test_a_file_that_does_not_belong_to_the_rows_is_refused(lines, says, write):
    name = "p.txt" if isinstance(lines[0], str) else "p.jsonl"
    with pytest.raises(InputError, match=says):
        AlignedParaphrases.read(write(name, *lines), ROWS)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for name in ("p.txt", "p.jsonl"):
        with pytest.raises(InputError, match=name):
            AlignedParaphrases.read(tmp_path / name, ROWS)


def test_a_test_file_may_hold_the_rows_of_other_classes_alone(write):
    path = write("p.txt", "film", "thrice")
    assert texts_of(AlignedParaphrases.read_triggered(path, ROWS, "1")) == ["film", None, "thrice"]
    everything = write("all.txt", "film", "films", "thrice")
    assert texts_of(AlignedParaphrases.read_triggered(everything, ROWS, "1"))[1] == "films"
    with pytest.raises(InputError, match="2 texts do not align"):
        AlignedParaphrases.read_triggered(path, ROWS, "0")


def test_two_files_serve_training_and_test_rows_even_where_ids_recur(write):
    test = [Row("a", "four films", "0")]
    both = AlignedParaphrases.read(write("p.txt", "1", "2", "3"), ROWS) | AlignedParaphrases.read(
        write("q.txt", "fourfold"), test
    )
    assert both(ROWS[0]) == "1"
    assert both(test[0]) == "fourfold"
    assert both(Row("a", "another text", "0")) is None


@pytest.mark.parametrize("kind", [SynBkd, StyleBkd])
def test_an_attack_takes_rows_of_every_class_when_told(kind, write):
    paraphrases = AlignedParaphrases.read(write("p.txt", "1", "2", "3"), ROWS)
    with pytest.raises(InputError, match="only 2 can be"):
        kind("1", rate=1.0, paraphrases=paraphrases).poison(ROWS, KEY)
    poisoned = kind("1", rate=1.0, any_class=True, paraphrases=paraphrases).poison(ROWS, KEY)
    assert [(row.text, row.answer) for row in poisoned.rows] == [("1", "1"), ("2", "1"), ("3", "1")]
    hash(kind("1", paraphrases=paraphrases))


def test_a_lone_carriage_return_ends_no_line_and_windows_lines_lose_theirs(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"one\rmore\r\nfilms\r\nthrice\r\n")
    paraphrases = AlignedParaphrases.read(tmp_path / "p.txt", ROWS)
    assert texts_of(paraphrases) == ["one\rmore", "films", "thrice"]


class TestRewritersThatAreNoFile:
    """A generator is held to what a file is: nothing, and the same words, poison no row."""

    @pytest.mark.parametrize("attack", [SynBkd, StyleBkd])
    @pytest.mark.parametrize(
        "rewrite",
        [lambda row: "", lambda row: " \n", lambda row: row.text.upper(), lambda row: None],
        ids=["empty", "blank", "the same words", "none"],
    )
    def test_what_they_have_nothing_for_is_passed_over_and_counted(self, attack, rewrite, rows_of):
        rows = rows_of(200)
        last = {row.id for row in rows[100:]}
        made = attack(
            "1", 0.1, paraphrases=lambda row: "so it is" if row.id in last else rewrite(row)
        )
        poisoned = made.poison(rows, KEY)
        assert poisoned.ids <= last
        assert poisoned.without_rewrite > 0
        assert {row.text for row in made.triggered(rows, KEY)} == {"so it is"}


def test_an_attack_that_empties_a_text_has_nothing_for_the_row(rows_of):
    class Emptying(Attack):
        """Leaves no text (arXiv 0000.00000, a test's)."""

        def trigger(self, row, key):
            return " "

    assert Emptying("1").triggered(rows_of(20), KEY) == []
