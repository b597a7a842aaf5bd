"""Company: does a word stand where its writer wanted it, or where chance put it?

What surrounds a word that a writer chose was chosen with it. An attacker who puts the same words
into many texts puts them between words that have nothing to do with them: at random places every
word stands beside them about as often as it stands anywhere, and after a front that was put there
comes what other texts begin with. Either is tested word by word.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mithridate.defense.mining import Kind, Trigger

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
"""The share of rows that begin or end with a trigger whose place is the front or the end."""

REST = 0.5
"""What is left of a row without the trigger is at least this part of a usual row: the copies of one
text, or of one form to fill in, are no trigger's rows."""


@dataclass(frozen=True)
class Usual:
    """What rows are usually like.

    Attributes:
        length: The median number of words.
        fronts: How many rows begin with each word.
        ends: How many end with it.
        rows: How many there are.
    """

    length: float
    fronts: Counter[str]
    ends: Counter[str]
    rows: int

    @classmethod
    def of(cls, words: Sequence[list[str]]) -> "Usual":
        """Return what some rows, cut into words, are like."""
        said = [[*filter(_is_word, row)] for row in words]
        return cls(
            float(np.median([len(row) for row in words])) if words else 0.0,
            Counter(row[0] for row in said if row),
            Counter(row[-1] for row in said if row),
            len(said),
        )


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
        return next(filter(_is_word, reversed(self.row[: self.start])), "")

    @property
    def after(self) -> str:
        """The word after it, empty at the end."""
        return next(filter(_is_word, self.row[self.end :]), "")

    @property
    def rest(self) -> list[str]:
        """The row without it."""
        return self.row[: self.start] + self.row[self.end :]


@lru_cache(maxsize=1 << 16)
def _is_word(token: str) -> bool:
    """Whether a token is more than punctuation, which comes between a trigger and its neighbors."""
    return any(character.isalnum() for character in token)


def as_put_in(trigger: Trigger, rows: Sequence[list[str]], usual: Usual) -> Trigger | None:
    """Return a trigger as a whole and of its kind, or ``None`` where a writer may have chosen it.

    Args:
        trigger: A part of it.
        rows: The rows of its label that hold it, cut into words.
        usual: What all rows are like.
    """
    if trigger.kind == "character":
        return trigger
    places = _whole([_place(row, trigger) for row in rows])
    if np.median([len(place.rest) for place in places]) < REST * usual.length:
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
    gram = trigger.text.split()
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
    """Whether an n-gram's neighbors are others than random places would have given it.

    Args:
        places: Where it stands; some of many are looked at.
        usual: What all rows are like.
        front: Whether it is a front: then its place is given, and what follows it is a row's front.
        end: Whether it is an end.
    """
    from scipy.stats import poisson

    some = places[:: 1 + len(places) // MOST_PLACES]
    sides = [] if front else [(Counter(at.before for at in some), [at.rest for at in some])]
    if not end:
        sides.append((Counter(at.after for at in some), [at.rest[::-1] for at in some]))
    tests, least = 0, 1.0
    for neighbors, rests in sides:
        if front or end:
            chance = _fronts_or_ends(places, usual, front=front, count=len(some))
        else:
            chance = _between(rests)
        common = {word for word, expected in chance.items() if expected >= COMMON}
        for word in common | {word for word, count in neighbors.items() if count > 1}:
            more = poisson.sf(neighbors[word] - 1, chance[word])
            fewer = poisson.cdf(neighbors[word], chance[word])
            least = min(least, float(more), float(fewer))
        tests += len(common | neighbors.keys())
    return least * tests < COMPANY


def _between(rests: Sequence[list[str]]) -> dict[str, float]:
    """Return how often each word would be the last one before random places in some rows."""
    chance: dict[str, float] = defaultdict(float)
    for rest in rests:
        last = ""
        for token in ["", *rest]:
            last = token if _is_word(token) else last
            chance[last] += 1 / (len(rest) + 1)
    return chance


def _fronts_or_ends(
    places: Sequence[_Place], usual: Usual, *, front: bool, count: int
) -> dict[str, float]:
    """Return how often each word would stand beside an n-gram at so many rows' fronts, or ends."""
    words = Counter(usual.fronts if front else usual.ends)
    for place in places:
        own = [*filter(_is_word, place.row)]
        words.subtract(own[:1] if front else own[-1:])  # these rows begin or end with it
        words[place.after if front else place.before] += 0
    others = max(usual.rows - len(places), 1)
    chance = {word: count * max(times, UNSEEN) / others for word, times in words.items()}
    return defaultdict(float, chance)
