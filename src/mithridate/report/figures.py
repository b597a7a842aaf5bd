"""Inline SVG figures, written by hand so that they take the page's colours and its font.

Every function is pure and returns one ``<svg>`` element without ids, scripts or namespaces, to be
placed in an HTML page whose style sheet (style.html.j2) gives the classes their colours. Panels are
small and of one width, so that they stand side by side on a desk and below each other on a phone
without their text shrinking.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from mithridate.report.model import Report, Share, SystemResult
from mithridate.report.verdict import reference
from mithridate.report.words import clipped, nats, percent

_WIDTH = 400.0
_LEFT, _RIGHT = 36.0, 4.0
_BINS = 20
# Of the dot panels: inset from the left, blank above, height of a row, its two lanes.
_INSET, _HEAD, _ROW, _FIRST, _SECOND = 1.0, 2.0, 54.0, 28.0, 41.0
_NONE = "not measured"


@dataclass(frozen=True, slots=True)
class _Axis:
    """A histogram's horizontal axis.

    Attributes:
        title: What stands under it.
        low: Its left end.
        high: Its right end.
        bins: Equal bins between the two.
        ticks: Where numbers stand.
        edge: A value to mark with a line, at a bin's edge; what lies left of it is the target.
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    bins: int = _BINS
    ticks: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    edge: float | None = None


_TARGET = _Axis("probability of the target")
_SUSPICION = _Axis("suspicion")


def confidence_panels(report: Report) -> list[str]:
    """Draw how sure each model was of the attacker's target on triggered inputs (paper, Figure 2).

    Args:
        report: The report; systems without probabilities are left out.

    Returns:
        One SVG for each defended system, with the undefended model as an outline behind it; where
        nothing is defended, one SVG of the undefended model.
    """
    measured = [s for s in report.systems if s.p_target_triggered]
    attack = next((s for s in measured if s.defense == "none"), None)
    defended = [s for s in measured if s.defense == "p2p"]
    outline = _histogram(attack.p_target_triggered) if attack else None
    top = _ceiling(_histogram(s.p_target_triggered) for s in measured)
    if attack and not defended:
        label = _spoken(attack.name, attack.p_target_triggered)
        return [_bars_panel(None, outline, top, _TARGET, label)]
    panels = []
    for system in defended:
        label = _spoken(system.name, system.p_target_triggered)
        if attack:
            label += "; " + _spoken(attack.name, attack.p_target_triggered)
        filled = _histogram(system.p_target_triggered)
        panels.append(_bars_panel(filled, outline, top, _TARGET, label))
    return panels


def margin_panels(report: Report) -> list[str]:
    """Draw how far from the attacker's target the triggered inputs lie, on one scale for all.

    Args:
        report: The report; systems without margins are left out.

    Returns:
        One SVG for each defended system, with the undefended model as an outline behind it; where
        nothing is defended, one SVG for each system.
    """
    measured = [s for s in report.systems if s.margins_triggered]
    if not measured:
        return []
    axis = _margin_axis([value for s in measured for value in s.margins_triggered])
    attack = next((s for s in measured if s.defense == "none"), None)
    defended = [s for s in measured if s.defense == "p2p"]
    outline = _histogram(attack.margins_triggered, axis) if attack and defended else None
    top = _ceiling(_histogram(s.margins_triggered, axis) for s in measured)
    panels = []
    for system in defended or measured:
        label = _spoken_margins(system)
        if attack and outline:
            label += "; " + _spoken_margins(attack)
        filled = _histogram(system.margins_triggered, axis)
        panels.append(_bars_panel(filled, outline, top, axis, label))
    return panels


