"""The judge: no row's own label speaks for it, nor those of rows alike; and what it is good for."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from mithridate.defense import judge
from mithridate.defense.judge import _held_out, anchored, cross_fitted, resemblance
from mithridate.errors import InputError

KEY = bytes(range(32))


def ids_of(count):
    return [f"row-{index}" for index in range(count)]


@pytest.fixture(scope="module")
def world():
    """Two classes that several directions tell apart, seen in three views."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 160)
    features = rng.normal(size=(160, 3, 8)).astype(np.float32)
    features[:, :, :2] += 2.0 * labels[:, None, None]
    return features, labels, ids_of(160)


@pytest.fixture(scope="module")
def poisoned():
    """Rows of class 0 relabelled to 1, which share what the task knows nothing of."""
    rng = np.random.default_rng(5)
    true = rng.integers(0, 2, 600)
    features = rng.normal(size=(600, 3, 64)).astype(np.float32)
    features[:, :, :24] += 1.0 * true[:, None, None]
    bad = np.flatnonzero(true == 0)[::5]
    features[bad, :, 24:36] += 2.0
    labels = true.copy()
    labels[bad] = 1
    return features, labels, true, bad


def test_a_rows_own_label_never_reaches_the_probe_that_judges_it(world):
    features, labels, _ = world
    fold = np.arange(160) % 5
    everything = np.ones(160, dtype=bool)
    before = _held_out(features[:, 1], labels, fold, everything, 2)
    for index in (0, 17, 101):
        flipped = labels.copy()
        flipped[index] = 1 - flipped[index]
        after = _held_out(features[:, 1], flipped, fold, everything, 2)
        assert (after[fold == fold[index]] == before[fold == fold[index]]).all()
        assert (after != before).any()


def test_a_probe_is_fitted_by_one_thread_and_leaves_the_others_as_they_were(world, monkeypatch):
    features, labels, _ = world
    seen = []
    fit = LogisticRegression.fit

    def threads():
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    def noting(self, *given, **named):
        seen.append(threads())
        return fit(self, *given, **named)

    monkeypatch.setattr(LogisticRegression, "fit", noting)
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        _held_out(features[:, 1], labels, np.arange(160) % 5, np.ones(160, dtype=bool), 2)
        assert threads() == before
    assert seen == [{1}] * 5


def test_rows_that_may_not_be_learned_from_are_judged_all_the_same(world):
    features, labels, _ = world
    fold = np.arange(160) % 5
    learned = np.arange(160) >= 40
    before = _held_out(features[:, 1], labels, fold, learned, 2)
    scrambled = labels.copy()
    scrambled[:40] = 1 - scrambled[:40]
    assert (_held_out(features[:, 1], scrambled, fold, learned, 2) == before).all()
    assert (before[:40].argmax(axis=1) == labels[:40]).mean() > 0.8


def test_rows_that_share_a_trigger_are_disputed_though_the_data_say_otherwise(poisoned):
    features, labels, true, bad = poisoned
    found = cross_fitted(features, labels.tolist(), ids_of(600), 2, KEY).argmax(axis=1)
    good = np.setdiff1d(np.arange(600), bad)
    assert (found[bad] != labels[bad]).mean() > 0.9
    assert (found[good] == true[good]).mean() > 0.9
    # Folds that do not keep such rows together let the probe learn them.
    random_folds = np.random.default_rng(0).integers(0, 3, 600)
    naive = _held_out(features[:, 1], labels, random_folds, np.ones(600, dtype=bool), 2)
    assert (naive[bad].argmax(axis=1) != labels[bad]).mean() < 0.5


def test_a_hundred_trusted_rows_see_through_it_too(poisoned):
    features, labels, true, bad = poisoned
    good = np.setdiff1d(np.arange(600), bad)
    found = anchored(features, good[::9].tolist(), labels.tolist(), 2, ids_of(600)).argmax(axis=1)
    assert (found[bad] != labels[bad]).mean() > 0.9
    assert (found[good] == true[good]).mean() > 0.9


NONE = np.zeros(600, dtype=bool)


def missed(poisoned, one_in=40):
    """Return which rows a judge agrees with that sees through two poisoned rows of three."""
    _, labels, true, bad = poisoned
    agrees = labels == true
    agrees[bad[::3]] = True
    agrees[np.flatnonzero(labels == true)[::one_in]] = (
        False  # and disputes good rows of both labels
    )
    return agrees


def test_poisoned_rows_that_the_judge_missed_resemble_those_it_saw_through(poisoned):
    features, labels, true, bad = poisoned
    like = resemblance(features, labels.tolist(), missed(poisoned), NONE, ids_of(600), KEY)
    good = np.flatnonzero((labels == true) & (labels == 1))
    above = (like[bad[::3]][:, None] > like[good][None, :]).mean()
    assert above > 0.9
    # What tells the classes apart says nothing, though all poisoned rows are of the other class.
    plain = features.copy()
    plain[bad, :, 24:36] -= 2.0
    agrees = missed(poisoned, one_in=10)
    without = resemblance(plain, labels.tolist(), agrees, NONE, ids_of(600), KEY)
    assert (without[bad[::3]][:, None] > without[good][None, :]).mean() < 0.75


