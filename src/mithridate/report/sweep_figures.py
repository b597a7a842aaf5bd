"""A sweep's figures as SVG files, by matplotlib: the same bytes for the same points."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mithridate.report.sweep import ROLES, Curve, Figure, Panel, Point, Role, Spot, shortened
from mithridate.report.words import clipped, legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: dict[Role, str] = {
    "undefended": "#d55e00",
    "p2p": "#0072b2",
    "clean": "#009e73",
    "floor": "#444444",
}
"""Told apart by every kind of colour blindness (Okabe and Ito); the marks differ as well."""

_MARKS: dict[Role, str] = {"undefended": "o", "p2p": "s", "clean": "", "floor": ""}
_LINES: dict[Role, Any] = {"undefended": "--", "p2p": "-", "clean": "-", "floor": ":"}
_STYLE: Any = {
    "svg.hashsalt": "mithridate",
    "svg.fonttype": "none",
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# Inches: a panel alone and beside others, its height, a line of the caption, a row of figure 4.
_ALONE, _BESIDE, _TALL, _LINE, _ROW = 6.4, 4.0, 2.3, 0.165, 0.3
_LETTERS, _TITLE = 16.0, 11.5  # of the caption and of a title, in an inch
_LEAST = 0.1  # of an axis of shares, lest noise fill it


def draw(figure: Figure) -> str:
    """Draw a figure.

    Args:
        figure: The figure; it has at least one panel.

    Returns:
        An SVG file's text.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    across = max(len(row) for row in figure.grid)
    width = _ALONE if across == 1 else across * _BESIDE
    said = _wrapped(f"{figure.caption} {shortened(figure.missing)}", round(width * _LETTERS))
    tall = [max(_height(panel) for panel in row) for row in figure.grid]
    height = sum(tall) + _LINE * (said.count("\n") + 1) + 0.5
    letters = round(width / across * _TITLE)
    with mpl.rc_context(_STYLE):
        drawing, grid = plt.subplots(
            len(figure.grid),
            across,
            figsize=(width, height),
            layout="constrained",
            squeeze=False,
            height_ratios=tall,
        )
        for row, axes in zip(figure.grid, grid, strict=True):
            for panel, one in zip(row, axes, strict=False):
                _panel(panel, one, clipped(panel.subject.title, letters))
            for one in axes[len(row) :]:
                one.set_axis_off()
        _legend(figure, drawing, width)
        drawing.supxlabel(said, x=0.01, ha="left", fontsize=8, color="#333333")
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(drawing)
    return buffer.getvalue()


def _wrapped(text: str, letters: int) -> str:
    return "\n".join(textwrap.wrap(legible(text), letters))


def _height(panel: Panel) -> float:
    """Return a panel's height in inches."""
    return 1.0 + _ROW * len(panel.spots) if panel.kind == "rows" else _TALL


