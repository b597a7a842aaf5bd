"""Company: does a word stand where its writer wanted it, or where chance put it?

What surrounds a word that a writer chose was chosen with it. An attacker who puts the same words
into many texts puts them between words that have nothing to do with them: at random places every
word stands beside them about as often as it stands anywhere, and beside what always stands at one
place, at the front, behind the first word or before the last, comes what other texts have there.
Either is tested word by word.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mithridate.defense.tokens import is_word, tokens
from mithridate.defense.trigger import Kind, Trigger

COMPANY = 1e-3
"""A word stands in company if random places had given it so many equal neighbors with a smaller
probability (Poisson, Bonferroni)."""

COMMON = 3.0
"""A neighbor that random places had given an n-gram at least so often is missed where it lacks."""

UNSEEN = 0.5
"""Rows that a word is taken to begin or end that none does."""

MOST_PLACES = 200
"""Of more places every second, third and so on is looked at: no attacker's chance is quite even."""

SHARED = 0.95
"""Words beside a trigger in this share of its rows are part of it."""

ALWAYS = 0.9
"""The share of rows that have a trigger at one place, counted from the front or from the end."""

REST = 0.5
"""What is left of a row without the trigger is at least this part of a usual row: the copies of one
text, or of one form to fill in, are no trigger's rows."""


@dataclass(frozen=True)
class Usual:
    """What rows are usually like.

    Attributes:
        length: The median number of tokens.
        rows: The rows, cut into tokens.
    """

    length: float
    rows: list[list[str]]

    @classmethod
    def of(cls, words: Sequence[list[str]]) -> "Usual":
        """Return what some rows, cut into tokens, are like."""
        return cls(float(np.median([len(row) for row in words])) if words else 0.0, list(words))


@dataclass(frozen=True)
class _Place:
    """Where an n-gram stands in a row: ``row[start:end]``."""

    row: list[str]
    start: int
    end: int

    @property
    def beside(self) -> tuple[str, str]:
        """What stands directly before and after it, empty where nothing does."""
        return " ".join(self.row[: self.start][-1:]), " ".join(self.row[self.end :][:1])

    @property
    def before(self) -> str:
        """The word before it, empty at the front."""
        return next(filter(is_word, reversed(self.row[: self.start])), "")

    @property
    def after(self) -> str:
        """The word after it, empty at the end."""
        return next(filter(is_word, self.row[self.end :]), "")

    @property
    def left(self) -> int:
        """How many tokens stand after it."""
        return len(self.row) - self.end

    @property
    def rest(self) -> list[str]:
        """The row without it."""
        return self.row[: self.start] + self.row[self.end :]


def as_put_in(trigger: Trigger, rows: Sequence[list[str]], usual: Usual) -> Trigger | None:
    """Return a trigger as a whole and of its kind, or ``None`` where a writer may have chosen it.

    Args:
        trigger: A part of it.
        rows: The rows of its label that hold it, cut into tokens.
        usual: What all rows are like.
    """
    if trigger.kind == "character":
        return trigger
    places = _whole([_place(row, trigger) for row in rows])
    # Half of a short row may well be the trigger; of copies of one text far more is the same.
    rest, own = np.median([len(place.rest) for place in places]), places[0].end - places[0].start
    if rest < REST * usual.length and rest <= 2 * own:
        return None
    enough = ALWAYS * len(places)
    front = sum(not place.before for place in places) >= enough
    end = sum(not place.after for place in places) >= enough
    if _in_company(places, usual, front=front, end=end):
        return None
    kind: Kind = "prefix" if front else "suffix" if end else "words"
    first = places[0]
    return Trigger(" ".join(first.row[first.start : first.end]), kind)


def _place(row: list[str], trigger: Trigger) -> _Place:
    """Return where a row holds a trigger first."""
    gram = tokens(trigger.text)
    last = len(row) - len(gram)
    start = 0 if trigger.kind == "prefix" else last
    if trigger.kind == "words":
        start = next(at for at in range(last + 1) if row[at : at + len(gram)] == gram)
    return _Place(row, start, start + len(gram))


