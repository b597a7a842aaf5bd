"""CUBE: each label's largest cluster stays."""

import numpy as np
import pytest

from mithridate.baselines.cube import Cube, largest_cluster
from mithridate.errors import InputError


def cloud(count, middle, seed):
    drawn = np.random.default_rng(seed).normal(size=(count, 8))
    return (drawn + np.eye(8)[0] * middle).astype(np.float32)


def test_the_smaller_of_two_clusters_goes():
    states = np.concatenate([cloud(200, 0.0, 1), cloud(30, 30.0, 2)])
    kept = largest_cluster(states, 4, 0.05)
    assert kept[:200].mean() > 0.9
    assert not kept[200:].any()


@pytest.mark.parametrize("count", [0, 1, 9, 200])
def test_where_nothing_stands_out_everything_stays(count):
    kept = largest_cluster(cloud(count, 0.0, 3), 4, 0.2)
    assert kept.shape == (count,)
    assert kept.sum() >= 0.5 * count


def test_the_poisoned_rows_go_and_most_others_of_every_label_stay(scene):
    guarded = Cube().defend(scene.bench)
    rows = scene.bench.rows
    assert len(guarded.subset & scene.poisoned) <= 0.1 * len(scene.poisoned)
    assert len(guarded.subset - scene.poisoned) >= 0.8 * (len(rows) - len(scene.poisoned))
    assert {row.answer for row in rows if row.id in guarded.subset} == {"0", "1"}
    assert guarded.facts["kept"] == pytest.approx(len(guarded.subset) / len(rows))
    assert scene.accuracy(guarded) > 0.8


@pytest.mark.parametrize("settings", [{"components": 0}, {"smallest": 0.6}])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(InputError, match="cube's settings"):
        Cube(**settings)
