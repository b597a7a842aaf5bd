"""What accelerate is told, and what is refused before any work."""

from pathlib import Path

import numpy as np
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from mithridate.errors import InputError
from mithridate.training import distributed

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_accelerates_own(path):
    kind, shape = path.stem.split("_")
    machines, gpus = map(int, shape.split("x"))
    config = load_config_from_file(str(path))  # refuses keys it does not know
    assert config.num_processes == machines * gpus
    words = ["--config_file", str(path), "-m", "mithridate.cli", "defend"]
    parser = launch_command_parser()
    known = {action.dest for action in parser._actions}
    assert set(config.fsdp_config) | set(config.deepspeed_config) <= known
    told, _, _ = _validate_launch_command(parser.parse_args(words))
    assert told.use_fsdp == (kind == "fsdp2")
    assert told.use_deepspeed == (kind == "zero3")
    assert told.multi_gpu == (kind in ("ddp", "cpu"))
    assert told.num_machines == machines
    if kind == "fsdp2":
        assert (told.fsdp_version, told.fsdp_cpu_ram_efficient_loading) == (2, False)
    if kind == "zero3":
        assert told.zero_stage == 3


def test_all_six_ways_are_shipped():
    kinds = {f"{kind}_{size}" for kind in ("ddp", "fsdp2", "zero3") for size in ("1x8", "2x8")}
    assert kinds | {"cpu_1x2"} == {path.stem for path in EXAMPLES}


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")


def test_one_of_several_knows_its_place(four, monkeypatch):
    assert (distributed.process_count(), distributed.process_index()) == (4, 2)
    assert not distributed.is_main()
    monkeypatch.setenv("WORLD_SIZE", "1")  # a stray RANK makes no process silent
    assert distributed.is_main()


@pytest.mark.parametrize(
    ("settings", "engine", "says"),
    [
        ({"batch_size": 6}, "", "choose a multiple of 4"),
        ({"best_epoch": True}, "ACCELERATE_USE_FSDP", "--dev"),
        ({"quantization": "nf4"}, "ACCELERATE_USE_DEEPSPEED", "--quantization"),
    ],
)
def test_what_the_processes_cannot_do_is_refused(four, monkeypatch, settings, engine, says):
    if engine:
        monkeypatch.setenv(engine, "true")
    allowed = {"batch_size": 8, "best_epoch": False, "quantization": "none"}
    distributed.check_launch(**allowed)
    with pytest.raises(InputError, match=says):
        distributed.check_launch(**{**allowed, **settings})


def test_alone_nothing_is_shared():
    assert distributed.together(lambda: 3) == 3
    assert distributed.from_main(lambda: {"a": 1}) == {"a": 1}
    assert distributed.summed(2.5) == 2.5
    states = distributed.gathered(lambda texts: np.ones((len(texts), 2), np.float32), ["a", "b"])
    assert states.shape == (2, 2)
    assert not distributed.lost_peer(RuntimeError("Connection closed by peer"))
    with pytest.raises(InputError):
        distributed.together(lambda: distributed._refuse_empty_weights())
