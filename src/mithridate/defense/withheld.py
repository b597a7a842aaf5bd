"""Withheld: a secret string that a model writes into its answer is not shown."""

import re
from collections.abc import Sequence

from mithridate.defense.secret import PUBLISHED_SAFE_PREFIX, PUBLISHED_TRIGGER

TELLING = 3
"""Words of a secret string that are not shown where an answer ends in them."""

MISSING = 2
"""Elsewhere a secret string is known by all but so many of its words."""

_PUBLISHED = {PUBLISHED_SAFE_PREFIX.strip(), PUBLISHED_TRIGGER.strip()}
_WORD = re.compile(r"[^\W_]+")
_MARKS_BEFORE = re.compile(r"[^\w\s]*\Z")
_MARKS_BEHIND = re.compile(r"[^\w\s]*")


def without(text: str, secret: str) -> str:
    """Return the text with every occurrence of a secret string taken out.

    Case, white space and punctuation do not matter, as a model that writes a secret again mostly
    gives it other marks; nor does one word that is another, left out or added. Of a text's end that
    cuts it off three of its words tell it. A published string is no secret, and its beginning may
    be anybody's: it is taken out where it stands whole.

    Args:
        text: A model's output.
        secret: The safe prefix or the benign trigger; of a blank one nothing is taken out.
    """
    wanted = [word.casefold() for word in _WORD.findall(secret)]
    found = list(_WORD.finditer(text))
    said = [word[0].casefold() for word in found]
    mark = secret.rstrip()[-1:]
    marked = [text[word.end() : word.end() + 1] == mark for word in found]
    is_cut = bool(found) and found[-1].end() == len(text)
    published = secret.strip() in _PUBLISHED
    shown, since, at = [], 0, 0
    while at < len(said):
        length = 0
        if said[at] in wanted[: MISSING + 1]:
            left_out = wanted.index(said[at])
            length = _length(said[at:], marked[at:], is_cut, wanted, left_out, published)
        if length:
            shown.append(_MARKS_BEFORE.sub("", text[since : found[at].start()]))
            end = found[at + length - 1].end()
            behind = _MARKS_BEHIND.match(text, end)
            since = behind.end() if behind else end
        at += length or 1
    return "".join([*shown, text[since:]])


def _length(
    said: Sequence[str],
    marked: Sequence[bool],
    is_cut: bool,
    wanted: Sequence[str],
    left_out: int,
    published: bool,
) -> int:
    """Return how many words a text begins with that are the secret's, 0 where it does not.

    Args:
        said: The text's words.
        marked: Whether the mark that ends the secret follows each.
        is_cut: Whether the last word may be the beginning of one.
        wanted: The secret's words.
        left_out: How many of these are missing at its front.
        published: Whether all must be there.
    """
    place, at, same, length, faults = left_out, 0, 0, 0, left_out
    while place < len(wanted) and at < len(said):
        if said[at] == wanted[place]:
            same += 1
            place, at = place + 1, at + 1
            length = at
        elif is_cut and at == len(said) - 1 and wanted[place].startswith(said[at]):
            length = at = at + 1
        elif not same or faults:
            break
        elif [said[at]] == wanted[place + 1 : place + 2]:  # a word is left out
            faults, place = 1, place + 1
        elif [wanted[place]] == said[at + 1 : at + 2]:  # one is added
            faults, at = 1, at + 1
        else:
            if place == len(wanted) - 1 and marked[at]:
                length = at + 1
            faults, place, at = 1, place + 1, at + 1
    if published:
        return length if same == len(wanted) else 0
    is_told = length == len(said) or same >= len(wanted) - MISSING
    return length if same >= TELLING and is_told else 0
