"""Inserted triggers: words that decide a label and stand where chance put them.

A judge that learns from D learns a trigger along with the task, the sooner the fewer rows there
are, and then disputes none of its rows. So here nobody asks what is disputed. Two things are asked
of an n-gram whose rows nearly all have one label, whatever kind of word it is:

- Does it decide? A judge that learned from the rows without it reads those that hold it, and the
  label is there more often than the judge expects. Of words of the task it expects the label: what
  surrounds them says the same.
- Was it put in? A word that a writer chose stands in company: "stand for" before a question mark,
  "many" after "How". Between which words a trigger comes to stand is chance.

Words that make a class of their own, such as "Where" of questions for a place, pass the first test
and fail the second (`mithridate.defense.company`). Nothing is found of a trigger that is written
into its sentence, as rewriting attacks do, or that takes the place of an ordinary word.

Beside `mithridate.defense.mining`, which knows the disputed rows alone, SmolLM2-135M: of 500 rows
of SST-2 with 10% AddSent, where the judge disputes hardly any of them, z = 8.4 (the next word that
passes the second test 3.4); clean labels show, too (BadNets 5%, z = 4.4).
"""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import keyed_fraction
from mithridate.defense import judge
from mithridate.defense.company import Usual, as_put_in
from mithridate.defense.mining import (
    FEWEST_ROWS,
    FOLDED,
    FOLDED_GAIN,
    INITIALS,
    PLACED,
    WORDS,
    Family,
    MinedTrigger,
    distinct,
    frequent,
    overlap,
    written,
)
from mithridate.defense.trigger import KINDS, Trigger

DECIDES = 0.8
"""The share of the rows with a trigger that have its label."""

SMALLEST_Z = 4.0
"""In 70 sets of SST-2, TREC and AG News, of 500 and 1,730 rows, words that no attacker put in and
that pass the other tests stayed below in all but a few."""

PEERS = 4
"""What stands in company among all rows is compared with the rows of its label alone, too, where
they are more than so many times its own: who leaves labels as they are poisons these, and they
need not begin as others do."""

SMALLEST_Z_AMONG_PEERS = 6.0
"""Then innocent ends of questions pass as well ("mean ?" of TREC, z = 4.2; a trigger there 12)."""

MOST_OF_LABEL = 5
GIVEN_ANYWAY = 0.7
OUTSTANDING = 2.0
HALF = 0.5
"""Where more than five n-grams of one label pass in rows that mostly would have it anyway, they
must have twice the z of the sixth; where all that pass mark more than half of the label's rows
together, twice the smallest that counts."""

MOST_CANDIDATES = 40
MOST_TRIGGERS = 8
ROUNDS = 3
"""The rows of one trigger teach the judge the label of another's; so what is found is left out and
the search goes on."""

FIT_ROWS = 5_000
"""Of more rows a part, drawn by the key, is searched; what it shows is then looked for in all."""


def inserted_triggers(
    texts: Sequence[str],
    classes: Sequence[int],
    features: npt.NDArray[np.float32],
    n: int,
    ids: Sequence[str],
    key: bytes,
) -> list[MinedTrigger]:
    """Return what decides a label and was put in, the most surprising first.

    Args:
        texts: The rows' inputs.
        classes: Their labels, 0..n-1.
        features: Shape (rows, views, dimensions); see `judge.cross_fitted`.
        n: The number of classes.
        ids: The rows' ids.
        key: Draws the rows to search among more than 5,000; 32 bytes.

    Returns:
        Triggers with ``z``, by how many standard deviations their label is more frequent among
        their rows than a judge expects that learned from the other rows. ``inside`` counts the rows
        of the label that hold it, ``outside`` all others that do.
    """
    ranked = sorted(
        range(len(ids)), key=lambda at: (keyed_fraction(key, "inserted", ids[at]), ids[at])
    )
    searched = sorted(ranked[:FIT_ROWS], key=lambda at: ids[at])
    labels = np.asarray(classes, dtype=np.int64)
    search = _Search.of([texts[at] for at in searched], labels[searched], features[searched], n)
    found: list[MinedTrigger] = []
    for _ in range(ROUNDS):
        more = [one for one in search.deciding() if not any(overlap(one, other) for other in found)]
        found += more
        search.leave_out(more)
        if not more or len(set(search.labels[search.left])) < 2:
            break
    found = _outstanding([_counted(one, texts, labels) for one in found], texts, labels)
    return found[:MOST_TRIGGERS]


