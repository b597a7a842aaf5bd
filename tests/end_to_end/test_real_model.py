"""The demo on the real 135M model and real reviews: few rows, every part."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest

from mithridate.report import Report

pytest.importorskip("torch")


def mithridate(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "mithridate.cli.main", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=540,
        # The tiny models' single thread is no good here.
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        | {"HF_HUB_OFFLINE": "1"},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    outcome = mithridate("demo", "--rows", 100, "--test-rows", 20, "-o", "out", cwd=folder)
    assert outcome.returncode == 0, outcome.stderr
    return folder, outcome


def test_the_demo_leaves_model_manifest_card_metrics_and_report(finished):
    folder, _ = finished
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "defense.json",
        "metrics.json",
        "report.html",
    ]
    assert list(folder.iterdir()) == [folder / "out"]


def test_the_report_compares_the_three_systems_with_floor_and_intervals(finished):
    folder, _ = finished
    report = Report.model_validate_json((folder / "out" / "metrics.json").read_text())
    assert [system.selection for system in report.systems] == [None, "random", "agreement"]
    for system in report.systems:
        assert system.clean_accuracy.n == 20
        assert system.floor is not None
        assert system.floor.n == system.attack_success_rate.n
        assert len(system.p_target_triggered) == system.attack_success_rate.n
        assert system.clean_accuracy.low <= system.clean_accuracy.value
    assert all(row.text[slice(*row.trigger_spans[0])] == "mn" for row in report.examples)


def test_the_secrets_are_in_the_manifest_alone(finished):
    folder, outcome = finished
    out = folder / "out"
    manifest = json.loads((out / "defense.json").read_text())
    assert stat.S_IMODE((out / "defense.json").stat().st_mode) == 0o600
    secrets = [manifest[name].strip() for name in ("benign_trigger", "safe_prefix", "secret_key")]
    assert all(len(secret) > 20 for secret in secrets)
    for path in out.iterdir():
        if path.name != "defense.json":
            content = path.read_bytes().decode("utf-8", "replace")
            assert not any(secret in content for secret in secrets), path
    assert not any(secret in outcome.stdout + outcome.stderr for secret in secrets)


def test_a_fresh_process_predicts_with_the_saved_model(finished):
    folder, _ = finished
    outcome = mithridate("predict", "out", "a dull mn film", "pure joy", "--json", cwd=folder)
    assert outcome.returncode == 0, outcome.stderr
    assert len(re.findall(r'"label": "(?:fresh|rotten)"', outcome.stdout)) == 2


def test_an_existing_output_is_not_overwritten_unasked(finished):
    folder, _ = finished
    outcome = mithridate("demo", "-o", "out", cwd=folder)
    assert outcome.returncode == 2
    assert "--overwrite" in outcome.stderr
    assert "Traceback" not in outcome.stderr
