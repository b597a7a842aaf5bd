"""``mithridate report`` through the command line."""

import csv
import json
from pathlib import Path

import pytest
from journal_lines import line, write_journal

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.fixture
def journal(tmp_path):
    return write_journal(tmp_path / "journal.jsonl", [line(), line(defense="p2p", asr=0.11)])


def test_a_report_is_a_page_and_three_tables_and_says_what_is_next(cli, journal, tmp_path):
    result = cli("report", journal, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "cells.csv", "cells.md", "cells.tex", "mithridate.json"}
    assert "In 1 of 1 test of a defense" in result.stdout
    assert f"Next: open {tmp_path / 'out' / 'report.html'}" in result.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"mithridate report {journal} -o {tmp_path / 'out'}" in page
    with (tmp_path / "out" / "cells.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["learned", "holds"]


def test_several_journals_make_one_matrix(cli, tmp_path):
    paths = [RESULTS / "classification.jsonl", RESULTS / "generation.jsonl"]
    result = cli("report", *paths, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert [journal["name"] for journal in facts["journals"]] == list(map(str, paths))
    lines = sum(journal["lines"] for journal in facts["journals"])
    assert facts["cells"] + facts["references"] + facts["superseded"] == lines
    assert Path(facts["files"]["report.html"]).is_file()


@pytest.mark.parametrize("name", ["one.html", "one.csv", "one.md", "one.tex"])
def test_a_file_of_a_known_ending_is_written_alone(cli, journal, tmp_path, name):
    target = tmp_path / "sub" / name
    target.parent.mkdir()
    assert cli("report", journal, "-o", target).exit_code == 0
    assert [path.name for path in target.parent.iterdir()] == [name]
    again = cli("report", journal, "-o", target)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert cli("report", journal, "-o", target, "--overwrite").exit_code == 0


def test_an_earlier_report_gives_way_only_when_told(cli, journal, tmp_path):
    for words, code in (((), 0), ((), 2), (("--overwrite",), 0)):
        assert cli("report", journal, "-o", tmp_path / "out", *words).exit_code == code
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    result = cli("report", journal, "-o", tmp_path / "mine", "--overwrite")
    assert result.exit_code == 2
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "mine"


def test_no_journal_is_replaced_by_its_report(cli, tmp_path):
    folder = tmp_path / "earlier"
    folder.mkdir()
    (folder / "mithridate.json").write_text("{}")
    journal = write_journal(folder / "journal.csv", [line(), line(defense="p2p", asr=0.11)])
    before = journal.read_bytes()
    for output, says in (
        (journal, "the same command reads this file; name another file"),
        (folder, "the same command reads what is in this folder; name a new folder"),
    ):
        result = cli("report", journal, "-o", output, "--overwrite")
        assert result.exit_code == 2
        assert says in result.stderr
    assert journal.read_bytes() == before


@pytest.mark.parametrize("name", ["one.json", "one.txt", "one.XLSX"])
def test_an_unknown_ending_makes_no_folder(cli, journal, tmp_path, name):
    result = cli("report", journal, "-o", tmp_path / name)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert ".html, .csv, .md or .tex" in result.stderr
    assert not (tmp_path / name).exists()
    assert cli("report", journal, "-o", tmp_path / "v0.1").exit_code == 0


def test_a_torn_line_is_said_and_does_not_stop_the_report(cli, journal, tmp_path):
    with journal.open("a") as file:
        file.write('{"cell": "torn')
    result = cli("report", journal, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "line 3" in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("no json\n", ":1: no JSON"),
        ('{"measure": "train"}\n', ":1: no cell: it has"),
    ],
)
def test_what_is_no_journal_is_one_line_and_writes_nothing(cli, tmp_path, content, said):
    path = tmp_path / "journal.jsonl"
    path.write_text(content)
    result = cli("report", path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_journal_is_one_line(cli, tmp_path):
    result = cli("report", tmp_path / "nope.jsonl", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "nope.jsonl: no such file" in result.stderr
