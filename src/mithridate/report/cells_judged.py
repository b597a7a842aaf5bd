"""What the cells say of their defenses: each beside its undefended model, seeds together."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mithridate.report.cells import Cell, Entry, Journal

EXCESS = 0.03
"""The bar: a defense holds whose ASR is at most this far over its floor."""

LEARNED = 0.2
"""An undefended ASR less than this over its floor is no test of a defense."""

LEVELS = (EXCESS, 0.1, 0.3, 0.6)
"""Up to where each colour reaches; the last one has no end."""

_SEED = re.compile(r"[/@,_-]?\bseed[=_-]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Judged:
    """A cell beside the undefended cell of the same attack, data, model, training and seed.

    Attributes:
        entry: The cell and its line.
        undefended: ``None`` where no journal holds it.
    """

    entry: Entry
    undefended: Cell | None

    @property
    def cell(self) -> Cell:
        """The cell itself."""
        return self.entry.cell

    @cached_property
    def is_test(self) -> bool | None:
        """Whether the undefended model learned the backdoor; ``None`` where that is unknown."""
        if self.undefended is None or self.undefended.excess is None:
            return None
        return self.undefended.excess >= LEARNED

    @cached_property
    def verdict(self) -> str:
        """What the cell says of its defense."""
        if self.cell.excess is None:
            return "no floor"
        if self.cell.is_undefended:
            return "learned" if self.cell.excess >= LEARNED else "not learned"
        if self.is_test is None:
            return "no undefended"
        if not self.is_test:
            return "no test"
        return "holds" if self.cell.excess <= EXCESS else "misses"

    @cached_property
    def change(self) -> float | None:
        """CA or utility less the undefended model's."""
        mine, theirs = self.cell.quality, self.undefended.quality if self.undefended else None
        comparable = self.undefended and self.undefended.utility_metric == self.cell.utility_metric
        return mine.value - theirs.value if mine and theirs and comparable else None


@dataclass(frozen=True, slots=True)
class Spread:
    """Some values: their mean, how far they lie apart, and how many they are."""

    mean: float
    deviation: float | None
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Summarize the values that are known; ``None`` where none is.

        The deviation is that of a sample (n - 1), and ``None`` for a single value.
        """
        known = [value for value in values if value is not None]
        if not known:
            return None
        mean, n = math.fsum(known) / len(known), len(known)
        squares = math.fsum((value - mean) ** 2 for value in known)
        deviation = math.sqrt(squares / (n - 1)) if n > 1 else None
        return cls(mean, deviation, min(known), max(known), n)


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that belong together: the seeds of one cell, or all of one defense."""

    members: tuple[Judged, ...]

    @property
    def first(self) -> Cell:
        """Any of the cells, for what they have in common."""
        return self.members[0].cell

    def spread(self, value: Callable[[Judged], float | None]) -> Spread | None:
        """Summarize a value over the cells."""
        return Spread.of(map(value, self.members))

    @property
    def tests(self) -> int:
        """How many of the cells are a test of their defense."""
        return sum(one.verdict in ("holds", "misses") for one in self.members)

    @property
    def held(self) -> int:
        """How many of the cells the defense holds in."""
        return sum(one.verdict == "holds" for one in self.members)


@dataclass(frozen=True, slots=True)
class Study:
    """All that the journals hold, sorted out.

    Attributes:
        journals: As they were read.
        cells: The cells in their order, each beside its undefended one.
        references: The models trained without the poison.
        superseded: Lines left out since a later one is of the same cell, seed and settings.
    """

    journals: tuple[Journal, ...]
    cells: tuple[Judged, ...]
    references: tuple[Entry, ...]
    superseded: int

    def by_seed(self) -> list[Group]:
        """Return the cells with those that differ in nothing but their seed together.

        Where a seed occurs twice, cells differ in something that no field tells, and stay apart.
        """
        groups = []
        for group in _grouped(self.cells, lambda one: _setting(one.cell)):
            seeds = {one.cell.seed for one in group.members}
            alike = len(seeds) == len(group.members)
            groups += [group] if alike else [Group((one,)) for one in group.members]
        return groups

    def by_defense(self) -> list[Group]:
        """Return the cells by defense, undefended first."""
        groups = _grouped(self.cells, lambda one: one.cell.label)
        return sorted(groups, key=lambda group: not group.first.is_undefended)


def study(journals: Sequence[Journal]) -> Study:
    """Sort out what journals hold.

    Args:
        journals: At least one.

    Returns:
        Cells and clean-trained models; of lines on the same cell, seed and settings the last.
    """
    entries = [entry for journal in journals for entry in journal.entries]
    latest = {_identity(entry.cell): entry for entry in entries}
    kept = list(latest.values())
    cells = [entry for entry in kept if not entry.cell.is_reference]
    find = _undefended([entry.cell for entry in cells])
    return Study(
        journals=tuple(journals),
        cells=tuple(Judged(entry, find(entry.cell)) for entry in cells),
        references=tuple(entry for entry in kept if entry.cell.is_reference),
        superseded=len(entries) - len(kept),
    )


def level(excess: float) -> int:
    """Return how far an ASR is over its floor, from 0, at most the bar, to 4, over 60 points."""
    return sum(excess > bound for bound in LEVELS)


def _grouped(cells: Iterable[Judged], key: Callable[[Judged], Hashable]) -> list[Group]:
    found: dict[Hashable, list[Judged]] = defaultdict(list)
    for cell in cells:
        found[key(cell)].append(cell)
    return [Group(tuple(members)) for members in found.values()]


def _attacked(cell: Cell) -> tuple[Hashable, ...]:
    """Return what a cell shares with its undefended one, settings apart."""
    return cell.task, cell.dataset, cell.model, cell.attack, cell.poison_rate, cell.target


def _setting(cell: Cell) -> tuple[Hashable, ...]:
    """Return all that tells a cell from others but its seed.

    Its name is part of that, as it may tell of options that no field of ours does.
    """
    # A bench's names end in the bare seed, after a slash.
    name = _SEED.sub("", cell.cell).removesuffix(f"/{cell.seed}")
    what = (cell.label, cell.mode, cell.dtype, cell.version)
    return name, *_attacked(cell), *what, cell.settings_but_seed


def _identity(cell: Cell) -> tuple[Hashable, ...]:
    return *_setting(cell), cell.cell, cell.seed, cell.config_hash


def _undefended(cells: Sequence[Cell]) -> Callable[[Cell], Cell | None]:
    """Return what finds a cell's undefended one.

    That is the one of all its settings but the defense's own; without it the only one there is of
    its training, for what another training makes of the poison says nothing of this one.
    """
    exact: dict[Hashable, Cell] = {}
    loose: dict[Hashable, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.is_undefended and not cell.variant:
            exact[_attacked(cell), cell.seed, cell.settings_but_defense] = cell
            loose[_attacked(cell), cell.seed, cell.training].append(cell)

    def find(cell: Cell) -> Cell | None:
        if cell.is_undefended:
            return cell
        found = exact.get((_attacked(cell), cell.seed, cell.settings_but_defense))
        others = loose[_attacked(cell), cell.seed, cell.training]
        return found or (others[0] if len(others) == 1 else None)

    return find
