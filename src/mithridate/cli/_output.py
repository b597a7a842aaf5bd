"""What the user sees: results on stdout, as tables or one JSON object; all else on stderr."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from mithridate.training.distributed import is_main

if TYPE_CHECKING:
    from rich.console import Console

    from mithridate.evaluation.intervals import Share


def note(message: str, *, by_any: bool = False) -> None:
    """Say something that is not a result, on stderr.

    Args:
        message: One line.
        by_any: Of several processes let any say it, not the main one alone.
    """
    if by_any or is_main():
        typer.echo(printable(message), err=True)


def print_json(result: Mapping[str, Any]) -> None:
    """Print the one JSON object of ``--json``."""
    typer.echo(json.dumps(result, ensure_ascii=False, indent=2, default=str))


def print_facts(title: str, facts: Iterable[tuple[str, object]]) -> None:
    """Print a table of names and values, the ones that are ``None`` left out."""
    rows = [(name, str(value)) for name, value in facts if value is not None]
    print_table(title, ("", ""), rows, headed=False)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    headed: bool = True,
) -> None:
    """Print a table; what cells hold is shown as it is, control characters apart."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        show_header=headed,
        box=None,
        padding=(0, 2, 0, 0),
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _console().print(table)


def say(message: str) -> None:
    """Print a line of the result on stdout."""
    typer.echo(printable(message))


def printable(text: str) -> str:
    """Return text on one line without control characters: data must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def visible(text: str) -> str:
    """Return text in quotes with what cannot be seen escaped, a lone odd character by its name."""
    if len(text) == 1 and not text.isascii():
        import unicodedata

        return f"U+{ord(text):04X} {unicodedata.name(text, '')}".rstrip()
    return repr(text)


def percent(share: "Share | None") -> str | None:
    """Return a share with its interval: ``12.0% (10.5 to 13.6), 218 of 1821``."""
    if share is None:
        return None
    interval = f"{100 * share.low:.1f} to {100 * share.high:.1f}"
    return f"{100 * share.value:.1f}% ({interval}), {share.successes} of {share.n}"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 60} min {whole % 60:02d} s"


def kept_epoch(dev: Sequence[float]) -> str | None:
    """Return which epoch was kept for its quality on dev rows; ``None`` where none was chosen."""
    if not dev:
        return None
    best = max(range(len(dev)), key=dev.__getitem__)
    return f"{best + 1} of {len(dev)}, {dev[best]:.3f} on the dev rows"


def quiet_libraries() -> None:
    """Keep the model libraries' own warnings and bars off the user's terminal."""
    import logging as python_logging
    import warnings

    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    enable_progress_bars()  # of downloads, which the line above switched off as well
    warnings.filterwarnings(
        "ignore", module=r"(transformers|peft|torch|accelerate|bitsandbytes)\b.*"
    )
    for name in ("bitsandbytes", "DeepSpeed"):
        python_logging.getLogger(name).setLevel(python_logging.ERROR)


def _console() -> "Console":
    from rich.console import Console

    # Off a terminal there is no width to keep to; a reader's grep wants whole lines.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)
