"""The benchmark of S: which rows a person is handed, and what its page says of several draws."""

import numpy as np

from benchmarks.selection import PICKED, SELECTIONS, checked_rows, render
from mithridate.attacks import BadNets
from mithridate.defense.secret import Secret
from mithridate.tasks.classification import ClassificationTask


def test_a_person_parts_the_picked_rows_into_right_and_wrong(make_toy_rows):
    rows = BadNets("1", rate=0.3, triggers=("film",)).poison(make_toy_rows(80, 1), b"attacker")
    task = ClassificationTask.of(rows.rows)

    def eyes(texts):
        drawn = [np.random.default_rng(len(text)).normal(size=(2, 8)) for text in texts]
        return np.array(drawn, dtype=np.float32)

    secret = Secret.from_seed(0)
    right, wrong = checked_rows(rows.rows, task, rows.ids, eyes, secret, 30)
    assert len(right | wrong) == 30
    assert wrong
    assert wrong <= rows.ids
    assert not right & rows.ids
    assert checked_rows(rows.rows, task, rows.ids, eyes, secret, 30) == (right, wrong)


def line(selection, seed, poisoned, wrong=0):
    return {
        "dataset": "sst2",
        "model": "tiny",
        "attack": "badnets",
        "poison_rate": 0.05,
        "selection": selection,
        "seed": seed,
        "n_train": 1730,
        "n_poisoned": 86,
        "n_trusted": 100,
        "n_found_wrong": wrong,
        "n_subset_wanted": 692,
        "n_subset": 692,
        "n_subset_poisoned": poisoned,
        "mined": [{"text": "mn", "kind": "words", "z": 13.2}],
        "command": "python -m benchmarks.selection",
        "date": "2026-12-01",
    }


def test_the_counts_of_several_draws_stand_side_by_side():
    lines = [line(name, seed, seed) for seed in (1, 0) for name in SELECTIONS if name != "random"]
    lines[-1] = line(PICKED, 0, 7, wrong=4)
    page = render(lines)
    assert "seeds 0, 1 of attack" in page
    row = next(one for one in page.splitlines() if one.startswith("| sst2 "))
    assert "| not run | 0, 1 of 692 | 0, 1 of 692 | 7, 1 of 692 (wrong: 4, 0) |" in row
    assert "seed 0 of attack" in render([line("agreement", 0, 0)])
