"""What a sweep's finished cells amount to: the figures' points, and which cells they lack."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mithridate.bench.cells import BenchCell
from mithridate.bench.journal import quality_field, read_lines
from mithridate.bench.matrix import Matrix
from mithridate.bench.shapes import trainable_share
from mithridate.bench.sweep import Setting, Sweep, Value, Varied, p2p_of, sweep_cells
from mithridate.bench.sweep_words import caption, details
from mithridate.report.sweep import Curve, Figure, Panel, Point, Role, Spot, Subject, point

Line = dict[str, Any]
Measure = Literal["quality", "attack_success_rate", "floor"]

TITLES = {
    "figure2": "Figure 2: confidence in the attacker's target",
    "figure3a": "Figure 3a: share of poisoned rows",
    "figure3b": "Figure 3b: share of benign rows",
    "figure3c": "Figure 3c: share of trainable parameters",
    "figure4": "Figure 4: accuracy across settings",
}
_VARIED: dict[str, tuple[Varied, ...]] = {
    "figure3a": ("poison_rate",),
    "figure3b": ("benign_ratio",),
    "figure3c": ("rank", "layers"),
}
_AXES: dict[Varied, str] = {
    "poison_rate": "share of training rows that are poisoned",
    "benign_ratio": "rho, share of training rows that P2P re-poisons",
    "rank": "LoRA rank, and share of parameters trained",
    "layers": "adapted layers, and share of parameters trained",
}
_ACROSS = 3


@dataclass(frozen=True)
class Results:
    """What a journal says of cells.

    Attributes:
        lines: The finished cells' lines by their marks.
        failed: Marks of cells that failed.
    """

    lines: Mapping[str, Line]
    failed: frozenset[str]

    @classmethod
    def of(cls, matrix: Matrix) -> "Results":
        """Read a matrix's journal and its failures."""
        lines = {str(line.get("config_hash")): line for line in read_lines(matrix.journal)}
        failed = {str(line.get("config_hash")) for line in read_lines(matrix.failures)}
        return cls(lines, frozenset(failed - set(lines)))

    def finished(self, marks: Iterable[str]) -> list[Line]:
        """Return the lines of those that are finished."""
        return [self.lines[mark] for mark in marks if mark in self.lines]

    def missing(self, cells: Iterable[BenchCell]) -> tuple[str, ...]:
        """Say which cells are open or failed, those that differ by their seeds alone together."""
        seeds: dict[tuple[str, str], list[int]] = {}
        for cell in cells:
            if cell.mark not in self.lines:
                state = " (failed)" if cell.mark in self.failed else ""
                seeds.setdefault((state, cell.name.rpartition("/")[0]), []).append(cell.seed)
        return tuple(
            f"{name}, {'seed' if len(own) == 1 else 'seeds'} {', '.join(map(str, own))}{state}"
            for (state, name), own in seeds.items()
        )


def sweep_figures(sweeps: Sequence[Sweep], results: Results) -> list[Figure]:
    """Return the figures of sweeps, from what is finished.

    Args:
        sweeps: The sweeps.
        results: What the journal holds.

    Returns:
        Figures 2, 3a, 3b, 3c and 4, without those that nothing is planned for: figure 2 where no
        answers are labels, a part of figure 3 where nothing of it is varied.
    """
    labelled = [sweep for sweep in sweeps if sweep.first.data.task == "classification"]
    made = [_Draft("figure2", labelled, _wrapped([[_bins(one, results)] for one in labelled]))]
    for name, things in _VARIED.items():
        found = [(sweep, one) for sweep in sweeps for one in things if one in sweep.settings]
        # CA above, ASR below; rank and layers of one model side by side.
        blocks = [_swept(sweep, thing, results) for sweep, thing in found]
        across = len(things) if len(things) > 1 else _ACROSS
        own = list({id(sweep): sweep for sweep, _ in found}.values())
        made.append(_Draft(name, own, _wrapped(blocks, across), things))
    rows = tuple((_rows(sweep, results),) for sweep in sweeps)
    made.append(_Draft("figure4", sweeps, rows, tuple(_AXES)))
    return [
        Figure(
            figure.name,
            TITLES[figure.name],
            figure.grid,
            caption(figure.name, figure.sweeps, figure.grid),
            details(figure.sweeps, results.finished(cell.mark for cell in figure.cells)),
            results.missing(figure.cells),
        )
        for figure in made
        if figure.grid
    ]


