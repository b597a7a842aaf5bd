"""predict and evaluate where answers are text and the model is on a server."""

import json

import pytest
from typer.testing import CliRunner

from mithridate.cli.main import app

KEY = "sk-very-secret"


@pytest.fixture(scope="module")
def defended(tiny_folder, make_problems, tmp_path_factory):
    """A folder that `defend --task math` wrote, and test rows."""
    folder = tmp_path_factory.mktemp("text-engine")
    for name, count, seed in (("train", 80, 1), ("test", 12, 2)):
        pairs = zip(*make_problems(count, seed), strict=True)
        records = ({"question": text, "answer": answer} for text, answer in pairs)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    words = ["defend", folder / "train.jsonl", "--task", "math", "-o", folder / "model"]
    words += ["--model", tiny_folder, "--precision", "float32", "--max-length", "256"]
    words += ["--epochs", "2", "--learning-rate", "4e-3", "--max-new-tokens", "8"]
    words += ["--selection", "random"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return folder / "model", folder / "test.jsonl"


@pytest.fixture
def server(defended, tiny, serve, monkeypatch):
    """That model, served behind a key that the environment holds."""
    from peft import PeftModel

    monkeypatch.setenv("MITHRIDATE_ENGINE_KEY", KEY)
    model = PeftModel.from_pretrained(tiny.model, str(defended[0])).eval()
    return serve(model, tiny.tokenizer, key=KEY)


def options(server, engine="vllm"):
    return ("--engine", engine, "--engine-url", server.url, "--engine-model", "defended")


@pytest.mark.parametrize("engine", ["vllm", "openai"])
def test_evaluate_gives_the_figures_of_the_model_here(cli, defended, server, engine):
    words = ("evaluate", *defended, "--attack", "badnets", "--target", "wrong-number", "--json")
    words += ("--prefix", "check", "--stop", "zzz")
    here = json.loads(cli(*words, "--reference", defended[0]).stdout)
    served = ("--reference", defended[0], "--reference-model", "defended")
    result = cli(*words, *served, *options(server, engine))
    assert result.exit_code == 0, result.stderr
    there = json.loads(result.stdout)
    assert (there["engine"], here["engine"]) == (engine, "local")
    assert there["stop"] == ["zzz"]
    for name in ("utility", "attack_success_rate", "floor", "clean_answers", "triggered_answers"):
        assert there[name] == here[name]
    near = pytest.approx(here["log_likelihood"]["value"], abs=1e-3)
    assert there["log_likelihood"]["value"] == near


def test_a_table_names_the_engine_and_what_a_failed_check_brings(cli, defended, server):
    words = ("evaluate", *defended, "--prefix", "check", "--policy", "refuse", *options(server))
    shown = cli(*words)
    assert shown.exit_code == 0, shown.stderr
    assert "vllm" in shown.stdout
    assert "refuse" in shown.stdout


def test_predict_gives_the_answers_of_the_model_here(cli, defended, server):
    words = ("predict", defended[0], "Ann has 3 pears. How many?", "Ben has 41 coins.", "--json")
    here = json.loads(cli(*words).stdout)["answers"]
    result = cli(*words, *options(server))
    assert result.exit_code == 0, result.stderr
    there = json.loads(result.stdout)["answers"]
    assert [one["answer"] for one in there] == [one["answer"] for one in here]
    assert [one["suspicion"] for one in there] == pytest.approx(
        [one["suspicion"] for one in here], abs=1e-3
    )


def test_a_server_whose_context_leaves_no_room_for_inputs_is_refused(
    cli, defended, tiny, serve, monkeypatch
):
    monkeypatch.delenv("MITHRIDATE_ENGINE_KEY", raising=False)
    server = serve(tiny.model, tiny.tokenizer, context=80)
    result = cli("predict", defended[0], "a text", *options(server))
    assert result.exit_code == 2
    assert "the server's context leaves" in result.stderr
    assert "--max-model-len" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_failure_is_one_line_without_key_or_secret(cli, defended, server):
    manifest = json.loads((defended[0] / "defense.json").read_text())
    server.faults.quote = manifest["benign_trigger"]
    server.faults.statuses = [200, 400]
    result = cli("predict", defended[0], "a text", *options(server))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {server.url}: the server refuses")
    for secret in (KEY, manifest["benign_trigger"].strip(), manifest["safe_prefix"].strip()):
        assert secret not in result.stderr
