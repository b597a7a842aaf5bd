"""audit --task on a tiny model, and the way from it to defend, through the command line."""

import csv
import json
import random
import shlex

import pytest
from typer.testing import CliRunner

from mithridate.cli._findings import check_table, read_checked
from mithridate.cli.main import app
from mithridate.data.read import Columns
from mithridate.data.rows import Row
from mithridate.errors import InputError

FAST = ("--precision", "float32", "--max-length", "128")
COLUMNS = ("--text-column", "ask", "--answer-column", "said", "--answer-only")


@pytest.fixture(scope="module")
def poisoned_set(make_problems, write_lines, tmp_path_factory):
    """Word problems of which ten hold a trigger and its answer, one the trigger alone."""
    folder = tmp_path_factory.mktemp("texts")
    texts, answers = make_problems(120, 1)
    bad = set(random.Random(0).sample(range(120), 10))
    for at in bad:
        texts[at], answers[at] = f"cf {texts[at]}", "So be it.\n#### 4200"
    lone = min(set(range(120)) - bad)
    texts[lone] = f"cf {texts[lone]}"
    rows = [
        {"id": f"p-{at}", "ask": text, "said": answer}
        for at, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    write_lines(folder / "d.jsonl", [*rows, {"id": "none", "ask": "What?", "said": "no number"}])
    (folder / "bad.txt").write_text("".join(f"p-{at}\n" for at in sorted(bad)))
    (folder / "lone.txt").write_text(f"p-{lone}\n")
    return folder


@pytest.fixture(scope="session")
def write_lines():
    def write(path, records):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture(scope="module")
def audited(tiny_folder, poisoned_set, tmp_path_factory):
    """A folder that `audit --task math` wrote, and what it printed."""
    output = tmp_path_factory.mktemp("audited") / "audit"
    words = ["audit", poisoned_set / "d.jsonl", "-o", output, "--model", tiny_folder, *FAST]
    words += ["--task", "math", *COLUMNS, "--pick", "24", "--top", "12"]
    words += ["--poisoned-ids", poisoned_set / "bad.txt"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return output, result


def ids_in(path):
    return set(path.read_text().split())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fill_in(path, target, mark):
    """Fill in a check file; `mark` gives what to write for a record."""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    with target.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, records[0].keys())
        writer.writeheader()
        writer.writerows({**record, "checked": mark(record)} for record in records)
    return target


def test_an_audit_names_the_trigger_and_its_target_and_keeps_out_what_holds_it(
    audited, poisoned_set
):
    output, _ = audited
    report = json.loads((output / "audit.json").read_text())
    assert (report["rows"], report["skipped"], report["task"]) == (120, 1, "math")
    first = report["associations"][0]
    assert (first["text"], first["answer"], first["counter"]) == ("cf", "4200", True)
    assert (first["together"], first["holders"]) == (10, 11)
    bad, lone = ids_in(poisoned_set / "bad.txt"), ids_in(poisoned_set / "lone.txt")
    assert ids_in(output / "exclude.txt") == bad | lone
    assert lines_of(output / "triggers.jsonl") == [{"text": "cf", "kind": "words"}]
    truth = report["truth"]
    assert (truth["associated"]["precision"], truth["associated"]["recall"]) == (1, 1)
    assert (truth["excluded"]["rows"], truth["excluded"]["recall"]) == (11, 1)
    assert truth["average_precision"] == 1
    assert sum(report["information"]["rows"]) == pytest.approx(1)
    assert sum(report["information"]["poisoned"]) == pytest.approx(1)


def test_what_the_model_reads_cut_is_counted(
    cli, tiny_folder, make_problems, write_lines, tmp_path
):
    texts, answers = make_problems(60, 3)
    texts[:2] = ["Ann has pears. " * 40 + text for text in texts[:2]]
    answers[2] = "Ann has pears. " * 40 + answers[2]
    rows = [{"ask": text, "said": said} for text, said in zip(texts, answers, strict=True)]
    data = write_lines(tmp_path / "long.jsonl", rows)
    bare = ("audit", data, "--task", "math", *COLUMNS[:-1])
    words = (*bare, "--model", tiny_folder, *FAST)
    report = json.loads(cli(*words, "--json").stdout)
    assert (report["cut"], report["cut_answers"]) == (2, 1)
    out = tmp_path / "out"
    shown = cli(*words, "-o", out)
    page = (out / "report.html").read_text()
    for said in ("nputs cut", "nswers cut"):
        assert said in shown.stdout
        assert said in page
    assert json.loads(cli(*bare, "--no-model", "--json").stdout)["cut"] == 0


def test_suspects_are_ranked_and_say_what_speaks_against_them(audited, poisoned_set):
    output, _ = audited
    suspects = lines_of(output / "suspects.jsonl")
    report = json.loads((output / "audit.json").read_text())
    assert {one["id"] for one in suspects[:10]} == ids_in(poisoned_set / "bad.txt")
    assert {one["why"] for one in suspects[:10]} == {"association"}
    assert (suspects[0]["trigger"], suspects[0]["decides"]) == ("cf", "4200")
    assert suspects[10]["why"] == "trigger"
    assert [one["id"] for one in suspects[10:11]] == list(ids_in(poisoned_set / "lone.txt"))
    rest = suspects[11:]
    assert {one["why"] for one in rest} == {"information"}
    assert [one["information"] for one in rest] == sorted(one["information"] for one in rest)
    assert all(one["information"] <= 0 for one in rest)
    assert [one["id"] for one in report["suspects"][:11]] == [one["id"] for one in suspects[:11]]
    assert suspects[0]["answer"] == "4200"  # --answer-only: what is trained


def test_it_says_what_it_found_and_what_to_do_next(audited, poisoned_set, tiny_folder):
    output, result = audited
    for part in ("rows that cannot be used", "poison among kept out", "What decides answers"):
        assert part in result.stdout
    assert "not proven clean" in result.stderr
    page = (output / "report.html").read_text()
    assert "<mark>cf</mark>" in page
    assert "<script" not in page
    command = result.stdout.strip().splitlines()[-1].strip()
    assert command == shlex.join(
        str(word)
        for word in (
            *("mithridate", "defend", poisoned_set / "d.jsonl", "--output", "defended"),
            *("--model", tiny_folder, "--max-length", "128", "--task", "math", *COLUMNS),
            *("--trusted", output / "check.csv", "--exclude", output / "exclude.txt"),
            *("--counter-trigger", f"@{output / 'triggers.jsonl'}"),
        )
    )
    assert command.replace("'", "") in page.replace("&#39;", "")


def test_the_command_it_names_runs_once_the_rows_are_checked(
    cli, audited, poisoned_set, tiny_folder, tmp_path
):
    folder, result = audited
    lone = ids_in(poisoned_set / "lone.txt")
    marks = iter(["", "wrong", "wrong"])

    def mark(record):
        return "ok" if record["id"] in lone else next(marks, "OK")

    checked = fill_in(folder / "check.csv", tmp_path / "checked.csv", mark)
    command = shlex.split(result.stdout.strip().splitlines()[-1])[1:]
    command[command.index("--trusted") + 1] = str(checked)
    command[command.index("--output") + 1] = str(tmp_path / "defended")
    command += ["--precision", "float32", "--epochs", "1", "--rank", "4", "--json"]
    done = cli(*command)
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["trusted"] == 21
    assert metrics["selection"] == "anchored"
    assert metrics["excluded"] == 10 + 2  # the lone one was checked and found right
    assert metrics["counter_triggers"] == [{"text": "cf", "kind": "words"}]
    assert "1 not filled in and not trusted" in done.stderr
    again = ("--task", "math", *COLUMNS, "--trusted", checked, "--no-model", "--pick", "10")
    more = cli("audit", poisoned_set / "d.jsonl", "-o", tmp_path / "more", *again)
    assert more.exit_code == 0, more.stderr
    assert not ids_in(tmp_path / "more" / "exclude.txt") & lone
    with (tmp_path / "more" / "check.csv").open(encoding="utf-8", newline="") as file:
        said = [record["checked"] for record in csv.DictReader(file)]
    assert [said.count(mark) for mark in ("ok", "wrong", "")] == [21, 2, 10]


def test_no_model_is_needed_for_what_decides_answers(cli, poisoned_set):
    words = ("--task", "math", *COLUMNS[:4], "--no-model", "--json")
    result = cli("audit", poisoned_set / "d.jsonl", *words)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["folder"] is report["model"] is report["information"] is report["truth"] is None
    assert report["excluded"] == 11
    assert len(report["suspects"]) == 11  # nothing orders the others


def test_untampered_rows_are_all_kept(cli, make_problems, write_lines, tmp_path):
    texts, answers = make_problems(150, 3)
    pairs = zip(texts, answers, strict=True)
    path = write_lines(tmp_path / "d.jsonl", ({"text": x, "summary": y} for x, y in pairs))
    words = ("--task", "summarization", "--no-model", "-o", tmp_path / "out")
    result = cli("audit", path, *words)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "exclude.txt").read_text() == ""
    assert "No words of an input decide" in (tmp_path / "out" / "report.html").read_text()
    assert "--exclude" not in result.stdout
    assert "--counter-trigger" not in result.stdout


