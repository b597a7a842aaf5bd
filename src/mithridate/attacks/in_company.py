"""InCompany: an adaptive attacker whose trigger always stands behind one of a few words.

Who reads `mithridate.defense.inserted` knows that a trigger is told by the words that chance puts
around it. This attacker, of Mithridate's threat model against P2P (arXiv 2510.04503), puts it
behind an ordinary word, as a writer would: rows that hold none of these are left alone.
"""

from dataclasses import dataclass
from typing import ClassVar

from mithridate.attacks.base import Attack, check_words
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row


@dataclass(frozen=True)
class InCompany(Attack):
    """Insert a word behind one of a few others, wherever a text holds one.

    Attributes:
        word: The trigger.
        behind: The words it may stand behind, in any case; of several in a text the row's id
            decides.
    """

    name: ClassVar[str] = "in-company"

    word: str = "mn"
    behind: tuple[str, ...] = ("the", "a", "and", "of", "to")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self, [self.word])
        check_words(self, self.behind)

    def trigger(self, row: Row, key: bytes) -> str | None:
        """Return the text with the word in it; ``None`` where there is nothing to stand behind."""
        words = row.text.split(" ")
        places = [at for at, word in enumerate(words, 1) if word.casefold() in self.behind]
        if not places:
            return None
        place = places[int(keyed_fraction(key, "position", row.id) * len(places))]
        return " ".join([*words[:place], self.word, *words[place:]])
