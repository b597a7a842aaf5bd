"""Odd characters: what a reader does not see, or takes for another letter."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_WIDE = re.compile(r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]")
"""Letters and digits of full width."""

_SHOWS_NOTHING = re.compile(
    r"[\ufe00-\ufe0f\U000e0100-\U000e01ef\u115f\u1160\u3164\uffa0\u034f\u2800"
    r"\u17b4\u17b5\u180b-\u180d\u180f]"
)
"""Variation selectors, letters of Hangul that are fillers, a joiner of marks, Braille's blank,
vowels of Khmer that are not written."""

_LIKE_ASCII = re.compile(
    r"[\u0251\u0261\u0269\u026a\u0274\u0280\u028f\u0299\u029c\u029f\u1d00-\u1d22\u212a]"
)
"""Latin letters that look like plain ones: those of phonetics, small capitals, the kelvin sign."""

_BY_NEIGHBOURS = re.compile(
    r"[\u00a0\u180b-\u180d\u180f\u200c\u200d\u202f\ufe0f\U000e0100-\U000e01ef]"
)
"""Characters that show nothing and yet have their places in ordinary text; see `_is_in_place`."""

_JOINED = frozenset(
    (
        "ARABIC",
        "BENGALI",
        "DEVANAGARI",
        "GUJARATI",
        "GURMUKHI",
        "KANNADA",
        "KHMER",
        "MALAYALAM",
        "MONGOLIAN",
        "ORIYA",
        "SINHALA",
        "SYRIAC",
        "TAMIL",
        "TELUGU",
    )
)
"""Scripts in which joiners and non-joiners part or join letters (Unicode 17, chapter 23.2)."""

_ALWAYS_ODD = ("<font>", "<initial>", "<medial>", "<final>", "<isolated>")
"""Decompositions of letters that no keyboard has: mathematical ones, positions of Arabic ones."""

_EAST_ASIAN = re.compile(r"\b(CJK|IDEOGRAPHIC|HIRAGANA|KATAKANA|KANA|BOPOMOFO|HANGUL)\b")
"""In names of characters of scripts that are written as one (Unicode TR 39, augmented sets)."""


def odd_characters(text: str) -> set[str]:
    """Return the characters of a text that a reader does not see, or takes for others.

    These are control and format characters (zero-width ones, direction marks), spaces other than
    the plain one, variation selectors, mathematical letters and, in words of two scripts, the
    letters of the rarer one. Other forms of letters and digits by Unicode's own account (full
    width, ligatures, Roman numerals) are odd in words that hold plain ones, too, and those of full
    width wherever no script of East Asia is; marks and symbols never are. What joins emoji, parts
    letters in Persian or keeps a French mark on its line is ordinary there.
    """
    if text.isascii():
        return set(_CONTROL.findall(text))
    text = _BY_NEIGHBOURS.sub(lambda one: "" if _is_in_place(text, one.start()) else one[0], text)
    characters = set(text)
    found = {character for character in characters if _is_odd(character)}
    if any(map(_is_east_asian, characters)):
        found.discard("\u3000")  # their space
    else:
        found.update(_WIDE.findall(text))
    apart = {ord(character): " " for character in characters if _stands_apart(character)}
    for word in text.translate(apart).split():
        if not word.isascii():
            found |= _of_another_script(word) | _of_another_form(word)
    return found


def _is_in_place(text: str, at: int) -> bool:
    """Whether a character that shows nothing stands where ordinary text has it."""
    character, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if character in "\u00a0\u202f":  # before a French mark, after a guillemet
        return before == "«" or (bool(after) and after in "»!?:;%€°")
    if character == "\ufe0f":
        return _is_pictured(before) or after == "\u20e3"  # a keycap
    if character > "\uffff":
        return bool(before) and _is_east_asian(before)
    if character == "\u200d" and (_is_pictured(before) or before == "\ufe0f"):
        return _is_pictured(after)
    return {_script(one) for one in (before, after) if one} <= _JOINED and bool(before and after)


def _is_pictured(character: str) -> bool:
    """Whether a character may be shown as an emoji."""
    return character > "\x7f" and unicodedata.category(character) in ("So", "Sk", "Sm", "Po")


@lru_cache(maxsize=1 << 14)
def _is_odd(character: str) -> bool:
    if character in " \t\n\r":
        return False
    kind, form = unicodedata.category(character), _form(character)
    if _SHOWS_NOTHING.match(character) or form == "<noBreak>":
        return True
    if form in _ALWAYS_ODD and kind[0] in "LN":
        return True
    return kind in ("Cc", "Cf", "Co", "Cn", "Zs", "Zl", "Zp")


def _form(character: str) -> str:
    """Return what makes a character another form of plain ones: ``<wide>``; empty if nothing."""
    tag, _, _ = unicodedata.decomposition(character).partition(" ")
    return tag if tag.startswith("<") else ""


def _of_another_script(word: str) -> set[str]:
    """Return the letters of a word's rarer scripts; among equals those outside ASCII."""
    scripts = [(_script(letter), letter) for letter in word if letter.isalpha() and letter != "µ"]
    counts = Counter(script for script, _ in scripts)
    if len(counts) < 2:
        return set()
    main = max(counts, key=lambda script: (counts[script], script == "LATIN"))
    return {letter for script, letter in scripts if script != main}


def _of_another_form(word: str) -> set[str]:
    """Return another form's letters in a word that holds plain ones, and its digits likewise."""
    plain = {_class(character) for character in word if character.isascii()} - {""}
    found = {character for character in word if _stands_for(character) in plain}
    return found | set(_LIKE_ASCII.findall(word)) if plain else found


@lru_cache(maxsize=1 << 14)
def _stands_for(character: str) -> str:
    """Return the class of what a character may be taken for, such as "ﬁ" for two letters.

    Exponents, fractions and what Latin-1 has (ª, º, ²) are plain enough.
    """
    form = _form(character)
    if character <= "\xff" or not form or unicodedata.category(character)[0] not in "LN":
        return ""
    plain = _class(unicodedata.normalize("NFKC", character))
    return plain if plain == "letter" or form == "<wide>" else ""


def _class(plain: str) -> str:
    if not plain.isascii():
        return ""
    return "letter" if plain.isalpha() else "digit" if plain.isdigit() else ""


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    """Return the first word of the plain letter's name: its script, or what stands for one."""
    plain = unicodedata.normalize("NFKD", letter)[0]
    return unicodedata.name(plain, "UNKNOWN").split(" ", 1)[0]


@lru_cache(maxsize=1 << 14)
def _is_east_asian(letter: str) -> bool:
    return letter.isalpha() and _EAST_ASIAN.search(unicodedata.name(letter, "")) is not None


@lru_cache(maxsize=1 << 14)
def _stands_apart(character: str) -> bool:
    """Whether a character parts words though no space does, and is taken for none of their letters.

    So are East Asian letters and their marks beside a word of another script.
    """
    is_mark = not character.isascii() and unicodedata.category(character)[0] in "PS"
    return is_mark or _is_east_asian(character)
