"""A sweep: cells of a matrix in which one thing at a time departs from a centre."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mithridate.baselines.p2p import P2P
from mithridate.bench.cells import BenchCell
from mithridate.bench.config import (
    AttackConfig,
    DataConfig,
    DefenseConfig,
    MatrixConfig,
    Shares,
    read_as,
)
from mithridate.bench.shapes import layer_count
from mithridate.defense.config import Selection
from mithridate.errors import InputError

Varied = Literal["poison_rate", "benign_ratio", "rank", "layers"]
Layers = tuple[int, int]
Value = float | Layers

_Ranks = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
_Ranges = Annotated[tuple[Layers, ...], Field(min_length=1)]


class SweepConfig(BaseModel):
    """What is varied, one thing at a time; ``None`` leaves a thing at its centre.

    Attributes:
        poison_rates: Shares of poisoned rows. The centre is the attack's or the matrix's first.
        benign_ratios: Shares rho of benign rows. The centre is that of the matrix's p2p.
        ranks: LoRA ranks. The centre is that of the matrix's training.
        layers: Layers that get an adapter, each as `TrainingConfig.layers` has it. Where the file
            does not name them, all and the upper half.
        selection: How S is chosen; as the matrix's p2p has it if none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    poison_rates: Shares | None = (0.01, 0.05, 0.1, 0.2)
    benign_ratios: Shares | None = (0.1, 0.2, 0.4, 0.6)
    ranks: _Ranks | None = (4, 16, 64)
    layers: _Ranges | None = None
    selection: Selection | None = None

    @model_validator(mode="after")
    def _ranges(self) -> "SweepConfig":
        for first, end in self.layers or ():
            if not 0 <= first < end:
                raise ValueError(f"layers {first} to {end - 1} are none: give a first and an end")
        return self


class SweptConfig(MatrixConfig):
    """A matrix and what is varied in it.

    Attributes:
        seeds: Of all draws; the figures' bands are over them.
        sweep: What is varied.
    """

    guide: ClassVar[str] = "docs/sweep.md"

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    sweep: SweepConfig = SweepConfig()


def read_sweep(path: Path) -> SweptConfig:
    """Read a sweep; paths in it are relative to its own folder.

    Raises:
        InputError: It cannot be read, has an unknown key, or names what there is not.
    """
    return read_as(SweptConfig, path)


@dataclass(frozen=True)
class Setting:
    """One point of a sweep.

    Attributes:
        value: Of what is varied.
        undefended: The cells of none, one for each seed.
        defended: Those of P2P.
    """

    value: Value
    undefended: tuple[BenchCell, ...]
    defended: tuple[BenchCell, ...]

    @property
    def cells(self) -> tuple[BenchCell, ...]:
        """All of them."""
        return self.undefended + self.defended


@dataclass(frozen=True)
class Sweep:
    """All that is varied around one centre: one attack on one data set and one model.

    Attributes:
        centre: What the others depart from; its value is the share of poisoned rows.
        settings: The points of each curve, the centre among them, in rising order.
    """

    centre: Setting
    settings: Mapping[Varied, tuple[Setting, ...]]

    @property
    def first(self) -> BenchCell:
        """A cell of the centre, which tells model, data and attack."""
        return self.centre.defended[0]


def plan(config: SweptConfig) -> list[Sweep]:
    """Return a sweep for every model, data set and attack.

    Raises:
        InputError: There is none, or a model has no such layers.
    """
    found = [
        _sweep(config, model, data, attack, p2p)
        for model in config.models
        for data in config.datasets
        for attack in config.attacks
        if attack.datasets is None or data.name in attack.datasets
        for p2p in _defense(config, data, "p2p")
    ]
    if not found:
        mend = "let an attack and p2p share a data set"
        raise InputError("there is nothing to sweep", where="datasets", mend=mend)
    return found


def sweep_cells(sweeps: Iterable[Sweep]) -> list[BenchCell]:
    """Return the cells of all sweeps, each once, the centres first."""
    cells: dict[str, BenchCell] = {}
    sweeps = list(sweeps)
    settings = [sweep.centre for sweep in sweeps]
    settings += [one for sweep in sweeps for curve in sweep.settings.values() for one in curve]
    for setting in settings:
        for cell in setting.cells:
            cells.setdefault(cell.mark, cell)
    return list(cells.values())


