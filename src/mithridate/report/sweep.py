"""The figures of a sweep as data: points with their spread over seeds, as CSV and on a page."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mithridate.report import words

Role = Literal["undefended", "p2p", "clean", "floor"]
Kind = Literal["band", "marks", "bins", "rows"]

ROLES: dict[Role, str] = {
    "undefended": "attacked, undefended",
    "p2p": "attacked, P2P",
    "clean": "clean fine-tuning (no poison)",
    "floor": "floor (trained without poison)",
}
"""What legends call them."""

FIELDS = (
    *("figure", "series", "x", "mean", "sd", "seeds", "n"),
    *("trainable_share", "varied", "model", "dataset", "attack"),
)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the axis of what is varied.

    Attributes:
        at: Where it stands.
        value: What it is called in tables.
        tick: What it is called on the axis; may have two lines.
        trainable: The share of parameters that is trained, where that is varied.
    """

    at: float
    value: str
    tick: str = ""
    trainable: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at a spot.

    Attributes:
        spot: The spot.
        mean: Over seeds.
        sd: The sample standard deviation over seeds; ``None`` of one seed.
        seeds: The seeds that are finished.
        n: Test inputs of each seed; the fewest where seeds differ.
    """

    spot: Spot
    mean: float
    sd: float | None
    seeds: tuple[int, ...]
    n: int


def point(spot: Spot, found: Iterable[tuple[int, float, int]]) -> Point | None:
    """Return the mean and the sample standard deviation of some seeds.

    Args:
        spot: Where they belong.
        found: Seed, value and number of test inputs of each; values that are none are left out.

    Returns:
        The point; ``None`` where nothing was found.
    """
    kept = sorted(one for one in found if math.isfinite(one[1]))
    if not kept:
        return None
    values = [value for _, value, _ in kept]
    sd = statistics.stdev(values) if len(values) > 1 else None
    seeds = tuple(seed for seed, _, _ in kept)
    return Point(spot, statistics.fmean(values), sd, seeds, min(n for *_, n in kept))


@dataclass(frozen=True, slots=True)
class Curve:
    """A series of points.

    Attributes:
        series: What tables call it.
        role: What it stands for, which is its colour.
        points: Those that are finished.
    """

    series: str
    role: Role
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What was attacked and how, by the names that tables use."""

    model: str
    dataset: str
    attack: str

    @property
    def title(self) -> str:
        """All three."""
        parts = ((self.dataset, 18), (self.attack, 16), (self.model, 40))
        return ", ".join(words.clipped(words.legible(name), most) for name, most in parts)


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes:
        kind: ``band`` joins points and shades one deviation; ``marks`` has bars of it; ``bins``
            are histograms; ``rows`` have the spots from top to bottom and the values across.
        subject: What it is of.
        varied: What is varied; empty where nothing is.
        spots: All that is to be measured, finished or not.
        curves: What was.
        spots_title: The axis of the spots; empty where the panel below names it.
        values_title: That of the values.
        share: Whether values are fractions of 1, shown in percent.
        whole: Whether the values' axis goes from 0 to 1.
        log: Whether spots stand on a logarithmic scale.
        headed: Whether it says what it is of; one below another of the same need not.
    """

    kind: Kind
    subject: Subject
    varied: str
    spots: tuple[Spot, ...]
    curves: tuple[Curve, ...]
    spots_title: str
    values_title: str
    share: bool = True
    whole: bool = False
    log: bool = False
    headed: bool = True

    @property
    def points(self) -> list[Point]:
        """All its points."""
        return [point for curve in self.curves for point in curve.points]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        name: Its file's name without ending.
        title: Its heading.
        grid: Its panels, row by row.
        caption: What it shows, of what, of how many inputs and seeds: stands in the drawing.
        details: How it was made: stands on the page.
        missing: Cells that it lacks.
    """

    name: str
    title: str
    grid: tuple[tuple[Panel, ...], ...]
    caption: str
    details: str
    missing: tuple[str, ...]

    @property
    def panels(self) -> list[Panel]:
        """All its panels."""
        return [panel for row in self.grid for panel in row]


def render_csv(figures: Sequence[Figure]) -> str:
    """Render the data behind figures, one line a point; no text runs as a spreadsheet's formula.

    Args:
        figures: The figures.

    Returns:
        CSV with the header `FIELDS`; shares are fractions of 1, ``sd`` is empty of one seed.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(FIELDS)
    for figure in figures:
        for panel in figure.panels:
            of = panel.subject
            names = [words.inert(one) for one in (of.model, of.dataset, of.attack)]
            for curve in panel.curves:
                for one in curve.points:
                    measured = (one.spot.value, _number(one.mean), _number(one.sd))
                    by = (" ".join(map(str, one.seeds)), one.n, _number(one.spot.trainable))
                    row = [figure.name, curve.series, *measured, *by, panel.varied, *names]
                    writer.writerow(row)
    return table.getvalue()


def render_markdown(figures: Sequence[Figure], command: str, missing: Sequence[str]) -> str:
    """Render the page that shows the figures.

    Args:
        figures: The figures.
        command: What made them.
        missing: Cells of the whole sweep that are not finished.

    Returns:
        Markdown that ends in a newline.
    """
    parts = ["# Sweep", f"Made by `{command}`; the numbers are in [sweep.csv](sweep.csv)."]
    for figure in figures:
        parts += [f"## {figure.title}", f"![{figure.title}]({figure.name}.svg)"]
        said = f"{figure.caption} {figure.details} {_lacking(figure.missing)}"
        parts.append(f"{words.markdown(said)} Command: `{command}`.")
    if missing:
        parts += ["## Open cells", "\n".join(f"- {words.markdown(one)}" for one in missing)]
    return "\n\n".join(parts) + "\n"


def _lacking(missing: Sequence[str]) -> str:
    return f"Drawn without open cells: {'; '.join(missing)}." if missing else ""


def shortened(missing: Sequence[str], most: int = 3) -> str:
    """Say in a line or two what a figure lacks; empty where it lacks nothing."""
    rest = len(missing) - most
    return _lacking([*missing[:most], *([f"{rest} more (sweep.md)"] if rest > 0 else [])])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
