"""The estimates of a dry run: measured on this machine, and by what was run."""

import json

import pytest

from mithridate.baselines import Cost, find_defense
from mithridate.bench.cells import matrix_cells
from mithridate.bench.config import read_config
from mithridate.bench.estimate import estimates
from mithridate.bench.journal import append_line, read_lines
from mithridate.bench.matrix import Matrix
from mithridate.bench.pace import pace
from mithridate.bench.shapes import empty_model


@pytest.fixture
def estimated(write_config, tmp_path):
    """Return the estimates of a matrix by defense, and its cells."""

    def make(**changed):
        cells = matrix_cells(read_config(write_config(**changed)))
        found = estimates(cells, tmp_path / "out" / "journal.jsonl")
        return {cell.defense.title: own for cell, own in zip(cells, found, strict=True)}, cells

    return make


def toy(rows):
    return [{"name": "toy", "train": "train.jsonl", "test": "test.jsonl", "rows": rows}]


def test_every_defense_has_an_estimate_above_nothing(estimated):
    names = ["none", "p2p", "filter", "clean-tune", "crow", "onion", "strip", "cube", "pdb"]
    found, _ = estimated(defenses=[*names, "prune", "int4"])
    assert len(found) == 11
    for own in found.values():
        assert own.minutes > 0
        assert own.gigabytes > 0
        assert not own.measured


def test_more_rows_and_more_epochs_take_longer(estimated):
    few = estimated(datasets=toy(20), defenses=["p2p"])[0]["p2p"].minutes
    many = estimated(datasets=toy(120), defenses=["p2p"])[0]["p2p"].minutes
    assert many > few
    training = {"epochs": 4, "max_length": 64}
    often = estimated(datasets=toy(120), defenses=["p2p"], training=training)[0]["p2p"].minutes
    assert often > 2 * many


def test_what_cells_share_counts_for_the_first_of_them(estimated, tmp_path):
    two = ["none", {"name": "prune", "label": "a"}, {"name": "prune", "settings": {"share": 0.1}}]
    found, [cell, *_] = estimated(defenses=two)
    assert found["none"].minutes > 2 * found["a"].minutes
    assert found["a"].minutes == pytest.approx(found["prune"].minutes)
    # What lies beside the journal is not trained again.
    for name in (f"reference-{cell.clean_mark}", f"undefended-{cell.undefended_mark}"):
        folder = tmp_path / "out" / "kept" / name
        folder.mkdir(parents=True)
        (folder / "done.json").write_text("{}\n")
    (tmp_path / "out" / "kept" / f"floor-{cell.attack_mark}.json").write_text("{}\n")
    again, _ = estimated(defenses=two)
    assert again["none"].minutes == pytest.approx(again["a"].minutes)


def test_a_finished_cells_time_takes_the_place_of_the_guess(estimated, write_config, tmp_path):
    found, [none, prune] = estimated(defenses=["none", "prune"])
    matrix = Matrix([none, prune], tmp_path / "out", "")
    matrix.run([none], lambda *_: None)
    [reference, line] = read_lines(matrix.journal)
    found, [none, prune] = estimated(defenses=["none", "prune"])
    assert (found["none"].measured, found["prune"].measured) == (True, False)
    took = line["train_seconds"] + line["eval_seconds"]
    assert found["none"].minutes == pytest.approx(took / 60)
    # Another seed is the same data, model and defense; its reference takes what the first one took.
    slow = {**line, "train_seconds": line["train_seconds"] + 60.0, "config_hash": "another"}
    append_line(matrix.journal, slow)
    other, _ = estimated(defenses=["none"], seeds=[7])
    expected = took + 30.0 + reference["train_seconds"] + reference["eval_seconds"]
    assert other["none"].measured
    assert other["none"].minutes * 60 == pytest.approx(expected, abs=1.0)  # and its floor's inputs


def test_answers_that_are_text_take_longer_the_longer_they_are(estimated, tmp_path):
    for name in ("asked", "told"):
        rows = [
            {"instruction": f"a film {n}", "output": " ".join(["lovely"] * (2 + n % 3))}
            for n in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"name": "t", "task": "instruction", "train": "asked.jsonl", "test": "told.jsonl"}
    found = {}
    for tokens in (1, 64):
        sets = [{**data, "max_new_tokens": tokens}]
        training = {"max_length": 256}
        own, _ = estimated(datasets=sets, defenses=["none", "cleangen"], training=training)
        found[tokens] = own["cleangen"].minutes
        assert own["none"].minutes > 0
    assert found[64] > found[1]


def test_the_pace_is_that_of_the_whole_model(pretrained):
    own = pace(str(pretrained), "float32", 4, 16)
    assert 0 < own.read < own.write
    parameters = sum(weight.numel() for weight in empty_model(str(pretrained)).parameters())
    assert own.weights == 4 * parameters


def test_a_defense_says_what_it_takes():
    assert find_defense("none")().cost(9) == Cost()
    assert find_defense("prune")().cost(9) == Cost(undefended=True, trains=0, reads=1)
    assert find_defense("onion")().cost(9).reads == 11
    assert find_defense("strip")(copies=4).cost(9).reads == 5
    assert find_defense("cleangen")().cost(9).reads == 2
    assert find_defense("pdb")(ratio=0.2, frequency=3).cost(9).trains == pytest.approx(1.6)
    for name in ("p2p", "filter", "pdb"):
        assert not find_defense(name)().cost(9).undefended
    assert find_defense("filter")(benign_ratio=0.3).cost(9).trains == 0.3
    assert find_defense("clean-tune")(epochs=2).cost(9) == Cost(trusted_reads=6)
