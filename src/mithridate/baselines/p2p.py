"""P2P behind the interface of its rivals."""

from dataclasses import dataclass
from typing import ClassVar

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Stage, Workbench
from mithridate.defense.config import Drop, Mode, P2PConfig, Selection
from mithridate.errors import InputError


@dataclass(frozen=True)
class P2P(DefenseMethod):
    """Re-poison a benign subset S, train with prompt learning, answer in S's domain.

    Attributes:
        selection: How S is chosen.
        benign_ratio: rho.
        draw_from: See `P2PConfig`, as for all that follow.
        mode: Whether S is replaced or added to.
        counter_triggers: Whether mined triggers are countered.
        inserted_triggers: Whether triggers are looked for by where they stand.
        drop: Which suspects are left out.
    """

    name = "p2p"
    stages: ClassVar[tuple[Stage, ...]] = ("data", "training", "input")
    source = "Zhao et al. 2025, arXiv 2510.04503"

    selection: Selection = "agreement"
    benign_ratio: float = P2PConfig().benign_ratio
    draw_from: float = P2PConfig().draw_from
    mode: Mode = "replace"
    counter_triggers: bool = True
    inserted_triggers: bool = True
    drop: Drop = P2PConfig().drop

    def __post_init__(self) -> None:
        if not 0.0 < self.benign_ratio <= 1.0:
            mend = "give one above 0, at most 1"
            raise InputError(f"{self.name}'s benign_ratio is no share", mend=mend)
        if not 0.0 <= self.draw_from <= 1.0:
            raise InputError(f"{self.name}'s draw_from is no share", mend="give one of 0 to 1")

    @property
    def config(self) -> P2PConfig:
        """The settings of the re-poisoning."""
        return P2PConfig(
            selection=self.selection,
            benign_ratio=self.benign_ratio,
            draw_from=self.draw_from,
            mode=self.mode,
            counter_triggers=self.counter_triggers,
            inserted_triggers=self.inserted_triggers,
            drop=self.drop,
        )

    def cost(self, words: float) -> Cost:
        """Return about what it takes: the judge reads D, too; see `DefenseMethod.cost`."""
        union = self.benign_ratio if self.mode == "union" else 0.0
        return Cost(undefended=False, trains=1.0 + union, row_reads=self._judged)

    @property
    def _judged(self) -> float:
        """How often the judge reads each row."""
        return float(self.selection not in ("random", "oracle"))

    def defend(self, bench: Workbench) -> Guarded:
        """Return the defended model; see `DefenseMethod.defend`."""
        return bench.protect(self.config)


@dataclass(frozen=True)
class Filter(P2P):
    """Train on the benign subset S alone, nothing re-poisoned: the rival to beat first."""

    name = "filter"
    stages: ClassVar[tuple[Stage, ...]] = ("data",)
    source = "the choice of S by itself (DESIGN.md, the fact that decides the design)"

    def cost(self, words: float) -> Cost:
        """Return about what it takes: training on S alone; see `DefenseMethod.cost`."""
        return Cost(undefended=False, trains=self.benign_ratio, row_reads=self._judged)

    def defend(self, bench: Workbench) -> Guarded:
        """Return the model trained on S; see `DefenseMethod.defend`."""
        chosen = bench.select(self.config)
        model = bench.fit([row for row in bench.rows if row.id in chosen])
        return Guarded(lambda texts: [*model.answer(texts)], len(chosen), chosen)
