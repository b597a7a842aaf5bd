"""A journal: what was appended is read again, whatever it holds and wherever a crash cut it."""

import json

import pytest

from mithridate.bench.journal import append_line, read_lines


def test_a_line_torn_inside_a_character_is_left_out_and_the_others_are_read(tmp_path):
    journal = tmp_path / "journal.jsonl"
    append_line(journal, {"cell": "first"})
    torn = json.dumps({"cell": "Bücher"}, ensure_ascii=False).encode().partition(b"\xbc")[0]
    with journal.open("ab") as file:
        file.write(torn)
    assert read_lines(journal) == [{"cell": "first"}]
    append_line(journal, {"cell": "second"})
    assert [line["cell"] for line in read_lines(journal)] == ["first", "second"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0c", "\r", "\n", "\x1c"])
def test_a_line_is_one_line_whatever_its_settings_hold(tmp_path, character):
    record = {"cell": "a", "settings": {"triggers": [f"m{character}n"]}}
    append_line(tmp_path / "journal.jsonl", record)
    append_line(tmp_path / "journal.jsonl", {"cell": "b"})
    assert read_lines(tmp_path / "journal.jsonl") == [record, {"cell": "b"}]


def test_a_journal_that_is_not_there_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "journal.jsonl") == []
