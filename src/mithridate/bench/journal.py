"""A matrix's journal, one JSON line per finished cell, and claims on cells to be run."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mithridate.evaluation.intervals import Share


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the finished cells of a journal; a line torn by a crash is left out."""
    lines = []
    # As bytes: a crash may cut inside a character, and text would break at U+2028, too.
    for text in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            lines.append(json.loads(text.decode(errors="replace")))
        except json.JSONDecodeError:
            continue
    return lines


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one line and wait until it is on the disk; several processes may do so at once.

    A crash can tear the last line only. The next line then starts on a new one, so nothing else
    is lost.

    Raises:
        ValueError: The record holds a number that is none, which no other program could read.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process may do what a file stands for; a killed process claims nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; a killed process holds none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


QUALITIES = {"clean_accuracy": "CA", "utility": "utility"}
"""What a line's field of `quality_field` is called in tables."""


def quality_field(line: dict[str, Any]) -> str:
    """Return the field that says how good answers to clean inputs are: CA, of text the utility."""
    return next(name for name in QUALITIES if name in line)


def share_fields(name: str, measured: Share | None) -> dict[str, float | int | None]:
    """Return a share as DESIGN.md's result files name its parts, all ``None`` where it is none."""
    if measured is None:
        return {f"{name}{end}": None for end in ("", "_low", "_high", "_successes")}
    return {
        name: measured.value,
        f"{name}_low": measured.low,
        f"{name}_high": measured.high,
        f"{name}_successes": measured.successes,
    }
