"""Labels, label words, and the user's own names of the classes."""

from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.data.rows import Row
from mithridate.errors import InputError
from mithridate.tasks import ClassificationTask
from mithridate.tasks.classification import default_label_words


def rows_of(*answers):
    return [Row(f"r{index}", f"text {index}", answer) for index, answer in enumerate(answers)]


def test_default_words_are_digits_and_beyond_ten_padded_numbers():
    assert default_label_words(4) == ("0", "1", "2", "3")
    assert default_label_words(12)[:2] == ("00", "01")
    assert default_label_words(200)[-1] == "199"
    for count in (4, 12, 26, 200):
        words = default_label_words(count)
        assert len(set(words)) == count
        assert not any(a != b and b.startswith(a) for a in words for b in words)


@given(st.integers(2, 1200))
def test_default_words_are_distinct_and_none_begins_another(count):
    words = default_label_words(count)
    assert len(set(words)) == count
    ordered = sorted(words)
    assert not any(b.startswith(a) for a, b in pairwise(ordered))


def test_a_hundred_classes_work():
    task = ClassificationTask.of(rows_of(*[f"class {index:03d}" for index in range(100)]))
    assert task.n == 100
    assert len(task.words) == 200
    assert task.class_of(Row("x", "t", "class 042")) == 42


def test_integer_labels_are_ordered_by_value_and_given_back_as_ints():
    task = ClassificationTask.of(rows_of("10", "9", "-1"))
    assert task.labels == ("-1", "9", "10")
    assert [task.public_label(index) for index in range(3)] == [-1, 9, 10]


@pytest.mark.parametrize("labels", [("bad", "good"), ("1", "good"), ("007", "008"), ("1", "01")])
def test_labels_that_are_not_plain_integers_are_given_back_as_they_were_named(labels):
    task = ClassificationTask.of(rows_of(*labels), labels=labels)
    assert tuple(task.public_label(index) for index in range(2)) == labels


def test_published_labels_in_a_written_data_set_run_from_0_to_2n_minus_1():
    task = ClassificationTask.of(rows_of("0", "1"))
    assert [task.dataset_label(label) for label in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "labels",
    [
        ("0", "1", "2"),
        ("1", "2", "3", "4", "5"),
        ("-1", "1"),
        ("2", "3"),
        ("bad", "good"),
        ("C", "D", "E", "F", "G", "H"),
    ],
)
def test_labels_in_a_written_data_set_are_2n_distinct_ones(labels):
    task = ClassificationTask.of(rows_of(*labels))
    written = [str(task.dataset_label(label)) for label in range(2 * task.n)]
    assert len(set(written)) == 2 * task.n


@pytest.mark.parametrize(
    ("labels", "words", "message"),
    [
        (("a",), ("0", "1"), "one class only"),
        ((), (), "one class only"),
        (("a", "a"), ("0", "1", "2", "3"), "repeat"),
        (("a", "b"), ("0", "1", "2"), "4 distinct label words"),
        (("a", "b"), ("0", "1", "2", "2"), "4 distinct label words"),
        (("a", "b"), ("0", "1", "2", " 3"), "spaces"),
        (("a", "b"), ("0", "1", "2", ""), "empty"),
    ],
)
def test_an_impossible_task_is_refused(labels, words, message):
    with pytest.raises(InputError, match=message):
        ClassificationTask(labels, words)


def test_rows_of_one_class_are_refused_though_two_are_declared():
    with pytest.raises(InputError, match="belong to one class"):
        ClassificationTask.of(rows_of("a", "a"), labels=("a", "b"))


def test_a_label_outside_the_declared_set_names_the_row():
    rows = [Row("r", "t", "c", "train.jsonl:7"), *rows_of("a", "b")]
    with pytest.raises(InputError, match=r"^train\.jsonl:7: label 'c' is not one of"):
        ClassificationTask.of(rows, labels=("a", "b"))
    with pytest.raises(InputError) as caught:
        ClassificationTask(("a", "b"), ("0", "1", "2", "3")).classes(rows)
    assert "--" not in str(caught.value), "evaluate tells of the row, too, and has no --labels"
    with pytest.raises(InputError, match="has no label"):
        ClassificationTask.of([Row("r", "t", None), *rows_of("a", "b")])


def test_an_unknown_target_is_refused():
    task = ClassificationTask.of(rows_of("a", "b"))
    assert task.label_index("b") == 1
    with pytest.raises(InputError, match="no label 'z'"):
        task.label_index("z")


def test_the_order_of_labels_that_are_one_number_does_not_depend_on_the_process():
    names = ("2", "1", "001", "01")
    found = {ClassificationTask.of(rows_of(*order)).labels for order in permutations(names)}
    assert found == {("001", "01", "1", "2")}
