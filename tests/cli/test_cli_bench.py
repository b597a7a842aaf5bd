"""``mithridate bench`` through the command line."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mithridate.bench.journal import read_lines


@pytest.fixture
def threads() -> Iterator[None]:
    """Leave torch's number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_dry_run_lists_the_cells_and_writes_nothing(cli, write_config, tmp_path):
    config, out = write_config(), tmp_path / "out"
    table = cli("bench", config, "-o", out, "--dry-run")
    assert table.exit_code == 0, table.exception
    assert "0 of 2 from cells run" in table.stdout
    told = cli("bench", config, "-o", out, "--dry-run", "--json")
    plan = json.loads(told.stdout)
    assert [cell["cell"].split("/")[:3] for cell in plan["cells"]] == [
        ["toy", "badnets@0.1", "none"],
        ["toy", "badnets@0.1", "clean-tune"],
    ]
    for cell in plan["cells"]:
        assert (cell["state"], cell["measured"]) == ("open", False)
        assert cell["gigabytes"] > 0
    assert plan["minutes_left"] >= 0
    assert not out.exists()


def test_the_plan_can_be_shown_once_a_cell_is_finished(cli, write_config, tmp_path):
    config, out = write_config(defenses=["none", "prune"]), tmp_path / "out"
    assert cli("bench", config, "-o", out, "--only", "/none/").exit_code == 0
    result = cli("bench", config, "-o", out, "--dry-run", "--json")
    assert result.exit_code == 0, result.exception
    plan = json.loads(result.stdout)["cells"]
    assert [(cell["state"], cell["measured"]) for cell in plan] == [("done", True), ("open", False)]


def test_a_run_goes_on_where_it_ended_and_is_reported(cli, write_config, tmp_path):
    config, out = write_config(), tmp_path / "out"
    journal = out / "journal.jsonl"
    none = cli("bench", config, "-o", out, "--minutes", "0", "--json")
    assert none.exit_code == 0
    assert json.loads(none.stdout) == {
        "folder": str(out), "journal": str(journal), "done": 0, "failed": 0, "open": 2,
    }  # fmt: skip
    part = cli("bench", config, "-o", out, "--only", "clean,strip")
    assert part.exit_code == 0, part.exception
    assert "clean-tune" in part.stderr
    assert f"Next: mithridate report {journal}" in part.stdout
    first = journal.read_text()
    assert len(first.splitlines()) == 2  # the reference model and the cell
    whole = cli("bench", config, "-o", out)
    assert "2 cells: 1 finished, 1 to run." in whole.stderr
    second = journal.read_text()
    assert second.startswith(first)
    assert len(second.splitlines()) == 3
    again = cli("bench", config, "-o", out, "--json")
    assert "2 cells: 2 finished, 0 to run." in again.stderr
    assert journal.read_text() == second
    assert json.loads(again.stdout)["done"] == 2
    page = cli("report", journal, "-o", tmp_path / "page", "--json")
    assert page.exit_code == 0, page.exception
    facts = json.loads(page.stdout)
    assert (facts["cells"], facts["references"]) == (2, 1)


def test_failed_cells_end_with_1_and_are_run_again_only_when_told(cli, write_config, tmp_path):
    config, out = write_config(trusted=0, defenses=["clean-tune", "none"]), tmp_path / "out"
    result = cli("bench", config, "-o", out)
    assert result.exit_code == 1
    assert "failed: clean-tune needs rows that a person checked" in result.stderr
    assert "failures.jsonl; --retry-failed runs those cells alone" in result.stdout.replace(
        "\n", ""
    )
    [failure] = read_lines(out / "failures.jsonl")
    assert "/clean-tune/" in failure["cell"]
    assert failure["error"].startswith("clean-tune needs rows")
    before = (out / "journal.jsonl").read_text()
    same = cli("bench", config, "-o", out)
    assert same.exit_code == 1
    assert "1 failed before; --retry-failed runs these alone." in same.stderr
    assert len(read_lines(out / "failures.jsonl")) == 1
    retried = cli("bench", config, "-o", out, "--retry-failed")
    assert retried.exit_code == 1
    assert len(read_lines(out / "failures.jsonl")) == 2
    assert (out / "journal.jsonl").read_text() == before


