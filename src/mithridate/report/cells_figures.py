"""Figures of the cells as inline SVG: ASR over its floor by attack and defense, and what it costs.

As in figures.py every drawing is one ``<svg>`` without ids or scripts, coloured by the page's style
sheet. A number stands in every coloured box, and each grid is also a table.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mithridate.report import words
from mithridate.report.cells import Cell
from mithridate.report.cells_judged import EXCESS, Group, Judged, Spread, Study, level
from mithridate.report.words import clipped, legible, points

_TESTS = ("holds", "misses", "learned")
_MOST_GRIDS, _MOST_PANELS = 24, 24
# Of a grid: its boxes, the slanted heads above and the names of its rows.
_WIDE, _TALL, _LETTER = 58.0, 25.0, 6.5
# Of a panel of dots.
_WIDTH, _PLOT, _LEFT, _RIGHT, _HEAD = 300.0, 150.0, 40.0, 8.0, 8.0


@dataclass(frozen=True, slots=True)
class Box:
    """Cells of one attack and one defense.

    Attributes:
        text: Their mean ASR over its floor in points; in parentheses where they are no test.
        spoken: The same with range and number, for the table.
        level: Of the colour; ``None`` where they are no test.
    """

    text: str
    spoken: str
    level: int | None


@dataclass(frozen=True, slots=True)
class Grid:
    """Attacks by defenses, on one data set and one model."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Box | None, ...]], ...]
    svg: str


@dataclass(frozen=True, slots=True)
class Dots:
    """A defense's cells as dots: what it leaves of the attack, and what it costs."""

    title: str
    svg: str
    caption: str


def grids(study: Study) -> list[Grid]:
    """Draw the ASR over its floor by attack and defense.

    Args:
        study: The cells; those without a floor are left out.

    Returns:
        One grid for each data set and model, at most 24.
    """
    found: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for judged in study.cells:
        if judged.cell.excess is not None:
            found[judged.cell.dataset, judged.cell.model or ""].append(judged)
    several = len({model for _, model in found}) > 1
    labels = [group.first.label for group in study.by_defense()]
    made = []
    for (dataset, model), cells in list(found.items())[:_MOST_GRIDS]:
        title = f"{dataset}, {model}" if several and model else dataset
        made.append(_grid(legible(title), cells, labels))
    return made


def dots(study: Study) -> list[Dots]:
    """Draw each defense's cells: ASR over its floor, and CA or utility against undefended.

    Args:
        study: The cells; those that are no test, or lack one of the two, are left out.

    Returns:
        One panel for each defense, at most 24, all on one scale.
    """
    found = []
    for group in study.by_defense():
        tests = [one for one in group.members if one.is_test and one.change is not None]
        if tests and not group.first.is_undefended:
            found.append(Group(tuple(tests)))
    found = found[:_MOST_PANELS]
    changes = [one.change or 0.0 for group in found for one in group.members]
    low = math.floor(10 * min([-0.1, *changes])) / 10
    high = math.ceil(10 * max([0.1, *changes])) / 10
    return [_dots(group, low, high) for group in found]


def _grid(title: str, cells: Sequence[Judged], labels: Sequence[str]) -> Grid:
    boxes: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for judged in cells:
        boxes[_attack(judged.cell), judged.cell.label].append(judged)
    present = {label for _, label in boxes}
    columns = [label for label in labels if label in present]
    names = sorted({name for name, _ in boxes})
    rows = [(name, tuple(_box(boxes.get((name, label))) for label in columns)) for name in names]
    columns = [legible(label) for label in columns]
    return Grid(title, tuple(columns), tuple(rows), _draw(title, columns, rows))


def _attack(cell: Cell) -> str:
    rate = "" if cell.poison_rate is None else f" {100 * cell.poison_rate:.3g}%"
    return legible(f"{cell.attack}{rate}")


def _box(cells: Sequence[Judged] | None) -> Box | None:
    tests = [one for one in cells or () if one.verdict in _TESTS]
    # Beside tests, what is none would flatter the defense.
    spread = Spread.of(judged.cell.excess for judged in tests or cells or ())
    if spread is None:
        return None
    text = points(spread.mean)
    spoken = text
    if spread.n > 1:
        spoken += f" ({points(spread.low)} to {points(spread.high)}, {spread.n} cells)"
    if tests:
        return Box(text, spoken, level(spread.mean))
    return Box(f"({text})", f"{spoken}, no test", None)


