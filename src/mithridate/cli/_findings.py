"""What passes from `audit` to `defend` by file: rows a person checked, and suspected triggers."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mithridate.cli._output import note
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.trigger import Trigger

CHECKED = "checked"
_RIGHT = ("ok", "right")
_WRONG = "wrong"


@dataclass(frozen=True)
class Checked:
    """A file of rows that a person filled in.

    Attributes:
        trusted: Ids of rows whose label is right.
        wrong: Ids of rows whose label is wrong.
        corrected: Those of ``wrong`` for which the person wrote the right label.
        blank: Rows not filled in.
    """

    trusted: frozenset[str]
    wrong: frozenset[str]
    corrected: frozenset[str]
    blank: int

    def __str__(self) -> str:
        """Say what becomes of the rows."""
        parts = [f"{len(self.trusted):,} rows trusted"]
        if self.wrong:
            parts.append(f"{len(self.wrong):,} wrong and kept out of the benign subset")
        if self.blank:
            parts.append(f"{self.blank:,} not filled in and not trusted")
        said = ", ".join(parts) + "."
        if self.corrected:
            said += (
                f" Of the wrong ones {len(self.corrected):,} have a corrected label, which is not "
                "taken over: correct it in the data to train on it."
            )
        return said


def check_table(
    rows: Iterable["Row"],
    columns: "Columns",
    *,
    right: Set[str] = frozenset(),
    wrong: Set[str] = frozenset(),
) -> str:
    """Return rows as a CSV table to fill in, safe to open in a spreadsheet.

    Args:
        rows: What to check.
        columns: What to call the columns.
        right: Ids of rows that a person already found right.
        wrong: Ids of rows that a person already found wrong.
    """
    from mithridate.report.words import inert  # not before it is needed: it brings pydantic

    marks = dict.fromkeys(right, _RIGHT[0]) | dict.fromkeys(wrong, _WRONG)
    lines = [_csv_line([CHECKED, columns.answer, columns.text, columns.id or "id"])]
    for row in rows:
        cells = map(inert, (row.answer or "", row.text, row.id))
        lines.append(_csv_line([marks.get(row.id, ""), *cells]))
    return "".join(lines)


def _csv_line(cells: Sequence[str]) -> str:
    """Return a line of CSV, which ends in one line feed.

    Python quotes a lone carriage return only where it is a part of what ends lines.
    """
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def is_check_file(path: Path) -> bool:
    """Whether a file of rows has the column to be filled in."""
    from mithridate.data._formats import READERS
    from mithridate.data.read import check_file

    if path.suffix.lower() == ".txt":
        return False
    check_file(path)
    records = READERS[path.suffix.lower()](path, str(path), {CHECKED: False})
    return any(CHECKED in fields for _, fields in records)


def read_checked(
    path: Path, rows: Sequence["Row"], labels: Sequence[str], columns: "Columns"
) -> Checked:
    """Read a table that a person filled in.

    Rows are found by their ids, since a spreadsheet may change a text; a row whose id it changed
    is found by its text, also where another row has the changed id. Copies of a checked row, the
    same text with the same label, count as checked with it.

    Args:
        path: The file: ``ok`` or ``wrong`` in the column ``checked``, or the right label.
        rows: D.
        labels: The task's; none where answers are text.
        columns: The columns of D, which the file shares.

    Raises:
        InputError: Nothing is filled in, or a row is not in D, has another label there, is there
            twice with different marks, or is filled in with something else.
    """
    from mithridate.data._formats import READERS

    id_column = columns.id or "id"
    wanted = {CHECKED: True, columns.answer: True, columns.text: False, id_column: False}
    places = _Places(rows)
    marks: dict[str, tuple[str, str]] = {}
    blank = 0
    for where, fields in READERS[path.suffix.lower()](path, str(path), wanted):
        mark = _cell(fields.get(CHECKED)).strip()
        if not mark:
            blank += 1
            continue
        answer = _cell(fields.get(columns.answer))
        row = places.find(
            _cell(fields.get(id_column)),
            _cell(fields.get(columns.text)),
            where,
            is_answer=partial(_same_answer, answer, labels=labels),
        )
        if not _same_answer(answer, row, labels):
            kept = f'leave the column "{columns.answer}" as it is'
            goes = f'; the right label goes into the column "{CHECKED}"' if labels else ""
            raise InputError(
                f"the row {row.id!r:.60} has another {'label' if labels else 'answer'} in the data",
                where=where,
                mend=kept + goes,
            )
        verdict = _verdict(mark, row, labels, where)
        for copy in places.copies(row):
            if marks.setdefault(copy.id, (verdict, mark))[0] != verdict:
                what = f"the row {row.id!r:.60} is both right and wrong"
                raise InputError(what, where=where, mend="leave one of the two marks")
    if not marks:
        corrected = ", or the right label," if labels else ""
        raise InputError(
            f'no row is filled in: the column "{CHECKED}" is empty',
            where=str(path),
            mend=f"write ok or wrong{corrected} beside the rows you have read",
        )
    wrong = {row_id for row_id, (verdict, _) in marks.items() if verdict != "ok"}
    return Checked(
        trusted=frozenset(marks) - wrong,
        wrong=frozenset(wrong),
        corrected=frozenset(row_id for row_id in wrong if marks[row_id][0] == "corrected"),
        blank=blank,
    )


def _cell(value: object) -> str:
    """Return what a cell says; numbers as they would be read from D."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _said(cell: str) -> tuple[str, str]:
    """Return a cell as it is, and without the mark that keeps a spreadsheet from running it."""
    return cell, cell[1:] if cell.startswith("'") else cell


