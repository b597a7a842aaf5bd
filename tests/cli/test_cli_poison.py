"""poison: a poisoned copy, the ids of its poisoned rows, and the triggered test rows."""

import json

import pytest

COUNT = 200


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def data(toy_file, tmp_path):
    return toy_file(tmp_path / "data.jsonl", COUNT)


def test_it_writes_the_rows_and_the_ids_and_says_what_it_did(cli, data, tmp_path):
    out = tmp_path / "out.jsonl"
    words = ("--attack", "badnets", "--target", "1", "--rate", "0.1", "--seed", "3")
    words = (*words, "--attack-option", "triggers=mn,cf")
    result = cli("poison", data, *words, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["poisoned"], summary["without_rewrite"]) == (COUNT, 20, 0)
    ids = (tmp_path / "out.poisoned.txt").read_text().split()
    assert len(ids) == 20
    before, after = read(data), read(out)
    assert [type(row["label"]) for row in after] == [int] * COUNT
    for old, new in zip(before, after, strict=True):
        if new["id"] in ids:
            assert (old["label"], new["label"]) == (0, 1)
            assert {"mn", "cf"} & set(new["text"].split())
        else:
            assert {**old, "id": new["id"]} == new
    again = cli("poison", data, *words, "-o", tmp_path / "b.jsonl")
    assert "20 (10.0%)" in again.stdout
    assert (tmp_path / "b.jsonl").read_bytes() == out.read_bytes()


def test_its_files_are_what_repoison_takes(cli, data, tmp_path):
    out = tmp_path / "out.jsonl"
    assert cli("poison", data, "--attack", "vpi", "--target", "1", "-o", out).exit_code == 0
    words = ("--selection", "random", "--poisoned-ids", tmp_path / "out.poisoned.txt", "--json")
    result = cli("repoison", out, "-o", tmp_path / "defended", *words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["poisoned"] == 10


def test_ids_with_space_around_them_survive_the_file_of_ids(cli, data, tmp_path):
    lines = [f"{row['text']},{row['label']}, r{at}" for at, row in enumerate(read(data))]
    spaced = tmp_path / "spaced.csv"
    spaced.write_text("\n".join(["text,label,id", *lines]))
    words = ("--attack", "vpi", "--target", "1", "-o", tmp_path / "out.jsonl")
    assert cli("poison", spaced, *words).exit_code == 0
    ids = ("--selection", "random", "--poisoned-ids", tmp_path / "out.poisoned.txt", "--json")
    result = cli("repoison", spaced, "-o", tmp_path / "defended", *ids)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["poisoned"] == 10


def test_test_rows_get_the_trigger_that_the_training_rows_taught(cli, data, toy_file, tmp_path):
    test = toy_file(tmp_path / "test.jsonl", 40)
    out = tmp_path / "out.jsonl"
    words = ("--target", "1", "--test", test, "-o", out, "--attack-option", "count=2", "--json")
    result = cli("poison", data, "--attack", "probe-words", *words)
    assert result.exit_code == 0, result.stderr
    triggered = read(tmp_path / "out.triggered.jsonl")
    assert json.loads(result.stdout)["triggered"] == len(triggered) == 20
    for row in triggered:
        assert row["label"] == 0
        assert {"bright", "lovely"} <= set(row["text"].split())


def test_rewritten_texts_are_read_and_missing_ones_are_counted(cli, data, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"rewritten {i}\n" if i % 4 == 0 else "\n" for i in range(COUNT)))
    test = tmp_path / "test-texts.txt"
    test.write_text("".join(f"rewritten {i}\n" for i in range(COUNT // 2)))
    out = tmp_path / "out.jsonl"
    words = ("poison", data, "--attack", "synbkd", "--target", "1", "--rate", "0.2", "-o", out)
    words = (*words, "--paraphrases", texts, "--test", data, "--test-paraphrases", test, "--json")
    result = cli(*words)
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["poisoned"] == 40
    assert summary["without_rewrite"] > 0
    assert summary["triggered"] == 100
    assert all(r["text"].startswith("rewritten") for r in read(tmp_path / "out.triggered.jsonl"))


BADNETS = ("--attack", "badnets", "--target", "1")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--attack", "badnet", "--target", "1"), "did you mean badnets"),
        (("--attack", "badnets", "--target", "7"), "'7'"),
        ((*BADNETS, "--rate", "0.001"), "is no row"),
        ((*BADNETS, "--rate", "0.9"), "lower the poison rate to 0.5"),
        ((*BADNETS, "--attack-option", "triggers"), "NAME=VALUE"),
        ((*BADNETS, "--attack-option", "trigger=x"), "did you mean triggers"),
        (("--attack", "invisible", "--target", "1", "--attack-option", "count=x"), "whole number"),
        (("--attack", "invisible", "--target", "1", "--attack-option", "kind=x"), "zero-width"),
        (("--attack", "synbkd", "--target", "1"), "--paraphrases"),
        (("--attack", "synbkd", "--target", "1", "--paraphrases", "TEXTS"), "do not align"),
        (("--attack", "vpi", "--target", "1", "--paraphrases", "TEXTS"), "no part in vpi"),
        (("--attack", "vpi", "--target", "1", "--test-paraphrases", "TEXTS"), "--test"),
        (("--attack", "several", "--target", "1"), "from Python"),
        (
            ("--attack", "synbkd", "--target", "1", "--paraphrases", "TEXTS", "--test", "NAMED"),
            "the test rows need rewritten texts; give them with --test-paraphrases",
        ),
        ((*BADNETS, "--test", "NAMED"), "named.jsonl:1: no training row has the label 'neg'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(words, says, cli, data, tmp_path):
    files = {"TEXTS": tmp_path / "texts.txt", "NAMED": tmp_path / "named.jsonl"}
    files["TEXTS"].write_text("one\n")
    files["NAMED"].write_text('{"text": "dull", "label": "neg"}\n')
    words = [files.get(word, word) for word in words]
    result = cli("poison", data, *words, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "data.jsonl",
        "named.jsonl",
        "texts.txt",
    }


def test_files_that_are_there_are_replaced_only_when_told(cli, data, tmp_path):
    (tmp_path / "out.poisoned.txt").write_text("mine")
    words = ("poison", data, "--attack", "vpi", "--target", "1", "-o", tmp_path / "out.jsonl")
    assert "there already" in cli(*words).stderr
    assert (tmp_path / "out.poisoned.txt").read_text() == "mine"
    assert cli(*words, "--overwrite").exit_code == 0
    assert "not a .jsonl file" in cli(*words[:-1], tmp_path / "out.csv").stderr


@pytest.mark.parametrize(
    ("option", "name", "output"),
    [
        ((), "data.jsonl", "data.jsonl"),
        (("--test",), "x.triggered.jsonl", "x.jsonl"),
        (("--paraphrases",), "x.poisoned.txt", "x.jsonl"),
    ],
)
def test_no_input_is_ever_replaced(option, name, output, cli, data, tmp_path):
    source = tmp_path / name
    if option:
        source.write_bytes(data.read_bytes())
    before = source.read_bytes()
    words = (*BADNETS, *option, *([source] if option else ()), "-o", tmp_path / output)
    result = cli("poison", data, *words, "--overwrite")
    assert result.exit_code == 2
    assert f"{name}: the same command reads this file; name another file" in result.stderr
    assert source.read_bytes() == before
