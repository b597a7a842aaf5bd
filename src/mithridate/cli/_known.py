"""Files that say something of single rows: trusted, to keep out, known to be poisoned."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mithridate.cli._findings import is_check_file, names_nothing, read_checked, read_triggers
from mithridate.cli._options import DefenseOptions
from mithridate.cli._output import note
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.prepare import Findings
    from mithridate.tasks.text import TextTask


@dataclass(frozen=True)
class Known:
    """What is known of single rows.

    Attributes:
        trusted: Ids of rows a person checked.
        poisoned: Ids of rows known to be poisoned, for the report alone; ``None`` where unknown.
        findings: Rows to keep out of S, and triggers to counter.
    """

    trusted: frozenset[str]
    poisoned: frozenset[str] | None
    findings: "Findings"


def read_known(
    options: DefenseOptions,
    rows: "Sequence[Row]",
    columns: "Columns",
    *,
    labels: Sequence[str] = (),
    task: "TextTask | None" = None,
) -> Known:
    """Read the files that say something of single rows.

    Args:
        options: Name them.
        rows: D.
        columns: Its columns.
        labels: Those of D; none where answers are text.
        task: Reads files of rows as it read D, where answers are text.

    Raises:
        InputError: One cannot be read or used.
    """
    from mithridate.defense.prepare import Findings

    def ids(path: Path) -> frozenset[str]:
        return read_ids(path, rows, columns, labels=labels, task=task)

    trusted, wrong = read_trusted(options.trusted, rows, columns, labels=labels, task=task)
    exclude = options.exclude
    excluded = frozenset() if exclude is None or names_nothing(exclude) else ids(exclude)
    if both := excluded & trusted:
        note(f"{len(both):,} rows of --exclude were checked and found right: they stay trusted.")
    findings = Findings((excluded - trusted) | wrong, read_triggers(options.counter_trigger or ()))
    return Known(trusted, ids(options.poisoned_ids) if options.poisoned_ids else None, findings)


def read_trusted(
    path: Path | None,
    rows: "Sequence[Row]",
    columns: "Columns",
    *,
    labels: Sequence[str] = (),
    task: "TextTask | None" = None,
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of the rows that a person found right, and of those found wrong.

    Args:
        path: A file as for `read_ids`, or one that `audit --pick` wrote and a person filled in;
            ``None`` gives no rows.
        rows: D.
        columns: The columns of D.
        labels: Those of D; none where answers are text.
        task: Reads a file of rows as it read D, where answers are text.

    Raises:
        InputError: The file cannot be read or used.
    """
    if path is None:
        return frozenset(), frozenset()
    if not is_check_file(path):
        return read_ids(path, rows, columns, task=task), frozenset()
    checked = read_checked(path, rows, labels, columns)
    note(f"{path}: {checked}")
    return checked.trusted, checked.wrong


def read_ids(
    path: Path,
    rows: "Sequence[Row]",
    columns: "Columns",
    *,
    labels: Sequence[str] = (),
    task: "TextTask | None" = None,
) -> frozenset[str]:
    """Return the ids of the rows of D that a file names.

    Args:
        path: A ``.txt`` file of ids, one a line, or a file of rows; of one that a person filled in,
            the rows found wrong.
        rows: D.
        columns: The columns of D, and of a file of rows.
        labels: Those of D; none where answers are text.
        task: Reads a file of rows as it read D, where answers are text.

    Raises:
        InputError: The file cannot be read, or names what is not in D.
    """
    if path.suffix.lower() == ".txt":
        return _listed_ids(path, {row.id for row in rows})
    if is_check_file(path):
        return read_checked(path, rows, labels, columns).wrong
    from mithridate.data.read import iter_rows

    named = iter_rows(path, columns) if task is None else task.read(path, columns)
    return _matched_ids(named, rows)


def _listed_ids(path: Path, known: set[str]) -> frozenset[str]:
    where = str(path)
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        what = f"the file cannot be read ({error.strerror})"
        raise InputError(what, where=where, mend="check the path") from None
    except UnicodeDecodeError:
        mend = "give a text file of ids, one a line"
        raise InputError("the file is not UTF-8 text", where=where, mend=mend) from None
    ids = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not ids:
        mend = "give ids, one a line, or drop the option"
        raise InputError("the file is empty", where=where, mend=mend)
    for number, row_id in ids:
        if row_id not in known:
            raise InputError(
                f"no row of the data has the id {row_id!r:.60}",
                where=f"{path}:{number}",
                mend="use the ids of the data's own rows, or give a file of rows",
            )
    return frozenset(row_id for _, row_id in ids)


def _matched_ids(named_rows: "Iterable[Row]", rows: "Sequence[Row]") -> frozenset[str]:
    """Match rows by id, else by content; copies of a row that was checked are checked too."""
    from mithridate.data.rows import content_id

    by_id = {row.id: row for row in rows}
    by_content: dict[str, list[str]] = {}
    for row in rows:
        by_content.setdefault(content_id(row.text, row.answer), []).append(row.id)
    found: set[str] = set()
    for named in named_rows:
        own = by_id.get(named.id)
        if own is not None and (own.text, own.answer) == (named.text, named.answer):
            found.add(own.id)
        elif same := by_content.get(content_id(named.text, named.answer)):
            found.update(same)
        elif own is not None:
            raise InputError(
                f"the row {named.id!r:.60} has another text or label in the data",
                where=named.where,
                mend="give the row as the data has it, and correct the data where it is wrong",
            )
        else:
            raise InputError(
                f"the row {named.id!r:.60} is not in the data",
                where=named.where,
                mend="use rows of the data itself",
            )
    return frozenset(found)