def _same_answer(cell: str, row: "Row", labels: Sequence[str]) -> bool:
    """Whether a cell still says what the row answers; in a text, spaces and line ends aside."""
    if labels:
        return row.answer in _said(cell)
    return (row.answer or "").split() in [said.split() for said in _said(cell)]


def _verdict(mark: str, row: "Row", labels: Sequence[str], where: str) -> str:
    """Return ``ok``, ``wrong`` or ``corrected``."""
    if mark.lower() in _RIGHT:
        return "ok"
    if mark.lower() == _WRONG:
        return "wrong"
    named = next((said for said in _said(mark) if said in labels), None)
    if named is None:
        shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        mend = "write ok or wrong" + (f", or one of the labels {shown}" if labels else "")
        raise InputError(
            f'{mark!r:.60} in the column "{CHECKED}" says nothing we know',
            where=where,
            mend=mend,
        )
    return "ok" if named == row.answer else "corrected"


class _Places:
    """Rows of D by id and by content."""

    def __init__(self, rows: Sequence["Row"]) -> None:
        self._by_id = {row.id: row for row in rows}
        self._by_text: dict[str, list[Row]] = {}
        for row in rows:
            self._by_text.setdefault(row.text, []).append(row)

    def find(
        self, row_id: str, text: str, where: str, *, is_answer: Callable[["Row"], bool]
    ) -> "Row":
        """Return the row of an id, else of a text.

        An id is taken for a changed one where the text is just another row's: a spreadsheet makes
        12 of 0012, and whoever wrote that row must not be trusted for it.
        """
        named = next((self._by_id[said] for said in _said(row_id) if said in self._by_id), None)
        if named is not None and named.text in _said(text):
            return named
        of_text = [row for said in _said(text) for row in self._by_text.get(said, ())]
        if of_text:
            return next(filter(is_answer, of_text), of_text[0])
        if named is not None:
            return named
        raise InputError(
            f"the row {row_id!r:.60} is not in the data",
            where=where,
            mend="give the data that the audit read, and leave ids as they are",
        )

    def copies(self, row: "Row") -> list["Row"]:
        """Return the row and all of the same text and label."""
        return [same for same in self._by_text[row.text] if same.answer == row.answer]


def triggers_text(triggers: Iterable["Trigger"]) -> str:
    r"""Return triggers as lines of JSON in ASCII, so that invisible ones show as ``\u200b``."""
    return "".join(
        json.dumps({"text": trigger.text, "kind": trigger.kind}) + "\n"
        for trigger in dict.fromkeys(triggers)
    )


def names_nothing(path: Path) -> bool:
    """Whether a file is there and empty, as one is that an audit wrote which found nothing."""
    if not path.is_file() or path.stat().st_size:
        return False
    note(f"{path} is empty: nothing is taken from it.")
    return True


def read_triggers(values: Sequence[str]) -> "tuple[Trigger, ...]":
    """Return what ``--counter-trigger`` names: words, or with @ a file that `audit` wrote.

    Raises:
        InputError: A trigger is empty, or a file cannot be read.
    """
    from mithridate.defense.odd import odd_characters
    from mithridate.defense.tokens import tokens
    from mithridate.defense.trigger import Trigger

    found: list[Trigger] = []
    for value in values:
        if value.startswith("@"):
            found += _listed_triggers(Path(value[1:]))
        elif len(value) == 1 and odd_characters(value):
            found.append(Trigger(value, "character"))
        elif not tokens(value):
            mend = "give it words, or @FILE for a file of triggers"
            raise InputError("the trigger is empty", where="--counter-trigger", mend=mend)
        else:
            found.append(Trigger(value))
    return tuple(dict.fromkeys(found))


def _listed_triggers(path: Path) -> "list[Trigger]":
    from mithridate.data._formats import READERS
    from mithridate.data.read import check_file
    from mithridate.defense.tokens import tokens
    from mithridate.defense.trigger import KINDS, Trigger

    if names_nothing(path):
        return []
    check_file(path)
    wanted = {"text": True, "kind": False}
    found = []
    for where, fields in READERS[path.suffix.lower()](path, str(path), wanted):
        if CHECKED in fields:
            mend = "give it to --trusted; audit's triggers are in triggers.jsonl"
            raise InputError("this is a table of rows, not of triggers", where=where, mend=mend)
        text, kind = fields.get("text"), fields.get("kind") or "words"
        if not isinstance(text, str) or not (text if kind == "character" else tokens(text)):
            raise InputError("the trigger is empty", where=where, mend="drop the line")
        if kind not in KINDS:
            mend = f"take one of {', '.join(sorted(KINDS))}"
            raise InputError(f"{kind!r:.40} is no kind of trigger", where=where, mend=mend)
        found.append(Trigger(text, next(known for known in KINDS if known == kind)))
    if not found:
        mend = "name a file that holds one, or drop the option"
        raise InputError("the file holds no trigger", where=str(path), mend=mend)
    return found
