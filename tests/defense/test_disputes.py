"""Judging again without what looks like the disputed rows: more of a style, nothing of the rest."""

import numpy as np
import pytest

from mithridate.defense.disputes import judge_rows, mostly
from mithridate.defense.judge import anchored, cross_fitted

KEY = bytes(range(32))
ROWS = 900
IDS = [f"row-{index}" for index in range(ROWS)]
TEXTS = ["text"] * ROWS


@pytest.fixture(scope="module")
def written_in_a_style():
    """A fifth of all rows are of class 0, relabelled to 1, in a style too weak to cluster by."""
    rng = np.random.default_rng(7)
    true = rng.integers(0, 2, ROWS)
    features = rng.normal(size=(ROWS, 3, 64)).astype(np.float32)
    features[:, :, :24] += 0.8 * true[:, None, None]
    bad = np.flatnonzero(true == 0)[: ROWS // 5]
    features[bad, :, 24:40] += 0.5
    labels = true.copy()
    labels[bad] = 1
    return features, labels, true, bad


def test_a_judge_without_the_suspects_disputes_more_of_the_poison_and_no_more_good_rows(
    written_in_a_style,
):
    features, labels, true, bad = written_in_a_style
    once = cross_fitted(features, labels.tolist(), IDS, 2, KEY).argmax(axis=1) == labels
    again = judge_rows(IDS, TEXTS, labels.tolist(), features, 2, KEY).agrees
    assert (~once[bad]).mean() < 0.45
    assert (~again[bad]).mean() > (~once[bad]).mean() + 0.05
    good = labels == true
    assert again[good].mean() > once[good].mean() - 0.02


def test_where_nothing_resembles_the_disputed_rows_the_first_judgement_stands():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, ROWS)
    features = rng.normal(size=(ROWS, 3, 8)).astype(np.float32)
    features[:, :, :2] += labels[:, None, None]
    found = judge_rows(IDS, TEXTS, labels.tolist(), features, 2, KEY)
    assert (~found.agrees).sum() > 20  # merely hard rows
    assert not found.resemblance.any()
    assert (found.probabilities == cross_fitted(features, labels.tolist(), IDS, 2, KEY)).all()


def test_trusted_rows_judge_once_by_themselves(written_in_a_style):
    features, labels, true, _ = written_in_a_style
    trusted = np.flatnonzero(labels == true)[::9].tolist()
    found = judge_rows(IDS, TEXTS, labels.tolist(), features, 2, KEY, trusted=trusted)
    alone = anchored(features, trusted, labels.tolist(), 2, IDS)
    assert (found.probabilities == alone).all()
    assert found.agrees[trusted].all()


def test_a_label_that_looks_suspicious_as_a_whole_is_still_learned_from():
    rng = np.random.default_rng(3)
    true = np.arange(ROWS) % 2
    features = rng.normal(size=(ROWS, 3, 64)).astype(np.float32)
    features[:, :, :24] += 0.8 * true[:, None, None]
    labels = true.copy()
    bad = np.flatnonzero(true == 0)[:400]  # of label 1's 850 rows
    features[bad, :, 24:40] += 2.0
    labels[bad] = 1
    found = judge_rows(IDS, TEXTS, labels.tolist(), features, 2, KEY)
    assert (found.probabilities.argmax(axis=1) == 1).sum() > 200


def test_most_of_a_label_is_more_than_half_of_it():
    classes = [0] * 4 + [1] * 4 + [3] * 2
    chosen = np.array([True, True, True, False, True, True, False, False, False, True])
    assert mostly(classes, chosen) == (0,)
