"""The cells as one self-contained HTML page that sorts, filters and opens up, and asks for nothing.

All rows stand in the page as a plain table, so that it reads and prints without scripts. One script
of our own, named by its hash in the content security policy, shows them a page at a time, and opens
a row from the cells' fields, which lie in the page as JSON. It writes text nodes alone.
"""

import base64
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from mithridate.report import words
from mithridate.report.cells import Cell
from mithridate.report.cells_figures import dots, grids
from mithridate.report.cells_judged import Group, Judged, Spread, Study, level
from mithridate.report.cells_tables import (
    CLEAN_TITLE,
    NOTES,
    Part,
    clean_caption,
    clean_columns,
    clean_models,
    columns_for,
)
from mithridate.report.cells_verdict import headline, qualifications, some
from mithridate.report.html import CONTROL, environment
from mithridate.report.words import clipped, legible

_LONGEST, _LONGEST_FIELD = 160, 4000
_MOST_COMMANDS, _MOST_NAMES = 20, 6
_ENDS = ("_low", "_high", "_successes")

Row = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page.

    Attributes:
        heads: Each column's heading, whether it holds numbers, and whether its values are picked.
        rows: What stands in them.
    """

    heads: tuple[tuple[str, bool, bool], ...]
    rows: tuple[Row, ...]


def render_cells_page(study: Study, output: str = "report") -> str:
    """Render cells as one HTML page.

    Args:
        study: The cells.
        output: Where the page goes, for the command that makes it again.

    Returns:
        The page, to be written as UTF-8. It refers to nothing outside itself.

    Raises:
        MithridateError: jinja2 is not installed.
    """
    template = environment().get_template("cells.html.j2")
    script = files("mithridate.report").joinpath("cells.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    columns, clean = columns_for(study.cells), clean_columns(study)
    seeds = [group for group in study.by_seed() if len(group.members) > 1]
    commands = Counter(one.cell.command for one in study.cells if one.cell.command)
    again = ["mithridate", "report", *(journal.name for journal in study.journals), "-o", output]
    html = template.render(
        study=study,
        headline=headline(study),
        details=qualifications(study),
        defenses=overview(study),
        grids=grids(study),
        dots=dots(study),
        matrix_table=Table(
            tuple((column.title, column.number, column.pick) for column in columns),
            tuple(
                tuple(_clip(column.show(judged)) for column in columns) for judged in study.cells
            ),
        ),
        island=_safe_json(_island(study.cells)),
        seeds=_seeds(seeds, several_models=len({one.cell.model for one in study.cells}) > 1),
        clean=Table(
            tuple((column.title, column.number, False) for column in clean),
            tuple(
                tuple(_clip(column.show(one)) for column in clean) for one in clean_models(study)
            ),
        ),
        clean_title=CLEAN_TITLE,
        clean_caption=clean_caption(study),
        machines=_machines(study),
        packages=_packages(study),
        commands=[
            (clipped(legible(command), _LONGEST_FIELD), number)
            for command, number in commands.most_common(_MOST_COMMANDS)
        ],
        n_commands=len(commands),
        again=legible(shlex.join(again)),
        notes=NOTES,
        script=script,
        digest=digest,
        version=version("mithridate"),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        words=words,
        legible=legible,
    )
    return CONTROL.sub("\ufffd", html)


def _clip(part: Part) -> Part:
    return Part(clipped(part.text, _LONGEST), clipped(part.fine, _LONGEST), part.level)


def overview(study: Study) -> Table:
    """Return a table of the defenses: how often each holds, and what it leaves and costs.

    Args:
        study: The cells.
    """
    groups = study.by_defense()
    heads = ("Defense", "Cells", "Tests", "Hold", "ASR over floor", "CA or utility change")
    rejects = any(one.cell.rejected_clean is not None for group in groups for one in group.members)
    rows = []
    for group in groups:
        over = group.spread(_if_told(lambda one: one.cell.excess))
        change = None if group.first.is_undefended else group.spread(lambda one: one.change)
        parts = [
            Part(clipped(legible(group.first.label), _LONGEST)),
            Part(words.count(len(group.members))),
            Part(words.MISSING if group.first.is_undefended else words.count(group.tests)),
            Part(f"{group.held} of {group.tests}" if group.tests else words.MISSING),
            _ranged(over, words.points, level(over.mean) if over else None),
            _ranged(change, words.points),
        ]
        if rejects:
            parts.append(_ranged(group.spread(lambda one: one.cell.rejected_clean), words.percent))
        parts.append(_ranged(group.spread(lambda one: one.cell.train_seconds), words.duration))
        rows.append(tuple(parts))
    heads = (*heads, *(("Rejected, clean",) if rejects else ()), "Training")
    return Table(tuple((head, head != "Defense", False) for head in heads), tuple(rows))


def _if_told(value: Callable[[Judged], float | None]) -> Callable[[Judged], float | None]:
    """Leave out cells that are no test, which would flatter a defense."""
    return lambda one: value(one) if one.verdict not in ("no test", "no undefended") else None


def _ranged(spread: Spread | None, show: Callable[[float], str], level: int | None = None) -> Part:
    """Show a mean with the range it was taken over."""
    if spread is None:
        return Part(words.MISSING)
    ends = "" if spread.n == 1 else f"{show(spread.low)} to {show(spread.high)}"
    return Part(show(spread.mean), ends, level)


def _seeds(groups: Sequence[Group], *, several_models: bool) -> Table:
    names = ("Dataset", *(("Model",) if several_models else ()), "Attack", "Rate", "Defense")
    heads = [(name, name == "Rate", name != "Rate") for name in names]
    heads += [(name, True, False) for name in ("Seeds", "CA or utility", "ASR", "Floor")]
    rows = []
    for group in groups:
        cell = group.first
        rate = words.MISSING if cell.poison_rate is None else f"{100 * cell.poison_rate:.3g}%"
        model = (cell.model or words.MISSING,) if several_models else ()
        texts = (cell.dataset, *model, cell.attack, rate, cell.label, str(len(group.members)))
        over = group.spread(lambda one: one.cell.excess)
        share = cell.clean_accuracy is not None
        rows.append(
            (
                *(Part(clipped(legible(text), _LONGEST)) for text in texts),
                _deviating(group.spread(_value), as_share=share),
                _deviating(group.spread(lambda one: one.cell.attack_success_rate)),
                _deviating(group.spread(_base)),
                _deviating(over, level=level(over.mean) if over else None, signed=True),
            )
        )
    return Table((*heads, ("Over floor", True, False)), tuple(rows))


def _value(one: Judged) -> float | None:
    return one.cell.quality.value if one.cell.quality else None


def _base(one: Judged) -> float | None:
    against = one.cell.against
    return getattr(one.cell, against) if against else None


def _deviating(
    spread: Spread | None, *, as_share: bool = True, level: int | None = None, signed: bool = False
) -> Part:
    """Show a mean over seeds with its standard deviation, and the range below."""
    if spread is None:
        return Part(words.MISSING)
    factor, digits = (100, 1) if as_share else (1, 3)

    def show(value: float) -> str:
        return words.points(value) if signed else f"{factor * value:.{digits}f}"

    deviation = "" if spread.deviation is None else f" ± {factor * spread.deviation:.{digits}f}"
    few = "" if spread.deviation is None else f"{show(spread.low)} to {show(spread.high)}"
    return Part(f"{show(spread.mean)}{deviation}", few, level)


def _machines(study: Study) -> Table:
    """Return what was run where, by everything that tells runs apart."""
    cells = [judged.cell for judged in study.cells] + [one.cell for one in study.references]
    found: dict[tuple[str | None, ...], list[Cell]] = {}
    for cell in cells:
        where = (cell.device, cell.dtype, cell.threads, cell.host)
        key: tuple[str | None, ...] = (cell.model, *where, cell.version)
        found.setdefault(key, []).append(cell)
    rows = []
    for key, members in found.items():
        dates = sorted({cell.date for cell in members if cell.date})
        spent = sum((cell.train_seconds or 0) + (cell.eval_seconds or 0) for cell in members)
        commits = list(dict.fromkeys(cell.commit for cell in members if cell.commit))
        texts = (
            *(words.MISSING if part is None else part for part in key),
            some(commits) or words.MISSING,
            words.count(len(members)),
            words.duration(spent),
            " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else words.MISSING,
        )
        rows.append(tuple(Part(clipped(legible(text), _LONGEST)) for text in texts))
    names = ("Model", "Device", "Type", "Threads", "Host", "Version", "Commits", "Cells")
    heads = [(name, name in ("Threads", "Cells"), False) for name in names]
    return Table((*heads, ("Time", True, False), ("Dates", False, False)), tuple(rows))


def _packages(study: Study) -> list[tuple[str, int]]:
    """Return each set of packages that cells ran with, and how many did."""
    found = Counter(
        ", ".join(f"{name} {cell.packages[name]}" for name in sorted(cell.packages))
        for cell in (judged.cell for judged in study.cells)
        if cell.packages
    )
    return [(clipped(legible(text), 1000), n) for text, n in found.most_common(_MOST_NAMES)]


def _island(cells: Iterable[Judged]) -> dict[str, Any]:
    """Return every cell's fields as texts, by field; a repeated text is held once.

    Returns:
        ``texts`` holds the texts of each field, ``cells`` for each cell pairs, flat, of a field's
        place and its text's place. Fields without a value are left out.
    """
    fields: dict[str, tuple[int, dict[str, int]]] = {}
    places = []
    for judged in cells:
        pairs: list[int] = []
        for name, text in _fields(judged):
            place, texts = fields.setdefault(name, (len(fields), {}))
            pairs += [place, texts.setdefault(text, len(texts))]
        places.append(pairs)
    return {
        "fields": list(fields),
        "texts": [list(texts) for _, texts in fields.values()],
        "cells": places,
    }


def _fields(judged: Judged) -> Iterable[tuple[str, str]]:
    """Return a cell's fields as texts, an interval and a count beside what they belong to."""
    record = judged.entry.record
    yield "cell", _text(record["cell"])
    yield "line", clipped(legible(judged.entry.where), _LONGEST_FIELD)
    for name, shown, (low, high, counted) in _layout(tuple(record)):
        value = record[name]
        if value is None or value in ("", [], {}):
            continue
        text = _text(value)
        if record.get(low) is not None and record.get(high) is not None:
            text += f" ({_text(record[low])} to {_text(record[high])})"
        if record.get(counted) is not None:
            text += f", {_text(record[counted])} counted"
        yield shown, text


@lru_cache
def _layout(names: tuple[str, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return a record's fields to be shown, what they are called, and those of their intervals."""
    parts = {f"{name}{end}" for name in names for end in _ENDS}
    return [
        (name, clipped(legible(name), _LONGEST), tuple(f"{name}{end}" for end in _ENDS))
        for name in names
        if name != "cell" and name not in parts
    ]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clipped(legible(text), _LONGEST_FIELD)


def _safe_json(value: object) -> str:
    """Return JSON that nothing in it can end the script element around it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