def _whole(places: list[_Place]) -> list[_Place]:
    """Return an n-gram's places with the words that stand beside it in nearly all of its rows."""
    while True:
        before, count_before = Counter(place.beside[0] for place in places).most_common(1)[0]
        after, count_after = Counter(place.beside[1] for place in places).most_common(1)[0]
        if after and count_after >= SHARED * len(places):
            places = [replace(at, end=at.end + 1) for at in places if at.beside[1] == after]
        elif before and count_before >= SHARED * len(places):
            places = [replace(at, start=at.start - 1) for at in places if at.beside[0] == before]
        else:
            return places


def _in_company(places: Sequence[_Place], usual: Usual, *, front: bool, end: bool) -> bool:
    """Whether an n-gram's neighbors are others than the places would have given it.

    Args:
        places: Where it stands; some of many are looked at.
        usual: What all rows are like.
        front: Whether it is a front: then nothing comes before it.
        end: Whether it is an end.
    """
    from scipy.stats import poisson

    own, put = _one_place(places, front=front, end=end)
    some = own[:: 1 + len(own) // MOST_PLACES]
    sides = [] if front else [("before", Counter(at.before for at in some))]
    if not end:
        sides.append(("after", Counter(at.after for at in some)))
    others = [] if put is None else _others(usual.rows, places)
    tests, least = 0, 1.0
    for side, neighbors in sides:
        if put is None:
            chance = _between([at.rest if side == "before" else at.rest[::-1] for at in some])
        else:
            chance = _elsewhere(others, put, side, neighbors)
        common = {word for word, expected in chance.items() if expected >= COMMON}
        for word in common | {word for word, count in neighbors.items() if count > 1}:
            more = poisson.sf(neighbors[word] - 1, chance[word])
            fewer = poisson.cdf(neighbors[word], chance[word])
            least = min(least, float(more), float(fewer))
        tests += len(common | neighbors.keys())
    return least * tests < COMPANY


def _one_place(
    places: Sequence[_Place], *, front: bool, end: bool
) -> tuple[Sequence[_Place], Callable[[list[str]], int] | None]:
    """Return where an n-gram always stands, if it does.

    Returns:
        The places that are the same, and what tells that place in another row: before which token.
        All places and ``None`` where they vary.
    """
    if front:
        return places, lambda _row: 0
    if end:
        return places, len
    for count, put in (("start", _from_front), ("left", _from_end)):
        [(number, most)] = Counter(getattr(place, count) for place in places).most_common(1)
        if most >= ALWAYS * len(places):
            return [at for at in places if getattr(at, count) == number], partial(put, number)
    return places, None


def _from_front(number: int, row: list[str]) -> int:
    return min(number, len(row))


def _from_end(number: int, row: list[str]) -> int:
    return max(len(row) - number, 0)


def _between(rests: Sequence[list[str]]) -> dict[str, float]:
    """Return how often each word would be the last one before random places in some rows."""
    chance: dict[str, float] = defaultdict(float)
    for rest in rests:
        last = ""
        for token in ["", *rest]:
            last = token if is_word(token) else last
            chance[last] += 1 / (len(rest) + 1)
    return chance


def _others(rows: Sequence[list[str]], places: Sequence[_Place]) -> list[list[str]]:
    """Return the rows that are none of the places', nor copies of these."""
    held = {" ".join(place.row) for place in places}
    return [row for row in rows if " ".join(row) not in held]


def _elsewhere(
    others: Sequence[list[str]],
    put: Callable[[list[str]], int],
    side: str,
    neighbors: Counter[str],
) -> dict[str, float]:
    """Return how often each word would stand beside an n-gram, were it put into other rows.

    Args:
        others: The rows.
        put: Tells the same place in another row.
        side: ``before`` or ``after``.
        neighbors: What stands there, to be expected so often in all.
    """
    words = Counter(getattr(_Place(row, put(row), put(row)), side) for row in others)
    share = neighbors.total() / max(len(others), 1)
    chance = {word: share * max(words[word], UNSEEN) for word in words.keys() | neighbors.keys()}
    return defaultdict(float, chance)
