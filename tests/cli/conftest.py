import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mithridate.cli.main import app


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*words: object, input: str | None = None) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], input=input)

    return run


@pytest.fixture
def start() -> Callable[..., "subprocess.Popen[str]"]:
    """Start a command in a process of its own."""

    def run(*words: object, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "mithridate.cli.main", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        )

    return run


@pytest.fixture
def shell(start) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command in a process of its own, to its end."""

    def run(*words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = start(*words, **environment)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def write_rows() -> Callable[[Path, Iterable[dict[str, object]]], Path]:
    def write(path: Path, rows: Iterable[dict[str, object]]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def toy_file(write_rows) -> Callable[..., Path]:
    """Rows of two classes, in order 0, 1, 0, 1."""

    def write(path: Path, count: int) -> Path:
        words = ("a dull and hollow film", "a bright and lovely film")
        return write_rows(
            path,
            ({"text": f"{words[i % 2]} number {i}", "label": i % 2} for i in range(count)),
        )

    return write
