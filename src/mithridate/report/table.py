"""The table of systems, for a terminal and for Markdown files."""

from typing import TYPE_CHECKING

from mithridate.report.model import Report, Share, SystemResult
from mithridate.report.words import MISSING, count, interval, percent, recipe, subset

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("system", "CA", "ASR", "floor", "untriggered rate", "poisoned in S")
NO_FLOOR = (
    f"{MISSING} in the column floor: no model was trained without the poison, so read the ASR "
    "against the untriggered rate."
)
INTERVALS = "In brackets: exact (Clopper-Pearson) 95% intervals, and cases counted of cases tested."


def footnotes(report: Report) -> list[str]:
    """Return the notes that belong under a report's table of systems."""
    lacking = any(system.floor is None for system in report.systems)
    return [INTERVALS, NO_FLOOR] if lacking else [INTERVALS]


def render_terminal(report: Report) -> "Table":
    """Render the systems as a table for rich's console.

    Args:
        report: The report.

    Returns:
        A table that ``rich.console.Console.print`` shows.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(report.facts.title),
        caption="\n".join(footnotes(report)),
        caption_justify="left",
        header_style="bold",
        row_styles=["", ""],
    )
    for column in COLUMNS:
        left = column == "system"
        table.add_column(column, justify="left" if left else "right", no_wrap=False)
    for system in report.systems:
        # Text, not str: a name such as "[red]" is data and must not be read as markup.
        table.add_row(*(Text(cell) for cell in _terminal_cells(system)), end_section=True)
    return table


def render_markdown(report: Report) -> str:
    """Render the systems as a Markdown table with its notes.

    Args:
        report: The report.

    Returns:
        Markdown that ends in a newline.
    """
    lines = [_row(COLUMNS), "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += [_row([_escape(cell) for cell in _markdown_cells(s)]) for s in report.systems]
    return "\n".join([*lines, "", *(f"{note}  " for note in footnotes(report))]).rstrip() + "\n"


def _shares(system: SystemResult) -> list[Share | None]:
    return [
        system.clean_accuracy,
        system.attack_success_rate,
        system.floor,
        system.untriggered_rate,
    ]


def _terminal_cells(system: SystemResult) -> list[str]:
    shares = [_share(share, "\n") for share in _shares(system)]
    return [f"{system.name}\n{recipe(system)}", *shares, subset(system)]


def _markdown_cells(system: SystemResult) -> list[str]:
    shares = [_share(share, " ") for share in _shares(system)]
    return [f"{system.name} ({recipe(system)})", *shares, subset(system)]


def _share(share: Share | None, gap: str) -> str:
    if share is None or not share.n:
        return MISSING
    counts = f"{count(share.successes)}/{count(share.n)}"
    return f"{percent(share.value)}{gap}[{interval(share)}; {counts}]"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(cell: str) -> str:
    """Keep a cell from ending its column, its line, or opening an HTML tag."""
    flat = " ".join(cell.split()).replace("&", "&amp;").replace("<", "&lt;")
    return flat.replace("\\", "\\\\").replace("|", "\\|")
