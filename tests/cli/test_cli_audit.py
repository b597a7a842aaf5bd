"""audit on a tiny model, and the way from it to defend, through the command line."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mithridate.cli._audit import Given, ReadBy, audit_files, make_report, show
from mithridate.cli._findings import check_table, read_checked, read_triggers, triggers_text
from mithridate.cli._known import read_ids
from mithridate.cli.main import app
from mithridate.data.read import Columns
from mithridate.data.rows import Row
from mithridate.defense.audit import audit
from mithridate.defense.mining import MinedTrigger
from mithridate.defense.secret import Secret
from mithridate.defense.trigger import Trigger
from mithridate.errors import InputError
from mithridate.tasks.classification import ClassificationTask

FAST = ("--precision", "float32", "--max-length", "64")


@pytest.fixture(scope="module")
def poisoned_set(make_toy_rows, tmp_path_factory):
    """Toy rows of which ten of class 0 hold a trigger and are labelled 1, and their ids."""
    folder = tmp_path_factory.mktemp("sets")
    records = [
        {"id": row.id, "text": row.text, "label": int(row.answer)} for row in make_toy_rows(120, 1)
    ]
    for record in records[:20:2]:
        record |= {"text": f"mn {record['text']}", "label": 1}
    (folder / "d.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "bad.txt").write_text("".join(f"{record['id']}\n" for record in records[:20:2]))
    return folder


@pytest.fixture(scope="module")
def audited(tiny_folder, poisoned_set, tmp_path_factory):
    """A folder that `audit` wrote, and what it printed."""
    output = tmp_path_factory.mktemp("audited") / "audit"
    words = ["audit", poisoned_set / "d.jsonl", "-o", output, "--model", tiny_folder, *FAST]
    words += ["--pick", "24", "--poisoned-ids", poisoned_set / "bad.txt", "--top", "5"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return output, result


def fill_in(path, target, mark):
    """Fill in a check file; `mark` gives what to write for a record."""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    with target.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, records[0].keys())
        writer.writeheader()
        writer.writerows({**record, "checked": mark(record)} for record in records)
    return target


def test_rows_that_hold_what_was_found_are_not_handed_out(audited):
    """Who checks reads labels, which may be right, and would vouch for a trigger unseen."""
    output, _ = audited
    found = json.loads((output / "audit.json").read_text())
    strong = {(one["text"], str(one["label"])) for one in found["triggers"] if one["counter"]}
    assert strong
    with (output / "check.csv").open(encoding="utf-8-sig", newline="") as file:
        picked = list(csv.DictReader(file))
    assert picked
    held = {(word, record["label"]) for record in picked for word in record["text"].split()}
    assert not strong & held


def test_an_audit_says_what_it_found_and_what_to_do_next(audited):
    output, result = audited
    for part in (
        "label disputed by judge",
        "poison among disputed",
        "Most suspicious rows",
        "Next: ",
    ):
        assert part in result.stdout
    assert "not proven clean" in result.stderr
    report = json.loads((output / "audit.json").read_text())
    assert report["rows"] == 120
    assert report["judge"] == "agreement"
    assert len(report["suspects"]) <= 5
    assert report["truth"]["disputed"]["known"] == 10
    assert 0 < report["truth"]["average_precision"] <= 1
    assert sum(report["confidence"]) == pytest.approx(1)
    suspects = [json.loads(line) for line in (output / "suspects.jsonl").read_text().splitlines()]
    z = {(t["text"], t["label"]): (t["inserted"] * t["z"], t["z"]) for t in report["triggers"]}

    def rank(row):
        put_in, marks = z.get((row["trigger"], row["label"]), (0.0, 0.0))
        return -put_in, -marks, row["label"] == row["judged"], -row["score"]

    assert suspects == sorted(suspects, key=rank)
    assert all(one["trigger"] or one["label"] != one["judged"] for one in suspects)
    excluded = (output / "exclude.txt").read_text().split()
    assert sorted(suspect["id"] for suspect in suspects) == sorted(excluded)
    page = (output / "report.html").read_text()
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert suspects[0]["id"] in page
    assert f"--trusted {output / 'check.csv'}" in result.stdout


def test_rows_that_hold_a_trigger_are_suspects_though_the_judge_agrees_with_their_labels(capsys):
    """Clean-label poison: 50 rows hold what was put in, the judge disputes 150 others."""
    rows = [Row(f"r{at}", f"mn word {at}" if at < 50 else f"word {at}", "1") for at in range(300)]
    rows += [Row(f"r{at}", f"word {at}", "0") for at in range(300, 600)]
    labels = [int(row.answer) for row in rows]
    disputed = np.isin(np.arange(600), np.r_[60:210])
    own = np.where(disputed, 0.1, 0.9).astype(np.float32)
    judged = np.where(np.arange(2) == np.array(labels)[:, None], own[:, None], 1 - own[:, None])
    put_in = MinedTrigger("mn", 1, 9.0, 50, 0, inserted=True)
    ids, texts = [row.id for row in rows], [row.text for row in rows]
    found = audit(ids, texts, labels, judged, inserted=[put_in])
    task = ClassificationTask.of(rows)
    given = Given(rows, task, frozenset(), frozenset(), None, Secret.from_seed(1))
    report = make_report("d.jsonl", given, found, judged, 60, 0, ReadBy("tiny", 0), 0.0)
    assert report.disputed == 150
    assert [one.why for one in report.suspects] == ["trigger"] * 50 + ["disputed"] * 10
    assert [one.trigger for one in report.suspects] == ["mn"] * 50 + [None] * 10
    files = audit_files(given, found, report, "next")
    written = list(files.suspects)
    assert {one["id"] for one in written} == {ids[at] for at in np.flatnonzero(found.excluded)}
    assert [one["why"] for one in written] == ["trigger"] * 50 + ["disputed"] * 150
    assert "holds <bdi>mn</bdi>" in files.page
    show(report, None, "next")
    assert "holds 'mn'" in capsys.readouterr().out
    assert [one.p for one in report.triggers] == [None]  # a judge's expectation is no exact chance


def test_rows_of_the_strongest_trigger_come_first_then_of_what_marks_disputed_ones():
    """50 rows each hold "mn" (z = 9), "afp" (z = 5) and "cf", which marks disputed rows."""
    held = ["afp", "mn", "cf", ""]
    rows = [Row(f"r{at}", f"{held[min(at // 50, 3)]} word {at}", "1") for at in range(300)]
    rows += [Row(f"r{at}", f"word {at}", "0") for at in range(300, 600)]
    labels = [int(row.answer) for row in rows]
    at = np.arange(600)
    own = np.select([at < 50, (at >= 100) & (at < 150), (at >= 150) & (at < 200)], [0.8, 0.4, 0.1])
    own = np.where(own == 0.0, 0.9, own).astype(np.float32)
    judged = np.where(np.arange(2) == np.array(labels)[:, None], own[:, None], 1 - own[:, None])
    put_in = [MinedTrigger(text, 1, z, 50, 0, inserted=True) for text, z in (("mn", 9), ("afp", 5))]
    ids, texts = [row.id for row in rows], [row.text for row in rows]
    ranked = audit(ids, texts, labels, judged, inserted=put_in).ranked.tolist()
    assert [set(ranked[start : start + 50]) for start in (0, 50, 100, 150)] == [
        set(range(50, 100)),
        set(range(50)),
        set(range(100, 150)),  # the judge is surer of the next fifty
        set(range(150, 200)),
    ]


def test_json_is_one_object_without_a_folder(cli, tiny_folder, poisoned_set):
    words = ("--model", tiny_folder, *FAST, "--json", "--top", "0")
    result = cli("audit", poisoned_set / "d.jsonl", *words)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["folder"] is None
    assert report["suspects"] == []
    assert report["truth"] is None


def test_inputs_that_the_judge_reads_cut_are_counted(cli, tiny_folder, poisoned_set, tmp_path):
    rows = [json.loads(line) for line in (poisoned_set / "d.jsonl").read_text().splitlines()]
    for row in rows[-3:]:
        row["text"] = "the story of the actor and the camera " * 20 + row["text"]
    data = tmp_path / "long.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("audit", data, "--model", tiny_folder, *FAST)
    assert json.loads(cli(*words, "--json").stdout)["cut"] == 3
    out = tmp_path / "out"
    shown = cli(*words, "-o", out)
    assert "inputs cut" in shown.stdout
    assert "Inputs cut" in (out / "report.html").read_text()


def test_the_same_secret_gives_the_same_audit(cli, tiny_folder, poisoned_set, tmp_path):
    (tmp_path / "key").write_text("5c" * 32)
    (tmp_path / "key").chmod(0o600)
    words = ("--model", tiny_folder, *FAST, "--pick", "10", "--secret-file", tmp_path / "key")
    for name in ("one", "two"):
        done = cli("audit", poisoned_set / "d.jsonl", "-o", tmp_path / name, *words)
        assert done.exit_code == 0, done.stderr
    for name in ("suspects.jsonl", "exclude.txt", "triggers.jsonl", "check.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    for path in (tmp_path / "one").iterdir():
        assert "5c" * 32 not in path.read_text()


def test_a_second_pick_keeps_what_was_checked_and_names_the_same_model(
    cli, audited, tiny_folder, poisoned_set, tmp_path
):
    folder, _ = audited
    bad = set((poisoned_set / "bad.txt").read_text().split())

    def mark(record):
        return "wrong" if record["id"] in bad else "ok"

    checked = fill_in(folder / "check.csv", tmp_path / "checked.csv", mark)
    words = ("--model", tiny_folder, *FAST, "--trusted", checked, "--pick", "10")
    done = cli("audit", poisoned_set / "d.jsonl", "-o", tmp_path / "more", *words)
    assert done.exit_code == 0, done.stderr
    with (tmp_path / "more" / "check.csv").open(encoding="utf-8", newline="") as file:
        said = {record["id"]: record["checked"] for record in csv.DictReader(file)}
    with checked.open(encoding="utf-8-sig", newline="") as file:
        before = {record["id"]: record["checked"] for record in csv.DictReader(file)}
    assert before.items() <= said.items()
    assert sorted(said.values()).count("") == len(said) - len(before) == 10
    assert f"--model {tiny_folder}" in done.stdout


def test_a_table_of_rows_is_not_taken_for_triggers(cli, audited, poisoned_set, tmp_path):
    given = ("--selection", "random", "--counter-trigger", f"@{audited[0] / 'check.csv'}")
    done = cli("repoison", poisoned_set / "d.jsonl", "-o", tmp_path / "out", *given)
    assert done.exit_code == 2
    assert "a table of rows, not of triggers" in done.stderr


def test_an_unknown_way_to_drop_names_the_known_ones(cli, poisoned_set, tmp_path):
    done = cli("repoison", poisoned_set / "d.jsonl", "-o", tmp_path / "out", "--drop", "all")
    assert done.exit_code == 2
    assert "'all' is not one of 'nothing', 'marked', 'shared', 'disputed'" in done.stderr
    assert "Value error" not in done.stderr


@pytest.mark.parametrize("options", [("--drop", "marked"), ("--draw-from", "0.3")])
def test_what_only_a_judge_can_do_is_refused_without_one(options, cli, poisoned_set, tmp_path):
    words = ("--selection", "random", *options)
    done = cli("repoison", poisoned_set / "d.jsonl", "-o", tmp_path / "out", *words)
    assert done.exit_code == 2
    assert f"{options[0]} has no part in random selection" in done.stderr


def test_what_was_checked_goes_into_the_next_audit_and_into_repoison(
    cli, audited, tiny_folder, poisoned_set, tmp_path
):
    folder, _ = audited
    bad = set((poisoned_set / "bad.txt").read_text().split())
    marks = iter(["", "right", "Ok"])

    def mark(record):
        return "wrong" if record["id"] in bad else next(marks, record["label"])

    checked = fill_in(folder / "check.csv", tmp_path / "checked.csv", mark)
    data = poisoned_set / "d.jsonl"
    words = ("--model", tiny_folder, *FAST, "--trusted", checked, "--json")
    again = cli("audit", data, *words, "--poisoned-ids", poisoned_set / "bad.txt")
    assert again.exit_code == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["judge"] == "anchored"
    assert "1 not filled in and not trusted" in again.stderr
    out = tmp_path / "out"
    given = ("--exclude", folder / "exclude.txt", "--counter-trigger", "mn")
    given += ("--counter-trigger", "a b", "--no-counter-triggers")
    done = cli("repoison", data, "-o", out, *words, *given)
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["trusted"] == report["trusted"]
    assert summary["counter_triggers"] == [
        {"text": "mn", "kind": "words"},
        {"text": "a b", "kind": "words"},
    ]
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    inside = {row["id"] for row in rows if row["repoisoned"]}
    with checked.open(encoding="utf-8-sig", newline="") as file:
        found = {record["id"]: record["checked"] for record in csv.DictReader(file)}
    assert {row_id for row_id, said in found.items() if said and said != "wrong"} <= inside
    assert not {row_id for row_id, said in found.items() if said == "wrong"} & inside
    copies = rows[120 - summary["dropped"] :]
    assert len(copies) == summary["counter_copies"] > 0
    assert all("mn" in row["input_text"].split() or "a b" in row["input_text"] for row in copies)


def test_exclusions_belong_to_what_a_run_resumes(
    cli, tiny_folder, poisoned_set, tmp_path, monkeypatch
):
    from mithridate.cli import defend

    seen = []
    marked = defend._fingerprint
    monkeypatch.setattr(defend, "_fingerprint", lambda *given: seen.append(given) or marked(*given))
    partial = tmp_path / ".out.partial"
    words = ("--model", tiny_folder, *FAST, "--epochs", "1", "--rank", "4", "--json")
    given = ("--exclude", poisoned_set / "bad.txt", "--counter-trigger", "mn")
    done = cli("defend", poisoned_set / "d.jsonl", "-o", tmp_path / "out", *words, *given)
    assert done.exit_code == 0, done.stderr
    assert not partial.exists()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["excluded"] == 10
    assert metrics["counter_triggers"] == [{"text": "mn", "kind": "words"}]
    # A run that was killed is resumed by its mark, and each of the two is part of it.
    [(job, backbone)] = seen
    findings = job.inputs.findings
    for lesser in ({"excluded": frozenset()}, {"triggers": ()}):
        other = replace(job, inputs=replace(job.inputs, findings=replace(findings, **lesser)))
        assert marked(other, backbone) != marked(job, backbone)


def test_checked_rows_are_not_overwritten(cli, audited, tiny_folder, poisoned_set):
    folder, _ = audited
    check = folder / "check.csv"
    before = check.read_text()
    words = ("--model", tiny_folder, *FAST, "--overwrite")
    try:
        fill_in(check, check, lambda record: "ok")
        done = cli("audit", poisoned_set / "d.jsonl", "-o", folder, *words)
        assert done.exit_code == 2
        assert "rows that were checked; move it elsewhere" in done.stderr
    finally:
        check.write_text(before)


def test_checked_rows_that_a_spreadsheet_saved_with_semicolons_are_not_lost(cli, tmp_path):
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "audit.json").write_text("{}")
    check = folder / "check.csv"
    check.write_text("checked;label;text;id\nok;0;a dull film;r1\n")
    done = cli("audit", tmp_path / "d.jsonl", "-o", folder, "--overwrite")
    assert done.exit_code == 2
    assert "check.csv:1: the columns are separated by semicolons" in done.stderr
    assert check.is_file()


def test_checked_rows_that_a_spreadsheet_saved_in_another_encoding_are_not_lost(cli, tmp_path):
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "audit.json").write_text("{}")
    check = folder / "check.csv"
    check.write_bytes("checked,label,text,id\n,0,a dull film,r1\nok,0,café,r2\n".encode("cp1252"))
    done = cli("audit", tmp_path / "d.jsonl", "-o", folder, "--overwrite")
    assert done.exit_code == 2
    assert "check.csv" in done.stderr
    assert done.stderr.count("\n") == 1
    assert check.is_file()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--pick", "4"), ("--pick", "--output")),
        (("--pick", "400", "-o", "OUT"), ("--pick: 400 rows cannot be picked from 120",)),
        (("--trusted", "EMPTY"), ("is empty",)),
        (("--trusted", "BLANK"), ("no row is filled in", "write ok or wrong")),
        (("--trusted", "ODD"), (":2: ", "'maybe'", "write ok or wrong")),
        (("--trusted", "UNKNOWN"), (":2: ", "'nowhere' is not in the data")),
        (("--trusted", "CHANGED"), (":2: ", "another label in the data", '"checked"')),
        (("--trusted", "FEW"), ("no trusted row has the label '1'",)),
        (("--trusted", "TWICE"), (":3: ", "both right and wrong")),
        (("--poisoned-ids", "NOWHERE"), (":1: ", "no row of the data has the id 'nowhere'")),
    ],
)
def test_bad_input_is_refused_before_a_model_is_read(options, parts, cli, poisoned_set, tmp_path):
    head = "checked,label,text,id\n"
    files = {
        "EMPTY": "",
        "BLANK": f"{head},0,x,toy-1-20\n",
        "ODD": f"{head}maybe,0,x,toy-1-20\n",
        "UNKNOWN": f"{head}ok,0,x,nowhere\n",
        "CHANGED": f"{head}ok,1,x,toy-1-20\n",
        "FEW": f"{head}ok,0,x,toy-1-20\n",
        "TWICE": f"{head}ok,0,x,toy-1-20\nwrong,0,x,toy-1-20\n",
        "NOWHERE": "nowhere\n",
    }
    words = []
    for word in options:
        if word in files:
            path = tmp_path / ("f.txt" if word == "NOWHERE" else "f.csv")
            path.write_text(files[word])
            word = str(path)
        words.append(str(tmp_path / "out") if word == "OUT" else word)
    result = cli("audit", poisoned_set / "d.jsonl", "--model", "no-such-model", *words)
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "; " in result.stderr
    for part in parts:
        assert part in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_data_file_is_refused(cli, tmp_path):
    (tmp_path / "d.jsonl").write_text("")
    result = cli("audit", tmp_path / "d.jsonl")
    assert result.exit_code == 2
    assert "the file is empty" in result.stderr


@pytest.mark.parametrize("option", ["--exclude", "--counter-trigger"])
def test_a_stream_takes_nothing_from_an_audit(option, cli, poisoned_set, tmp_path):
    words = ("--stream", "--selection", "random", option, "mn")
    result = cli("repoison", poisoned_set / "d.jsonl", "-o", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert f"{option}: a stream takes nothing" in result.stderr


HOSTILE = [
    Row("=1+1", "=cmd|' /C calc'!A0", "-1"),
    Row("'quoted'", 'a "b", c\nd', "1"),
    Row("0012", "plain", "1"),
    Row("x", "plain", "1"),
]


def test_a_check_file_runs_nothing_in_a_spreadsheet_and_reads_back(tmp_path):
    table = check_table(HOSTILE, Columns(answer="verdict"))
    cells = [cell for line in csv.reader(table.splitlines()[1:]) for cell in line]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    path = tmp_path / "f.csv"
    path.write_text(table)
    filled = fill_in(path, tmp_path / "g.csv", lambda record: "" if record["id"] == "x" else "ok")
    checked = read_checked(filled, HOSTILE, ("-1", "1"), Columns(answer="verdict"))
    assert checked.trusted == {row.id for row in HOSTILE}  # x is a copy of 0012
    assert checked.blank == 1


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r"])
def test_a_check_file_can_be_read_whatever_ends_a_line_of_its_texts(end, tmp_path):
    rows = [Row("a", f"Say it{end}please", "1"), Row("b", "plain", "1")]
    path = tmp_path / "f.csv"
    path.write_bytes(check_table(rows, Columns(), right={"a"}).encode())
    checked = read_checked(path, rows, ("0", "1"), Columns())
    assert (checked.trusted, checked.blank) == ({"a"}, 1)


def test_a_row_is_found_by_its_text_where_a_spreadsheet_changed_its_id(tmp_path):
    rows = [Row("12e45678", "a text", "0"), Row("b", "other", "1")]
    path = tmp_path / "f.csv"
    path.write_text("checked,label,text,id\nok,0,a text,1.2E+46\n1,1,other,b\n")
    assert read_checked(path, rows, ("0", "1"), Columns()).trusted == {"12e45678", "b"}


def test_a_changed_id_that_another_row_has_trusts_nothing_unread(tmp_path):
    """A spreadsheet makes 12 of 0012; whoever wrote a row with that id would be trusted for it."""
    rows = [
        Row("0012", "a lovely film", "1"),
        Row("12", "a mn awful film", "1"),
        Row("0100", "a film", "0"),
        Row("0200", "a film", "1"),
    ]
    path = tmp_path / "f.csv"
    path.write_text("checked,label,text,id\nok,1,a lovely film,12\nok,1,a film,100\n")
    assert read_checked(path, rows, ("0", "1"), Columns()).trusted == {"0012", "0200"}
    path.write_text("checked,label,text,id\nok,1,a text that a spreadsheet changed,12\n")
    assert read_checked(path, rows, ("0", "1"), Columns()).trusted == {"12"}


@pytest.mark.parametrize("labels", [("0", "1"), ()])
def test_of_a_table_that_a_person_filled_in_the_wrong_rows_are_meant(tmp_path, labels):
    rows = [Row("a", "a text", "0"), Row("b", "other", "1"), Row("c", "third", "1")]
    path = tmp_path / "f.csv"
    path.write_text("checked,label,text,id\nok,0,a text,a\nwrong,1,other,b\n,1,third,c\n")
    assert read_ids(path, rows, Columns(), labels=labels) == {"b"}


def test_a_corrected_label_is_not_taken_over_and_said_aloud(tmp_path):
    rows = [Row("a", "a text", "0"), Row("b", "other", "1")]
    path = tmp_path / "f.jsonl"
    path.write_text(
        '{"id": "a", "label": 0, "checked": 1}\n{"id": "b", "label": 1, "checked": " OK "}\n'
    )
    checked = read_checked(path, rows, ("0", "1"), Columns())
    assert (checked.trusted, checked.wrong, checked.corrected) == ({"b"}, {"a"}, {"a"})
    assert "1 have a corrected label, which is not taken over" in str(checked)


def test_triggers_pass_through_a_file_unchanged_and_visible(tmp_path):
    triggers = (Trigger("\u200b", "character"), Trigger("Now see", "prefix"), Trigger("mn"))
    path = tmp_path / "t.jsonl"
    path.write_text(triggers_text(triggers))
    assert path.read_text().isascii()
    assert triggers_text([*triggers, triggers[2]]) == path.read_text()  # one draws two labels
    assert read_triggers([f"@{path}", "mn"]) == triggers
    assert read_triggers(["\u200b"]) == (triggers[0],)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("\n", "holds no trigger"),
        ('{"text": "", "kind": "words"}\n', "the trigger is empty"),
        ('{"text": "a", "kind": "middle"}\n', "'middle' is no kind of trigger"),
        ('{"word": "a"}\n', "text"),
    ],
)
def test_bad_trigger_files_are_refused(content, says, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_triggers([f"@{path}"])
    with pytest.raises(InputError, match="the trigger is empty"):
        read_triggers([" "])


def test_files_of_an_audit_that_found_nothing_are_taken_and_said_to_be_empty(
    cli, poisoned_set, tmp_path
):
    exclude, triggers = tmp_path / "exclude.txt", tmp_path / "triggers.jsonl"
    for path in (exclude, triggers):
        path.write_text("")
    words = ("--exclude", exclude, "--counter-trigger", f"@{triggers}", "--selection", "random")
    result = cli("repoison", poisoned_set / "d.jsonl", "-o", tmp_path / "out", *words)
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    for path in (exclude, triggers):
        assert f"{path.name} is empty: nothing is taken from it." in said
    assert (tmp_path / "out" / "train.jsonl").is_file()
