"""`mithridate repoison --stream`: shards in and out, and every misuse one line with its mend."""

import json
import stat

import pytest
from test_cli_bad_input import BAD_FILES, good, lines, refused

STREAM = ("--stream", "--selection", "random", "--workers", "1")


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_data(case, cli, tmp_path):
    name, content, options, where, what = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    data = tmp_path / ("d.csv" if name == "d.csv" else "d.jsonl")
    output = tmp_path / "out"
    words = ("--stream", "--benign-ratio", "1", "--workers", "1")
    words += () if "--preset" in options else ("--selection", "random")
    refused(cli("repoison", data, "-o", output, *words, *options), output, where, what)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--stream",), "--selection random, which lets poisoned rows into S"),
        (("--stream", "--trusted", "t.txt"), "anchored selection judges the whole set"),
        ((*STREAM, "--poisoned-ids", "t.txt"), "--poisoned-ids: "),
        ((*STREAM, "--prompt-style", "chat"), "--prompt-style: "),
        ((*STREAM, "--draw", "1"), "--secret-file on every machine"),
        ((*STREAM, "--to", "s3://bucket"), "--to: this has no part in the local backend"),
        ((*STREAM, "--backend", "ray"), "--workers: this has no part in the ray backend"),
        ((*STREAM[:3], "--backend", "ray"), "the ray backend reads Parquet alone"),
        ((*STREAM, "--benign-ratio", "2"), "--benign-ratio: "),
        (("--workers", "2"), "--workers: this has a part in streams alone"),
        (("--format", "parquet"), "--format: this has a part in streams alone"),
        (("--backend", "ray"), "--backend: this has a part in streams alone"),
    ],
)
def test_options_that_do_not_go_together(options, says, cli, tmp_path):
    data, output = tmp_path / "d.jsonl", tmp_path / "out"
    data.write_bytes(lines(*good()))
    refused(cli("repoison", data, "-o", output, *options), output, says)


def test_several_files_need_to_be_streamed(cli, tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(lines(*good()))
    words = ("repoison", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-o", tmp_path / "out")
    refused(cli(*words), tmp_path / "out", "b.jsonl: ", "--stream --selection random")


def test_shards_become_shards_and_secrets_stay_private(cli, toy_file, tmp_path):
    shards, output = tmp_path / "shards", tmp_path / "out"
    shards.mkdir()
    for name in ("b.jsonl", "a.jsonl"):
        toy_file(shards / name, 60)
    result = cli("repoison", shards, "-o", output, *STREAM)
    assert result.exit_code == 0, result.stderr
    names = ["defense.json", "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert sorted(path.name for path in output.iterdir()) == names
    for path in output.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(output.stat().st_mode) == 0o700
    manifest = json.loads((output / "defense.json").read_text())
    for name in ("benign_trigger", "safe_prefix", "secret_key"):
        assert manifest[name].strip() not in result.stdout + result.stderr
    assert "poisoned rows enter S" in result.stdout
    assert "Next: " in result.stdout


def test_the_summary_has_the_names_of_a_set_in_memory(cli, toy_file, tmp_path):
    data = toy_file(tmp_path / "d.jsonl", 200)
    memory = cli("repoison", data, "-o", tmp_path / "a", "--selection", "random", "--json")
    stream = cli("repoison", data, "-o", tmp_path / "b", *STREAM, "--json")
    memory, stream = json.loads(memory.stdout), json.loads(stream.stdout)
    assert set(stream) - {"files"} <= set(memory)
    for name in ("rows", "labels", "selection", "mode", "wanted", "written"):
        assert stream[name] == memory[name]
    assert stream["files"] == ["train.jsonl"]


def test_one_secret_on_two_machines_gives_one_defense(cli, toy_file, tmp_path):
    key = tmp_path / "key"
    key.write_text("5c" * 32)
    key.chmod(0o600)
    for name in ("a", "b"):
        data = toy_file(tmp_path / f"{name}.jsonl", 60)
        words = ("--secret-file", key, "--draw", "0", "--labels", "0,1")
        result = cli("repoison", data, "-o", tmp_path / name, *STREAM, *words)
        assert result.exit_code == 0, result.stderr
    one, two = (json.loads((tmp_path / n / "defense.json").read_text()) for n in ("a", "b"))
    assert one["benign_trigger"] == two["benign_trigger"]
    assert one["safe_prefix"] == two["safe_prefix"]
