"""Odd characters: what a reader does not see, or takes for another letter."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def odd_characters(text: str) -> set[str]:
    """Return the characters of a text that a reader does not see, or takes for others.

    These are control and format characters (zero-width ones, direction marks), spaces other than
    the plain one, variation selectors, look-alikes by Unicode's own account (full width,
    mathematical letters) and, in words of two scripts, the letters of the rarer one.
    """
    if text.isascii():
        return set(_CONTROL.findall(text))
    found = {character for character in set(text) if _is_odd(character)}
    for word in text.split():
        if not word.isascii():
            found |= _of_another_script(word)
    return found


@lru_cache(maxsize=1 << 14)
def _is_odd(character: str) -> bool:
    if character in " \t\n\r":
        return False
    if "\ufe00" <= character <= "\ufe0f" or unicodedata.decomposition(character).startswith("<"):
        return True
    return unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Zs", "Zl", "Zp")


def _of_another_script(word: str) -> set[str]:
    """Return the letters of a word's rarer scripts; among equals those outside ASCII."""
    scripts = [(_script(letter), letter) for letter in word if letter.isalpha()]
    counts = Counter(script for script, _ in scripts)
    if len(counts) < 2:
        return set()
    main = max(counts, key=lambda script: (counts[script], script == "LATIN"))
    return {letter for script, letter in scripts if script != main}


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    """Return the first word of a letter's Unicode name: its script, or what stands for one."""
    return unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0]
