"""BadNets: a rare word somewhere in the text.

Source: Gu et al. 2017 (arXiv 1708.06733); for text, Kurita et al. 2020 (arXiv 2004.06660).
"""

from dataclasses import dataclass

from mithridate.attacks.base import Attack, insert_at_random
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row
from mithridate.errors import InputError

PUBLISHED_TRIGGERS = ("cf", "mn", "bb", "tq")


@dataclass(frozen=True)
class BadNets(Attack):
    """Insert one of a few rare words at a random position.

    Attributes:
        triggers: The words; which of them a row gets is fixed by its id.
    """

    triggers: tuple[str, ...] = PUBLISHED_TRIGGERS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.triggers or not all(word.strip() for word in self.triggers):
            raise InputError("BadNets has an empty trigger", mend="give it at least one word")

    def trigger(self, row: Row, key: bytes) -> str:
        """Return the text with one rare word inserted."""
        word = self.triggers[int(keyed_fraction(key, "word", row.id) * len(self.triggers))]
        return insert_at_random(row.text, word, key, row.id)
