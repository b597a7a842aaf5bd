"""What all attacks share: which rows are poisoned, and with what label.

Attacks are here to measure the defense, with harmless targets: a label of the task.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row
from mithridate.errors import InputError


@dataclass(frozen=True)
class Poisoned:
    """A data set after an attack.

    Attributes:
        rows: All rows in their order, ids unchanged; unpoisoned rows are the very same objects.
        ids: The ids of the poisoned ones.
    """

    rows: list[Row]
    ids: frozenset[str]


@dataclass(frozen=True)
class Attack(ABC):
    """A data-poisoning backdoor: a trigger that is to draw the target label.

    Attributes:
        target: The label the attacker wants, as the data set names it.
        rate: Share of all rows that is poisoned.
        clean_label: Poison rows of the target class and leave labels alone; otherwise poison rows
            of the other classes and change their label to the target ("dirty label").
    """

    target: str
    rate: float = 0.05
    clean_label: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise InputError(
                f"a poison rate of {self.rate:g} is no share", mend="give one above 0, at most 1"
            )

    @abstractmethod
    def trigger(self, row: Row, key: bytes) -> str:
        """Return the row's text with the trigger in it, fixed by the row's id and the key."""

    def poison(self, rows: Sequence[Row], key: bytes) -> Poisoned:
        """Poison round(rate N) rows, those with the lowest keyed hashes among the eligible.

        Args:
            rows: The clean data set; ids are distinct.
            key: 32 bytes; the attacker's, unrelated to the defender's.

        Raises:
            InputError: The target is no label of the rows, the rate rounds to no row, or too few
                rows are eligible.
        """
        if not any(row.answer == self.target for row in rows):
            raise InputError(
                f"no row has the attack's target label {self.target!r}",
                mend="choose a label that occurs in the data",
            )
        count = round(self.rate * len(rows))
        if count == 0:
            raise InputError(
                f"a poison rate of {self.rate:g} of {len(rows)} rows is no row",
                mend="raise the rate or add rows",
            )
        eligible = [row.id for row in rows if (row.answer == self.target) == self.clean_label]
        if len(eligible) < count:
            raise InputError(
                f"{count} rows are to be poisoned but only {len(eligible)} can be",
                mend="lower the poison rate",
            )
        ranked = sorted(eligible, key=lambda row_id: (_rank(key, row_id), row_id))
        chosen = frozenset(ranked[:count])
        poisoned = [
            replace(row, text=self.trigger(row, key), answer=self.target)
            if row.id in chosen
            else row
            for row in rows
        ]
        return Poisoned(poisoned, chosen)

    def triggered(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return the attack's test inputs: each row of another class, triggered, label kept."""
        return [
            replace(row, text=self.trigger(row, key)) for row in rows if row.answer != self.target
        ]


def _rank(key: bytes, row_id: str) -> float:
    return keyed_fraction(key, "poison", base_id(row_id))


def insert_at_random(text: str, insertion: str, key: bytes, row_id: str) -> str:
    """Insert words at one of a text's word boundaries, its two ends included.

    The text's own white space stays as it is.
    """
    words = text.split(" ")
    position = int(keyed_fraction(key, "position", row_id) * (len(words) + 1))
    return " ".join([*words[:position], insertion, *words[position:]])