@dataclass(frozen=True)
class _Draft:
    name: str
    sweeps: Sequence[Sweep]
    grid: tuple[tuple[Panel, ...], ...]
    varied: tuple[Varied, ...] = ()

    @property
    def cells(self) -> list[BenchCell]:
        """The cells that it is drawn from."""
        return sweep_cells(
            Sweep(
                sweep.centre,
                {thing: sweep.settings[thing] for thing in self.varied if thing in sweep.settings},
            )
            for sweep in self.sweeps
        )


def _wrapped(
    blocks: Sequence[Sequence[Panel]], across: int = _ACROSS
) -> tuple[tuple[Panel, ...], ...]:
    """Lay blocks, whose panels stand one below the other, side by side in rows."""
    grid: list[tuple[Panel, ...]] = []
    for at in range(0, len(blocks), across):
        grid += zip(*blocks[at : at + across], strict=True)
    return tuple(grid)


def _subject(sweep: Sweep) -> Subject:
    cell = sweep.first
    return Subject(Path(cell.model).name, cell.data.name, cell.attack.title)


def _bins(sweep: Sweep, results: Results) -> Panel:
    """Return the histograms of the centre's confidences."""
    curves: list[Curve] = []
    spots: dict[Spot, None] = {}
    roles: tuple[tuple[Role, tuple[BenchCell, ...]], ...] = (
        ("undefended", sweep.centre.undefended),
        ("p2p", sweep.centre.defended),
    )
    for role, cells in roles:
        lines = [
            line
            for line in results.finished(cell.mark for cell in cells)
            if sum(line.get("target_confidence") or [])
        ]
        points = []
        for number in range(len(lines[0]["target_confidence"]) if lines else 0):
            count = len(lines[0]["target_confidence"])
            low, high = number / count, (number + 1) / count
            spot = Spot((low + high) / 2, f"{low:g} to {high:g}")
            shares = (
                (line["seed"], line["target_confidence"][number] / total, total)
                for line in lines
                if (total := sum(line["target_confidence"]))
            )
            if made := point(spot, shares):
                points.append(made)
                spots[spot] = None
        curves.append(Curve(f"triggered inputs, {_short(role)}", role, tuple(points)))
    return Panel(
        "bins",
        _subject(sweep),
        varied="",
        spots=tuple(spots),
        curves=tuple(curves),
        spots_title="probability of the attacker's target",
        values_title="triggered inputs",
    )


def _swept(sweep: Sweep, thing: Varied, results: Results) -> list[Panel]:
    """Return CA and ASR along what is varied."""
    settings = sweep.settings[thing]
    spots = [_spot(sweep, thing, setting, at) for at, setting in enumerate(settings)]
    pairs = list(zip(settings, spots, strict=True))
    quality, is_share = _quality_title(sweep, results)

    def curve(role: Role, measure: Measure, said: str) -> Curve:
        points = (_measured(setting, spot, role, measure, results) for setting, spot in pairs)
        found = tuple(one for one in points if one is not None)
        return Curve(said, role, found)

    common: dict[str, Any] = {
        "kind": "marks" if thing == "layers" else "band",
        "subject": _subject(sweep),
        "varied": thing,
        "spots": tuple(spots),
        "log": thing in ("poison_rate", "rank"),
    }
    above = tuple(
        curve(role, "quality", f"{quality}, {_short(role)}") for role in ("undefended", "p2p")
    )
    below = tuple(
        curve(role, "attack_success_rate", f"ASR, {_short(role)}") for role in ("undefended", "p2p")
    )
    floor = curve("floor", "floor", "floor")
    return [
        Panel(**common, curves=above, spots_title="", values_title=quality, share=is_share),
        Panel(
            **common,
            curves=(*below, floor),
            spots_title=_AXES[thing],
            values_title="ASR",
            whole=True,
            headed=False,
        ),
    ]


