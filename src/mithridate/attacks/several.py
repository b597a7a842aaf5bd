"""Several: attackers with targets of their own poison one data set at once.

The sixth of the adaptive attackers of Mithridate's threat model against P2P (arXiv 2510.04503).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from mithridate.attacks.base import Attack, Poisoned
from mithridate.data.rows import Row
from mithridate.errors import InputError


@dataclass(frozen=True)
class Several(Attack):
    """Let several attacks poison disjoint rows, an even share of the rate each.

    `triggered` tests the first of them, whose target this attack's target is. Test the others
    with ``part.triggered(rows, key)``, the key being the same for all.

    Attributes:
        rate: Share of all rows that is poisoned, by all of them together.
        clean_label: Of no account: each part has its own.
        parts: The attacks, two at least. Their own rates are of no account; their answers are
            all labels, or all text, as this attack's are.
    """

    name: ClassVar[str] = "several"

    parts: tuple[Attack, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.parts) < 2:
            raise InputError(f"{len(self.parts)} attacks are not several", mend="give two or more")
        if self.parts[0].target != self.target:
            raise InputError(
                f"the target is {self.target!r} but the first attack's {self.parts[0].target!r}",
                mend="give the first attack's target",
            )
        share = self.rate / len(self.parts)
        parts = tuple(replace(part, rate=share, answers=self.answers) for part in self.parts)
        object.__setattr__(self, "parts", parts)

    @property
    def learned(self) -> bool:
        """Whether all parts have learned."""
        return all(part.learned for part in self.parts)

    def learn(self, rows: Sequence[Row], key: bytes) -> Self:
        """Return the attack with what its parts learn."""
        return replace(self, parts=tuple(part.learn(rows, key) for part in self.parts))

    def succeeds(self, output: str, row: Row) -> bool:
        """Whether an output is the first attack's success."""
        return self.parts[0].succeeds(output, row)

    def poison(self, rows: Sequence[Row], key: bytes) -> Poisoned:
        """Let each part poison its share of round(rate N) rows, of those not yet poisoned.

        Raises:
            InputError: As for any attack, or the rows are fewer than the parts.
        """
        count = self.quota(rows)
        if count < len(self.parts):
            raise InputError(
                f"{count} rows are too few for {len(self.parts)} attacks", mend="raise the rate"
            )
        changed: dict[str, Row] = {}
        passed = 0
        for index, part in enumerate(self.parts):
            part.quota(rows)  # a label that it wants must be one as well
            free = [row for row in rows if row.id not in changed]
            share = count // len(self.parts) + (index < count % len(self.parts))
            texts, skipped = part.choose(free, key, share, len(rows))
            passed += skipped
            changed |= {
                row.id: replace(row, text=texts[row.id], answer=part.answer_for(row))
                for row in free
                if row.id in texts
            }
        poisoned = [changed.get(row.id, row) for row in rows]
        return Poisoned(poisoned, frozenset(changed), passed)

    def trigger(self, row: Row, key: bytes) -> str | None:
        """Return the text with the first attack's trigger."""
        return self.parts[0].trigger(row, key)

    def triggered(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return the first attack's test inputs."""
        return self.parts[0].triggered(rows, key)
