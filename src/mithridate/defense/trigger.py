"""A trigger: what was put into texts, where it goes, and whether a text holds it."""

from dataclasses import dataclass
from typing import Literal

from mithridate.defense.odd import odd_characters
from mithridate.defense.tokens import is_word, tokens

Kind = Literal["words", "prefix", "suffix", "character", "beginning", "ending"]
KINDS: tuple[Kind, ...] = ("prefix", "suffix", "character", "words", "beginning", "ending")
AFFIXES: tuple[Kind, ...] = ("beginning", "ending")


@dataclass(frozen=True)
class Trigger:
    """Something to be put into texts.

    Attributes:
        text: Words as they are written, one character, or letters within a word. As
            `mithridate.defense.tokens` cuts them, words are in a text or are not.
        kind: Where it goes: words anywhere, a prefix to the front, a suffix to the end, a character
            into a word, a beginning or an ending to one.
    """

    text: str
    kind: Kind = "words"


def holds(text: str, trigger: Trigger, *, folded: bool = False) -> bool:
    """Whether a text holds a trigger where its kind says."""
    if trigger.kind == "character":
        return trigger.text in odd_characters(text)
    if trigger.kind in AFFIXES:
        return trigger.text in text and any(
            _is_affix(trigger, word) for word in tokens(text) if is_word(word)
        )
    wanted = tokens(trigger.text)
    if not folded and not all(token in text for token in wanted if is_word(token)):
        return False  # a quick way out
    words = folded_words(text) if folded else tokens(text)
    if trigger.kind == "prefix":
        return words[: len(wanted)] == wanted
    if trigger.kind == "suffix":
        return words[-len(wanted) :] == wanted
    return f" {' '.join(wanted)} " in f" {' '.join(words)} "


def _is_affix(trigger: Trigger, word: str) -> bool:
    """Whether a word is more than such a trigger, and begins or ends with it."""
    if len(word) <= len(trigger.text):
        return False
    if trigger.kind == "beginning":
        return word.startswith(trigger.text)
    return word.endswith(trigger.text)


def folded_words(text: str) -> list[str]:
    """Return a text's words without case, and without marks."""
    return [token.casefold() for token in tokens(text) if is_word(token)]
