"""Cells that must fail are told before any is run, and those that need not are let through."""

import pytest

from mithridate.bench import scene
from mithridate.bench.cells import matrix_cells
from mithridate.bench.check import check_cells
from mithridate.bench.config import read_config
from mithridate.bench.matrix import Matrix
from mithridate.errors import InputError

DATA = {"name": "toy", "train": "train.jsonl", "test": "test.jsonl"}
ASKED = {**DATA, "task": "instruction", "text_column": "text", "answer_column": "label"}
BADNETS = {"name": "badnets", "target": "1"}
REWRITING = {"name": "synbkd", "target": "1"}
FILES = ["short.txt", "short.txt"]
CASES = [
    ({"attacks": [{**BADNETS, "target": "positive"}]}, "there is no label 'positive'; choose one"),
    ({"attacks": ["badnets"]}, "the attack badnets needs target; name it in the file"),
    (
        {"attacks": [{"name": "near-boundary", "target": "1"}]},
        "needs inner and closeness, and no file can hold inner and closeness; use it from Python",
    ),
    ({"attacks": ["synbkd"]}, "the attack synbkd needs target and paraphrases; name it in the"),
    ({"attacks": [REWRITING]}, "the attack synbkd needs paraphrases; name it in the file"),
    ({"attacks": [{**BADNETS, "paraphrases": FILES}]}, "paraphrases have no part in badnets; drop"),
    ({"attacks": [{**REWRITING, "paraphrases": FILES}]}, "1 texts do not align with 120 rows"),
    ({"rates": [0.1, 0.001]}, "a poison rate of 0.001 of 120 rows is no row; raise the rate"),
    ({"defenses": ["none", "cleangen"]}, "cleangen is for text, and the answers are labels; name"),
    ({"defenses": ["none", "strip"], "datasets": [ASKED]}, "strip is for labels, and the answers"),
    (
        {"attacks": [{**BADNETS, "target": "0"}], "datasets": [{**DATA, "test": "zeros.jsonl"}]},
        "all test rows have the target '0': none can be triggered; add rows with other answers",
    ),
    ({"attacks": ["badchain"], "datasets": [ASKED]}, "badchain is for the task math, not instruc"),
    ({"defenses": ["none", "rewrite"]}, "rewrite has no command; name a program that reads a tex"),
    (
        {"defenses": [{"name": "rewrite", "settings": {"command": "no-such-program -x"}}]},
        "rewrite's program 'no-such-program' is not there or cannot be run; install it",
    ),
]


@pytest.fixture
def cells_of(write_config, tmp_path):
    """Return a planner of the cells of a matrix."""
    (tmp_path / "short.txt").write_text("one text\n")
    (tmp_path / "zeros.jsonl").write_text('{"text": "a film", "label": "0"}\n' * 3)
    return lambda **changed: matrix_cells(read_config(write_config(**changed)))


@pytest.mark.parametrize(("changed", "says"), CASES)
def test_a_cell_that_must_fail_is_named_with_the_reason_and_the_mend(cells_of, changed, says):
    cells = cells_of(**changed)
    with pytest.raises(InputError) as caught:
        check_cells(cells)
    assert says in str(caught.value)
    assert caught.value.mend
    assert any(caught.value.where.startswith(cell.name) for cell in cells)


@pytest.mark.parametrize(("changed", "says"), CASES)
def test_the_cell_itself_says_the_same_before_it_trains_anything(cells_of, tmp_path, changed, says):
    matrix = Matrix(cells_of(**changed)[-1:], tmp_path / "out", "")
    told = []
    matrix.run(matrix.wanted(), lambda *told_of: told.append(told_of))
    [(_, line, error)] = told
    assert line is None
    assert says in error
    assert not list(matrix.kept.glob("reference-*/"))


@pytest.mark.parametrize("task", ["classification", "math", "summarization", "instruction"])
def test_a_missing_column_is_mended_with_the_keys_of_the_file(cells_of, task):
    data = {**DATA, "task": task, "text_column": "review"}
    with pytest.raises(InputError) as caught:
        check_cells(cells_of(datasets=[data]))
    assert "train.jsonl" in caught.value.where
    assert "review" in caught.value.what
    assert caught.value.mend == "name the right ones with text_column and answer_column"


def test_what_can_be_passes_and_each_file_of_rows_is_read_once(cells_of, monkeypatch):
    read = []

    def counting(source, columns):
        read.append(source)
        return read_rows(source, columns)

    read_rows = scene.read_rows
    monkeypatch.setattr(scene, "read_rows", counting)
    attacks = [BADNETS, {"name": "addsent", "target": "0"}]
    check_cells(cells_of(attacks=attacks, rates=[0.1, 0.2], seeds=[0, 1], defenses=["none", "p2p"]))
    assert len(read) == len(set(read)) == 2


def test_rows_that_hold_their_poison_need_no_rate(cells_of):
    check_cells(cells_of(datasets=[{**DATA, "poisoned": True}], rates=[0.001]))
