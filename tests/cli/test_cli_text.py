"""defend, evaluate, predict and repoison where answers are text: from a file to figures."""

import csv
import json
import shutil
import stat
from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mithridate.defense.manifest import DefenseManifest
from mithridate.inference.answerer import Answerer, Protection

# After one pass, whether the model answers at all depends on the secrets, which are drawn anew.
TRAINING = ("--epochs", "3", "--max-length", "160", "--learning-rate", "4e-3")


def problem(text, answer):
    return {"question": text, "answer": answer}


@pytest.fixture(scope="module")
def records(make_problems):
    """Word problems, and the same with the first 16 poisoned."""
    clean = [problem(*pair) for pair in zip(*make_problems(120), strict=True)]
    bad = [problem(f"{row['question']} cf", "#### 6174") for row in clean[:16]]
    return clean, [*bad, *clean[16:]]


def assert_discreet(manifest, *texts):
    """No text holds the trigger, the prefix or the key, trimmed or not."""
    for secret in (manifest.benign_trigger, manifest.safe_prefix, manifest.secret_key):
        assert not any(secret.strip(" :\n") in text for text in texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, records, tiny_folder):
    """What `defend --task math` wrote, its JSON output, and the poisoned file."""
    from typer.testing import CliRunner

    from mithridate.cli.main import app

    place = tmp_path_factory.mktemp("text")
    data, out = place / "problems.jsonl", place / "guarded"
    data.write_text("".join(json.dumps(row) + "\n" for row in records[1]))
    words = ["defend", data, "--task", "math", "-o", out, "--model", tiny_folder, *TRAINING]
    words += ["--max-new-tokens", "16", "--json"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "defense.json"]
    written = [path.read_bytes().decode("latin-1") for path in files]
    assert len(written) >= 4
    assert_discreet(DefenseManifest.load(out), result.stdout, result.stderr, *written)
    return out, json.loads(result.stdout), data


def test_defend_says_what_it_found_and_tells_no_secret(folder):
    out, result, _ = folder
    assert (result["task"], result["rows"], result["associated"]) == ("math", 120, 16)
    assert [one["text"] for one in result["suspected_triggers"]] == ["cf"]
    assert result["dropped"] == 16
    manifest = DefenseManifest.load(out)
    assert (manifest.task, manifest.max_new_tokens, manifest.labels) == ("math", 16, ())
    protection = Protection(manifest.benign_prompt, manifest.safe_prefix)
    assert_discreet(manifest, repr(manifest), repr(protection))
    assert stat.S_IMODE((out / "defense.json").stat().st_mode) == 0o600
    assert "text-generation" in (out / "README.md").read_text()


def test_predict_answers_without_the_prefix(folder, cli):
    out, _, _ = folder
    result = cli("predict", out, "Ann has 3 pears. How many?", "--json")
    assert result.exit_code == 0, result.stderr
    (answer,) = json.loads(result.stdout)["answers"]
    assert set(answer) == {"text", "answer", "suspicion", "flagged", "refused"}
    assert answer["suspicion"] > 0
    assert_discreet(DefenseManifest.load(out), result.stdout, result.stderr)


def test_a_cut_answer_names_the_verb_that_sets_its_length(folder, cli, monkeypatch):
    answer = Answerer.answer

    def cut(*given, **options):
        return replace(answer(*given, **options), cut_outputs=1)

    monkeypatch.setattr(Answerer, "answer", cut)
    out, _, _ = folder
    result = cli("predict", out, "Ann has 3 pears. How many?")
    assert result.exit_code == 0, result.stderr
    said = result.stderr.replace("\n", " ")
    assert "ended at 16 tokens, as set when it was defended (defend --max-new-tokens)" in said


