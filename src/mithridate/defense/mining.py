"""Mining: what marks the rows a judge disagrees with, and could be a trigger.

Poisoned rows carry a wrong label, so a judge that did not learn the trigger disagrees with them,
and whatever they share is over-represented among the disagreeing rows of one label. Four kinds of
thing are counted: n-grams anywhere, n-grams at the very front or end, and characters that a reader
does not see or takes for others.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import numpy.typing as npt

from mithridate.defense.odd import odd_characters
from mithridate.defense.tokens import as_written, tokens
from mithridate.defense.trigger import KINDS, Kind, Trigger, folded_words, holds

LONGEST = 5
FEWEST_ROWS = 5
MOST_TRIGGERS = 8
SIGNIFICANCE = 0.01
SMALLEST_Z = 3.0
SHARE_OF_STRONGEST = 0.5
MOST_HOLDING = 0.25
MOST_OF_LABEL = 0.5
CERTAIN = 1.8
FOLDED_GAIN = 1.25
"""What n-grams without case and punctuation must gain in z over all as written, to be tried."""

EXACT_TESTS = 1 << 20
"""Up to so many distinct n-grams are counted exactly, for the correction of p-values."""


@dataclass(frozen=True)
class MinedTrigger:
    """A feature over-represented among the rows of one label the judge disagrees with.

    Attributes:
        text: Its 1 to 5 words, or the character.
        label: The label of those rows, 0..n-1: what the trigger seems to draw.
        z: Two-proportion z-score against all other rows.
        inside: Disagreeing rows of the label that hold it.
        outside: All other rows that hold it.
        kind: See `Trigger`.
        p: Probability that chance alone does as much for any of the candidates (Bonferroni);
            ``None`` of what was put in: what a judge expects is no exact chance.
        folded: Whether case and punctuation were left out of account.
        inserted: Whether it was found by where it stands (`mithridate.defense.inserted`). Then
            ``inside`` counts all rows of the label that hold it, and ``z`` is that search's own.
        expected: The share of its rows of which that search's judge expects the label without it.
    """

    text: str
    label: int
    z: float
    inside: int
    outside: int
    kind: Kind = "words"
    p: float | None = None
    folded: bool = False
    inserted: bool = False
    expected: float = 0.0

    @property
    def trigger(self) -> Trigger:
        """What to put into texts."""
        return Trigger(self.text, self.kind)

    def is_in(self, text: str) -> bool:
        """Whether a text holds it."""
        return holds(text, self.trigger, folded=self.folded)


@dataclass(frozen=True)
class Family:
    """Features of one sort: n-grams of what a text is cut into.

    Attributes:
        tokens: Cuts a text.
        longest: The longest n-gram; 1 where the tokens are the features.
    """

    tokens: Callable[[str], list[str]]
    longest: int = LONGEST


def mine_triggers(
    texts: Sequence[str],
    classes: Sequence[int],
    agrees: npt.NDArray[np.bool_],
    *,
    most: int = MOST_TRIGGERS,
    share_of_strongest: float = SHARE_OF_STRONGEST,
) -> list[MinedTrigger]:
    """Return what marks the disagreeing rows, most significant first.

    A feature is significant if chance would put it into so many of the disagreeing rows with a
    probability (hypergeometric, exact) below 0.01 over the number of features those rows hold
    (Bonferroni); words anywhere are one family of candidates, fronts, ends and characters another.
    Each label is looked at by itself: a trigger that draws two of them is found for both.
    What has less than half the z of its label's strongest is left out too: beside a trigger (z
    about 20 in SST-2 with 5% BadNets) stand innocent n-grams that the judge finds hard (z about 5),
    and each of them takes room from the trigger. Of a label's features that contain each other the
    one with the highest z stands, the longest among equals, and a front or end before the same
    words anywhere. N-grams without case and punctuation are tried too; one stands only where it is
    much stronger than all of its label as written, as where an attacker varies them.

    Memory is that of the features that are frequent among the disagreeing rows.

    Args:
        texts: The rows' inputs.
        classes: Their labels, 0..n-1.
        agrees: Shape (rows,): whether the judge agrees with the label.
        most: How many to return at most.
        share_of_strongest: The share of the z of a label's strongest below which others of the
            label are left out.
    """
    as_is = [
        *_significant(WORDS, texts, classes, agrees),
        *_significant(PLACED, texts, classes, agrees),
    ]
    best = _best(as_is)
    folded = [
        found
        for found in _significant(FOLDED, texts, classes, agrees)
        if found.z > FOLDED_GAIN * best.get(found.label, 0.0)
    ]
    found = strong([*as_is, *folded], share_of_strongest)
    return [written(one, filter(one.is_in, texts)) for one in distinct(found)[:most]]


def distinct(found: Sequence[MinedTrigger]) -> list[MinedTrigger]:
    """Return triggers, the most significant first, and of several that overlap the first alone."""
    kept: list[MinedTrigger] = []
    for one in sorted(found, key=lambda t: (-t.z, -len(t.text), KINDS.index(t.kind), t.text)):
        if not any(overlap(one, other) for other in kept):
            kept.append(one)
    return kept


def written(mined: MinedTrigger, holding: Iterable[str]) -> MinedTrigger:
    """Return a mined trigger with its text as most of the texts that hold it have it."""
    if mined.kind == "character" or mined.folded:
        return mined
    at_end = mined.kind == "suffix"
    return replace(mined, text=as_written(tokens(mined.text), holding, at_end=at_end))


def strong(mined: Sequence[MinedTrigger], share: float = SHARE_OF_STRONGEST) -> list[MinedTrigger]:
    """Return what has more than a share of the z of its label's strongest, in the order given.

    Labels are apart from each other: a tiny class that the judge never sees is disputed as a whole,
    and the words that make it would outshine any trigger.
    """
    strongest = _best(mined)
    return [found for found in mined if found.z > max(SMALLEST_Z, share * strongest[found.label])]


def _best(mined: Sequence[MinedTrigger]) -> dict[int, float]:
    """Return the highest z of each label."""
    best: dict[int, float] = {}
    for found in mined:
        best[found.label] = max(found.z, best.get(found.label, 0.0))
    return best


def together(
    inserted: Sequence[MinedTrigger], mined: Sequence[MinedTrigger], most: int = MOST_TRIGGERS
) -> list[MinedTrigger]:
    """Return what was put in, then what marks disputed rows beyond that, label by label."""
    others = [one for one in mined if not any(overlap(one, first) for first in inserted)]
    return [*inserted, *others][:most]


def marked_rows(
    texts: Sequence[str],
    classes: Sequence[int],
    mined: Sequence[MinedTrigger],
    *,
    exclusive: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Return which rows hold a mined trigger and have the label it seems to draw, shape (rows,).

    A trigger that more than a quarter of all rows hold marks none, nor do those of a label that
    together mark more than half of it: they may well be innocent, such as the words that make a
    tiny class that the judge never sees, and too little would be left to choose S from. What was
    put in (`MinedTrigger.inserted`) may mark 1.8 times as much, and counts by itself.

    Args:
        texts: The rows' inputs.
        classes: Their labels, 0..n-1.
        mined: What marks the disputed rows.
        exclusive: Triggers count of whose rows at least this share have the label.
    """
    labels = np.asarray(classes)
    marked = np.zeros(len(texts), dtype=bool)
    disputed: dict[int, npt.NDArray[np.bool_]] = {}
    for found in mined:
        own = np.flatnonzero(labels == found.label).tolist()
        held = [at for at in own if found.is_in(texts[at])]
        everywhere = found.inside + found.outside
        times = CERTAIN if found.inserted else 1.0
        if everywhere > times * MOST_HOLDING * len(texts) or len(held) < exclusive * everywhere:
            continue
        if not found.inserted:
            disputed.setdefault(found.label, np.zeros(len(texts), dtype=bool))[held] = True
        elif len(held) <= times * MOST_OF_LABEL * len(own):
            marked[held] = True
    for label, held_by_any in disputed.items():
        if held_by_any.sum() <= MOST_OF_LABEL * (labels == label).sum():
            marked |= held_by_any
    return marked