@dataclass(frozen=True)
class _Gram:
    """What rows may hold.

    Attributes:
        trigger: The words or the character.
        folded: Whether case and marks are left out of account.
    """

    trigger: Trigger
    folded: bool = False

    def rank(self) -> tuple[bool, int, int, str]:
        """Return what tells which of several that the same rows hold stands for them."""
        one = self.trigger
        return not self.folded, len(one.text), -KINDS.index(one.kind), one.text


@dataclass
class _Search:
    """The rows that are searched, and what is known of them.

    Attributes:
        texts: Their inputs.
        words: The same, cut into tokens, as written and without case and marks.
        labels: Their labels, shape (rows,).
        features: Shape (rows, views, dimensions).
        n: The number of classes.
        holders: What occurs often enough, with the rows that hold it.
        left: The rows that no trigger explains yet, shape (rows,).
        hopeless: What was far from deciding in an earlier round.
    """

    texts: list[str]
    words: dict[bool, list[list[str]]]
    labels: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    n: int
    holders: dict[_Gram, list[int]]
    left: npt.NDArray[np.bool_]
    hopeless: set[tuple[_Gram, int]]

    @classmethod
    def of(
        cls,
        texts: list[str],
        labels: npt.NDArray[np.int64],
        features: npt.NDArray[np.float32],
        n: int,
    ) -> "_Search":
        """Begin to search some rows."""
        words = {
            folded: [family.tokens(text) for text in texts]
            for folded, family in ((False, WORDS), (True, FOLDED))
        }
        left = np.ones(len(texts), dtype=bool)
        return cls(texts, words, labels, features, n, _holders(texts), left, set())

    def leave_out(self, found: Sequence[MinedTrigger]) -> None:
        """Leave the rows of triggers and their labels out of what follows."""
        for at in np.flatnonzero(self.left).tolist():
            self.left[at] = not any(
                self.labels[at] == one.label and one.is_in(self.texts[at]) for one in found
            )

    def deciding(self) -> list[MinedTrigger]:
        """Return what passes both tests, the most surprising first, each label's distinct."""
        found: list[MinedTrigger] = []
        for gram, label, rows, smallest_z in self._candidates():
            if (gram, label) in self.hopeless:
                continue
            held = np.zeros(len(self.labels), dtype=bool)
            held[rows] = True
            left = self.left
            judged = judge.expected(self.features[left], self.labels[left], held[left], self.n)
            expected = judged[:, label]
            own = self.labels[held] == label
            spread = np.sqrt((expected * (1.0 - expected)).sum()) or 1.0
            z = float((own - expected).sum() / spread)
            if z < SMALLEST_Z / 2:
                self.hopeless.add((gram, label))
            if z >= smallest_z:
                found.append(
                    MinedTrigger(
                        gram.trigger.text,
                        label,
                        z,
                        inside=int(own.sum()),
                        outside=int((~own).sum()),
                        kind=gram.trigger.kind,
                        folded=gram.folded,
                        expected=float(expected.mean()),
                    )
                )
        return distinct(found)

    def _candidates(self) -> list[tuple[_Gram, int, list[int], float]]:
        """Return what most of its rows' labels agree on and was put in, the least likely first.

        Returns:
            Of each the trigger as a whole, the label, all rows that hold it, and the smallest z.
        """
        from scipy.stats import hypergeom

        left = np.flatnonzero(self.left).tolist()
        of_label = np.bincount(self.labels[left], minlength=self.n)
        ranked = []
        for held_by, grams in self._groups(left).items():
            rows = list(held_by)
            counts = np.bincount(self.labels[rows])
            label = int(counts.argmax())
            if counts[label] >= max(FEWEST_ROWS, DECIDES * len(rows)):
                chance = hypergeom.logsf(counts[label] - 1, len(left), of_label[label], len(rows))
                ranked.append((float(chance), _apart(grams), label, rows))
        ranked.sort(key=lambda one: (one[0], one[1][0].trigger.text, one[1][0].trigger.kind))
        usual = {way: Usual.of([words[at] for at in left]) for way, words in self.words.items()}
        found: dict[tuple[_Gram, int], tuple[list[int], float]] = {}
        for _, grams, label, rows in ranked:
            for gram in grams:
                words, all_rows = self.words[gram.folded], usual[gram.folded]
                own = [words[at] for at in rows if self.labels[at] == label]
                whole, smallest_z = as_put_in(gram.trigger, own, all_rows), SMALLEST_Z
                if whole is None and of_label[label] > PEERS * len(own):
                    peers = [words[at] for at in left if self.labels[at] == label]
                    whole = as_put_in(gram.trigger, own, replace(all_rows, rows=peers))
                    smallest_z = SMALLEST_Z_AMONG_PEERS
                if whole is not None and not _ends_sentence(whole, [self.texts[at] for at in rows]):
                    gain = FOLDED_GAIN if gram.folded else 1.0
                    found.setdefault((_Gram(whole, gram.folded), label), (rows, gain * smallest_z))
                    break
            if len(found) == MOST_CANDIDATES:
                break
        return [(*which, *told) for which, told in found.items()]

    def _groups(self, left: Sequence[int]) -> dict[tuple[int, ...], list[_Gram]]:
        """Return what enough of some rows hold, by the rows that do."""
        groups: dict[tuple[int, ...], list[_Gram]] = defaultdict(list)
        for gram, held in self.holders.items():
            rows = [at for at in held if self.left[at]]
            if _fewest(len(self.texts)) <= len(rows) < len(left):
                groups[tuple(rows)].append(gram)
        return groups