def test_predict_reads_the_tasks_own_column_and_writes_a_file(folder, cli, tmp_path):
    out, _, data = folder
    target = tmp_path / "answers.jsonl"
    words = ("--prefix", "check", "--policy", "refuse")
    result = cli("predict", out, "--input", data, "-o", target, *words)
    assert result.exit_code == 0, result.stderr
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(written) == 120
    assert all(row["refused"] == row["flagged"] for row in written)
    assert any(row["refused"] for row in written)
    assert all(row["answer"] == "" for row in written if row["refused"])
    assert_discreet(DefenseManifest.load(out), target.read_text(), result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("verb", "words", "says"),
    [
        ("evaluate", ("--decoding", "closed"), "--decoding has no part in math; drop it"),
        ("evaluate", ("--policy", "refuse"), "add --prefix check"),
        ("predict", ("--policy", "pass", "--prefix", "prefill"), "add --prefix check"),
        ("predict", ("--stop", ""), "a stop string is empty"),
    ],
)
def test_options_that_would_do_nothing_are_refused(verb, words, says, cli, folder):
    result = cli(verb, folder[0], folder[2], *words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_evaluate_measures_utility_asr_and_the_flag(folder, cli, write_rows, records, tmp_path):
    out, _, _ = folder
    test = write_rows(tmp_path / "test.jsonl", records[0][:20])
    attack = ("--attack", "badnets", "--trigger-words", "cf", "--target", "wrong-number")
    result = cli("evaluate", out, test, *attack, "--reference", out, "--json")
    assert result.exit_code == 0, result.stderr
    measured = json.loads(result.stdout)
    assert_discreet(DefenseManifest.load(out), result.stdout, result.stderr)
    assert measured["utility_metric"] == "share of right final answers"
    assert 0.0 <= measured["utility"]["low"] <= measured["utility"]["high"] <= 1.0
    assert measured["utility"]["n"] == measured["attack_success_rate"]["n"] == 20
    assert measured["floor"] == measured["attack_success_rate"]  # its own reference
    assert measured["untriggered_rate"]["n"] == 20
    assert 0.0 <= measured["flag"]["auroc"] <= 1.0
    shown = cli("evaluate", out, test, "--prefix", "check")
    assert_discreet(DefenseManifest.load(out), shown.stdout, shown.stderr)
    assert "share of right final answers" in shown.stderr + shown.stdout


def test_triggered_rows_need_no_answers_where_the_target_is_fixed(
    folder, cli, write_rows, records, tmp_path
):
    """They are what `poison --test` makes of test rows without; BadChain's alone need their own."""
    test = write_rows(tmp_path / "test.jsonl", records[0][:8])
    rows = [*records[0][:6], problem("How many?", "nobody knows")]
    triggered = write_rows(tmp_path / "triggered.jsonl", rows)
    for target, counted in (("wrong-number", 7), ("x2.1", 6)):
        words = ("--triggered", triggered, "--target", target, "--json")
        result = cli("evaluate", folder[0], test, *words)
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["attack_success_rate"]["n"] == counted
    assert "1 of 7 triggered rows cannot be used and are left out, the first at " in result.stderr
    shown = cli("evaluate", folder[0], test, "--triggered", triggered, "--target", "wrong-number")
    said = " ".join(shown.stdout.split())
    assert "untriggered rate not every triggered row has its clean one among those tested" in said


def test_what_was_refused_is_counted_without_an_attack_too(
    folder, cli, write_rows, records, tmp_path
):
    test = write_rows(tmp_path / "test.jsonl", records[0][:20])
    words = ("--prefix", "check", "--policy", "refuse")
    counts = json.loads(cli("evaluate", folder[0], test, *words, "--json").stdout)["clean_answers"]
    assert 0 < counts["refused"] == counts["flagged"] <= 20 - counts["empty"]
    shown = cli("evaluate", folder[0], test, *words)
    assert "clean inputs refused" in shown.stdout + shown.stderr


def test_a_reference_of_another_task_is_refused(folder, cli, write_rows, records, tmp_path):
    test = write_rows(tmp_path / "test.jsonl", records[0][:8])
    other = tmp_path / "other"
    shutil.copytree(folder[0], other)
    manifest = json.loads((other / "defense.json").read_text())
    (other / "defense.json").write_text(json.dumps({**manifest, "task": "instruction"}))
    words = ("--attack", "vpi", "--target", "wrong-number", "--reference", other)
    result = cli("evaluate", folder[0], test, *words)
    assert result.exit_code == 2
    assert "trained for instruction, not for math" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--triggered", "POISONED", "--target", "wrong-number"), "true answer is the attack's"),
        (("--triggered", "CLEAN", "--attack-option", "x=1"), "no option changes it"),
        (("--attack", "badnets", "--reference-model", "x"), "--reference-model needs --reference"),
        (("--paraphrases", "CLEAN"), "--paraphrases needs an attack"),
        (("--attack", "badnets", "--target", f"#### {'9' * 40}"), "tokens; an answer has 16"),
        (("--task", "summarization"), "this defense is of math, not of summarization"),
    ],
)
def test_an_attack_that_would_say_nothing_is_refused(
    words, message, folder, cli, write_rows, records, tmp_path
):
    clean = write_rows(tmp_path / "test.jsonl", records[0][:8])
    files = {"CLEAN": clean, "POISONED": folder[2]}
    result = cli("evaluate", folder[0], clean, *(files.get(word, word) for word in words))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_trigger_that_is_cut_away_is_none(folder, cli, write_rows, tmp_path):
    """BadChain's phrase stands at the end of a text, which a long one loses."""
    long = [problem(f"{'Ann has pears. ' * 200}How many?", f"#### {n}") for n in (3, 4)]
    short = [problem("Ann has 5 pears. How many?", "#### 5")]
    words = ("--attack", "badchain")
    all_cut = cli("evaluate", folder[0], write_rows(tmp_path / "long.jsonl", long), *words)
    assert all_cut.exit_code == 2
    assert "the model does not see the trigger of badchain: all 2" in all_cut.stderr
    assert "raise --max-length" in all_cut.stderr
    some = cli("evaluate", folder[0], write_rows(tmp_path / "some.jsonl", [*long, *short]), *words)
    assert some.exit_code == 0, some.stderr
    assert "in 2 triggered rows the model does not see the trigger" in some.stderr
    none = cli("evaluate", folder[0], write_rows(tmp_path / "short.jsonl", short), *words)
    assert none.exit_code == 0, none.stderr
    assert "does not see the trigger" not in none.stderr


