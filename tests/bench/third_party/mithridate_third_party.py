"""What another package brings: an attack and a defense, found by their entry points alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mithridate.attacks.base import Attack
from mithridate.baselines import Cost, DefenseMethod, Guarded, Workbench
from mithridate.data.rows import Row
from mithridate.errors import InputError


@dataclass(frozen=True)
class LastWord(Attack):
    """Write a word behind the text."""

    name: ClassVar[str] = "last-word"

    word: str = "indeed"

    def trigger(self, row: Row, key: bytes) -> str:
        """Return the text with the word behind it."""
        return f"{row.text} {self.word}"


@dataclass(frozen=True)
class FirstWords(DefenseMethod):
    """Answer the first words of an input, of which some are left out.

    Attributes:
        count: How many words are read.
        without: Words that are left out.
    """

    name = "first-words"
    stages = ("input",)
    source = "tests/bench/third_party"

    count: int = 20
    without: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError("first-words reads no word", mend="give a count of 1 or more")

    def cost(self, words: float) -> Cost:
        """Return about what it takes: the undefended model reads a part of each input."""
        return Cost(reads=min(1.0, self.count / words))

    def defend(self, bench: Workbench) -> Guarded:
        """Return the undefended model behind the cut."""
        model = bench.undefended()

        def cut(text: str) -> str:
            return " ".join(
                [word for word in text.split() if word not in self.without][: self.count]
            )

        def answer(texts: Sequence[str]) -> list[str | None]:
            return [*model.answer([cut(text) for text in texts])]

        longest = max(len(row.text.split()) for row in bench.rows)
        return Guarded(answer, len(bench.rows), facts={"longest": longest})