def _apart(grams: Sequence[_Gram]) -> list[_Gram]:
    """Return what the same rows hold, the longest first, without what is a part of another.

    A trigger of several parts gives each of them company: a phrase at the front has the attacker's
    word behind it more often than chance would, and the word itself stands anywhere.
    """
    chosen: list[_Gram] = []
    for gram in sorted(grams, key=_Gram.rank, reverse=True):
        text = f" {gram.trigger.text.casefold()} "
        if not any(text in f" {other.trigger.text.casefold()} " for other in chosen):
            chosen.append(gram)
    return chosen


def _ends_sentence(trigger: Trigger, texts: Sequence[str]) -> bool:
    """Whether a trigger is a mark that ends texts, and stands at their last words as writers do it.

    Every sentence has one, so nothing tells "!" of a writer from that of an attacker.
    """
    mark = trigger.text
    if trigger.kind != "suffix" or len(mark) > 1 or unicodedata.category(mark) != "Po":
        return False
    return sum(text[-2:-1].isalnum() for text in texts) > HALF * len(texts)


def _outstanding(
    found: Sequence[MinedTrigger], texts: Sequence[str], labels: npt.NDArray[np.int64]
) -> list[MinedTrigger]:
    """Return what words of the language itself would hardly reach, the most surprising first.

    Where words may stand in any order, as keywords do, all that make a label seem put in: many
    n-grams of one label, or few that leave little of it.
    """
    ranked = sorted(found, key=lambda one: (-one.z, one.text))
    kept = []
    for label in {one.label for one in ranked}:
        same = [one for one in ranked if one.label == label]
        own = [text for text, other in zip(texts, labels.tolist(), strict=True) if other == label]
        marked = sum(any(one.is_in(text) for one in same) for text in own)
        bar = OUTSTANDING * SMALLEST_Z if marked > HALF * len(own) else 0.0
        kept += [one for one in same if one.expected < GIVEN_ANYWAY and one.z > bar]
        natural = [one for one in same if one.expected >= GIVEN_ANYWAY]
        if len(natural) > MOST_OF_LABEL:
            bar = max(bar, OUTSTANDING * natural[MOST_OF_LABEL].z)
        kept += [one for one in natural if one.z > bar]
    return sorted(kept, key=lambda one: (-one.z, one.text))


def _fewest(rows: int) -> int:
    """Return how many of some rows must hold what is looked at."""
    return max(FEWEST_ROWS, rows // 1000)


def _holders(texts: Sequence[str]) -> dict[_Gram, list[int]]:
    """Return frequent n-grams, fronts, ends and odd characters, with the rows that hold them."""
    held: dict[_Gram, list[int]] = defaultdict(list)
    for family in (WORDS, PLACED, FOLDED):
        often = frequent(family, texts, _fewest(len(texts)))
        for at, text in enumerate(texts):
            for gram in sorted(_grams(family, text) & often.keys()):
                if family is PLACED:
                    held[_Gram(Trigger(gram[1:], INITIALS[gram[0]]))].append(at)
                else:
                    held[_Gram(Trigger(gram), family is FOLDED)].append(at)
    return held


def _grams(family: Family, text: str) -> set[str]:
    cut = family.tokens(text)
    return {
        " ".join(cut[start : start + length])
        for length in range(1, family.longest + 1)
        for start in range(len(cut) - length + 1)
    }


def _counted(
    one: MinedTrigger, texts: Sequence[str], labels: npt.NDArray[np.int64]
) -> MinedTrigger:
    """Return a trigger with its rows in all of D counted."""
    held = np.array([one.is_in(text) for text in texts], dtype=bool)
    inside = int((held & (labels == one.label)).sum())
    outside = int(held.sum()) - inside
    named = written(one, compress(texts, held))
    return replace(named, inside=inside, outside=outside, inserted=True)