def _placed(text: str) -> list[str]:
    """Return a text's odd characters, fronts and ends, each marked by the initial of its kind."""
    words = tokens(text)
    lengths = range(1, min(LONGEST, len(words)) + 1)
    return [
        *(f"c{odd}" for odd in odd_characters(text)),
        *(f"p{' '.join(words[:length])}" for length in lengths),
        *(f"s{' '.join(words[-length:])}" for length in lengths),
    ]


INITIALS: dict[str, Kind] = {"c": "character", "p": "prefix", "s": "suffix"}
WORDS = Family(tokens)
FOLDED = Family(folded_words)
PLACED = Family(_placed, longest=1)


def _significant(
    family: Family,
    texts: Sequence[str],
    classes: Sequence[int],
    agrees: npt.NDArray[np.bool_],
) -> list[MinedTrigger]:
    """Return a family's features that chance does not explain."""
    suspects: dict[int, list[str]] = {}
    for text, label, agreed in zip(texts, classes, agrees, strict=True):
        if not agreed:
            suspects.setdefault(label, []).append(text)
    inside = {label: frequent(family, rows) for label, rows in sorted(suspects.items())}
    tests = sum(_distinct(family, rows) for rows in suspects.values())
    everywhere = _holding(family, texts, {gram for counts in inside.values() for gram in counts})
    found = []
    for label, counts in inside.items():
        size = len(suspects[label])
        for gram, count in counts.items():
            outside = everywhere[gram] - count
            z = _two_proportion_z(count, size, outside, len(texts) - size)
            if z <= SMALLEST_Z:
                continue
            p = _chance(count, count + outside, size, len(texts)) * tests
            if p < SIGNIFICANCE:
                kind: Kind = "words"
                if family is PLACED:
                    kind, gram = INITIALS[gram[0]], gram[1:]
                folded = family is FOLDED
                found.append(MinedTrigger(gram, label, z, count, outside, kind, p, folded))
    return found