def _defense(config: SweptConfig, data: DataConfig, name: str) -> list[DefenseConfig]:
    """Return the first defense of a name that is for a data set; its defaults if none is listed."""
    listed = [defense for defense in config.defenses if defense.name == name]
    own = [one for one in listed if one.datasets is None or data.name in one.datasets]
    return own[:1] if listed else [DefenseConfig(name=name)]


def _sweep(
    config: SweptConfig,
    model: str,
    data: DataConfig,
    attack: AttackConfig,
    p2p: DefenseConfig,
) -> Sweep:
    chosen = config.sweep.selection
    if chosen is not None and chosen != p2p_of(p2p).selection:
        p2p = p2p.model_copy(update={"settings": {**p2p.settings, "selection": chosen}})
    none = (_defense(config, data, "none") or [DefenseConfig(name="none")])[0]
    rate = (attack.rates or config.rates)[0]

    def setting(
        value: Value,
        *,
        share: float = rate,
        ratio: float | None = None,
        training: Mapping[str, Value] | None = None,
    ) -> Setting:
        first = config.seeds[0]
        none_, p2p_ = (
            _varied(BenchCell(model, data, attack, share, one, first, config), own, training or {})
            for one, own in ((none, None), (p2p, ratio))
        )
        undefended, defended = (
            tuple(
                BenchCell(model, data, attack, share, defense, seed, config)
                for seed in dict.fromkeys(config.seeds)
            )
            for defense in (none_, p2p_)
        )
        return Setting(value, undefended, defended)

    centre = setting(rate)
    present = centre.defended[0].training
    swept = config.sweep
    layers = present.layers or (0, layer_count(model))
    curves: dict[Varied, tuple[Setting, ...]] = {}
    if swept.poison_rates and not data.poisoned:
        rates = sorted({*swept.poison_rates, rate})
        curves["poison_rate"] = tuple(setting(value, share=value) for value in rates)
    if swept.benign_ratios:
        ratios = sorted({*swept.benign_ratios, p2p_of(p2p).benign_ratio})
        curves["benign_ratio"] = tuple(setting(value, ratio=value) for value in ratios)
    if swept.ranks:
        ranks = sorted({*swept.ranks, present.rank})
        curves["rank"] = tuple(setting(value, training={"rank": value}) for value in ranks)
    if ranges := _layers(swept, model):
        # From the fewest adapted layers to the most.
        found = sorted({*ranges, layers}, key=lambda pair: (pair[1] - pair[0], pair))
        curves["layers"] = tuple(setting(value, training={"layers": value}) for value in found)
    return Sweep(centre, curves)


def p2p_of(p2p: DefenseConfig) -> P2P:
    """Return P2P with its settings."""
    method = p2p.method()
    if not isinstance(method, P2P):
        raise TypeError(f"{p2p.name} is no P2P")
    return method


def _layers(swept: SweepConfig, model: str) -> tuple[Layers, ...]:
    """Return the layers to vary, those of a model if the file does not name any.

    Raises:
        InputError: The model has no such layers.
    """
    if swept.layers is None and "layers" in swept.model_fields_set:
        return ()
    count = layer_count(model)
    for first, end in swept.layers or ():
        if end > count:
            raise InputError(
                f"there are no layers {first} to {end - 1}: {Path(model).name} has {count}",
                where="sweep.layers",
                mend=f"give a first layer and an end between 0 and {count}",
            )
    return swept.layers or ((count // 2, count),)


def _varied(cell: BenchCell, ratio: float | None, training: Mapping[str, Value]) -> DefenseConfig:
    """Return a cell's defense with another setting and a label that says so, if it differs."""
    defense, present = cell.defense, cell.training.model_dump()
    present["layers"] = tuple(present["layers"] or (0, layer_count(cell.model)))
    changed = {name: value for name, value in training.items() if present[name] != value}
    settings = dict(defense.settings)
    if ratio is not None and ratio != p2p_of(defense).benign_ratio:
        settings["benign_ratio"] = ratio
    said = [f"benign_ratio={ratio:g}"] if settings != defense.settings else []
    said += [f"{name}={shown(value)}" for name, value in changed.items()]
    if not said:
        return defense
    return defense.model_copy(
        update={
            "label": " ".join([defense.title, *said]),
            "training": {**defense.training, **changed},
            "settings": settings,
        }
    )


def shown(value: Value) -> str:
    """Return a value as labels name it: layers by the first and the last."""
    return f"{value[0]}-{value[1] - 1}" if isinstance(value, tuple) else f"{value:g}"
