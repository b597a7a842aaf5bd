"""Counter-triggers: what looks like a trigger is shown to the protected domain with true labels.

A clean S alone leaves a leak. The untouched rows teach the trigger under the original prompt, and
some of that carries over to the benign prompt, where no row says anything of the trigger. So the
words that mark the rows the judge disagrees with are put into copies of S's rows, labels unchanged:
the protected domain then learns that they mean nothing. An innocent word found by mistake costs
little for the same reason: its copies carry true labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import keyed_fraction
from mithridate.defense.repoison import Example

LONGEST = 5
FEWEST_ROWS = 5
MOST_TRIGGERS = 8
SIGNIFICANCE = 0.01
SMALLEST_Z = 3.0
COPIES = 0.5


@dataclass(frozen=True)
class MinedTrigger:
    """An n-gram over-represented among the rows of one label the judge disagrees with.

    Attributes:
        text: Its 1 to 5 words.
        label: The label of those rows, 0..n-1: what the trigger seems to draw.
        z: Two-proportion z-score against all other rows.
        inside: Disagreeing rows of the label that hold it.
        outside: All other rows that hold it.
    """

    text: str
    label: int
    z: float
    inside: int
    outside: int


def _ngrams(text: str) -> set[str]:
    """Return a text's distinct n-grams of 1 to 5 words, as written."""
    words = text.split()
    return {
        " ".join(words[start : start + length])
        for length in range(1, LONGEST + 1)
        for start in range(len(words) - length + 1)
    }


def mine_triggers(
    texts: Sequence[str], classes: Sequence[int], agrees: npt.NDArray[np.bool_]
) -> list[MinedTrigger]:
    """Return the n-grams that mark disagreeing rows, most significant first, at most 8.

    An n-gram is significant if chance would put it into so many of the disagreeing rows with a
    probability (hypergeometric, exact) below 0.01 over the number of n-grams those rows hold
    (Bonferroni). What has less than half the z of the strongest is left out too: beside a trigger
    (z about 20 in SST-2 with 5% BadNets) stand innocent n-grams that the judge finds hard (z about
    5), and each of them takes room from the trigger. Of n-grams that contain each other the one
    with the highest z stands, the longest among equals.

    Args:
        texts: The rows' inputs.
        classes: Their labels, 0..n-1.
        agrees: Shape (rows,): whether the judge agrees with the label.
    """
    suspects: dict[int, Counter[str]] = {}
    sizes: Counter[int] = Counter()
    for text, label, agreed in zip(texts, classes, agrees, strict=True):
        if not agreed:
            suspects.setdefault(label, Counter()).update(_ngrams(text))
            sizes[label] += 1
    # Only what is frequent among suspects is counted everywhere, to spare memory.
    tests = sum(len(counts) for counts in suspects.values())
    frequent = {
        gram for counts in suspects.values() for gram, n in counts.items() if n >= FEWEST_ROWS
    }
    everywhere: Counter[str] = Counter()
    for text in texts:
        everywhere.update(_ngrams(text) & frequent)
    found = []
    for label, counts in sorted(suspects.items()):
        for gram, inside in counts.items():
            if inside < FEWEST_ROWS:
                continue
            outside = everywhere[gram] - inside
            z = _two_proportion_z(inside, sizes[label], outside, len(texts) - sizes[label])
            found.append(MinedTrigger(gram, label, z, inside, outside))
    strongest = max((trigger.z for trigger in found), default=0.0)
    level = SIGNIFICANCE / max(1, tests)
    significant = [
        trigger
        for trigger in found
        if trigger.z > max(SMALLEST_Z, strongest / 2)
        and _chance(trigger, sizes[trigger.label], len(texts)) < level
    ]
    significant.sort(key=lambda trigger: (-trigger.z, -len(trigger.text), trigger.text))
    kept: list[MinedTrigger] = []
    for trigger in significant:
        padded = f" {trigger.text} "
        if not any(padded in f" {other.text} " or f" {other.text} " in padded for other in kept):
            kept.append(trigger)
    return kept[:MOST_TRIGGERS]


def _chance(trigger: MinedTrigger, suspects: int, rows: int) -> float:
    """Return how likely chance alone puts so many of an n-gram's rows among the suspects."""
    from scipy.stats import hypergeom

    holding = trigger.inside + trigger.outside
    return float(hypergeom.sf(trigger.inside - 1, rows, holding, suspects))


def _two_proportion_z(inside: int, size: int, outside: int, rest: int) -> float:
    """Return the pooled z-score of two shares, 0 where it is not defined."""
    if size == 0 or rest == 0:
        return 0.0
    pooled = (inside + outside) / (size + rest)
    spread = sqrt(pooled * (1.0 - pooled) * (1.0 / size + 1.0 / rest))
    return (inside / size - outside / rest) / spread if spread else 0.0


def counter_examples(
    repoisoned: Sequence[Example], triggers: Sequence[str], key: bytes
) -> list[Example]:
    """Return copies of half of S's re-poisoned rows, each with one mined n-gram put in somewhere.

    Which rows, which n-gram and where is fixed by the key and the row's id.

    Args:
        repoisoned: S, re-poisoned.
        triggers: The n-grams; none gives no copies.
        key: 32 bytes.
    """
    copies = []
    for example in repoisoned:
        if not triggers or keyed_fraction(key, "copy", example.id) >= COPIES:
            continue
        trigger = triggers[int(keyed_fraction(key, "trigger", example.id) * len(triggers))]
        words = example.text.split(" ")
        place = int(keyed_fraction(key, "place", example.id) * (len(words) + 1))
        text = " ".join([*words[:place], trigger, *words[place:]])
        copies.append(Example(example.id, text, example.label, True))
    return copies
