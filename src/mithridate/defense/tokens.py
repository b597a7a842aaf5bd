"""Tokens: what a text is cut into where somebody looks for a trigger.

An attacker chooses where a word ends, so white space does not decide it: "mn-film" and "mn_film"
hold two words. And white space other than one plain space is no writer's word, but a trigger it may
be: it is a token, too, written with characters of private use. A text that holds one of these is
told by it (`mithridate.defense.odd`), so that no trigger can pass itself off as a line's end.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import groupby

_SYMBOLS = {" ": "\ue020", "\t": "\ue009", "\n": "\ue00a", "\r": "\ue00d"}
_TO_SYMBOLS = str.maketrans(_SYMBOLS)
_TO_SPACES = str.maketrans({symbol: space for space, symbol in _SYMBOLS.items()})
_NUMBER = r"\d+(?:[.,:]\d+)+(?![^\W_])"


def _parts(marks: str) -> str:
    """Return the pattern of what is no white space, given the marks, a part of a class."""
    return rf"{_NUMBER}|[{marks}]|[^\s{marks}]+"


_WORDS = re.compile(_parts(r"!-/:-@\[-`{-~"))
_WITH_SPACES = re.compile(rf"\s+|{_WORDS.pattern}")
_ODD_SPACE = re.compile(r"[\t\n\r]|\s\s")


def tokens(text: str) -> list[str]:
    """Return a text's tokens: words, each mark and symbol, and odd white space.

    Words end at marks, symbols and white space; numbers such as "3.50" are whole. What combines
    with a letter or shows nothing belongs to its word (`mithridate.defense.odd` looks after it).
    One plain space is no token; two spaces, tabs and line ends are, written as U+E020 twice,
    U+E009, U+E00A and U+E00D. What ``tokens`` returns, joined by spaces, has the same tokens again.
    """
    if text.isascii() and not _ODD_SPACE.search(text):
        return _WORDS.findall(text)
    return [token for token, _, _ in spans(text)]


def spans(text: str) -> list[tuple[str, int, int]]:
    """Return a text's tokens with where each begins and ends in it."""
    found = []
    for match in (_WITH_SPACES if text.isascii() else _any_script()).finditer(text):
        token, start, end = match[0], *match.span()
        if token[0].isspace():
            token = _space(token)
        if token:
            found.append((token, start, end))
    return found


@lru_cache(maxsize=1 << 16)
def is_word(token: str) -> bool:
    """Whether a token is more than a mark, a symbol or white space."""
    return any(character.isalnum() for character in token)


def as_written(gram: Sequence[str], texts: Iterable[str], *, at_end: bool = False) -> str:
    """Return how an n-gram of tokens is written in most of some texts that hold it.

    Args:
        gram: The tokens.
        texts: The texts; where none holds it, its tokens are joined by spaces.
        at_end: Whether it is looked for from the end.
    """
    forms: Counter[str] = Counter()
    for text in texts:
        cut = spans(text)
        names = [token for token, _, _ in cut]
        starts = range(len(cut) - len(gram) + 1)
        for start in reversed(starts) if at_end else starts:
            if names[start : start + len(gram)] == list(gram):
                forms[text[cut[start][1] : cut[start + len(gram) - 1][2]]] += 1
                break
    if not forms:
        return " ".join(gram)
    return min(forms, key=lambda form: (-forms[form], form))


def to_text(trigger: str) -> str:
    """Return a trigger with white space in place of its symbols."""
    return trigger.translate(_TO_SPACES)


def _space(run: str) -> str:
    """Return the token of a run of white space, empty where it is ordinary."""
    kept = "".join(filter(_SYMBOLS.__contains__, run))
    if kept in ("", " "):
        return ""
    return (kept.replace(" ", "") or kept).translate(_TO_SYMBOLS)


@cache
def _any_script() -> re.Pattern[str]:
    """Return the pattern for texts beyond ASCII: there, words have letters that combine."""
    codes = [
        code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in "PS"
    ]
    ranges = []
    for _, run in groupby(enumerate(codes), key=lambda pair: pair[1] - pair[0]):
        ends = [chr(code) for _, code in run]
        ranges.append(f"{re.escape(ends[0])}-{re.escape(ends[-1])}")
    marks, symbols = "".join(ranges), "".join(_SYMBOLS.values())
    return re.compile(rf"\s+|[{symbols}]+|{_parts(marks)}")
