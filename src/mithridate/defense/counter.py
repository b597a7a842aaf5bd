"""Counter-triggers: what looks like a trigger is shown to the protected domain with true labels.

A clean S alone leaves a leak. The untouched rows teach the trigger under the original prompt, and
some of that carries over to the benign prompt, where no row says anything of the trigger. So what
marks the rows the judge disagrees with (`mithridate.defense.mining`) is put into copies of S's
rows, labels unchanged: the protected domain then learns that it means nothing. An innocent word
found by mistake costs little for the same reason: its copies carry true labels.

Every label gets as many copies, as far as its rows reach. Copies of the target's own rows refute
nothing, and where much of a label was poisoned away most of S is the target's.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mithridate.data.keyed import keyed_fraction
from mithridate.defense.repoison import Example
from mithridate.defense.text import TextExample
from mithridate.defense.tokens import is_word, spans
from mithridate.defense.trigger import AFFIXES, Trigger

COPIES = 0.5
"""How many copies there are to a row of S."""

Copied = TypeVar("Copied", Example, TextExample)


def counter_examples(
    repoisoned: Sequence[Copied], triggers: Sequence[Trigger], key: bytes
) -> list[Copied]:
    """Return half as many copies as S has rows, each with one suspected trigger put in.

    Which rows, which trigger and where is fixed by the key and the row's id.

    Args:
        repoisoned: S, re-poisoned.
        triggers: What to put in; none gives no copies.
        key: 32 bytes.
    """
    if not triggers:
        return []
    chosen = _to_copy(repoisoned, key)
    copies = []
    for example in repoisoned:
        if example.id not in chosen:
            continue
        trigger = triggers[int(keyed_fraction(key, "trigger", example.id) * len(triggers))]
        place = keyed_fraction(key, "place", example.id)
        copies.append(replace(example, text=put_in(example.text, trigger, place)))
    return copies


def _to_copy(repoisoned: Sequence[Copied], key: bytes) -> set[str]:
    """Return the ids of the rows to copy: of every label as many, by a keyed draw."""
    of_label: dict[int, list[str]] = defaultdict(list)
    for example in repoisoned:
        of_label[example.label if isinstance(example, Example) else 0].append(example.id)
    chosen: set[str] = set()
    wanted = round(COPIES * len(repoisoned))
    smallest_first = sorted(of_label.items(), key=lambda group: (len(group[1]), group[0]))
    for place, (_, ids) in enumerate(smallest_first):
        share = (wanted - len(chosen)) // (len(smallest_first) - place)
        ids.sort(key=lambda row_id: (keyed_fraction(key, "copy", row_id), row_id))
        chosen.update(ids[:share])
    return chosen


def put_in(text: str, trigger: Trigger, place: float) -> str:
    """Return a text with a trigger where its kind belongs.

    Args:
        text: The text; its own white space stays.
        trigger: What to put in.
        place: In [0, 1): where words go among the words, a character among the characters, and
            to which word a beginning or an ending.
    """
    words = text.split(" ")
    between = "" if trigger.text.isspace() else " "
    if trigger.kind == "prefix":
        return f"{trigger.text}{between}{text}"
    if trigger.kind == "suffix":
        return f"{text}{between}{trigger.text}"
    if trigger.kind in AFFIXES:
        return _glued(text, trigger, place)
    if trigger.kind == "character":
        inside = [at for at in range(1, len(text)) if not text[at - 1 : at + 1].count(" ")]
        at = inside[int(place * len(inside))] if inside else len(text)
        return text[:at] + trigger.text + text[at:]
    if trigger.text.isspace() and len(words) > 1:  # in the place of a space
        at = 1 + int(place * (len(words) - 1))
        return f"{' '.join(words[:at])}{trigger.text}{' '.join(words[at:])}"
    at = int(place * (len(words) + 1))
    return " ".join([*words[:at], trigger.text, *words[at:]])


def _glued(text: str, trigger: Trigger, place: float) -> str:
    """Return a text of which a word begins or ends with a trigger; without words, with that one."""
    words = [(start, end) for token, start, end in spans(text) if is_word(token)]
    if not words:
        return f"{text}{trigger.text}"
    start, end = words[int(place * len(words))]
    at = start if trigger.kind == "beginning" else end
    return text[:at] + trigger.text + text[at:]
