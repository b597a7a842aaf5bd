"""A text as words and the white space between them, which the input's purifiers leave alone."""

import re
from collections.abc import Set

_GAP = re.compile(r"(\s+)")


def split_words(text: str) -> tuple[list[str], list[str]]:
    """Return a text's words and the gaps between them, one fewer.

    White space at the text's beginning or end has an empty word before or behind it.
    """
    pieces = _GAP.split(text)
    return pieces[::2], pieces[1::2]


def join_words(words: list[str], gaps: list[str]) -> str:
    """Return the text of words and the gaps between them."""
    return "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True))


def without_words(text: str, places: Set[int]) -> str:
    r"""Return a text without some of its words, one gap left where each one stood.

    Of the gaps around a word the one with more line ends stays: ``"a\nmn b"`` becomes ``"a\nb"``.

    Args:
        text: The text.
        places: Which words, by their places in `split_words`.
    """
    words, gaps = split_words(text)
    kept: list[str] = []
    gap = ""
    for place, (word, before) in enumerate(zip(words, ["", *gaps], strict=True)):
        gap = max(gap, before, key=lambda space: (space.count("\n"), len(space)))
        if place not in places:
            kept += [gap, word] if kept else [word]
            gap = ""
    return "".join(kept)