def _legend(figure: Figure, drawing: Any, width: float) -> None:
    """Put one legend above all panels."""
    from matplotlib.lines import Line2D

    present = {curve.role for panel in figure.panels for curve in panel.curves}
    handles = [
        Line2D([], [], color=COLOURS[role], marker=_MARKS[role], linestyle=_LINES[role], label=name)
        for role, name in ROLES.items()
        if role in present
    ]
    columns = max(1, min(len(handles), int(width // 2.1)))
    drawing.legend(
        handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=9
    )


def _panel(panel: Panel, axes: "Axes", title: str) -> None:
    """Draw one pair of axes."""
    if panel.headed:
        axes.set_title(title, fontsize=9, loc="left", color="#333333")
    if not panel.points:
        axes.text(
            0.5, 0.5, "nothing finished yet", ha="center", va="center", transform=axes.transAxes
        )
    for curve in panel.curves:
        {"band": _band, "marks": _marks, "bins": _bins, "rows": _across}[panel.kind](curve, axes)
    if panel.kind == "rows":
        _rows_axis(panel, axes)
        return
    _spots_axis(panel, axes)
    if panel.spots_title:
        axes.set_xlabel(panel.spots_title, fontsize=9)
    axes.set_ylabel(_unit(panel))
    if panel.whole:
        axes.set_ylim(-0.04, 1.04)
    elif panel.kind == "bins":
        axes.set_ylim(0.0, 1.04)
    elif panel.points:
        axes.set_ylim(*_limits(panel))
    if panel.share:
        axes.yaxis.set_major_formatter(_percent)


def _percent(value: float, _: object = None) -> str:
    return f"{100 * value:g}"


def _unit(panel: Panel) -> str:
    return f"{panel.values_title} (%)" if panel.share else panel.values_title


def _band(curve: Curve, axes: "Axes") -> None:
    """Join means, and shade one deviation about them."""
    places = [one.spot.at for one in curve.points]
    _line(curve, axes, places)
    if curve.role != "floor":
        low, high = _ends(curve.points)
        axes.fill_between(places, low, high, color=COLOURS[curve.role], alpha=0.2, linewidth=0)


def _line(curve: Curve, axes: "Axes", places: Sequence[float]) -> None:
    axes.plot(
        places,
        [one.mean for one in curve.points],
        color=COLOURS[curve.role],
        linestyle=_LINES[curve.role],
        marker=_MARKS[curve.role],
        markersize=5,
        linewidth=1.6,
    )


def _marks(curve: Curve, axes: "Axes") -> None:
    """Mark means, with bars of one deviation; the spots have no order to join them by."""
    if curve.role == "floor":
        _line(curve, axes, [one.spot.at for one in curve.points])
        return
    aside = -0.07 if curve.role == "undefended" else 0.07
    axes.errorbar(
        [one.spot.at + aside for one in curve.points],
        [one.mean for one in curve.points],
        [one.sd or 0.0 for one in curve.points],
        color=COLOURS[curve.role],
        marker=_MARKS[curve.role],
        linestyle="",
        capsize=3,
    )


def _bins(curve: Curve, axes: "Axes") -> None:
    """Draw a histogram's outline, and shade one deviation about it."""
    if not curve.points:
        return
    count = len(curve.points)
    edges = [number / count for number in range(count + 1)]
    colour = COLOURS[curve.role]
    heights = [one.mean for one in curve.points]
    axes.stairs(heights, edges, color=colour, linewidth=1.6, linestyle=_LINES[curve.role])
    low, high = _ends(curve.points)
    axes.fill_between(
        edges, [*low, low[-1]], [*high, high[-1]], step="post", color=colour, alpha=0.2, linewidth=0
    )


def _across(curve: Curve, axes: "Axes") -> None:
    """Mark means from left to right, one row a setting; the reference is a line through all."""
    if curve.role == "clean":
        for one in curve.points:
            axes.axvline(one.mean, color=COLOURS["clean"], linewidth=1.6)
            spread = one.sd or 0.0
            axes.axvspan(
                one.mean - spread,
                one.mean + spread,
                color=COLOURS["clean"],
                alpha=0.15,
                linewidth=0,
            )
        return
    aside = -0.14 if curve.role == "undefended" else 0.14
    axes.errorbar(
        [one.mean for one in curve.points],
        [one.spot.at + aside for one in curve.points],
        xerr=[one.sd or 0.0 for one in curve.points],
        color=COLOURS[curve.role],
        marker=_MARKS[curve.role],
        linestyle="",
        capsize=3,
        markersize=5,
    )


def _rows_axis(panel: Panel, axes: "Axes") -> None:
    axes.set_yticks([one.at for one in panel.spots], [one.tick for one in panel.spots])
    axes.set_ylim(len(panel.spots) - 0.5, -0.5)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    axes.set_xlabel(_unit(panel))
    if panel.points:
        axes.set_xlim(*_limits(panel))
    if panel.share:
        axes.xaxis.set_major_formatter(_percent)


def _spots_axis(panel: Panel, axes: "Axes") -> None:
    """Scale the axis of the spots, and name those that have room."""
    if panel.kind == "bins":
        axes.set_xlim(-0.01, 1.01)
        return
    if panel.kind == "marks":
        axes.set_xlim(-0.5, len(panel.spots) - 0.5)
    elif panel.log:
        axes.set_xscale("log")
    named = _with_room(panel)
    axes.set_xticks([one.at for one in named], [one.tick for one in named], fontsize=9)
    axes.minorticks_off()


def _with_room(panel: Panel) -> list[Spot]:
    """Return the spots whose names do not run into one another."""
    places = [math.log(one.at) if panel.log else one.at for one in panel.spots]
    span = max(places) - min(places)
    kept: list[Spot] = []
    last = float("-inf")
    for spot, place in zip(panel.spots, places, strict=True):
        letters = max(map(len, spot.tick.split("\n")))
        if not span or place - last >= span * 0.024 * letters:
            kept.append(spot)
            last = place
    return kept


def _ends(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return the ends of one deviation about each mean, of one seed none, lest it look sure."""
    spreads = [math.nan if one.sd is None else one.sd for one in points]
    means = [one.mean for one in points]
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    return low, [mean + spread for mean, spread in zip(means, spreads, strict=True)]


def _limits(panel: Panel) -> tuple[float, float]:
    """Return the ends of the values' axis: all bands, some room, and no more than all."""
    low = min(one.mean - (one.sd or 0.0) for one in panel.points)
    high = max(one.mean + (one.sd or 0.0) for one in panel.points)
    room = 0.08 * (high - low)
    if panel.share:
        room = max(room, (_LEAST - (high - low)) / 2, 0.01)
        # A share above all inputs is none, but a mark there is not to be cut in half.
        return max(low - room, -0.04), min(high + room, 1.02)
    return low - (room or 0.05), high + (room or 0.05)