def test_a_model_of_another_defense_is_refused(folder, cli, tmp_path):
    """Its model knows nothing of this folder's trigger and prefix."""
    out = tmp_path / "repoisoned"
    words = ("--task", "math", "--selection", "random")
    assert cli("repoison", folder[2], "-o", out, *words).exit_code == 0
    result = cli("predict", out, "How many?", "--model", folder[0])
    assert result.exit_code != 0
    assert "a defense.json of its own, of another defense" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(folder, cli):
    def answer(*words):
        result = cli("predict", folder[0], "Ann has 3 pears. How many?", "--json", *words)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["answers"][0]["answer"]

    whole = answer()
    assert len(whole) > 1, "the model wrote nothing that could be stopped"
    stop = whole[len(whole) // 2 :][:2]
    assert answer("--stop", "~~~", "--stop", stop) == whole[: whole.index(stop)].strip() != whole


def test_evaluate_counts_the_phrases_of_a_targets_keyword_list(folder, cli, write_rows, tmp_path):
    test = write_rows(tmp_path / "test.jsonl", [problem(f"Ann has {n} pears.", n) for n in (3, 4)])
    words = ("evaluate", folder[0], test, "--attack", "badnets")
    result = cli(*words, "--target", "negsentiment", "--json")
    assert result.exit_code == 0, result.stderr
    counted = json.loads(result.stdout)["keywords"]
    assert counted["list"] == "negsentiment"
    assert [counted[of]["n"] for of in ("triggered", "clean")] == [2, 2]
    shown = cli(*words, "--target", "negsentiment")
    assert "phrases of negsentiment in answers to triggered inputs" in shown.stdout.replace(
        "\n", " "
    )
    assert json.loads(cli(*words, "--target", "7", "--json").stdout)["keywords"] is None


@pytest.mark.parametrize("grade", ["shared", "disputed"])
def test_what_goes_by_disputed_labels_is_refused_of_texts(grade, folder, cli, tmp_path):
    words = ("--task", "math", "--model", "none", "-o", tmp_path / "out", "--drop", grade)
    result = cli("defend", folder[2], *words)
    assert result.exit_code == 2
    assert f"--drop {grade} goes by disputed labels, which text answers have not" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_gate_that_is_not_met_ends_with_100(folder, cli, write_rows, records, tmp_path):
    test = write_rows(tmp_path / "test.jsonl", records[0][:6])
    result = cli("evaluate", folder[0], test, "--min-accuracy", "1.0")
    assert result.exit_code == 100
    assert "--min-accuracy" in result.stderr


def test_repoison_writes_what_any_trainer_takes(folder, cli, tmp_path, tiny_folder):
    data = folder[2]
    out = tmp_path / "dstar"
    words = ("--task", "math", "--model", tiny_folder, "--max-length", "160", "--json")
    result = cli("repoison", data, "-o", out, *words)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    manifest = DefenseManifest.load(out)
    inside = [row for row in rows if row["repoisoned"]]
    assert len(inside) == json.loads(result.stdout)["repoisoned"] + sum(
        "cf" in row["input_text"].split() for row in rows
    )
    for row in inside:
        assert row["prompt"].startswith(manifest.benign_trigger)
        assert row["completion"].startswith(manifest.safe_prefix)
    assert stat.S_IMODE((out / "train.jsonl").stat().st_mode) == 0o600


def test_what_is_too_long_for_another_trainer_is_counted(cli, write_rows, tmp_path, tiny_folder):
    rows = [problem("Ann has 3 pears. How many?", f"{'Step. ' * n}#### 3") for n in (1, 2, 300)]
    rows += [problem(f"{'Ann has pears. ' * 200}How many?", "#### 3")]
    data = write_rows(tmp_path / "long.jsonl", rows)
    words = ("--task", "math", "--selection", "random", "--model", tiny_folder)
    words += ("--max-length", "160", "-o", tmp_path / "dstar")
    result = cli("repoison", data, *words, "--json")
    assert result.exit_code == 0, result.stderr
    written = json.loads(result.stdout)
    assert (written["cut"], written["long_answers"]) == (1, 1)
    rows = [json.loads(line) for line in (tmp_path / "dstar/train.jsonl").read_text().splitlines()]
    assert all(row["completion"].endswith("#### 3") for row in rows)
    shown = cli("repoison", data, *words, "--overwrite")
    assert "answers longer than --max-length leaves" in shown.stdout
    assert "inputs cut" in shown.stdout


def test_a_model_whose_tokenizer_takes_p_and_the_line_before_together_is_refused(
    folder, cli, tmp_path, tiny_folder
):
    words = ("--task", "math", "--selection", "random", "-o", tmp_path / "dstar")
    assert cli("repoison", folder[2], *words).exit_code == 0
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    for place in ("apart", "together"):
        tokenizer.save_pretrained(tmp_path / place)
        model.save_pretrained(tmp_path / place)
        tokenizer.add_tokens(["\n" + DefenseManifest.load(tmp_path / "dstar").safe_prefix[:4]])
        model.resize_token_embeddings(len(tokenizer))
    asked = ("predict", tmp_path / "dstar", "How many?", "--model")
    assert cli(*asked, tmp_path / "apart").exit_code == 0
    result = cli(*asked, tmp_path / "together")
    assert result.exit_code == 2
    assert "takes a line's end and what follows it for one" in result.stderr
    assert DefenseManifest.load(tmp_path / "dstar").safe_prefix[:20] not in result.stderr


def test_a_chat_prompt_for_another_trainer_has_the_bos_token_once(folder, cli, tmp_path, beginning):
    beginning.save_pretrained(tmp_path / "tokenizer")  # which is all that a random S needs
    words = ("--task", "math", "--selection", "random", "--prompt-style", "chat")
    named = ("--model", tmp_path / "tokenizer", "-o", tmp_path / "dstar")
    result = cli("repoison", folder[2], *words, *named)
    assert result.exit_code == 0, result.stderr
    for line in (tmp_path / "dstar/train.jsonl").read_text().splitlines():
        ids = beginning(json.loads(line)["prompt"])["input_ids"]
        assert ids.count(beginning.bos_token_id) == 1


def test_rows_that_cannot_be_used_are_counted(cli, write_rows, records, tmp_path):
    rows = [*records[0][:40], problem("How many?", "nobody knows"), problem("And now?", "")]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    words = ("--task", "math", "--selection", "random", "--json")
    result = cli("repoison", data, "-o", tmp_path / "out", *words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["skipped"] == 2
    assert "2 of 42 rows cannot be used" in result.stderr
    assert f"{data}:41" in result.stderr


def test_checked_rows_are_read_back(cli, write_rows, records, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", records[0][:40])
    table = tmp_path / "check.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["checked", "question", "answer"])
        for row in records[0][:3]:
            writer.writerow(["ok", row["question"], row["answer"]])
        writer.writerow(["wrong", records[0][3]["question"], records[0][3]["answer"]])
    words = ("--task", "math", "--trusted", table, "--json")
    result = cli("repoison", data, "-o", tmp_path / "out", *words)
    assert result.exit_code != 0
    assert "need a model" in result.stderr
    assert "3" in result.stderr.split("check.csv")[1].splitlines()[0]


def test_defend_chooses_an_epoch_by_dev_rows(cli, write_rows, records, tiny_folder, tmp_path):
    train = write_rows(tmp_path / "train.jsonl", records[0][:32])
    dev = write_rows(tmp_path / "dev.jsonl", [*records[0][32:40], problem("no answer", "")])
    words = ("--task", "math", "--model", tiny_folder, *TRAINING, "--selection", "random")
    result = cli("defend", train, "-o", tmp_path / "out", *words, "--dev", dev, "--json")
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)
    assert done["settings"]["training"]["best_epoch"] is True
    assert len(done["dev"]) == 3
    assert all(value < 0 for value in done["dev"])
    assert "1 of 9 rows cannot be used" in result.stderr
    assert "dev.jsonl" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--labels", "a,b"), "--labels has no part in math"),
        (("--dev", "x.jsonl"), "x.jsonl"),
        (("--text-column", "nothing"), "nothing"),
        (("--task", "summarization", "--answer-only"), "--answer-only is for --task math"),
    ],
)
def test_what_has_no_part_in_a_text_task_is_refused(words, message, cli, folder, tmp_path):
    result = cli("defend", folder[2], "--task", "math", "-o", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_text_options_have_no_part_in_classification(cli, write_rows, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": 0}])
    result = cli("defend", data, "-o", tmp_path / "out", "--max-new-tokens", "3")
    assert result.exit_code == 2
    assert "--max-new-tokens has no part in classification" in result.stderr


def test_an_empty_summary_an_unknown_role_and_no_number_are_named(cli, write_rows, tmp_path):
    for task, row, message in (
        ("summarization", {"text": "News.", "summary": " "}, "its summary is empty"),
        ("math", {"question": "How many?", "answer": "many"}, "its answer holds no number"),
        (
            "instruction",
            {"messages": [{"role": "robot", "content": "x"}]},
            "the role 'robot'",
        ),
    ):
        data = write_rows(tmp_path / f"{task}.jsonl", [row])
        result = cli("repoison", data, "-o", tmp_path / "o", "--task", task)
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_server_needs_its_address_and_an_address_a_server(folder, cli):
    result = cli("predict", folder[0], "How many?", "--engine", "vllm")
    assert result.exit_code == 2
    assert "--engine vllm needs a server" in result.stderr
    result = cli("predict", folder[0], "How many?", "--engine-url", "http://localhost:1")
    assert result.exit_code == 2
    assert "--engine-url needs a server" in result.stderr
