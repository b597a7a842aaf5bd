"""The judge: no row's own label, nor a copy's, speaks for it."""

import numpy as np
import pytest

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row, content_id, number_duplicates
from mithridate.defense.judge import FOLDS, STRENGTHS, _held_out, anchored, cross_fitted

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 160)
    features = rng.normal(size=(160, 8)).astype(np.float32)
    features[:, 0] += 2.5 * labels
    ids = [f"row-{index}" for index in range(160)]
    return features, labels, ids


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_rows_own_label_never_reaches_the_probe_that_judges_it(world, strength):
    features, labels, ids = world
    fold = np.array([int(keyed_fraction(KEY, row_id) * FOLDS) for row_id in ids])
    before = _held_out(features, labels, fold, 2, strength)
    for index in (0, 17, 101):
        flipped = labels.copy()
        flipped[index] = 1 - flipped[index]
        after = _held_out(features, flipped, fold, 2, strength)
        assert (after[fold == fold[index]] == before[fold == fold[index]]).all()
        assert (after != before).any()


def test_the_public_judge_is_one_of_the_held_out_probes(world):
    # A row's label takes part in the choice of the strength, one of six, and in nothing else.
    features, labels, ids = world
    fold = np.array([int(keyed_fraction(KEY, row_id) * FOLDS) for row_id in ids])
    found = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    assert any((found == _held_out(features, labels, fold, 2, s)).all() for s in STRENGTHS)


def test_copies_share_a_fold_so_no_copys_label_reaches_the_other():
    rows = [Row(content_id(f"text {i}", "1"), f"text {i}", "1") for i in range(50)]
    for row in number_duplicates([*rows, *rows, *rows]):
        assert base_id(row.id) == row.id[:16]


@pytest.mark.parametrize("form", ["sst2-train-00000-{}", "0123456789-train-{}", "{:016x}"])
def test_rows_with_ids_of_the_users_own_are_judged_by_what_they_say(world, form):
    features, labels, _ = world
    ids = [form.format(index) for index in range(160)]
    probabilities = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(160), abs=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.8


def test_the_order_of_rows_decides_nothing(world):
    features, labels, ids = world
    order = np.random.default_rng(1).permutation(160)
    straight = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    shuffled = cross_fitted(
        features[order], labels[order].tolist(), [ids[i] for i in order], 2, KEY
    )
    assert shuffled == pytest.approx(straight[order], abs=1e-3)


def test_the_anchored_judge_reads_the_trusted_labels_alone(world):
    features, labels, _ = world
    trusted = list(range(0, 60, 2))
    before = anchored(features, trusted, labels.tolist(), 2)
    scrambled = 1 - labels
    scrambled[trusted] = labels[trusted]
    assert (anchored(features, trusted, scrambled.tolist(), 2) == before).all()
    scrambled[trusted[0]] = 1 - labels[trusted[0]]
    assert (anchored(features, trusted, scrambled.tolist(), 2) != before).any()


def test_a_class_the_judge_never_saw_gets_no_probability(world):
    features, labels, _ = world
    trusted = np.flatnonzero(labels == 1)[:10].tolist()
    probabilities = anchored(features, trusted, labels.tolist(), 3)
    assert (probabilities == [0.0, 1.0, 0.0]).all()
