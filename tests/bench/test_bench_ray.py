"""The matrix on a Ray cluster of two workers: the figures of a local run."""

import json
import os

import pytest

from mithridate.bench.cells import matrix_cells
from mithridate.bench.config import read_config
from mithridate.bench.journal import read_lines
from mithridate.bench.matrix import Matrix
from mithridate.bench.on_ray import Resources, _check_address, run_on_ray
from mithridate.errors import InputError

ray = pytest.importorskip("ray", reason="ray is not installed (pip install '.[ray]')")

NICENESS = "RAY_worker_niceness"
HOW = ("train_seconds", "eval_seconds", "host", "command", "date")
"""What may differ between two runs of one cell."""


@pytest.fixture(scope="module")
def cluster():
    """Return the address of a cluster of two workers on this machine."""
    os.environ[NICENESS] = "0"  # by itself it is 15: slow where others work
    ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    del os.environ[NICENESS]


def figures(matrix):
    """Return what a journal holds by cell, but for how and when it came about."""
    return {
        line["config_hash"]: {name: value for name, value in line.items() if name not in HOW}
        for line in read_lines(matrix.journal)
    }


def plan(config, folder):
    return Matrix(matrix_cells(read_config(config)), folder, "mithridate bench matrix.yaml")


def go(matrix, **options):
    told = []
    (matrix.kept).mkdir(parents=True, exist_ok=True)
    run_on_ray(matrix, matrix.wanted(), lambda *told_of: told.append(told_of), **options)
    return told


def test_two_workers_find_what_a_local_run_finds(cluster, write_config, tmp_path):
    # Trained in single precision by one thread each, as the workers do.
    config = write_config(defenses=["none"], seeds=[0, 1])
    local = plan(config, tmp_path / "local")
    local.run(local.wanted(), lambda *_: None)
    spread = plan(config, tmp_path / "spread")
    told = go(spread)
    assert [error for _, _, error in told] == [""] * 2
    assert figures(spread) == figures(local)
    assert len(figures(local)) == 4  # two cells and a reference model for each seed
    assert len(read_lines(spread.journal)) == 4
    # Killed after the workers had kept the models, before the journal held any line.
    lines = read_lines(spread.journal)
    spread.journal.write_text("".join(json.dumps(x) + "\n" for x in lines if not x["variant"]))
    assert go(spread) == []
    assert figures(spread) == figures(local)


def test_a_cell_that_fails_on_a_worker_ends_no_other(cluster, write_config, tmp_path):
    matrix = plan(write_config(trusted=0, defenses=["clean-tune", "none"]), tmp_path / "out")
    told = {cell.defense.name: error for cell, _, error in go(matrix)}
    assert "needs rows that a person checked" in told["clean-tune"]
    assert told["none"] == ""
    assert sorted(matrix.states().values()) == ["done", "failed"]


def test_what_no_node_has_is_refused_and_nothing_is_run(cluster, write_config, tmp_path):
    matrix = plan(write_config(), tmp_path / "out")
    for asked, says in (
        (Resources(cpus=3), "a cell is to have 3 CPU, and the largest node has 2"),
        (Resources(gpus=64.0), "a cell is to have 64 GPU"),
        (Resources(memory=10**15), "a cell is to have 1e.15 memory"),
    ):
        with pytest.raises(InputError, match=says):
            go(matrix, resources=asked)
    assert not matrix.journal.exists()


def test_the_address_of_a_cluster_is_not_taken_for_a_wrong_one(cluster):
    _check_address(cluster)
    _check_address("auto")
