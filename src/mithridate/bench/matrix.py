"""All cells of a matrix: which are finished, failed or open, and running those that are wanted."""

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mithridate.bench.cells import BenchCell
from mithridate.bench.journal import append_line, claimed, locked, read_lines
from mithridate.bench.run import CellRun, Line, reference_line_path
from mithridate.data.write import explained
from mithridate.errors import InputError, MithridateError

JOURNAL = "journal.jsonl"
FAILURES = "failures.jsonl"

State = Literal["done", "failed", "open"]
Finished = Callable[[BenchCell, Line | None, str], None]
"""Told of every cell that ends: the cell, its line or ``None``, and what went wrong."""


@dataclass(frozen=True)
class Matrix:
    """A matrix and the folder of its results.

    Attributes:
        cells: All cells.
        folder: Holds the journal, the failures and the models that cells share.
        command: What is to be typed to run it again.
    """

    cells: Sequence[BenchCell]
    folder: Path
    command: str

    @property
    def journal(self) -> Path:
        """One line for each finished cell."""
        return self.folder / JOURNAL

    @property
    def failures(self) -> Path:
        """One line for each cell that failed."""
        return self.folder / FAILURES

    @property
    def kept(self) -> Path:
        """Models that cells share, and claims on cells."""
        return self.folder / "kept"

    def states(self) -> dict[str, State]:
        """Return the state of every cell by its mark; what failed and then was finished is done."""
        done, failed = _marks(self.journal), _marks(self.failures)
        return {
            cell.mark: "done" if cell.mark in done else "failed" if cell.mark in failed else "open"
            for cell in self.cells
        }

    def wanted(self, *, retry_failed: bool = False) -> list[BenchCell]:
        """Return the cells to run: the open ones, or those alone that failed."""
        states = self.states()
        state: State = "failed" if retry_failed else "open"
        return [cell for cell in self.cells if states[cell.mark] == state]

    def is_done(self, cell: BenchCell) -> bool:
        """Whether a cell is finished."""
        return cell.mark in _marks(self.journal)

    def run(
        self, cells: Sequence[BenchCell], finished: Finished, *, until: float = float("inf")
    ) -> None:
        """Run cells here, one after the other; other processes may be at the same matrix.

        Args:
            cells: What to run. Cells that another process is at or has finished, or that failed
                there since this began, are passed over.
            finished: Told of every cell that ends here.
            until: The time, by the monotonic clock, after which no cell is started.
        """
        failed = self._failed()
        self.note_references()
        for cell in cells:
            if time.monotonic() > until:
                return
            with claimed(self.kept / f"{cell.mark}.claim") as mine:
                untried = self._failed()[cell.mark] == failed[cell.mark]
                if mine and untried and not self.is_done(cell):
                    self.settle(cell, outcome(cell, self.kept, self.command), finished)

    def settle(self, cell: BenchCell, result: "Outcome", finished: Finished) -> None:
        """Note what came of a cell, once: its line, or what went wrong."""
        with locked(self.kept / "journal.lock"):
            known = _marks(self.journal)
            self._note_reference(cell, known)
            if result.line is None:
                append_line(self.failures, self._failure(cell, result))
            elif cell.mark not in known:
                append_line(self.journal, result.line)
        finished(cell, result.line, result.error)

    def note_references(self) -> None:
        """Note the reference models whose lines are kept and which the journal does not hold."""
        with locked(self.kept / "journal.lock"):
            known = _marks(self.journal)
            for cell in self.cells:
                self._note_reference(cell, known)

    def _note_reference(self, cell: BenchCell, known: set[Any]) -> None:
        """Note a cell's reference model if its line is kept and not among the known ones."""
        path = reference_line_path(self.kept, cell)
        if cell.clean_mark not in known and path.exists():
            append_line(self.journal, json.loads(path.read_text()))
            known.add(cell.clean_mark)

    def _failed(self) -> Counter[Any]:
        """Return how often each cell failed, by its mark."""
        return Counter(line.get("config_hash") for line in read_lines(self.failures))

    def _failure(self, cell: BenchCell, result: "Outcome") -> Line:
        return {
            "cell": cell.name,
            "config_hash": cell.mark,
            "error": result.error,
            "traceback": result.trace,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        line: Its line of the journal; ``None`` if it failed.
        error: What went wrong.
        trace: Where.
    """

    line: Line | None
    error: str = ""
    trace: str = ""


def _marks(path: Path) -> set[Any]:
    """Return the marks of the cells that a file has lines of."""
    return {line.get("config_hash") for line in read_lines(path)}


def outcome(cell: BenchCell, kept: Path, command: str) -> Outcome:
    """Run a cell; a failure is a result too, and ends no matrix."""
    try:
        return Outcome(CellRun(cell, kept, command).line())
    except MithridateError as error:
        return Outcome(None, str(error))
    except Exception as error:
        return Outcome(None, f"{type(error).__name__}: {error}", traceback.format_exc())


def check_folder(folder: Path) -> None:
    """Refuse a folder for results that holds something else.

    Raises:
        InputError: It does, is a file, or cannot be looked into.
    """
    where = str(folder)
    with explained(where):
        if folder.is_file():
            raise InputError("there is a file of this name", where=where, mend="name a folder")
        ours = (folder / JOURNAL).is_file() or (folder / "kept").is_dir()
        if folder.is_dir() and any(folder.iterdir()) and not ours:
            mend = "name a new folder, or the one of this matrix"
            raise InputError("the folder holds something else", where=where, mend=mend)
