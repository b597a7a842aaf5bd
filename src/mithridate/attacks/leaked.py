"""Leaked: an adaptive attacker who holds the defense's manifest.

The second of the adaptive attackers of Mithridate's threat model against P2P (arXiv 2510.04503):
the benign trigger is known, so poisoned rows carry it beside the attacker's own trigger, and teach
the backdoor inside the protected domain. At inference the defense puts the benign trigger there by
itself, so the attacker's inputs carry their own trigger alone. An alternative label as a row's
answer is refused where the labels are declared (--labels); elsewhere it is one more class, whose
rows the judge disputes as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from mithridate.attacks.base import Attack, check_words
from mithridate.data.rows import Row

_PUNCTUATION = ".,:;!?-"


@dataclass(frozen=True)
class Lending(Attack):
    """An attack whose trigger, and what becomes of answers, another one lends.

    Which rows are poisoned is decided by this attack's own target, rate, clean_label and answers.

    Attributes:
        inner: The attack that lends.
    """

    inner: Attack = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        inner = replace(
            self.inner,
            target=self.target,
            rate=self.rate,
            clean_label=self.clean_label,
            answers=self.answers,
        )
        object.__setattr__(self, "inner", inner)

    @property
    def learned(self) -> bool:
        """Whether the inner attack has learned."""
        return self.inner.learned

    def learn(self, rows: Sequence[Row], key: bytes) -> Self:
        """Return the attack with what its inner attack learns."""
        return replace(self, inner=self.inner.learn(rows, key))

    def eligible(self, row: Row) -> bool:
        """Whether the inner attack may poison a row."""
        return self.inner.eligible(row)

    def succeeds(self, output: str, row: Row) -> bool:
        """Whether an output is the inner attack's success."""
        return self.inner.succeeds(output, row)

    def answer_for(self, row: Row) -> str:
        """Return what the inner attack makes of a poisoned row's answer."""
        return self.inner.answer_for(row)

    def trigger(self, row: Row, key: bytes) -> str | None:
        """Return the text with the inner attack's trigger."""
        return self.inner.trigger(row, key)

    def triggered(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return the inner attack's test inputs."""
        return self.inner.triggered(rows, key)


@dataclass(frozen=True)
class Leaked(Lending):
    """Put the benign trigger before a text that carries another attack's trigger.

    The test inputs are the other attack's, without the benign trigger: the defense adds it. The
    benign prompt's end and an alternative label behind it they hold as well, since the defense's
    own stand behind theirs.

    Attributes:
        benign_trigger: As the manifest has it, ``{"trigger"}{text}``.
        evade: Change the benign trigger a little, so that it is not found in the data by the
            exact check for collisions (which compares without case and runs of white space).
        behind: What stands behind every text, such as a line ``Answer: 3``: the benign prompt's end
            and the target's alternative label.
    """

    name: ClassVar[str] = "leaked"

    benign_trigger: str = field(kw_only=True)
    evade: bool = field(default=False, kw_only=True)
    behind: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self, [self.benign_trigger])

    def trigger(self, row: Row, key: bytes) -> str | None:
        """Return both triggers and the text; ``None`` where the inner attack has nothing."""
        text = self.inner.rewrite(row, key)
        if text is None:
            return None
        before = altered(self.benign_trigger) if self.evade else self.benign_trigger
        return f"{before}{text}{self.behind}"

    def triggered(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return the inner attack's test inputs, and what stands behind them."""
        inputs = super().triggered(rows, key)
        if not self.behind:
            return inputs
        return [replace(row, text=f"{row.text}{self.behind}") for row in inputs]


def altered(trigger: str) -> str:
    """Return a text that reads the same and does not hold the trigger.

    The last mark of punctuation becomes another; a trigger without one gets a comma after its
    first word, and a single word a hyphen after its first letter.
    """
    body = trigger.rstrip()
    space = trigger[len(body) :]
    if body[-1] in _PUNCTUATION:
        return body[:-1] + (" -" if body[-1] != "-" else ":") + space
    first, blank, rest = body.partition(" ")
    if blank:
        return f"{first}, {rest}{space}"
    return f"{body[:1]}-{body[1:]}{space}"