def _draw(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, tuple[Box | None, ...]]]
) -> str:
    heads = [clipped(label, 34) for label in columns]
    names = [clipped(name, 30) for name, _ in rows]
    left = 12 + _LETTER * max(map(len, names))
    # Heads rise at 40 degrees: so high, and so far to the right of the last box.
    head = 14 + 0.64 * _LETTER * max(map(len, heads))
    width = left + _WIDE * len(heads) + 0.8 * _LETTER * len(heads[-1])
    body = []
    for index, label in enumerate(heads):
        x = left + _WIDE * (index + 0.42)
        turned = f'transform="translate({x:.0f} {head - 6:.0f}) rotate(-40)"'
        body.append(f'<text class="name" {turned}>{escape(label)}</text>')
    for index, (name, (_, boxes)) in enumerate(zip(names, rows, strict=True)):
        y = head + _TALL * index
        body.append(f'<text class="name" x="0" y="{y + 17:.0f}">{escape(name)}</text>')
        for place, box in enumerate(boxes):
            x = left + _WIDE * place
            if box is None:
                continue
            kind = "lx" if box.level is None else f"l{box.level}"
            at = f'x="{x:.0f}" y="{y:.0f}" width="{_WIDE - 2:.0f}" height="{_TALL - 2:.0f}"'
            body.append(f'<rect class="{kind}" {at}/>')
            middle = f'x="{x + _WIDE / 2 - 1:.0f}" y="{y + 16:.0f}" text-anchor="middle"'
            body.append(f'<text class="on {kind}" {middle}>{box.text}</text>')
    height = head + _TALL * len(rows)
    met = [box for _, boxes in rows for box in boxes if box is not None]
    holds = sum(box.level == 0 for box in met)
    label = (
        f"ASR over its floor on {title}: {len(rows)} attacks by {len(columns)} defenses; at most "
        f"{100 * EXCESS:.0f} points in {holds} of {len(met)} boxes. The same numbers follow as a "
        "table."
    )
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg class="panel heat" {size} {_image(label)}>{"".join(body)}</svg>'


def _image(label: str) -> str:
    return f'role="img" aria-label="{escape(label)}"'


def _dots(group: Group, low: float, high: float) -> Dots:
    ground = _HEAD + _PLOT
    span = _WIDTH - _LEFT - _RIGHT
    floor, top = -0.2, 1.0

    def across(value: float) -> float:
        return _LEFT + span * (min(top, max(floor, value)) - floor) / (top - floor)

    def up(value: float) -> float:
        return ground - _PLOT * (value - low) / (high - low)

    body = [
        f'<rect class="zone" x="{_LEFT:.0f}" y="{_HEAD:.0f}" '
        f'width="{across(EXCESS) - _LEFT:.1f}" height="{_PLOT:.0f}"/>'
    ]
    for value in (low, 0.0, high):
        y = up(value)
        kind = "edge" if value == 0 else "grid"
        body.append(
            f'<line class="{kind}" x1="{_LEFT:.0f}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT:.0f}" '
            f'y2="{y:.1f}"/>'
        )
        number = points(value).removesuffix(".0").replace("±", "")
        body.append(_tick(_LEFT - 6, y + 4, number, "end"))
    for value in (floor, 0.0, 0.5, top):
        number = points(value).removeprefix("+").removesuffix(".0").replace("±", "")
        body.append(_tick(across(value), ground + 16, number, "middle"))
    body.append(_tick((_LEFT + _WIDTH - _RIGHT) / 2, ground + 32, "ASR over its floor", "middle"))
    for judged in group.members:
        x, y = across(judged.cell.excess or 0.0), up(judged.change or 0.0)
        body.append(f'<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    over = group.spread(lambda one: one.cell.excess)
    change = group.spread(lambda one: one.change)
    caption = ""
    if over and change:
        caption = (
            f"{words.count(over.n)} cell{'s' if over.n > 1 else ''}: ASR {_ranged(over)} points "
            f"over its floor, CA or utility {_ranged(change)}."
        )
    name = legible(group.first.label)
    label = _image(f"{name}. {caption}")
    size = f'viewBox="0 0 {_WIDTH:.0f} {ground + 38:.0f}"'
    return Dots(name, f'<svg class="panel" {size} {label}>{"".join(body)}</svg>', caption)


def _ranged(spread: Spread) -> str:
    """Say a mean in points, with the range it was taken over."""
    ends = f"{points(spread.low)} to {points(spread.high)}"
    return points(spread.mean) if spread.n == 1 else f"{points(spread.mean)} ({ends})"


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
