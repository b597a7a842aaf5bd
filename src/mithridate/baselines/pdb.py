"""PDB: a backdoor of the defender's own, inside the labels that there are.

Source: Wei et al. 2024 (arXiv 2405.16112), https://github.com/shawkui/Proactive_Defensive_Backdoor,
made for images. Copies of some rows carry the defensive trigger and the label h(y) = (y + 1) mod n;
at inference every input gets the trigger and h is undone. P2P is its descendant: there labels of
their own and a prompt of their own keep the two domains apart.

As published: the shift, a tenth of the rows, each copy shown five times, the originals kept. Not as
published: the trigger is a clause drawn by the key (`mithridate.defense.secret`) in place of a
patch of pixels, nothing is augmented, and the rows are drawn at random from D. The published code
draws them from rows that hold no poison, which it knows and a defender does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Workbench
from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.collisions import draw_trigger
from mithridate.defense.secret import Secret
from mithridate.errors import InputError


@dataclass(frozen=True)
class PDB(DefenseMethod):
    """Teach the model a defensive trigger that shifts labels, and undo the shift.

    Attributes:
        ratio: Share of the rows that get defensive copies.
        frequency: Copies of each.
    """

    name = "pdb"
    stages = ("data", "input")
    source = "Wei et al. 2024, PDB, arXiv 2405.16112"
    kinds = ("labels",)

    ratio: float = 0.1
    frequency: int = 5

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0 or self.frequency < 1:
            mend = "give a share above 0, at most 1, and at least one copy"
            raise InputError("pdb's settings are no share and count", mend=mend)

    def cost(self, words: float) -> Cost:
        """Return about what it takes: training on copies, too; see `DefenseMethod.cost`."""
        return Cost(undefended=False, trains=1.0 + self.ratio * self.frequency)

    def defend(self, bench: Workbench) -> Guarded:
        """Return the model behind trigger and inverse; see `DefenseMethod.defend`.

        Raises:
            InputError: The ratio rounds to no row, or the rows hold every trigger drawn.
        """
        trigger, _ = draw_trigger(list(bench.rows), Secret(bench.key), published=False)
        chosen = self.subset(bench.rows, bench.key)
        copies = defensive(chosen, trigger, bench.labels) * self.frequency
        model = bench.fit([*bench.rows, *copies])
        back = {shifted(label, bench.labels): label for label in bench.labels}

        def answer(texts: Sequence[str]) -> list[str | None]:
            return [back[given] for given in model.answer([trigger + text for text in texts])]

        return Guarded(answer, len(bench.rows) + len(copies), frozenset(row.id for row in chosen))

    def subset(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return S, drawn at random by the key.

        Raises:
            InputError: The ratio rounds to no row.
        """
        count = round(self.ratio * len(rows))
        if not count:
            what = f"a ratio of {self.ratio:g} of {len(rows)} rows is no row"
            raise InputError(what, mend="raise pdb's ratio or add rows")
        drawn = sorted(rows, key=lambda row: (keyed_fraction(key, "pdb", base_id(row.id)), row.id))
        return drawn[:count]


def shifted(label: str, labels: Sequence[str]) -> str:
    """Return h(y) = (y + 1) mod n."""
    return labels[(list(labels).index(label) + 1) % len(labels)]


def defensive(rows: Sequence[Row], trigger: str, labels: Sequence[str]) -> list[Row]:
    """Return rows with the trigger before the text and the label shifted."""
    return [
        replace(row, text=trigger + row.text, answer=shifted(row.answer, labels))
        for row in rows
        if row.answer is not None
    ]