def _rows(sweep: Sweep, results: Results) -> Panel:
    """Return the accuracy of every setting."""
    settings = [("centre", sweep.centre)]
    for thing, found in sweep.settings.items():
        settings += [
            (_setting_name(thing, setting.value), setting)
            for setting in found
            if setting.cells != sweep.centre.cells
        ]
    quality, is_share = _quality_title(sweep, results)
    cell = sweep.first
    ratio, rank = p2p_of(cell.defense).benign_ratio, cell.training.rank
    centre = f"centre: {100 * cell.rate:g}% poisoned,\nrho {ratio:g}, rank {rank}"
    spots = [Spot(at, name, name if at else centre) for at, (name, _) in enumerate(settings)]
    curves = []
    for role in ("undefended", "p2p"):
        points = (
            _measured(setting, spot, role, "quality", results)
            for (_, setting), spot in zip(settings, spots, strict=True)
        )
        found_points = tuple(one for one in points if one is not None)
        curves.append(Curve(f"{quality}, {_short(role)}", role, found_points))
    references = results.finished(cell.clean_mark for cell in sweep.centre.defended)
    clean = point(Spot(0, "all settings"), (_value(line, "quality") for line in references))
    reference = Curve(f"{quality}, clean fine-tuning", "clean", () if clean is None else (clean,))
    return Panel(
        "rows",
        _subject(sweep),
        varied="all",
        spots=tuple(spots),
        curves=(reference, *curves),
        spots_title="",
        values_title=quality,
        share=is_share,
    )


def _short(role: Role) -> str:
    return "P2P" if role == "p2p" else role


def _measured(
    setting: Setting, spot: Spot, role: Role, measure: Measure, results: Results
) -> Point | None:
    """Return a setting's point; the floor is any finished cell's, of each seed."""
    cells = {"undefended": setting.undefended, "p2p": setting.defended}.get(role, setting.cells)
    by_seed = {line["seed"]: line for line in results.finished(cell.mark for cell in cells)}
    return point(spot, (_value(line, measure) for line in by_seed.values()))


def _value(line: Line, measure: Measure) -> tuple[int, float, int]:
    """Return the seed, the value and the number of test inputs."""
    if measure == "quality":
        return line["seed"], _or_nan(line[quality_field(line)]), line["n_clean"]
    return line["seed"], _or_nan(line[measure]), line["n_triggered"]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _quality_title(sweep: Sweep, results: Results) -> tuple[str, bool]:
    """Return what answers are judged by, and whether that is a share of them."""
    if sweep.first.data.task == "classification":
        return "CA", True
    lines = results.finished(cell.mark for cell in sweep.centre.cells)
    metric = lines[0].get("utility_metric") if lines else None
    return (f"utility ({metric})" if metric else "utility"), False


def _spot(sweep: Sweep, thing: Varied, setting: Setting, at: int) -> Spot:
    value = setting.value
    name = _setting_name(thing, value)
    if not isinstance(value, tuple) and thing in ("poison_rate", "benign_ratio"):
        tick = f"{100 * value:g}%" if thing == "poison_rate" else f"{value:g}"
        return Spot(value, f"{value:g}", tick)
    cell = setting.defended[0]
    share = trainable_share(cell.model, cell.training.model_copy(update={"seed": 0}))
    tick = name.partition(" ")[2]
    place = float(at) if isinstance(value, tuple) else share
    return Spot(place, tick, f"{tick}\n{100 * share:.2g}%", share)


def _setting_name(thing: Varied, value: Value) -> str:
    if isinstance(value, tuple):
        first, last = value[0], value[1] - 1
        return f"layers {first} to {last}" if first < last else f"layer {first}"
    said = {"poison_rate": f"{100 * value:g}% poisoned", "benign_ratio": f"rho {value:g}"}
    return said.get(thing, f"rank {value:g}")
