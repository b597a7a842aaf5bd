"""Which checkpoint a run goes on from: the newest that no power cut left half-written."""

import json

import pytest
import torch

from mithridate.training.checkpoints import newest_checkpoint


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, and a folder of another name."""
    for steps in (6, 9, 10):
        path = tmp_path / f"checkpoint-{steps}"
        path.mkdir()
        (path / "trainer_state.json").write_text(json.dumps({"global_step": steps}))
        torch.save({"step": steps}, path / "optimizer.pt")
        (path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "checkpoint-best").mkdir()
    return tmp_path


def test_the_one_of_the_most_steps_is_taken(folder):
    assert newest_checkpoint(folder).name == "checkpoint-10"


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("trainer_state.json", None),
        ("trainer_state.json", 0),
        ("trainer_state.json", 9),
        ("optimizer.pt", 0),
        ("optimizer.pt", 400),
        ("adapter_model.safetensors", 0),
    ],
)
def test_one_that_was_cut_off_is_passed_over(folder, name, left):
    path = folder / "checkpoint-10" / name
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    assert newest_checkpoint(folder).name == "checkpoint-9"


def test_there_may_be_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "nowhere") is None
