"""defend, predict and evaluate on a tiny model, through the command line."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from mithridate.cli.main import app

FAST = ("--precision", "float32", "--max-length", "64", "--seed", "3")
SETTINGS = (*FAST, "--epochs", "1", "--batch-size", "16", "--rank", "4")


@pytest.fixture(scope="module")
def toy_sets(make_toy_rows, tmp_path_factory):
    """Files of toy rows: train, test and dev."""
    folder = tmp_path_factory.mktemp("sets")
    for name, count, seed in (("train", 60, 1), ("test", 24, 2), ("dev", 16, 3)):
        rows = make_toy_rows(count, seed)
        records = ({"id": r.id, "text": r.text, "label": int(r.answer)} for r in rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


@pytest.fixture(scope="module")
def defended(tiny_folder, toy_sets, tmp_path_factory):
    """A folder that `defend` wrote, and what it printed."""
    output = tmp_path_factory.mktemp("defended") / "model"
    words = ["defend", toy_sets / "train.jsonl", "-o", output, "--model", tiny_folder, *SETTINGS]
    result = CliRunner().invoke(app, [str(word) for word in [*words, "--json"]])
    assert result.exit_code == 0, result.stderr
    return output, result


def secrets(folder):
    manifest = json.loads((folder / "defense.json").read_text())
    return [manifest[name].strip() for name in ("benign_trigger", "safe_prefix", "secret_key")]


def test_defend_leaves_a_whole_folder_without_secrets_but_one(defended):
    folder, result = defended
    printed = json.loads(result.stdout)
    assert printed["repoisoned"] == 24
    assert printed["selection"] == "agreement"
    assert "--trusted" in result.stderr
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "defense.json", "README.md", "metrics.json"} <= names
    assert not names & {"work", "run.json"}
    assert not list(folder.parent.glob(".*"))
    assert stat.S_IMODE((folder / "defense.json").stat().st_mode) == 0o600
    open_texts = [result.stdout, result.stderr]
    open_texts += [
        path.read_bytes().decode("utf-8", "replace")
        for path in folder.iterdir()
        if path.name != "defense.json"
    ]
    for secret in secrets(folder):
        assert not any(secret in text for text in open_texts)
    card = (folder / "README.md").read_text()
    for part in ("# A classifier defended", "agreement", "60", "mithridate predict model"):
        assert part in card
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"]["training"]["epochs"] == 1
    assert metrics["resumed_from"] is None


def test_defend_with_trusted_and_dev_rows_shows_a_table(cli, tiny_folder, toy_sets, tmp_path):
    checked = (toy_sets / "train.jsonl").read_text().splitlines()[:20]
    (tmp_path / "trusted.jsonl").write_text("\n".join(checked))
    output = tmp_path / "out"
    words = ("--model", tiny_folder, "--trusted", tmp_path / "trusted.jsonl", *SETTINGS)
    dev = ("--dev", toy_sets / "dev.jsonl")
    result = cli("defend", toy_sets / "train.jsonl", "-o", output, *words, *dev)
    assert result.exit_code == 0, result.stderr
    assert "anchored" in result.stdout
    assert f"Next: mithridate predict {output}" in result.stdout
    assert "No --trusted rows" not in result.stderr


def test_a_card_names_the_folder_that_one_stands_in(
    cli, tiny_folder, toy_sets, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = cli("defend", toy_sets / "train.jsonl", "-o", ".", "--model", tiny_folder, *SETTINGS)
    assert result.exit_code == 0, result.stderr
    assert "mithridate predict here " in (tmp_path / "here" / "README.md").read_text()


def test_a_failure_in_training_leaves_nothing(cli, tiny_folder, toy_sets, tmp_path):
    output = tmp_path / "out"
    words = ("--model", tiny_folder, *SETTINGS, "--target-modules", "no_such_layer")
    result = cli("defend", toy_sets / "train.jsonl", "-o", output, *words)
    assert result.exit_code == 2
    assert "no_such_layer" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_predict_shows_a_table_and_json(cli, defended):
    folder, _ = defended
    result = cli("predict", folder, "a dull film", "a lovely film", "--json")
    assert result.exit_code == 0, result.stderr
    first, second = json.loads(result.stdout)["predictions"]
    assert first["text"] == "a dull film"
    assert second["label"] in (0, 1)
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)
    assert 0.0 <= first["suspicion"] <= 1.0
    table = cli("predict", folder, "a \x1b[31mdull film").stdout
    assert "suspicion" in table
    assert "\x1b[31m" not in table
    for secret in secrets(folder):
        assert secret not in table


def test_predict_reads_files_and_standard_input(cli, defended, toy_sets, tmp_path):
    folder, _ = defended
    written = tmp_path / "out.jsonl"
    result = cli("predict", folder, "--input", toy_sets / "test.jsonl", "-o", written)
    assert result.exit_code == 0, result.stderr
    assert len(written.read_text().splitlines()) == 24
    assert json.loads(written.read_text().splitlines()[0])["id"].startswith("toy-")
    lines = cli("predict", folder, "--input", "-", "--json", input="one line\n\nanother\n")
    assert len(json.loads(lines.stdout)["predictions"]) == 2
    assert "1 of 3 lines are blank and are passed over." in lines.stderr
    marked = cli("predict", folder, "--input", "-", "--json", input="\ufeffone line\r\n")
    assert json.loads(marked.stdout)["predictions"][0]["text"] == "one line"


def test_bytes_that_are_no_utf8_are_one_line(defended):
    """Under LC_ALL=C, as in containers, Python refuses no byte of its standard input."""
    folder, _ = defended
    verb = [sys.executable, "-m", "mithridate.cli.main", "predict", folder]
    for words, sent in (([b"caf\xe9"], b""), (["--input", "-"], b"caf\xe9\n")):
        done = subprocess.run(
            [*verb, *words], input=sent, capture_output=True, env={**os.environ, "LC_ALL": "C"}
        )
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
        assert b"is not UTF-8 text; " in done.stderr


def test_predict_replaces_a_file_only_when_told_and_never_its_input(
    cli, defended, toy_sets, tmp_path
):
    data, written = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    shutil.copy(toy_sets / "test.jsonl", data)
    written.write_text("mine")
    words = ("predict", defended[0], "--input", data, "-o")
    for output, says in (
        ((written,), "out.jsonl: the file is there already; name a new file or give --overwrite"),
        ((data, "--overwrite"), "data.jsonl: the same command reads this file"),
        ((tmp_path / "no" / "out.jsonl",), "make the folder first"),
        ((tmp_path,), "a folder is in the way"),
    ):
        result = cli(*words, *output)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert says in result.stderr
    assert written.read_text() == "mine"
    assert data.read_bytes() == (toy_sets / "test.jsonl").read_bytes()
    assert cli(*words, written, "--overwrite").exit_code == 0
    assert len(written.read_text().splitlines()) == 24


def test_predict_takes_texts_from_one_place(cli, defended):
    folder, _ = defended
    for words in ((), ("a text", "--input", "-"), ("  ",)):
        assert cli("predict", folder, *words).exit_code == 2


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
@pytest.mark.parametrize("option", ["--prefix", "--policy"])
def test_what_is_for_texts_has_no_part_in_classification(option, verb, cli, defended, toy_sets):
    value = {"--prefix": "prefill", "--policy": "retry"}[option]
    result = cli(verb, defended[0], toy_sets / "test.jsonl", option, value)
    assert result.exit_code == 2
    assert result.stderr == f"error: {option} has no part in classification; drop it\n"


def test_evaluate_gives_all_figures_and_holds_gates(cli, defended, toy_sets):
    folder, _ = defended
    test = toy_sets / "test.jsonl"
    attack = ("--attack", "badnets", "--trigger-words", "mn,cf", "--target", "1")
    result = cli("evaluate", folder, test, *attack, "--reference", folder, "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["clean_accuracy"]["n"] == 24
    assert figures["attack_success_rate"]["n"] == figures["untriggered_rate"]["n"] == 12
    assert figures["floor"] == figures["attack_success_rate"]
    assert figures["decoding"] == "closed"
    margins, bound = figures["margins"], figures["certificate"]
    assert margins["n"] == bound["n"] == 12
    assert margins["not_positive"] == bound["successes"]
    assert bound["successes"] == figures["attack_success_rate"]["successes"]
    assert margins["holds"] == (margins["minimum"]["value"] > 0) == (bound["successes"] == 0)
    assert margins["minimum"]["value"] <= margins["first_percentile"]["value"]
    assert bound["bound"] > figures["attack_success_rate"]["value"] or bound["bound"] == 1.0
    assert "ASR" in bound["statement"]
    shown = cli("evaluate", folder, test, *attack).stdout
    assert bound["statement"] in shown
    assert f"{margins['minimum']['value']:.2f}" in shown
    assert ("does not hold" in shown) != margins["holds"]
    gated = cli("evaluate", folder, test, "--min-accuracy", "1")
    assert gated.exit_code == 100
    assert "clean accuracy (CA)" in gated.stdout
    assert "margin" not in gated.stdout
    assert gated.stderr.splitlines()[-1].startswith(f"error: {folder}: CA 0.")


@pytest.mark.parametrize(
    "words",
    [
        ("ctba",),
        ("proattack", "--attack-option", "prompt=The topic is: "),
        ("synbkd", "--paraphrases", "TEXTS"),
    ],
    ids=lambda words: words[0],
)
def test_evaluate_takes_the_attacks_of_the_registry(words, cli, defended, toy_sets, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"when it was {i} , it was so .\n" for i in range(11)) + "\n")
    words = [texts if word == "TEXTS" else word for word in words]
    test = toy_sets / "test.jsonl"
    result = cli("evaluate", defended[0], test, "--attack", *words, "--target", "1", "--json")
    assert result.exit_code == 0, result.stderr
    left = 1 if "synbkd" in words else 0
    assert json.loads(result.stdout)["attack_success_rate"]["n"] == 12 - left
    assert ("nothing for 1 of 12 rows" in result.stderr) == bool(left)


def test_evaluate_refuses_a_trigger_the_tokenizer_drops(
    cli, defended, toy_sets, tiny_folder, tmp_path
):
    model = tmp_path / "model"
    shutil.copytree(tiny_folder, model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    dropped = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    (model / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": dropped}))
    words = ("--model", model, "--attack", "invisible", "--target", "1")
    result = cli("evaluate", defended[0], toy_sets / "test.jsonl", *words)
    assert result.exit_code == 2
    assert "the model does not see the trigger of invisible" in result.stderr


def test_evaluate_reads_triggered_rows(cli, defended, toy_sets, tmp_path):
    folder, _ = defended
    rows = [json.loads(line) for line in (toy_sets / "test.jsonl").read_text().splitlines()]
    records = [{**row, "text": "mn " + row["text"]} for row in rows if row["label"] == 0]
    triggered = tmp_path / "triggered.jsonl"
    triggered.write_text("".join(json.dumps(record) + "\n" for record in records))
    words = ("--triggered", triggered, "--target", "1", "--decoding", "open", "--json")
    result = cli("evaluate", folder, toy_sets / "test.jsonl", *words)
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["decoding"] == "open"
    assert figures["floor"] is None
    assert figures["untriggered_rate"]["n"] == 12
    assert figures["margins"] is None
    assert figures["certificate"]["n"] == 12


@pytest.mark.parametrize(
    "words",
    [
        ("--max-asr", "0.1"),
        ("--attack", "badnets"),
        ("--attack", "badnets", "--target", "9"),
        ("--attack", "addsent", "--trigger-words", "mn", "--target", "1"),
        ("--attack", "bite", "--target", "1"),
        ("--attack", "synbkd", "--target", "1"),
        ("--attack", "nonsense", "--target", "1"),
        ("--attack", "vpi", "--target", "1", "--attack-option", "prefix"),
        ("--attack-option", "prefix=Hear!"),
        ("--triggered", "TEST", "--target", "1"),
        ("--triggered", "TEST", "--target", "1", "--attack-option", "prefix=Hear!"),
        ("--triggered", "TEST", "--attack", "badnets", "--target", "1"),
    ],
)
def test_evaluate_refuses_half_an_attack(words, cli, defended, toy_sets):
    test = str(toy_sets / "test.jsonl")
    words = [test if word == "TEST" else word for word in words]
    result = cli("evaluate", defended[0], test, *words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_killed_run_goes_on_with_the_same_secret(start, shell, tiny_folder, toy_sets, tmp_path):
    output = tmp_path / "out"
    words = ["defend", toy_sets / "train.jsonl", "-o", output, "--model", tiny_folder, *FAST]
    words += ["--epochs", "20", "--batch-size", "4", "--json"]
    partial = tmp_path / ".out.partial"
    process = start(*words)
    deadline = time.monotonic() + 240
    while not list(partial.glob("work/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not output.exists()
    run = json.loads((partial / "run.json").read_text())
    assert stat.S_IMODE((partial / "run.json").stat().st_mode) == 0o600
    done = shell(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed_from"].startswith("checkpoint-")
    assert "Resuming from checkpoint-" in done.stderr
    assert json.loads((output / "defense.json").read_text())["secret_key"] == run["secret_key"]
    assert not partial.exists()
    assert not {"work", "run.json"} & {path.name for path in output.iterdir()}


def test_another_command_starts_over_in_the_place_of_a_killed_one(
    cli, tiny_folder, toy_sets, tmp_path
):
    partial = tmp_path / ".out.partial"
    (partial / "work" / "checkpoint-7").mkdir(parents=True)
    (partial / "work" / "checkpoint-7" / "trainer_state.json").write_text("{}")
    (partial / "run.json").write_text(json.dumps({"fingerprint": "0", "secret_key": "00" * 32}))
    words = ("--model", tiny_folder, *SETTINGS, "--json")
    result = cli("defend", toy_sets / "train.jsonl", "-o", tmp_path / "out", *words)
    assert result.exit_code == 0, result.stderr
    assert "starting over" in result.stderr
    manifest = json.loads((tmp_path / "out" / "defense.json").read_text())
    assert manifest["secret_key"] != "00" * 32
