"""The folder that an audit fills, whatever the answers are."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._findings import check_table, triggers_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mithridate.cli._audit import Given
    from mithridate.cli._text_audit import TextGiven
    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.trigger import Trigger

CHECK_FILE = "check.csv"
EXCLUDE_FILE = "exclude.txt"
TRIGGERS_FILE = "triggers.jsonl"
SUSPECTS_FILE = "suspects.jsonl"


@dataclass(frozen=True)
class AuditFiles:
    """What an audit leaves, whatever the answers are.

    Attributes:
        figures: All figures, as JSON.
        page: The HTML page.
        suspects: A record of every suspicious row, the most suspicious first.
        excluded: Shape (rows,): the rows to keep out of S.
        triggers: The suspected triggers.
    """

    figures: str
    page: str
    suspects: Iterable[dict[str, Any]]
    excluded: "npt.NDArray[np.bool_]"
    triggers: "Iterable[Trigger]"


def write(
    output: Path,
    given: "Given | TextGiven",
    files: AuditFiles,
    picked: "list[Row]",
    columns: "Columns",
    *,
    overwrite: bool,
) -> None:
    """Fill the folder."""
    from mithridate.data.write import staged_folder, write_jsonl, write_text_atomic

    kept_out = (row.id for row, out in zip(given.rows, files.excluded, strict=True) if out)
    with staged_folder(output, overwrite=overwrite) as folder:
        write_text_atomic(folder / "audit.json", files.figures + "\n")
        write_text_atomic(folder / "report.html", files.page)
        write_jsonl(folder / SUSPECTS_FILE, files.suspects)
        write_text_atomic(folder / EXCLUDE_FILE, "".join(f"{row_id}\n" for row_id in kept_out))
        write_text_atomic(folder / TRIGGERS_FILE, triggers_text(files.triggers))
        if picked:
            # With what was checked before, so that one file holds all that `defend` needs.
            before = [row for row in given.rows if row.id in given.trusted | given.wrong]
            table = check_table([*before, *picked], columns, right=given.trusted, wrong=given.wrong)
            write_text_atomic(folder / CHECK_FILE, table)
