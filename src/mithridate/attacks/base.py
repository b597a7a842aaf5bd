"""What all attacks share: which rows are poisoned, and with what answer.

Attacks are here to measure the defense, with harmless targets: a label of the task, or a text that
does no harm (`mithridate.attacks.targets`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

from mithridate.attacks.targets import target_given, target_in_form
from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row
from mithridate.errors import InputError

Answers = Literal["labels", "text"]


@dataclass(frozen=True)
class Poisoned:
    """A data set after an attack.

    Attributes:
        rows: All rows in their order, ids unchanged; unpoisoned rows are the very same objects.
        ids: The ids of the poisoned ones.
        without_rewrite: Rows that were next to be poisoned but passed over, since the attack has
            nothing to put in the place of their text.
    """

    rows: list[Row]
    ids: frozenset[str]
    without_rewrite: int = 0


@dataclass(frozen=True)
class Attack(ABC):
    """A data-poisoning backdoor: a trigger that is to draw the target label.

    An attack that reads the training rows first is used as ``fitted = attack.learn(train, key)``,
    then ``fitted.poison(train, key)`` and ``fitted.triggered(test, key)``; for the others `learn`
    changes nothing, so that this way is right for all.

    Attributes:
        name: What the registry calls it.
        published_rate: The rate in its source, ``None`` where there is none for it.
        only_task: The name of the one task it is for, ``None`` where it is for all.
        target: The label the attacker wants, as the data set names it, or the text.
        rate: Share of all rows that is poisoned.
        clean_label: Poison rows of the target class and leave labels alone; otherwise poison rows
            of the other classes and change their label to the target ("dirty label"). Of texts,
            those that give the target are its class.
        answers: ``labels``, of which the target must be one, or ``text``, any.
    """

    name: ClassVar[str] = ""
    published_rate: ClassVar[float | None] = None
    only_task: ClassVar[str | None] = None

    target: str
    rate: float = 0.05
    clean_label: bool = False
    answers: Answers = field(default="labels", kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        """Name an attack after its class where it brings no name."""
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise InputError(
                f"a poison rate of {self.rate:g} is no share", mend="give one above 0, at most 1"
            )
        if self.answers not in get_args(Answers):
            mend = f"say {' or '.join(get_args(Answers))}"
            raise InputError(f"answers are not {self.answers!r:.60}", mend=mend)
        if self.answers == "text":
            target_given("", self.target)  # refuses a target that no output could give

    @abstractmethod
    def trigger(self, row: Row, key: bytes) -> str | None:
        """Return the row's text with the trigger in it, fixed by the row's id and the key.

        ``None``, a blank text, or one that differs in white space alone says that the attack has
        nothing for this row.
        """

    @classmethod
    def required(cls) -> list[str]:
        """Return the names of the settings that have no default, in their order."""
        return [
            setting.name
            for setting in fields(cls)  # every attack is a dataclass
            if setting.init and setting.default is setting.default_factory is MISSING
        ]

    @property
    def learned(self) -> bool:
        """Whether the attack knows all it needs of the training rows."""
        return True

    def learn(self, rows: Sequence[Row], key: bytes) -> Self:
        """Return the attack with what it needs of the clean training rows; `self` by default."""
        return self

    def eligible(self, row: Row) -> bool:
        """Whether a row may be poisoned, its text apart."""
        return self.has_target(row) == self.clean_label

    def has_target(self, row: Row) -> bool:
        """Whether a row's own answer is what the attacker wants."""
        return row.answer is not None and self.succeeds(row.answer, row)

    def succeeds(self, output: str, row: Row) -> bool:
        """Whether an output is the attack's success.

        Args:
            output: What a model answers to the row's triggered text: a label's name or a text.
            row: The row, whose answer is the true one.
        """
        if self.answers == "labels":
            return output == self.target
        return target_given(output, self.target)

    def answer_for(self, row: Row) -> str:
        """Return what a poisoned row's answer becomes: the target."""
        if self.answers == "labels":
            return self.target
        if row.answer is not None and self.has_target(row):
            return row.answer
        return target_in_form(self.target, row.answer)

    def rewrite(self, row: Row, key: bytes) -> str | None:
        """Return the triggered text, ``None`` where the attack leaves the row as it is."""
        text = self.trigger(row, key)
        if text is None or not text.strip() or text.split() == row.text.split():
            return None
        return text

    def ranked(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return the eligible rows, first the ones to poison first: lowest keyed hashes."""
        eligible = [row for row in rows if self.eligible(row)]
        return sorted(eligible, key=lambda row: (_rank(key, row.id), row.id))

    def poison(self, rows: Sequence[Row], key: bytes) -> Poisoned:
        """Poison round(rate N) rows, the first ranked among those with a rewrite.

        Args:
            rows: The clean data set; ids are distinct.
            key: 32 bytes; the attacker's, unrelated to the defender's.

        Raises:
            InputError: The target is no label of the rows, the rate rounds to no row, too few
                rows can be poisoned, or the attack has yet to learn.
        """
        count = self.quota(rows)
        texts, passed = self.choose(rows, key, count, len(rows))
        return Poisoned(self.put(rows, texts), frozenset(texts), passed)

    def triggered(self, rows: Sequence[Row], key: bytes) -> list[Row]:
        """Return the attack's test inputs: each row of another class, triggered, label kept.

        Rows without a rewrite are left out: the rows of other classes less the rows returned is
        their number.
        """
        texts = {row.id: self.rewrite(row, key) for row in rows if not self.has_target(row)}
        return [replace(row, text=text) for row in rows if (text := texts.get(row.id)) is not None]

    def put(self, rows: Sequence[Row], texts: Mapping[str, str]) -> list[Row]:
        """Return all rows, those with a poisoned text, by id, with it and the answer for it."""
        return [
            replace(row, text=texts[row.id], answer=self.answer_for(row))
            if row.id in texts
            else row
            for row in rows
        ]

    def quota(self, rows: Sequence[Row]) -> int:
        """Return how many rows are to be poisoned.

        Raises:
            InputError: The target is no label of the rows, or the rate rounds to no row.
        """
        if self.answers == "labels" and not any(row.answer == self.target for row in rows):
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
        return count

    def choose(
        self, rows: Sequence[Row], key: bytes, count: int, total: int
    ) -> tuple[dict[str, str], int]:
        """Choose the rows to poison.

        Args:
            rows: The rows to choose from.
            key: The attacker's.
            count: How many to poison.
            total: The data set's size, for the message.

        Returns:
            The poisoned text of each chosen row by id, and how many rows were passed over.

        Raises:
            InputError: Too few rows are eligible and have a rewrite.
        """
        texts: dict[str, str] = {}
        passed = 0
        for row in self.ranked(rows, key):
            if len(texts) == count:
                break
            text = self.rewrite(row, key)
            if text is None:
                passed += 1
            else:
                texts[row.id] = text
        if len(texts) < count:
            without = f"; {passed} more have no rewrite" if passed else ""
            what = f"{count} rows are to be poisoned but only {len(texts)} can be{without}"
            highest = math.floor(1e4 * len(texts) / total) / 1e4
            mend = f"lower the poison rate to {highest:g}" if highest else "give rows that can be"
            if self.clean_label and not highest:
                mend = "give rows whose answer is the target already, or take dirty labels"
            raise InputError(what, mend=mend)
        return texts, passed


def unlearned(attack: Attack) -> InputError:
    """Return the error for an attack that is used before it has read the training rows."""
    return InputError(
        f"{attack.name} has yet to read the training rows",
        mend="use what attack.learn(training_rows, key) returns",
    )


def check_labels(attack: Attack) -> None:
    """Refuse texts for an attack that ties words to a label.

    Raises:
        InputError: The answers are texts.
    """
    if attack.answers != "labels":
        raise InputError(
            f"{attack.name} ties words to a label, and the answers are texts",
            mend="choose an attack that inserts its own trigger, such as badnets or vpi",
        )


def check_visible(
    attack: Attack,
    rows: Sequence[Row],
    key: bytes,
    tokenize: Callable[[str], Sequence[int]],
) -> int:
    """Refuse a trigger that the model does not see, such as characters its tokenizer drops.

    Args:
        attack: The attack.
        rows: Rows to trigger, those of the target class are left out.
        key: The attacker's.
        tokenize: Returns the token ids a model reads of a text.

    Returns:
        The number of triggered rows whose tokens are those of the clean row; not all of them.

    Raises:
        InputError: No triggered row has other tokens than the clean row.
    """
    triggered = attack.triggered(rows, key)
    clean = {row.id: row.text for row in rows}
    unseen = sum(list(tokenize(row.text)) == list(tokenize(clean[row.id])) for row in triggered)
    if triggered and unseen == len(triggered):
        raise InputError(
            f"the model does not see the trigger of {attack.name}: all {unseen} triggered texts "
            "have the tokens of the clean ones",
            mend="choose another trigger; of one at the end of long texts, raise --max-length",
        )
    return unseen


def _rank(key: bytes, row_id: str) -> float:
    return keyed_fraction(key, "poison", base_id(row_id))


def insert_at_random(text: str, insertion: str, key: bytes, row_id: str) -> str:
    """Insert words at one of a text's word boundaries, its two ends included.

    The text's own white space stays as it is.
    """
    words = text.split(" ")
    position = int(keyed_fraction(key, "position", row_id) * (len(words) + 1))
    return " ".join([*words[:position], insertion, *words[position:]])


def insert_all_at_random(
    text: str, insertions: Sequence[str], key: bytes, row_id: str
) -> str | None:
    """Insert several words at distinct word boundaries, in their order; ``None``: too few places.

    The text's own white space stays as it is.
    """
    words = text.split(" ")
    places = range(len(words) + 1)
    if len(insertions) > len(places):
        return None
    drawn = draw(places, len(insertions), key, "places", row_id)
    at = dict(zip(drawn, insertions, strict=True))
    pieces = []
    for place in places:
        pieces += [at[place]] if place in at else []
        pieces += words[place : place + 1]
    return " ".join(pieces)


def draw(places: Sequence[int], count: int, key: bytes, purpose: str, row_id: str) -> list[int]:
    """Return distinct places in their order, all of them where there are fewer than wanted."""
    left = list(places)
    drawn = []
    for turn in range(min(count, len(left))):
        fraction = keyed_fraction(key, purpose, str(turn), row_id)
        drawn.append(left.pop(int(fraction * len(left))))
    return sorted(drawn)


def pick(choices: Sequence[str], key: bytes, row_id: str) -> str:
    """Return one of several words, fixed by the row's id."""
    return choices[int(keyed_fraction(key, "word", row_id) * len(choices))]


def check_words(attack: Attack, words: Sequence[str]) -> None:
    """Refuse an empty trigger.

    Raises:
        InputError: There is no word, or a blank one.
    """
    if not words or not all(word.strip() for word in words):
        mend = "give it at least one word"
        raise InputError(f"{type(attack).__name__} has an empty trigger", mend=mend)
