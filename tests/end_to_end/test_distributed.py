"""Several real processes make the same defense as one, and end together."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from mithridate.cli.main import app
from mithridate.inference.defended import DefendedModel

EXAMPLES = Path(__file__).parents[2] / "examples" / "accelerate"
SHARDED = Path(__file__).parent / "sharded_on_cpu.py"
# 60 rows in batches of 8: the last step is half full, and is shared all the same.
SETTINGS = ("--precision", "float32", "--max-length", "64", "--rank", "4", "--batch-size", "8")


@pytest.fixture(scope="module")
def scene(make_toy_rows, tiny_folder, tmp_path_factory):
    """A folder with rows and a secret, and the words that defend them."""
    folder = tmp_path_factory.mktemp("distributed")
    records = ({"id": r.id, "text": r.text, "label": int(r.answer)} for r in make_toy_rows(60, 1))
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "secret").write_text("ab" * 32)
    (folder / "secret").chmod(0o600)
    return folder, ["defend", folder / "train.jsonl", "--model", tiny_folder, *SETTINGS]


@pytest.fixture(scope="module")
def alone(scene):
    """What one process makes of the rows."""
    folder, words = scene
    more = ["--secret-file", folder / "secret", "--epochs", "3", "--json", "-o", folder / "alone"]
    result = CliRunner().invoke(app, [str(word) for word in [*words, *more]])
    assert result.exit_code == 0, result.stderr
    return folder / "alone", json.loads(result.stdout)


def launch(*words, config=EXAMPLES / "cpu_1x2.yaml", program=("-m", "mithridate.cli")):
    """Start two processes by accelerate launch."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    return subprocess.Popen(
        [*launcher, "--main_process_port", "0", *program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def same(alone, folder, printed):
    """Assert that a run made the same D*, the same losses and the same predictions."""
    one_folder, one = alone
    assert printed["processes"] == 2
    assert printed["examples_mac"] == one["examples_mac"]
    assert len(printed["losses"]) == len(one["losses"]) > 1
    assert np.allclose(printed["losses"], one["losses"], rtol=0, atol=1e-3)
    left, right = DefendedModel.load(one_folder), DefendedModel.load(folder)
    for part in ("secret_key", "benign_trigger", "subset", "dataset"):
        assert getattr(left.manifest, part) == getattr(right.manifest, part)
    texts = [f"a {word} film number {index}" for index in range(6) for word in ("dull", "lovely")]
    first, second = left.predict(texts), right.predict(texts)
    assert first.labels == second.labels
    assert np.allclose(first.probabilities, second.probabilities, atol=1e-3)


def test_two_processes_make_the_defense_of_one(scene, alone):
    folder, words = scene
    secret = ("--secret-file", folder / "secret")
    run = launch(*words, *secret, "--epochs", "3", "--json", "-o", folder / "two")
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    same(alone, folder / "two", json.loads(out))  # one object: one process printed
    assert err.count("No --trusted rows") == 1
    manifest = json.loads((folder / "two" / "defense.json").read_text())
    assert manifest["benign_trigger"].strip() not in out + err
    assert manifest["secret_key"] not in out + err
    names = {path.name for path in (folder / "two").iterdir()}
    assert not {"work", "run.json"} & names
    assert not (folder / ".two.partial").exists()


@pytest.mark.skipif("MITHRIDATE_SHARDED" not in os.environ, reason="set MITHRIDATE_SHARDED=1")
@pytest.mark.parametrize("kind", ["fsdp2", "zero3"])
def test_weights_in_pieces_make_the_same_defense(kind, scene, alone, tmp_path):
    if kind == "zero3" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    folder, words = scene
    config = tmp_path / "two.yaml"
    config.write_text(
        (EXAMPLES / f"{kind}_1x8.yaml").read_text().replace("num_processes: 8", "num_processes: 2")
    )
    secret = ("--secret-file", folder / "secret")
    more = (*secret, "--epochs", "3", "--json", "-o", folder / kind)
    run = launch(*words, *more, config=config, program=(SHARDED,))
    out, err = run.communicate(timeout=400)
    assert run.returncode == 0, err
    same(alone, folder / kind, json.loads(out[out.index("{\n") :]))  # DeepSpeed prints as it builds


def test_bad_input_is_said_once_and_ends_all(scene):
    folder, words = scene
    # Found late, by the library, in every process alike.
    run = launch(*words, "--target-modules", "no_such_layer", "-o", folder / "bad")
    out, err = run.communicate(timeout=240)
    assert run.returncode != 0
    assert out == ""
    assert err.count("error: the model has no layers named no_such_layer") == 1
    assert "exitcode: 2" in err  # what the launcher says of a process of ours
    assert "mithridate/training" not in err  # none of them with a traceback
    assert not list(folder.glob("*bad*"))


def test_a_killed_process_ends_all_and_the_run_goes_on_later(scene):
    folder, words = scene
    words = [*words, "--epochs", "12", "--json", "-o", folder / "killed"]
    run = launch(*words)
    partial = folder / ".killed.partial"
    deadline = time.monotonic() + 240
    while not list(partial.glob("work/checkpoint-*/trainer_state.json")):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = [
        child for child in psutil.Process(run.pid).children() if "mithridate.cli" in child.cmdline()
    ]
    second = max(workers, key=lambda worker: int(worker.environ()["RANK"]))
    second.send_signal(signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert err.count("error: ") <= 1
    kept = json.loads((partial / "run.json").read_text())["secret_key"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["resumed_from"].startswith("checkpoint-")
    assert json.loads((folder / "killed" / "defense.json").read_text())["secret_key"] == kept