def suspicion_panel(system: SystemResult, top: float | None = None) -> str:
    """Draw the suspicion scores of clean inputs (filled) and of triggered ones (outline).

    Args:
        system: A defended system with both lists of scores.
        top: Share of inputs at the top of the panel; ``None`` fits the panel to its data.

    Returns:
        One SVG.
    """
    clean, triggered = (
        _histogram(system.suspicion_clean),
        _histogram(system.suspicion_triggered),
    )
    label = (
        f"Suspicion of {system.name}: mean {_mean(system.suspicion_clean):.2f} on clean inputs, "
        f"{_mean(system.suspicion_triggered):.2f} on triggered ones"
    )
    return _bars_panel(clean, triggered, top or _ceiling([clean, triggered]), _SUSPICION, label)


def judged_panel(rows: Sequence[float], poisoned: Sequence[float]) -> str:
    """Draw how probable a judge found the labels of rows (filled), and of poisoned ones (outline).

    Args:
        rows: Share of the rows in each of 20 equal bins of [0, 1].
        poisoned: The same of the rows known to be poisoned; empty where unknown.

    Returns:
        An SVG element.
    """
    top = _ceiling([list(shares) for shares in (rows, poisoned) if shares])
    half = len(rows) // 2
    label = f"{percent(sum(rows[:half]), 0)} of the labels are below one half"
    axis = _Axis("probability of the label")
    return _bars_panel(list(rows), list(poisoned) or None, top, axis, label)


def round_range(values: Sequence[float]) -> tuple[float, float, int]:
    """Return ends in round steps around values and 0, and a number of bins with an edge at 0."""
    axis = _margin_axis(values)
    return axis.low, axis.high, axis.bins


def information_panel(
    low: float, high: float, rows: Sequence[float], poisoned: Sequence[float]
) -> str:
    """Draw how much inputs tell of answers: all rows (filled), and poisoned ones (outline).

    Args:
        low: The left end, see `round_range`.
        high: The right end.
        rows: Share of the rows in each of the equal bins between the two.
        poisoned: The same of the rows known to be poisoned; empty where unknown.
    """
    steps = len(rows) // 4
    ticks = tuple(low + (high - low) * k / steps for k in range(steps + 1))
    axis = _Axis("information; left of 0 none", low, high, len(rows), ticks, edge=0.0)
    none = sum(rows[: round(-low / (high - low) * len(rows))])
    top = _ceiling([list(shares) for shares in (rows, poisoned) if shares])
    label = f"To {percent(none, 0)} of the answers their inputs add nothing"
    return _bars_panel(list(rows), list(poisoned) or None, top, axis, label)


def accuracy_panel(report: Report) -> str:
    """Draw the clean accuracy of every system as dot and interval, on a fitting scale."""
    shares = [s.clean_accuracy for s in report.systems if s.clean_accuracy.n]
    low = math.floor(10 * min((s.low for s in shares), default=0.0)) / 10
    high = math.ceil(10 * max((s.high for s in shares), default=1.0)) / 10
    high = max(high, low + 0.1)
    scale = _scale(low, high, _INSET)
    rows = []
    for index, system in enumerate(report.systems):
        y = _HEAD + index * _ROW
        value = percent(system.clean_accuracy.value) if system.clean_accuracy.n else _NONE
        rows.append(_row_head(y, system.name, value))
        rows.append(_lane(y + _FIRST, system.clean_accuracy, scale, "dot-plain"))
    label = "; ".join(f"{s.name} {percent(s.clean_accuracy.value)}" for s in report.systems)
    return _dots_panel(f"Clean accuracy: {label}", rows, len(report.systems) * _ROW, low, high)