def frequent(family: Family, rows: Sequence[str], fewest: int = FEWEST_ROWS) -> dict[str, int]:
    """Count the features that at least some rows hold.

    The parts of a frequent n-gram are frequent (Agrawal & Srikant 1994), so longer ones are looked
    for among frequent parts alone, and the many rare ones are never held in memory.
    """
    found: dict[str, int] = {}
    for length in range(1, family.longest + 1):
        counts: Counter[str] = Counter()
        for text in rows:
            words = family.tokens(text)
            grams = set()
            for start in range(len(words) - length + 1):
                part = words[start : start + length]
                if length == 1 or (" ".join(part[:-1]) in found and " ".join(part[1:]) in found):
                    grams.add(" ".join(part))
            counts.update(grams)
        enough = {gram: count for gram, count in counts.items() if count >= fewest}
        if not enough:
            break
        found |= enough
    return found


def _holding(family: Family, texts: Sequence[str], candidates: set[str]) -> Counter[str]:
    """Count the rows of all texts that hold each candidate."""
    counts: Counter[str] = Counter()
    for text in texts if candidates else ():
        words = family.tokens(text)
        held = set()
        for start, gram in enumerate(words):
            # What an n-gram begins with is a candidate too, so the first miss ends the search.
            end = start + 1
            while gram in candidates:
                held.add(gram)
                if end == len(words) or end - start == family.longest:
                    break
                gram = f"{gram} {words[end]}"
                end += 1
        counts.update(held)
    return counts


def _distinct(family: Family, rows: Sequence[str]) -> int:
    """Return how many distinct features rows hold: exactly up to 2^20, beyond to about 0.1%.

    Beyond, features are kept by their hash, a half at a time (Flajolet 1990, adaptive sampling).
    """
    kept: set[int] = set()
    mask = 0
    for text in rows:
        words = family.tokens(text)
        for length in range(1, family.longest + 1):
            for start in range(len(words) - length + 1):
                hashed = _hash(" ".join(words[start : start + length]))
                if not hashed & mask:
                    kept.add(hashed)
        while len(kept) > EXACT_TESTS:
            mask = 2 * mask + 1
            kept = {hashed for hashed in kept if not hashed & mask}
    return len(kept) * (mask + 1)


def _hash(gram: str) -> int:
    """Return a hash of 64 bits that is the same in every process."""
    encoded = gram.encode("utf-8", "surrogatepass")
    return zlib.adler32(encoded) << 32 | zlib.crc32(encoded)


def overlap(one: MinedTrigger, other: MinedTrigger) -> bool:
    """Whether one of two mined features is part of the other and draws the same label."""
    if one.label != other.label:
        return False
    if "character" in (one.kind, other.kind):
        return one.text in other.text or other.text in one.text
    cut = folded_words if one.folded or other.folded else tokens
    texts = [" ".join(cut(t.text)) or t.text for t in (one, other)]
    return f" {texts[0]} " in f" {texts[1]} " or f" {texts[1]} " in f" {texts[0]} "


def _chance(inside: int, holding: int, suspects: int, rows: int) -> float:
    """Return how likely chance alone puts so many of a feature's rows among the suspects."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(inside - 1, rows, holding, suspects))


def _two_proportion_z(inside: int, size: int, outside: int, rest: int) -> float:
    """Return the pooled z-score of two shares, 0 where it is not defined."""
    if size == 0 or rest == 0:
        return 0.0
    pooled = (inside + outside) / (size + rest)
    spread = sqrt(pooled * (1.0 - pooled) * (1.0 / size + 1.0 / rest))
    return (inside / size - outside / rest) / spread if spread else 0.0
