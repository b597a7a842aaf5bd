import re
import subprocess
import sys

import pytest
import typer

from mithridate.cli.main import app

HEAVY = "torch transformers datasets sklearn pandas peft scipy pyarrow numpy pydantic"
VERBS = typer.main.get_command(app).commands


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from mithridate.cli.main import app
try:
    app(["--help"])
except SystemExit as done:
    assert done.code == 0
loaded = [name for name in {HEAVY!r}.split() if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("verb", "columns"), [*((verb, 200) for verb in VERBS), ("defend", 80), ("defend", 110)]
)
def test_help_shows_every_option_whole(verb, columns, shell):
    done = shell(verb, "--help", COLUMNS=str(columns))
    assert done.returncode == 0
    shown = set(re.findall(r"--[\w-]+", done.stdout))
    options = [name for one in VERBS[verb].params for name in (*one.opts, *one.secondary_opts)]
    assert {name for name in options if name.startswith("--")} <= shown


def test_the_help_names_each_attack_once_and_bite_only_where_it_can_be_put_in(shell):
    assert shell("poison", "--help").stdout.count("bite") == 1
    assert "bite" not in shell("evaluate", "--help").stdout


def test_the_figures_in_the_help_are_those_of_the_presets(shell):
    from mithridate.training.config import DEFAULT, PAPER

    text = shell("defend", "--help", COLUMNS="400").stdout
    assert f"Passes over the data ({DEFAULT.epochs})" in text
    assert f"Rows per step ({DEFAULT.batch_size}, paper {PAPER.batch_size})" in text
    assert f"LoRA rank ({DEFAULT.rank})" in text
    assert f"texts are cut ({DEFAULT.max_length}, paper {PAPER.max_length})" in text
    assert DEFAULT.target_modules == ("all-linear",)
    assert f"the default (paper {','.join(PAPER.target_modules)})" in text


def test_version(cli):
    result = cli("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"mithridate \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "No such option"),
        (["defend"], "Missing argument 'DATA'"),
        (["defend", "x.jsonl"], "Missing option '--output'"),
        (["repoison", "x.jsonl", "-o", "y", "--selection", "oracle"], "'oracle' is not one of"),
        (["repoison", "x.jsonl", "-o", "y", "--benign-ratio", "much"], "--benign-ratio"),
        (["evaluate", "x", "y", "--max-asr", "5"], "--max-asr"),
    ],
)
def test_usage_errors_are_one_line(words, says, cli):
    result = cli(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert "--help`" in result.stderr


def test_an_interrupt_is_one_line_and_130(cli, monkeypatch, tmp_path):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mithridate.data.write.check_target", interrupted)
    result = cli("repoison", "x.jsonl", "--output", tmp_path / "out")
    assert result.exit_code == 130
    assert "the same command" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(cli, monkeypatch, tmp_path):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mithridate.data.write.check_target", broken)
    assert isinstance(
        cli("repoison", "x.jsonl", "--output", tmp_path / "out").exception, ZeroDivisionError
    )


def test_assets_prints_what_the_library_did(cli, monkeypatch, tmp_path):
    import json

    from mithridate.data.assets import Assets, AssetStatus

    status = AssetStatus("toy", tmp_path, 1_500_000, "ab" * 32, "Apache-2.0", "cached")
    found = Assets(tmp_path, tmp_path, tmp_path, tmp_path, (status,))
    monkeypatch.setattr("mithridate.data.assets.ensure_assets", lambda progress: found)
    asset = json.loads(cli("assets", "--json").stdout)["assets"][0]
    assert asset["sha256"] == "ab" * 32
    assert asset["bytes"] == 1_500_000
    table = cli("assets").stdout
    for cell in ("toy", "1.5 MB", "Apache-2.0", "cached", str(tmp_path)):
        assert cell in table


def test_a_licence_is_accepted_by_its_flag_alone(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    refused = cli("assets", "--model", "gemma3-270m")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    for part in (
        "Gemma Terms of Use",
        "https://ai.google.dev/gemma/terms",
        "`mithridate assets --model gemma3-270m --accept-licence gemma`",
    ):
        assert part in refused.stderr
    assert cli("assets", "--accept-licence", "gemma").exit_code == 2
    assert cli("assets", "--model", "gemma3-270m", "--accept-licence", "other").exit_code == 2
    assert not (tmp_path / "cache").exists()


def test_a_model_whose_licence_nobody_accepted_is_refused_in_one_line(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rows.csv").write_text("text,label\n" + "good,1\nbad,0\nfine,1\ndull,0\n" * 10)
    result = cli(
        "repoison", tmp_path / "rows.csv", "-o", tmp_path / "out", "--model", "gemma3-270m"
    )
    assert result.exit_code == 2
    assert result.stderr.count("--accept-licence gemma") == 1
    assert not (tmp_path / "out").exists()