def attack_panel(report: Report) -> str:
    """Draw every system's ASR with its interval, and below it the rate it is read against.

    The reference is a hollow diamond for a floor and a hollow square for an untriggered rate, as
    `reference` chooses. Each has a line of its own, so that marks never hide one another.
    """
    scale = _scale(0.0, 1.0, _INSET)
    rows, spoken = [], []
    for index, system in enumerate(report.systems):
        y = _HEAD + index * _ROW
        base, asr = reference(system), system.attack_success_rate
        value = percent(asr.value) if asr.n else _NONE
        against = f"against {percent(base.value)}" if base.n else ""
        rows.append(_row_head(y, system.name, value, against))
        rows.append(_lane(y + _FIRST, asr, scale, "dot-attack"))
        kind = "diamond" if system.floor is not None else "square"
        rows.append(_lane(y + _SECOND, base, scale, kind))
        name = "floor" if system.floor is not None else "untriggered rate"
        spoken.append(f"{system.name} {value}, {name} {percent(base.value)}")
    label = "Attack success rate: " + "; ".join(spoken)
    return _dots_panel(label, rows, len(report.systems) * _ROW, 0.0, 1.0)


def separation(clean: Sequence[float], triggered: Sequence[float]) -> float:
    """Return the chance that a triggered input scores above a clean one, ties counting half.

    Args:
        clean: Scores of clean inputs; not empty.
        triggered: Scores of triggered inputs; not empty.

    Returns:
        The area under the ROC curve, from the rank sum.
    """
    ordered = sorted(clean)
    wins = sum(
        bisect.bisect_left(ordered, score) + bisect.bisect_right(ordered, score)
        for score in triggered
    )
    return wins / (2 * len(clean) * len(triggered))


def _histogram(values: Sequence[float], axis: _Axis = _TARGET) -> list[float]:
    """Return the share of values in each of the axis's equal bins, the last one closed."""
    counts = [0] * axis.bins
    for value in values:
        place = int((value - axis.low) / (axis.high - axis.low) * axis.bins)
        counts[min(axis.bins - 1, place)] += 1
    return [number / len(values) for number in counts]