def test_where_hardly_a_row_is_disputed_none_resembles_any(world):
    features, labels, ids = world
    agrees = np.ones(160, dtype=bool)
    agrees[:4] = False
    assert (resemblance(features, labels.tolist(), agrees, NONE[:160], ids, KEY) == 0.0).all()


def test_good_rows_that_are_disputed_by_the_way_resemble_nothing(world):
    features, labels, ids = world
    agrees = np.ones(160, dtype=bool)
    agrees[::5] = False  # 32 rows that have nothing in common
    assert (resemblance(features, labels.tolist(), agrees, NONE[:160], ids, KEY) == 0.0).all()


def test_disputed_rows_that_a_trigger_explains_look_for_no_likeness(poisoned):
    features, labels, _, bad = poisoned
    explained = NONE.copy()
    explained[bad] = True
    like = resemblance(features, labels.tolist(), missed(poisoned), explained, ids_of(600), KEY)
    assert (like == 0.0).all()  # what is left of the disputed rows is good, and drawn at random


def test_the_order_of_rows_decides_no_resemblance(poisoned):
    features, labels, _, _ = poisoned
    agrees, ids = missed(poisoned), ids_of(600)
    before = resemblance(features, labels.tolist(), agrees, NONE, ids, KEY)
    order = np.random.default_rng(3).permutation(600)
    shuffled = [ids[at] for at in order]
    after = resemblance(features[order], labels[order].tolist(), agrees[order], NONE, shuffled, KEY)
    assert after == pytest.approx(before[order], abs=1e-4)


@pytest.mark.parametrize("form", ["sst2-train-00000-{}", "0123456789-train-{}", "{:016x}"])
def test_rows_with_ids_of_the_users_own_are_judged_by_what_they_say(world, form):
    features, labels, _ = world
    ids = [form.format(index) for index in range(160)]
    probabilities = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(160), abs=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.8


def test_one_view_is_enough(world):
    features, labels, ids = world
    probabilities = cross_fitted(features[:, :1], labels.tolist(), ids, 2, KEY)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.7


def test_the_order_of_rows_decides_nothing(world):
    features, labels, ids = world
    order = np.random.default_rng(1).permutation(160)
    named = [ids[at] for at in order]
    straight = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    shuffled = cross_fitted(features[order], labels[order].tolist(), named, 2, KEY)
    assert shuffled == pytest.approx(straight[order], abs=1e-5)
    trusted = list(range(0, 60, 2))
    straight = anchored(features, trusted, labels.tolist(), 2, ids)
    places = [int(np.flatnonzero(order == at)[0]) for at in trusted]
    shuffled = anchored(features[order], places, labels[order].tolist(), 2, named)
    assert shuffled == pytest.approx(straight[order], abs=1e-5)


def test_the_key_fixes_the_folds(world):
    features, labels, ids = world
    first = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    assert (cross_fitted(features, labels.tolist(), ids, 2, KEY) == first).all()
    assert (cross_fitted(features, labels.tolist(), ids, 2, b"x" * 32) != first).any()


def test_of_many_rows_the_judge_learns_from_a_part_and_judges_all(world, monkeypatch):
    features, labels, ids = world
    whole = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    learned = []
    fit = judge._probabilities

    def counted(train, *rest):
        learned.append(len(train))
        return fit(train, *rest)

    monkeypatch.setattr(judge, "_probabilities", counted)
    monkeypatch.setattr(judge, "FIT_ROWS", 90)
    monkeypatch.setattr(judge, "CHUNK_ROWS", 37)
    part = cross_fitted(features, labels.tolist(), ids, 2, KEY)
    assert max(learned) <= 90
    assert part.sum(axis=1) == pytest.approx(np.ones(160), abs=1e-5)
    assert (part.argmax(axis=1) == whole.argmax(axis=1)).mean() > 0.8
    learned.clear()
    found = anchored(features, range(40), labels.tolist(), 2, ids)
    assert max(learned) <= 40 + 90
    assert (found.argmax(axis=1) == labels).mean() > 0.8


def test_the_anchored_judge_reads_the_trusted_labels_alone(world):
    features, labels, ids = world
    trusted = list(range(0, 60, 2))
    before = anchored(features, trusted, labels.tolist(), 2, ids)
    scrambled = 1 - labels
    scrambled[trusted] = labels[trusted]
    assert (anchored(features, trusted, scrambled.tolist(), 2, ids) == before).all()
    scrambled[trusted[0]] = 1 - labels[trusted[0]]
    assert (anchored(features, trusted, scrambled.tolist(), 2, ids) != before).any()


def test_a_class_the_judge_never_saw_gets_no_probability(world):
    features, labels, ids = world
    trusted = np.flatnonzero(labels == 1)[:10].tolist()
    probabilities = anchored(features, trusted, labels.tolist(), 3, ids)
    assert (probabilities == [0.0, 1.0, 0.0]).all()


def test_a_class_of_a_single_row_is_no_obstacle(world):
    features, labels, ids = world
    with_one = labels.copy()
    with_one[7] = 2
    probabilities = cross_fitted(features, with_one.tolist(), ids, 3, KEY)
    assert np.isfinite(probabilities).all()
    assert probabilities[7].argmax() != 2


def test_a_handful_of_rows_cannot_judge_each_other(world):
    features, labels, ids = world
    with pytest.raises(InputError, match="too few to judge"):
        cross_fitted(features[:9], labels[:9].tolist(), ids[:9], 2, KEY)
