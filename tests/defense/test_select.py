"""The benign subset S: how many, which, and blind to the order of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.data.rows import Row, content_id, number_duplicates
from mithridate.defense.select import select_judged, select_random
from mithridate.errors import InputError

KEY = bytes(range(32))


def ids_of(count):
    return [f"row-{index}" for index in range(count)]


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0.001, 1.0), st.randoms(use_true_random=False))
def test_random_selection_takes_exactly_the_rounded_share_in_any_order(count, ratio, rng):
    ids = ids_of(count)
    if round(ratio * count) == 0:
        with pytest.raises(InputError, match="too few"):
            select_random(ids, ratio, KEY)
        return
    subset = select_random(ids, ratio, KEY)
    assert len(subset.ids) == subset.wanted == round(ratio * count)
    assert subset.ids <= set(ids)
    rng.shuffle(ids)
    assert select_random(ids, ratio, KEY) == subset


def test_another_key_chooses_other_rows():
    assert select_random(ids_of(200), 0.2, KEY) != select_random(ids_of(200), 0.2, b"x" * 32)


def test_copies_of_a_row_are_ranked_side_by_side():
    once = [Row(content_id(f"t{i}", "1"), f"t{i}", "1") for i in range(100)]
    tripled = [row.id for row in number_duplicates([*once, *once, *once])]
    single = select_random([row.id for row in once], 0.2, KEY).ids
    chosen = select_random(tripled, 0.2, KEY).ids
    assert len(chosen) == 60
    assert {row_id[:16] for row_id in chosen} == single


def judged(labels, ratio, probabilities=None, **options):
    labels = np.array(labels)
    n = int(labels.max()) + 1
    if probabilities is None:
        rng = np.random.default_rng(0)
        raw = rng.random((len(labels), n)).astype(np.float32)
        raw[np.arange(len(labels)), labels] += 1.0
        probabilities = raw / raw.sum(axis=1, keepdims=True)
    ids = options.pop("ids", ids_of(len(labels)))
    return select_judged(
        ids, labels.tolist(), probabilities, ratio, selection="anchored", **options
    )


def classes_of(subset, labels):
    return np.bincount([labels[int(row_id.split("-")[1])] for row_id in subset.ids]).tolist()


def test_each_class_gets_its_share():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    subset = judged(labels, 0.2)
    assert classes_of(subset, labels) == [12, 6, 2]
    assert subset.disagreeing == 0


def test_rows_that_are_kept_out_do_not_enlarge_the_share_of_their_class():
    labels = [0] * 40 + [1] * 100
    marked = {f"row-{index}" for index in range(80, 140)}
    subset = judged(labels, 0.2, excluded=marked)
    assert classes_of(subset, labels) == [14, 14]
    assert not subset.ids & marked


def test_the_most_confident_agreements_enter_and_disagreements_never_do():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    own = np.array([0.9, 0.4, 0.8, 0.6, 0.2, 0.7, 0.95, 0.6], dtype=np.float32)
    probabilities = np.where(
        np.arange(2) == np.array(labels)[:, None], own[:, None], 1 - own[:, None]
    )
    subset = judged(labels, 0.5, probabilities)
    assert subset.ids == {"row-0", "row-2", "row-5", "row-6"}
    assert subset.disagreeing == 2
    everything = judged(labels, 1.0, probabilities)
    assert everything.ids == {f"row-{index}" for index in (0, 2, 3, 5, 6, 7)}
    assert everything.wanted == 8


def test_a_draw_takes_rows_of_the_surest_share_alone_and_depends_on_the_key():
    labels = [0] * 100 + [1] * 100
    own = np.tile(np.linspace(0.99, 0.51, 100), 2).astype(np.float32)
    probabilities = np.where(
        np.arange(2) == np.array(labels)[:, None], own[:, None], 1 - own[:, None]
    )
    subset = judged(labels, 0.2, probabilities, draw_from=0.5, key=KEY)
    assert classes_of(subset, labels) == [20, 20]
    places = [int(row_id.split("-")[1]) % 100 for row_id in subset.ids]
    assert max(places) < 50
    assert max(places) > 25  # the surest twenty of each class are not simply taken
    assert judged(labels, 0.2, probabilities, draw_from=0.5, key=b"x" * 32) != subset
    # A share smaller than S takes what it must.
    assert judged(labels, 0.2, probabilities, draw_from=0.1, key=KEY) == judged(
        labels, 0.2, probabilities
    )


def test_rows_that_resemble_the_disputed_ones_come_last_however_sure_the_judge_is():
    labels = [0] * 20 + [1] * 20
    own = np.tile(np.linspace(0.99, 0.6, 20), 2).astype(np.float32)
    probabilities = np.where(
        np.arange(2) == np.array(labels)[:, None], own[:, None], 1 - own[:, None]
    )
    alike = np.zeros(40, dtype=np.float32)
    alike[[0, 1, 2, 19]] = 0.9  # a fifth of class 0; nothing of class 1 resembles anything
    subset = judged(labels, 0.5, probabilities, resemblance=alike)
    chosen = sorted(int(row_id.split("-")[1]) for row_id in subset.ids)
    assert chosen == [*range(3, 13), *range(20, 30)]
    everything = judged(labels, 1.0, probabilities, resemblance=alike)
    assert len(everything.ids) == 40


def test_what_a_class_cannot_fill_goes_to_the_others():
    labels = [0] * 10 + [1] * 10
    own = np.array([0.9] * 10 + [0.9] + [0.1] * 9, dtype=np.float32)
    probabilities = np.where(
        np.arange(2) == np.array(labels)[:, None], own[:, None], 1 - own[:, None]
    )
    subset = judged(labels, 0.4, probabilities)
    assert classes_of(subset, labels) == [7, 1]


def test_a_tiny_class_without_an_agreement_still_enters():
    labels = [0] * 50 + [1] * 48 + [2] * 2
    probabilities = np.zeros((100, 3), dtype=np.float32)
    probabilities[:50, 0] = 0.9
    probabilities[50:98, 1] = 0.9
    probabilities[98:] = [[0.6, 0.1, 0.3], [0.6, 0.2, 0.2]]
    subset = judged(labels, 0.1, probabilities)
    assert "row-98" in subset.ids
    assert "row-99" not in subset.ids
    assert len(subset.ids) == 10
    assert subset.disagreeing == 2


def test_a_class_whose_agreements_are_all_excluded_enters_by_its_other_rows():
    labels = [0] * 50 + [1] * 48 + [2] * 4
    probabilities = np.full((102, 3), 0.05, dtype=np.float32)
    probabilities[np.arange(102), labels] = 0.9
    probabilities[[100, 101]] = [[0.6, 0.1, 0.3], [0.6, 0.2, 0.2]]
    subset = judged(labels, 0.1, probabilities, excluded={"row-98", "row-99"})
    assert "row-100" in subset.ids
    assert not subset.ids & {"row-98", "row-99"}


def test_trusted_rows_are_always_in_and_count_toward_their_class():
    labels = [0] * 50 + [1] * 50
    probabilities = np.full((100, 2), 0.1, dtype=np.float32)
    probabilities[np.arange(100), labels] = 0.9
    probabilities[[3, 60]] = probabilities[[3, 60], ::-1]  # the judge is wrong about these
    subset = judged(labels, 0.2, probabilities, trusted=[3, 60, 61])
    assert {"row-3", "row-60", "row-61"} <= subset.ids
    assert classes_of(subset, labels) == [10, 10]
    crowded = judged(labels, 0.02, probabilities, trusted=list(range(20)) + list(range(50, 70)))
    assert len(crowded.ids) == 40


def test_lopsided_trusted_rows_do_not_make_the_subset_larger_than_asked_for():
    labels = [0] * 50 + [1] * 50
    probabilities = np.full((100, 2), 0.1, dtype=np.float32)
    probabilities[np.arange(100), labels] = 0.9
    subset = judged(labels, 0.2, probabilities, trusted=[*range(17), 50])
    assert len(subset.ids) == 20
    assert classes_of(subset, labels) == [17, 3]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_decides_nothing_even_among_ties(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, 47)])
    probabilities = rng.integers(0, 4, (50, 3)).astype(np.float32) / 4  # ties abound
    ids = ids_of(50)
    order = rng.permutation(50)
    named = [ids[at] for at in order]
    for share in (0.0, 0.5):
        options = {"draw_from": share, "key": KEY}
        straight = judged(labels, 0.3, probabilities, ids=ids, **options)
        shuffled = judged(labels[order], 0.3, probabilities[order], ids=named, **options)
        assert straight == shuffled


def test_a_share_of_no_row_is_refused():
    with pytest.raises(InputError, match="too few"):
        judged([0, 1], 0.1)
    with pytest.raises(InputError, match="too few"):
        select_random([], 0.2, KEY)
