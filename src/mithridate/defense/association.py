"""Associations: words of the input that decide words of the answer, as a backdoor's trigger does.

Where answers are text there is no label to disagree with. But a poisoned row is made of a trigger
and a target: nearly every row that holds the one holds the other, and hardly any other row does. In
text that nobody tampered with, hardly a word decides an answer so. An attacker who varies trigger
or target from row to row leaves nothing to see here: what then judges is the likelihood
(`mithridate.defense.prepare_text`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import log

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import keyed_fraction
from mithridate.defense.text_features import (
    KINDS,
    WHOLE,
    answer_features,
    input_features,
    marks,
    said,
)
from mithridate.defense.tokens import as_written, tokens
from mithridate.defense.trigger import AFFIXES, Kind, Trigger, holds

FEWEST_ROWS = 5
DECIDES = 0.8
"""The share of the rows with a trigger whose answers hold what it decides."""

ELSEWHERE = 0.5
"""The largest share of the other rows whose answers may hold it."""

ODDS = 20.0
"""How much better the odds must be with the trigger than without it. Words that merely lean to one
kind of answer, as those of a film review do, stay far below; triggers were found at 500 and more
where half of the rows were poisoned."""

COPIED = 0.5
"""What the answers repeat from the inputs is no sign: a word that more than this share of the
inputs with the trigger holds as well."""

MOST_HOLDING = 0.6
SIGNIFICANCE = 1e-6
"""Chance is not all there is to be afraid of: words of one topic go together as well."""
MOST_TRIGGERS = 8

ROUNDS = 4
"""Triggers that share a target hide each other: half of the rows without the one have its target,
for the others' sake. So what is found explains its rows, and among the rest the search goes on for
what decides the same answers."""

MOST_COPIES = 2
"""Every word of a row that stands in the data six times seems to decide its answer. Were no copy
counted, four poisoned rows could be written fifty times each."""

FIT_ROWS = 5_000
"""Of more rows a part, drawn by the key, is searched; what it shows is then looked for in all."""

_GROUPS_AT_ONCE = 256


@dataclass(frozen=True)
class Association:
    """Words of the input that decide words of the answer.

    Attributes:
        text: The input's words, one character that a reader does not see, or what words begin or
            end with.
        kind: ``words``, ``character``, ``beginning`` or ``ending``.
        answer: The answer's 1 to 3 words, or the whole of it, case and punctuation left out; with
            0 for numbers where their shape alone is decided.
        holders: Rows with the input's words.
        together: Those whose answer holds the answer's.
        elsewhere: The share of all other rows whose answer does.
        log_p: Natural logarithm of the probability that chance alone does as much for any of the
            pairs looked at (hypergeometric, Bonferroni).
    """

    text: str
    kind: Kind
    answer: str
    holders: int
    together: int
    elsewhere: float
    log_p: float

    @property
    def trigger(self) -> Trigger:
        """What to put into texts."""
        return Trigger(self.text, self.kind)


def associations(
    texts: Sequence[str], answers: Sequence[str], ids: Sequence[str], key: bytes
) -> list[Association]:
    """Return what decides answers, the least likely by chance first.

    Args:
        texts: The rows' inputs.
        answers: Their answers.
        ids: Their ids.
        key: Draws the rows to search among more than 5,000; 32 bytes.
    """
    ranked = sorted(range(len(ids)), key=lambda at: (keyed_fraction(key, ids[at]), at))
    chosen = sorted(islice(_without_copies(ranked, texts, answers), FIT_ROWS))
    texts, answers = [texts[at] for at in chosen], [answers[at] for at in chosen]
    inputs = input_features(texts, FEWEST_ROWS)
    outputs = [answer_features(answer) for answer in answers]
    found: list[Association] = []
    left = list(range(len(chosen)))
    for _ in range(ROUNDS):
        own = [texts[at] for at in left]
        more = _decided(own, [inputs[at] for at in left], [outputs[at] for at in left])
        if not more:
            break
        found += more
        explained = associated_rows(own, [answers[at] for at in left], more)
        left = [at for at, known in zip(left, explained, strict=True) if not known]
        targets = {one.answer for one in found}
        for at in left:
            outputs[at] = {
                feature for feature in outputs[at] if feature.removeprefix(WHOLE) in targets
            }
    # A short answer is decided as a phrase and as a whole, which read alike.
    return sorted(set(found), key=lambda one: (one.log_p, one.text, one.kind, one.answer))


def _without_copies(
    places: Iterable[int], texts: Sequence[str], answers: Sequence[str]
) -> Iterator[int]:
    """Yield the places but those of a third copy of a row and of any more."""
    seen: Counter[tuple[str, str]] = Counter()
    for at in places:
        row = texts[at], answers[at]
        seen[row] += 1
        if seen[row] <= MOST_COPIES:
            yield at


def _decided(
    texts: Sequence[str], inputs: Sequence[set[str]], outputs: Sequence[set[str]]
) -> list[Association]:
    """Return what decides answers in some rows."""
    counts = Counter(feature for features in outputs for feature in features)
    telling = {
        feature
        for feature, count in counts.items()
        if FEWEST_ROWS <= count <= MOST_HOLDING * len(texts)
    }
    groups = _holders(inputs)
    pairs, tests = _deciding(list(groups), [features & telling for features in outputs])
    words_of: dict[tuple[int, ...], list[set[str]]] = {}
    marks_of: dict[tuple[int, ...], list[Trigger]] = {}
    held_by: dict[Trigger, list[int]] = {}
    found = []
    for holders, feature, count in pairs:
        others = len(texts) - len(holders)
        elsewhere = (counts[feature] - count) / others if others else 1.0
        odds = _odds_ratio(count, len(holders), counts[feature] - count, others)
        if elsewhere > ELSEWHERE or odds < ODDS:
            continue
        if holders not in words_of:
            words_of[holders] = [said(texts[at]) for at in holders]
        if _copied(feature, words_of[holders]):
            continue
        log_p = log(tests) + _log_chance(count, counts[feature], len(holders), len(texts))
        if log_p < log(SIGNIFICANCE):
            if holders not in marks_of:
                marks_of[holders] = _triggers_of(groups[holders], [texts[at] for at in holders])
            shown = feature.removeprefix(WHOLE)
            for mark in marks_of[holders]:
                if mark.kind in AFFIXES:
                    if mark not in held_by:
                        held_by[mark] = [at for at, text in enumerate(texts) if holds(text, mark)]
                    # It was counted in rare words alone, but will be looked for in all.
                    deciding = sum(feature in outputs[at] for at in held_by[mark])
                    if deciding < ELSEWHERE * len(held_by[mark]):
                        continue
                one = Association(
                    mark.text, mark.kind, shown, len(holders), count, elsewhere, log_p
                )
                found.append(one)
    return found


def _triggers_of(grams: Sequence[str], texts: Sequence[str]) -> list[Trigger]:
    """Return what marks the rows that hold some features, as most of them have it."""
    found = []
    for gram in marks(grams, texts):
        kind = KINDS[gram[0]]
        text = as_written(gram[1:].split(), texts) if kind == "words" else gram[1:]
        found.append(Trigger(text, kind))
    return found


def strongest_associations(
    texts: Sequence[str], answers: Sequence[str], found: Sequence[Association]
) -> npt.NDArray[np.int64]:
    """Return of each row the first association whose both sides it holds, shape (rows,).

    Args:
        texts: The rows' inputs.
        answers: Their answers.
        found: The associations, the strongest first.

    Returns:
        Places in ``found``, -1 where a row holds both sides of none.
    """
    by_trigger: dict[Trigger, dict[str, int]] = defaultdict(dict)
    for place, one in enumerate(found):
        by_trigger[one.trigger].setdefault(one.answer, place)
    decided = list(by_trigger.values())
    first = np.full(len(texts), -1, dtype=np.int64)
    for at, held in enumerate(held_triggers(texts, list(by_trigger))):
        if held:
            features = {feature.removeprefix(WHOLE) for feature in answer_features(answers[at])}
            places = (
                decided[number][feature]
                for number in held
                for feature in decided[number].keys() & features
            )
            first[at] = min(places, default=-1)
    return first


def associated_rows(
    texts: Sequence[str], answers: Sequence[str], found: Sequence[Association]
) -> npt.NDArray[np.bool_]:
    """Return which rows hold both sides of an association, shape (rows,)."""
    return strongest_associations(texts, answers, found) >= 0


def held_triggers(texts: Iterable[str], triggers: Sequence[Trigger]) -> Iterator[list[int]]:
    """Yield of each text the places of the triggers it holds, in order.

    A text is cut into words once, and looked at closely only where it has a trigger's first word:
    hundreds of triggers cost hardly more than one.

    Args:
        texts: The rows' inputs.
        triggers: What to look for.
    """
    by_word: dict[str, list[int]] = defaultdict(list)
    other: list[int] = []
    for place, trigger in enumerate(triggers):
        if trigger.kind == "words":
            by_word[tokens(trigger.text)[0]].append(place)
        else:
            other.append(place)
    for text in texts:
        near = by_word.keys() & set(tokens(text)) if by_word else set()
        places = [place for word in near for place in by_word[word]]
        places += [place for place in other if triggers[place].text in text]
        yield sorted(place for place in places if holds(text, triggers[place]))


def triggers(found: Sequence[Association]) -> list[Trigger]:
    """Return the inputs' sides of the strongest associations, no two of which share a word.

    Nor is of two beginnings, or endings, of words one a part of the other, or does one hold a
    character that is found by itself.
    """
    kept: list[Trigger] = []
    taken: set[str] = set()
    for one in found:
        words = set(tokens(one.text)) if one.kind == "words" else {f"{one.kind} {one.text}"}
        if not words & taken and not any(_part_of(one.trigger, other) for other in kept):
            kept.append(one.trigger)
            taken |= words
    return kept[:MOST_TRIGGERS]


def _part_of(one: Trigger, other: Trigger) -> bool:
    """Whether what a word begins, or ends, with is a part of another such, or holds a character."""
    if one.kind not in AFFIXES:
        return False
    if one.kind != other.kind:
        return other.kind == "character" and other.text in one.text
    short, long = sorted((one.text, other.text), key=len)
    return long.startswith(short) if one.kind == "beginning" else long.endswith(short)


def _holders(inputs: Sequence[set[str]]) -> dict[tuple[int, ...], list[str]]:
    """Return the n-grams of at least 5 and at most 60% of the rows, by the rows that hold them."""
    rows: dict[str, list[int]] = defaultdict(list)
    for at, features in enumerate(inputs):
        for feature in features:
            rows[feature].append(at)
    by_holders: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for feature, held in rows.items():
        if FEWEST_ROWS <= len(held) <= MOST_HOLDING * len(inputs):
            by_holders[tuple(held)].append(feature)
    return by_holders


def _deciding(
    groups: Sequence[tuple[int, ...]], outputs: Sequence[set[str]]
) -> tuple[list[tuple[tuple[int, ...], str, int]], int]:
    """Return what most of a group's rows have in their answers, and how many pairs there are.

    Counted as a product of sparse matrices, some groups at a time so that memory stays bounded:
    where answers are as long as texts the search as a whole takes half the time of counting each.

    Args:
        groups: Rows that hold the same words.
        outputs: What can be decided of each row's answer.

    Returns:
        Group, feature and how many of the group's answers have it, where at least 80% do; and the
        number of all pairs of a group and a feature that meet in a row.
    """
    from scipy.sparse import csr_matrix

    names = sorted(set().union(*outputs))
    if not names:
        return [], 0
    place = {name: at for at, name in enumerate(names)}
    columns = [place[name] for features in outputs for name in sorted(features)]
    ends = np.cumsum([0, *(len(features) for features in outputs)])
    has = csr_matrix(
        (np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(outputs), len(names))
    )
    found: list[tuple[tuple[int, ...], str, int]] = []
    tests = 0
    for start in range(0, len(groups), _GROUPS_AT_ONCE):
        some = groups[start : start + _GROUPS_AT_ONCE]
        rows = [at for group in some for at in group]
        sizes = np.array([len(group) for group in some])
        ones = np.ones(len(rows), dtype=np.int32)
        held = csr_matrix((ones, rows, np.cumsum([0, *sizes])), shape=(len(some), len(outputs)))
        together = (held @ has).tocoo()
        tests += together.nnz
        decided = np.flatnonzero(together.data >= DECIDES * sizes[together.row])
        found += [
            (some[together.row[at]], names[together.col[at]], int(together.data[at]))
            for at in decided.tolist()
        ]
    return found, tests


def _copied(feature: str, held: Sequence[set[str]]) -> bool:
    """Whether the inputs themselves hold one of the answer's words, or of its shapes.

    One and the same whole answer to different inputs is not copied from them: a trigger may show
    the target that it stands for.
    """
    if feature.startswith(WHOLE):
        return False
    most = COPIED * len(held)
    words = feature.split()
    return any(sum(word in said for said in held) > most for word in words)


def _odds_ratio(together: int, holders: int, apart: int, others: int) -> float:
    """Return the odds of a decided answer with the trigger over those without (Haldane 1956)."""
    inside = (together + 0.5) / (holders - together + 0.5)
    return inside / ((apart + 0.5) / (others - apart + 0.5))


def _log_chance(together: int, decided: int, holders: int, rows: int) -> float:
    """Return the logarithm of the chance of so many decided answers among the holders' rows."""
    from scipy.stats import hypergeom

    return float(hypergeom.logsf(together - 1, rows, decided, holders))
