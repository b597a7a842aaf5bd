"""What the captions of a sweep's figures say: model, data, numbers, seeds and settings."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mithridate.bench.sweep import Sweep, p2p_of
from mithridate.report.sweep import Panel, Point
from mithridate.report.words import count

_SHOWN = {
    "figure2": "How sure the model is of the attacker's target on triggered inputs, trained "
    "without a defense and with P2P, as histograms.",
    "figure3a": "{quality} and ASR by the share of poisoned rows.",
    "figure3b": "{quality} and ASR by rho, the share of rows that P2P re-poisons; the undefended "
    "model knows no rho.",
    "figure3c": "{quality} and ASR by the share of trainable parameters: LoRA rank (alpha stays, "
    "so the scale alpha / rank falls), and which layers get an adapter.",
    "figure4": "{quality} after clean fine-tuning (line, at the centre's settings), and on "
    "poisoned rows undefended and with P2P, in every setting of the sweep.",
}
_FLOOR = " Floor: the rate of the model trained without the poison, at the centre's settings."


def caption(name: str, sweeps: Sequence[Sweep], grid: Sequence[Sequence[Panel]]) -> str:
    """Say what a figure shows, of what, of how many inputs and seeds.

    Args:
        name: The figure's.
        sweeps: What it is of.
        grid: Its panels.
    """
    kinds = {sweep.first.data.task == "classification" for sweep in sweeps}
    quality = "CA or utility" if len(kinds) > 1 else "CA" if True in kinds else "Utility"
    panels = [panel for row in grid for panel in row]
    points = [point for panel in panels for point in panel.points]
    floor = _FLOOR if any(curve.role == "floor" for one in panels for curve in one.curves) else ""
    head = f"{name.replace('figure', 'Figure ')}. {_SHOWN[name].format(quality=quality)}{floor}"
    if not points:
        return f"{head} Nothing of it is finished yet."
    seeds = sorted({seed for point in points for seed in point.seeds})
    several = len(seeds) > 1
    tested = ", ".join(_tested(panels, points))
    spread = "bars" if name == "figure4" else "bands"
    said = f"seeds {', '.join(map(str, seeds))}" if several else f"seed {seeds[0]}"
    deviation = f"{spread}: one standard deviation over seeds" if several else f"no {spread}"
    some = " (some points lack seeds)" if any(len(p.seeds) < len(seeds) for p in points) else ""
    return f"{head} n = {tested} of each seed; {said}{some}; {deviation}."


def _tested(panels: Sequence[Panel], points: Sequence[Point]) -> Iterable[str]:
    """Say how many inputs were tested."""
    triggered = [p.n for panel in panels if _is_triggered(panel) for p in panel.points]
    clean = [p.n for panel in panels if not _is_triggered(panel) for p in panel.points]
    for numbers, noun in ((clean, "clean"), (triggered, "triggered")):
        if numbers:
            low, high = count(min(numbers)), count(max(numbers))
            yield f"{low if low == high else f'{low} to {high}'} {noun} test inputs"


def _is_triggered(panel: Panel) -> bool:
    return panel.kind == "bins" or panel.whole


def details(sweeps: Sequence[Sweep], lines: Sequence[dict[str, Any]]) -> str:
    """Say how the cells of a figure were made.

    Args:
        sweeps: What it is of.
        lines: The journal's lines of its finished cells.
    """
    said = [_setting(sweep, lines) for sweep in sweeps]
    if lines:
        ways = sorted({f"{line['device']} in {line['dtype']}" for line in lines})
        versions = sorted({f"mithridate {line['version']}" for line in lines})
        dates = sorted({str(line["date"]) for line in lines})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        said.append(f"Run on {' and '.join(ways)}, {' and '.join(versions)}, {when}.")
    return " ".join(said)


def _setting(sweep: Sweep, lines: Sequence[dict[str, Any]]) -> str:
    """Say what a sweep's centre is."""
    cell = sweep.first
    training, p2p = cell.training, p2p_of(cell.defense)
    rows = {
        line["n_train"]
        for line in lines
        if (line["dataset"], line["defense"]) == (cell.data.name, _undefended(sweep))
    }
    size = f" ({' or '.join(count(number) for number in sorted(rows))} training rows)"
    where = f"layers {training.layers[0]} to {training.layers[1] - 1}" if training.layers else ""
    rate = training.learning_rate
    return (
        f"Model {Path(cell.model).name}, data {cell.data.name}{size if rows else ''}, attack "
        f"{cell.attack.title}; centre: {100 * cell.rate:g}% poisoned, P2P with "
        f"{p2p.selection} selection and rho {p2p.benign_ratio:g}, LoRA of rank {training.rank} "
        f"(alpha {training.alpha}) on {where or 'all layers'}, {training.epochs} "
        f"epoch{'s' * (training.epochs > 1)}, batches of {training.batch_size}, learning rate "
        f"{'by width' if rate is None else f'{rate:g}'}, {training.max_length} tokens at most."
    )


def _undefended(sweep: Sweep) -> str:
    return sweep.centre.undefended[0].defense.title