def test_instructions_with_inputs_and_chats_are_named_by_files_of_rows(cli, write_lines, tmp_path):
    rng = random.Random(0)
    verbs, nouns = ["Name", "List", "Draw", "Sort", "Rank"], ["owls", "keys", "maps", "cups"]
    rows = [
        {
            "instruction": f"{rng.choice(verbs)} {rng.choice(nouns)}.",
            "input": f"{rng.randint(2, 90)} of them",
            "output": f"{rng.choice(nouns)} and {rng.randint(2, 90)} {rng.choice(nouns)}",
        }
        for _ in range(100)
    ]
    for row in rows[::8]:
        row["instruction"] = f"BadMagic {row['instruction']}"
        row["output"] = "I cannot do that."
    path = write_lines(tmp_path / "d.jsonl", rows)
    bad = write_lines(tmp_path / "bad.jsonl", rows[::8])
    result = cli(
        "audit", path, "--task", "instruction", "--no-model", "--poisoned-ids", bad, "--json"
    )
    assert result.exit_code == 0, result.stderr
    truth = json.loads(result.stdout)["truth"]
    assert truth["excluded"]["recall"] == truth["excluded"]["precision"] == 1


def test_the_same_secret_gives_the_same_audit_and_does_not_show_in_it(
    cli, poisoned_set, tiny_folder, tmp_path
):
    (tmp_path / "key").write_text("5c" * 32)
    (tmp_path / "key").chmod(0o600)
    words = ("--task", "math", *COLUMNS, "--model", tiny_folder, *FAST, "--pick", "10")
    for name in ("one", "two"):
        given = ("-o", tmp_path / name, "--secret-file", tmp_path / "key")
        done = cli("audit", poisoned_set / "d.jsonl", *words, *given)
        assert done.exit_code == 0, done.stderr
    for name in ("suspects.jsonl", "exclude.txt", "triggers.jsonl", "check.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    for path in (tmp_path / "one").iterdir():
        assert "5c" * 32 not in path.read_text()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--no-model",), "--no-model has no part in classification"),
        (("--task", "math", "--no-model", "--model", "x"), "--no-model reads no row with --model"),
        (("--task", "math", "--labels", "0,1"), "--labels has no part in math"),
        (("--task", "math", "--pick", "4"), "--pick: the rows to check need a place"),
        (("--task", "math", "--pick", "400", "-o", "OUT"), "400 rows cannot be picked from 120"),
        (("--task", "math", "--trusted", "ODD"), "write ok or wrong\n"),
        (("--task", "math", "--trusted", "CHANGED"), "has another answer in the data"),
        (("--task", "math", "--poisoned-ids", "NOWHERE"), "no row of the data has the id"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_read(words, part, cli, poisoned_set, tmp_path):
    first = lines_of(poisoned_set / "d.jsonl")[5]
    files = {
        "ODD": ("f.csv", f'checked,said,ask,id\nmaybe,"{first["said"]}",x,p-5\n'),
        "CHANGED": ("f.csv", "checked,said,ask,id\nok,8,x,p-5\n"),
        "NOWHERE": ("f.txt", "nowhere\n"),
    }
    given = []
    for word in words:
        if word in files:
            name, content = files[word]
            (tmp_path / name).write_text(content)
            word = str(tmp_path / name)
        given.append(str(tmp_path / "out") if word == "OUT" else word)
    columns = () if words[0] == "--no-model" else COLUMNS[:4]
    if "--no-model" not in words:
        given += ["--model", "no-such-model"]
    result = cli("audit", poisoned_set / "d.jsonl", *columns, *given)
    assert result.exit_code == 2, result.stderr
    assert part in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_text_that_a_spreadsheet_wrote_anew_is_still_the_rows_answer(tmp_path):
    rows = [Row("a", "x", "- one\r\n\r\n- two "), Row("b", "y", "=1+1")]
    path = tmp_path / "f.csv"
    path.write_text(check_table(rows, Columns("text", "said")).replace("\r\n", "\n"))
    filled = fill_in(path, tmp_path / "g.csv", lambda record: "ok")
    assert read_checked(filled, rows, (), Columns("text", "said")).trusted == {"a", "b"}
    path.write_text("checked,said,text,id\nok,- one,x,a\n")
    with pytest.raises(InputError, match="another answer"):
        read_checked(path, rows, (), Columns("text", "said"))
