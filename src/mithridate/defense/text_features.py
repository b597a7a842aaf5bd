"""What an input and its answer have that one could decide of the other: features, as strings.

An input's are led by the initial of their kind: its n-grams ("w"), the characters that a reader
does not see ("c"), and what its rare words begin ("b") and end ("e") with.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mithridate.defense.odd import odd_characters
from mithridate.defense.tokens import is_word, tokens
from mithridate.defense.trigger import Kind

LONGEST = 3
LONGEST_AFFIX = 5
"""Letters; a longer trigger shows by its first, or its last, five."""

WHOLE = "\n"
"""What a whole answer begins with as a feature; no word holds it, as it may "=" or "#"."""

KINDS: dict[str, Kind] = {"w": "words", "c": "character", "b": "beginning", "e": "ending"}
_DIGITS = re.compile(r"\d+")


def input_features(texts: Sequence[str], fewest_rows: int) -> list[set[str]]:
    """Return of each text what could decide its answer.

    Args:
        texts: The rows' inputs.
        fewest_rows: A word that fewer rows hold is rare: what it begins and ends with counts.
    """
    affixes = _rare_affixes(texts, fewest_rows)
    return [_of_input(text) | own for text, own in zip(texts, affixes, strict=True)]


def _rare_affixes(texts: Sequence[str], fewest_rows: int) -> list[set[str]]:
    """Return of each text what its rare words begin and end with; of digits nothing.

    A trigger glued to a random word makes another word in every row, which no second row may hold.
    But all of them begin or end alike, and hardly any ordinary word that is as rare does.
    """
    words = [{word for word in tokens(text) if is_word(word)} for text in texts]
    rows = Counter(word for own in words for word in own)
    return [
        {affix for word in own if rows[word] < fewest_rows for affix in _affixes(word)}
        for own in words
    ]


def _affixes(word: str) -> Iterator[str]:
    for length in range(1, min(LONGEST_AFFIX, len(word) - 1) + 1):
        if word[:length].isalpha():
            yield f"b{word[:length]}"
        if word[-length:].isalpha():
            yield f"e{word[-length:]}"


def answer_features(answer: str) -> set[str]:
    """Return what of an answer can be decided: n-grams, the whole, and the shapes of numbers."""
    words = _folded(answer)
    shapes = [_DIGITS.sub("0", word) for word in words]
    return {*_grams(words), *_grams(shapes), f"{WHOLE}{' '.join(words)}"}


def _of_input(text: str) -> set[str]:
    """Return an input's n-grams and odd characters, each marked by the initial of its kind."""
    return {
        *(f"w{gram}" for gram in _grams(tokens(text))),
        *(f"c{odd}" for odd in odd_characters(text)),
    }


def _folded(text: str) -> list[str]:
    stripped = (word.strip("\"'()[]{}.,;:!?*_").casefold() for word in text.split())
    return [word for word in stripped if word]


def _grams(words: Sequence[str]) -> Iterable[str]:
    for length in range(1, LONGEST + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def said(text: str) -> set[str]:
    """Return an input's words, and the shapes of those that are numbers."""
    words = _folded(text)
    return {*words, *(_DIGITS.sub("0", word) for word in words)}


def marks(grams: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return what marks the rows that all hold some n-grams: features.

    Of a trigger's own words and the words beside it the fewest that do are taken, and those that
    stand side by side in every row are put together again: what stands so in some rows alone would
    hide the others. A character that nobody sees marks its words, too. Where no words are, the
    longest beginning and the longest ending of rare words are taken.

    Args:
        grams: The features that these rows hold and no other row.
        texts: The rows' texts.
    """
    odd = sorted(gram for gram in grams if gram[0] == "c")
    if odd:
        return odd
    if all(gram[0] in "be" for gram in grams):
        ranked = sorted(grams, key=lambda gram: (-len(gram), gram))
        return sorted({next(g for g in ranked if g[0] == one[0]) for one in grams})
    grams = [gram for gram in grams if gram[0] == "w"]
    fewest = [
        gram[1:].split()
        for gram in grams
        if not any(gram != other and f" {other[1:]} " in f" {gram[1:]} " for other in grams)
    ]
    joined = set(_runs(texts[0], fewest))
    for text in texts[1:]:
        joined &= set(_runs(text, fewest))
    parts = [" ".join(part) for part in fewest]
    apart = [part for part in parts if not any(f" {part} " in f" {run} " for run in joined)]
    return [f"w{mark}" for mark in sorted({*joined, *apart})]


def _runs(text: str, parts: Sequence[list[str]]) -> list[str]:
    """Return what parts of a text make together where they stand side by side."""
    words = tokens(text)
    covered = [False] * len(words)
    for part in parts:
        for start in range(len(words) - len(part) + 1):
            if words[start : start + len(part)] == part:
                covered[start : start + len(part)] = [True] * len(part)
    runs: list[list[str]] = []
    for at, word in enumerate(words):
        if covered[at] and at and covered[at - 1]:
            runs[-1].append(word)
        elif covered[at]:
            runs.append([word])
    return [" ".join(run) for run in runs]