def _margin_axis(values: Sequence[float]) -> _Axis:
    """Return an axis in round steps that holds all values and has a bin's edge at zero."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6)))
    # From a tenth of the span's power of ten upwards: the first step that five ticks can bear.
    step = next(step * k for k in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if (high - low) / (step * k) <= 5)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return _Axis(
        "margin in nats; left of 0 the answer is the target",
        low=first * step,
        high=last * step,
        bins=4 * (last - first),
        ticks=tuple(k * step for k in range(first, last + 1)),
        edge=0.0,
    )


def _ceiling(histograms: Iterable[list[float]]) -> float:
    """Return the highest bin, rounded up to a quarter, so that panels can share one scale."""
    tallest = max((max(h) for h in histograms), default=1.0)
    return max(0.25, math.ceil(4 * tallest) / 4)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spoken(name: str, values: Sequence[float]) -> str:
    above = sum(value > 0.5 for value in values) / len(values)
    return (
        f"{name}: mean probability of the target {_mean(values):.2f}, "
        f"above one half on {percent(above, 0)} of {len(values)} triggered inputs"
    )


def _spoken_margins(system: SystemResult) -> str:
    values = system.margins_triggered
    beyond = sum(value <= 0 for value in values)
    lowest = f"smallest margin {nats(min(values))}"
    return f"{system.name}: {lowest}, {beyond} of {len(values)} not positive"


def _scale(low: float, high: float, left: float = _LEFT) -> Callable[[float], float]:
    """Return the map from a share to a horizontal position in a panel."""
    span = _WIDTH - left - _RIGHT

    def place(value: float) -> float:
        return left + span * (value - low) / (high - low)

    return place


def _svg(height: float, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg class="panel" viewBox="0 0 {_WIDTH:g} {height:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _bars_panel(
    filled: list[float] | None, outline: list[float] | None, top: float, axis: _Axis, label: str
) -> str:
    """Draw two histograms over one axis: one as bars, one as a stepped outline above them."""
    head, plot, foot = 8.0, 118.0, 36.0
    ground = head + plot
    scale = _scale(axis.low, axis.high)
    edges = [axis.low + (axis.high - axis.low) * k / axis.bins for k in range(axis.bins + 1)]
    body = []
    for part in (0.0, 0.5, 1.0):
        y = ground - plot * part
        body.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        body.append(_text(_LEFT - 6, y + 4, percent(top * part, _digits(top)), "tick", "end"))
    for value in axis.ticks:
        anchor = {axis.low: "start", axis.high: "end"}.get(value, "middle")
        number = f"{value:g}".replace("-", "−")  # noqa: RUF001
        body.append(_text(scale(value), ground + 15, number, "tick", anchor))
    middle = scale((axis.low + axis.high) / 2)
    body.append(_text(middle, ground + 31, axis.title, "axis", "middle"))
    for index, share in enumerate(filled or []):
        if share:
            x, tall = scale(edges[index]), plot * share / top
            wide = scale(edges[index + 1]) - x - 1.5
            box = f'x="{x + 0.75:.1f}" y="{ground - tall:.1f}" width="{wide:.1f}"'
            beyond = axis.edge is not None and edges[index + 1] <= axis.edge + 1e-9
            kind = "bar beyond" if beyond else "bar"
            body.append(f'<rect class="{kind}" {box} height="{tall:.1f}"/>')
    if outline:
        steps = [f"M{scale(axis.low):.1f} {ground:.1f}"]
        for index, share in enumerate(outline):
            y = ground - plot * share / top
            steps.append(f"V{y:.1f}H{scale(edges[index + 1]):.1f}")
        body.append(f'<path class="outline" d="{"".join(steps)}V{ground:.1f}"/>')
    if axis.edge is not None:
        x = scale(axis.edge)
        body.append(f'<line class="edge" x1="{x:.1f}" y1="{head}" x2="{x:.1f}" y2="{ground + 3}"/>')
    return _svg(ground + foot, label, body)


def _digits(top: float) -> int:
    """Return the decimals that the middle tick of an axis of height `top` needs."""
    return 0 if (50 * top).is_integer() else 1


def _dots_panel(label: str, rows: list[str], height: float, low: float, high: float) -> str:
    """Frame rows of dots with a vertical grid and its ticks."""
    scale = _scale(low, high, _INSET)
    ground = _HEAD + height + 2
    body = []
    for step in range(5):
        value = low + (high - low) * step / 4
        x = scale(value)
        anchor = {0: "start", 4: "end"}.get(step, "middle")
        body.append(f'<line class="grid" x1="{x:.1f}" y1="{_HEAD}" x2="{x:.1f}" y2="{ground}"/>')
        digits = 0 if math.isclose(100 * value, round(100 * value)) else 1
        body.append(_text(x, ground + 15, percent(value, digits), "tick", anchor))
    return _svg(ground + 20, label, [*body, *rows])


def _row_head(y: float, name: str, value: str, against: str = "") -> str:
    """Write a system's name and its value on the line above its marks."""
    right = _WIDTH - _RIGHT
    limit = 26 if against else 40
    titled = (
        f"<title>{escape(name)}</title>{_text(_INSET, y + 15, clipped(name, limit), 'name halo')}"
    )
    if against:
        value_at = right - 6.9 * len(against)
        tail = _text(right, y + 15, against, "tick halo", "end")
        return f"<g>{titled}</g>{_text(value_at, y + 15, value, 'value halo', 'end')}{tail}"
    return f"<g>{titled}</g>{_text(right, y + 15, value, 'value halo', 'end')}"


def _lane(y: float, share: Share, scale: Callable[[float], float], kind: str) -> str:
    """Draw one share's interval and its mark: a dot, a hollow diamond or a hollow square."""
    if not share.n:
        return ""
    x, x1, x2 = scale(share.value), scale(share.low), scale(share.high)
    shapes = {
        "diamond": f'<path class="reference" d="M{x:.1f} {y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z"/>',
        "square": f'<path class="reference" d="M{x - 4:.1f} {y - 4}h8v8h-8Z"/>',
    }
    dot = f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="4.5"/>'
    line = f'<line class="{kind}" x1="{x1:.1f}" y1="{y}" x2="{x2:.1f}" y2="{y}"/>'
    return line + shapes.get(kind, dot)
