"""``mithridate report``: the cells of a bench as one page, and as tables to take away."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mithridate.cli._options import Json
from mithridate.cli._output import note, print_json, print_table, say
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.report.cells_judged import Study

PAGE = "report.html"
FILES = (PAGE, "cells.csv", "cells.md", "cells.tex")
ENDINGS = tuple(Path(name).suffix for name in FILES)


def report(
    journals: Annotated[
        list[Path],
        typer.Argument(
            help="Journals of finished cells, one JSON line each, as bench writes them.",
            metavar="JOURNAL...",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write, or one file by its ending: .html, .csv, .md or .tex.",
        ),
    ] = Path("report"),
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an earlier report; a file, whatever it holds."),
    ] = False,
    json: Json = False,
) -> None:
    """Show attacks by defenses: a page to sort, filter and open up, and CSV, Markdown and LaTeX.

    Every ASR stands beside its floor. Lines of several journals make one matrix; seeds of the same
    cell are also shown as their mean.
    """
    from mithridate.report.cells import read_journals
    from mithridate.report.cells_judged import study

    _check(output, journals, overwrite=overwrite)
    found = study(read_journals(journals))
    facts = _facts(found)
    written = _write(found, output, facts, overwrite=overwrite)
    for journal in found.journals:
        if journal.torn:
            lines = ", ".join(map(str, journal.torn[:5]))
            note(f"{journal.name}: left out what a crash tore (line {lines})")
    if json:
        print_json({**facts, "files": written})
    else:
        _show(found, written)


def _renderers() -> dict[str, "Callable[[Study, str], str]"]:
    """Return what makes each file, by its ending."""
    from mithridate.report.cells_page import render_cells_page
    from mithridate.report.cells_tables import render_csv, render_latex, render_markdown

    return {
        ".html": render_cells_page,
        ".csv": lambda found, _: render_csv(found),
        ".md": lambda found, _: render_markdown(found),
        ".tex": lambda found, _: render_latex(found),
    }


def _is_file(output: Path) -> bool:
    return output.suffix.lower() in ENDINGS


def _check(output: Path, journals: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse an output that is taken, before anything is read."""
    from mithridate.data.write import check_file, check_target

    if _is_file(output):
        check_file(output, overwrite=overwrite, inputs=journals)
        return
    if output.suffix[1:2].isalpha() and not output.is_dir():  # a folder may well be named v0.1
        what = f"a report is no {output.suffix} file"
        mend = f"let its name end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, or name a folder"
        raise InputError(what, where=str(output), mend=mend)
    check_target(output, overwrite=overwrite, inputs=journals)


def _write(
    found: "Study", output: Path, facts: dict[str, Any], *, overwrite: bool
) -> dict[str, str]:
    """Write the files and return where they are, by name."""
    from mithridate.data.write import staged_folder, write_jsonl, write_text_atomic

    make = _renderers()
    if _is_file(output):
        write_text_atomic(output, make[output.suffix.lower()](found, str(output)))
        return {output.name: str(output)}
    texts = {name: make[Path(name).suffix](found, str(output)) for name in FILES}
    with staged_folder(output, overwrite=overwrite) as folder:
        for name, text in texts.items():
            write_text_atomic(folder / name, text)
        write_jsonl(folder / "mithridate.json", [facts])
    return {name: str(output / name) for name in FILES}


def _facts(found: "Study") -> dict[str, Any]:
    from mithridate.report.cells_judged import Group

    every = Group(found.cells)
    return {
        "cells": len(found.cells),
        "references": len(found.references),
        "superseded": found.superseded,
        "tests": every.tests,
        "held": every.held,
        "journals": [
            {
                "name": journal.name,
                "sha256": journal.sha256,
                "lines": len(journal.entries),
                "torn": list(journal.torn),
            }
            for journal in found.journals
        ],
        "defenses": [
            {
                "defense": group.first.label,
                "cells": len(group.members),
                "tests": group.tests,
                "held": group.held,
            }
            for group in found.by_defense()
        ],
    }


def _show(found: "Study", written: dict[str, str]) -> None:
    from mithridate.report.cells_page import overview
    from mithridate.report.cells_verdict import headline, qualifications

    table = overview(found)
    heads = [head for head, _, _ in table.heads]
    if table.rows:
        print_table("Defenses", heads, [[str(part) for part in row] for row in table.rows])
    say(headline(found))
    for line in qualifications(found):
        say(f"- {line}")
    page = written.get(PAGE)
    others = [path for name, path in written.items() if name != PAGE]
    if page:
        say(f"Tables: {', '.join(others)}")
        say(f"Next: open {page} in a browser; every row opens to its fields and its command")
    else:
        say(f"Written: {others[0]}")