def test_a_report_is_named_only_where_there_is_something_to_report(cli, write_config, tmp_path):
    config, out = write_config(trusted=0, defenses=["clean-tune"]), tmp_path / "out"
    left = cli("bench", config, "-o", out, "--minutes", "0")
    assert left.exit_code == 0, left.exception
    assert "Next: mithridate" in left.stdout  # the same command goes on
    failed = cli("bench", config, "-o", out)
    assert failed.exit_code == 1
    assert "--retry-failed runs" in failed.stdout.replace("\n", " ")
    assert "Next:" not in failed.stdout
    assert "mithridate report" not in left.stdout


def test_what_failed_and_then_went_well_is_finished(cli, write_config, tmp_path):
    program = tmp_path / "paraphrase"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    rewrite = {"name": "rewrite", "settings": {"command": str(program)}}
    config, out = write_config(defenses=[rewrite]), tmp_path / "out"
    assert cli("bench", config, "-o", out).exit_code == 1
    program.write_text("#!/bin/sh\nexec cat\n")
    assert cli("bench", config, "-o", out, "--retry-failed").exit_code == 0
    cell = read_lines(out / "journal.jsonl")[-1]
    assert cell["facts"] == {"command": str(program), "trusted_changed": 0.0}


@pytest.mark.parametrize(
    ("words", "changed", "says"),
    [
        (["--only", "onions,strips"], {}, "no cell's name holds any of onions,strips; see which t"),
        ([], {"seeds": []}, "seeds: Tuple should have at least 1 item"),
        ([], {"defenses": [{"name": "p2p", "settings": {"benign_ratio": 20}}]}, "is no share"),
        ([], {"tranining": {}}, "tranining: there is no such key; did you mean training?"),
        ([], {"datasets": [{"name": "a", "train": "a.csv", "test": "test.jsonl"}]}, "a.csv; paths"),
        ([], {"defenses": ["none", {"name": "none", "label": "b"}]}, "differ in name alone"),
        ([], {"attacks": [{"name": "badnets", "target": "9"}]}, "there is no label '9'; choose o"),
        ([], {"defenses": ["none", "cleangen"]}, "cleangen is for text, and the answers are lab"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_matrix_that_cannot_be_is_one_line_and_writes_nothing(
    cli, write_config, tmp_path, words, changed, says, dry
):
    result = cli("bench", write_config(**changed), "-o", tmp_path / "out", *words, *dry)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_cell_that_must_fail_ends_no_run_that_leaves_it_out(cli, write_config, tmp_path):
    config = write_config(defenses=["none", "cleangen"])
    result = cli("bench", config, "-o", tmp_path / "out", "--only", "/none/", "--dry-run")
    assert result.exit_code == 0, result.exception


def test_a_sweep_that_cannot_be_is_one_line_and_writes_nothing(cli, write_config, tmp_path):
    config = write_config(attacks=["badnets"])
    result = cli("sweep", config, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "the attack badnets needs target; name it in the file" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_matrix_and_a_folder_of_something_else_are_one_line(cli, write_config, tmp_path):
    result = cli("bench", tmp_path / "nope.yaml")
    assert result.exit_code == 2
    assert "nope.yaml: the file cannot be read (No such file or directory)" in result.stderr
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    result = cli("bench", write_config(), "-o", tmp_path / "thesis")
    assert result.exit_code == 2
    assert "the folder holds something else" in result.stderr


@pytest.mark.parametrize("verb", ["bench", "sweep"])
def test_a_folder_that_cannot_be_made_is_one_line(cli, write_config, tmp_path, verb):
    (tmp_path / "ok.jsonl").write_text("{}\n")
    for folder, why in (
        (tmp_path / "ok.jsonl" / "out", "Not a directory"),
        (Path("/proc/out"), "No such file or directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        result = cli(verb, write_config(), "-o", folder, "--minutes", "0")
        assert result.exit_code == 2, result.exception
        assert result.stderr.startswith(f"error: {folder}: cannot be written ({why}); ")
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--threads", "2"], 2),
        (["--backend", "ray", "--cell-cpus", "3"], 3),
        (["--backend", "ray"], 1),
    ],
)
def test_a_plan_is_made_with_the_threads_that_its_cells_will_have(cli, write_config, words, count):
    torch.set_num_threads(4)
    assert cli("bench", write_config(), "--dry-run", *words).exit_code == 0
    assert torch.get_num_threads() == count


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ray-address", "h:1"], "--ray-address has no effect on a local run; add --backend ray"),
        (["--cell-cpus", "2"], "--cell-cpus has no effect on a local run; add --backend ray"),
        (["--cell-gpus", "1"], "--cell-gpus has no effect on a local run; add --backend ray"),
        (["--cell-memory", "8"], "--cell-memory has no effect on a local run; add --backend ray"),
        (["--backend", "ray", "--threads", "2"], "--threads has no effect on Ray; use --cell-cpus"),
        (
            ["--backend", "ray", "--minutes", "0"],
            "--minutes has no effect on Ray; end the run with Ctrl-C: what is finished stays",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["bench", "sweep"])
def test_an_option_that_would_do_nothing_is_refused(cli, tmp_path, verb, words, says):
    result = cli(verb, tmp_path / "matrix.yaml", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {says}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("minutes", ["nan", "-1"])
@pytest.mark.parametrize("verb", ["bench", "sweep"])
def test_minutes_that_are_no_time_are_refused(cli, tmp_path, verb, minutes):
    result = cli(verb, tmp_path / "matrix.yaml", "--minutes", minutes)
    assert result.exit_code == 2
    assert "'--minutes': Input should be greater than or equal to 0" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--cell-memory", "--cell-gpus"])
def test_a_cell_takes_no_endless_share_of_a_machine(cli, tmp_path, option):
    result = cli("bench", tmp_path / "matrix.yaml", "--backend", "ray", option, "inf")
    assert result.exit_code == 2
    assert f"'{option}': Input should be less than or equal to" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def no_ray_here() -> Iterator[int]:
    """Return the port of a server that is no Ray cluster: it answers in the web's old way."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def ray_refuses(cli, config, out, *words) -> str:
    """Return what is said of a cluster that cannot be had."""
    pytest.importorskip("ray", reason="ray is not installed (pip install '.[ray]')")
    started = time.monotonic()
    result = cli("bench", config, "-o", out, "--backend", "ray", *words)
    assert time.monotonic() - started < 30  # Ray by itself waits five minutes
    assert result.exit_code == 2, result.exception
    assert not (out / "journal.jsonl").exists()
    [said, *_] = [line for line in result.stderr.splitlines() if line.startswith("error")]
    return said


def test_a_wrong_address_is_told_at_once(cli, write_config, tmp_path, no_ray_here):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    config, out = write_config(), tmp_path / "out"
    for address, says in (
        (f"127.0.0.1:{closed}", "no Ray cluster answers ([Errno 111] Connection refused)"),
        (f"ray://127.0.0.1:{closed}", "no Ray cluster answers ([Errno 111] Connection refused)"),
        (f"127.0.0.1:{no_ray_here}", "what answers there is no Ray cluster"),
        ("127.0.0.1:99999", "no Ray cluster answers"),
        ("nonsense", "no Ray cluster answers"),
    ):
        said = ray_refuses(cli, config, out, "--ray-address", address)
        assert said.startswith(f"error: {address}: {says}")
        assert "; check --ray-address" in said


def test_a_cell_that_no_machine_can_hold_is_refused(cli, write_config, tmp_path):
    said = ray_refuses(cli, write_config(), tmp_path / "out", "--cell-cpus", "4096")
    assert "a cell is to have 4096 CPU, and the largest node has" in said
    assert "ask for less with --cell-cpus" in said
