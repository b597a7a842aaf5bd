"""The audit where answers are text: what decides answers, which rows show it, which to look at.

What stays out of S is said here once, for `mithridate audit` and for `prepare_text` alike, so that
the two cannot disagree.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.defense.association import (
    Association,
    associations,
    held_triggers,
    strongest_associations,
    triggers,
)
from mithridate.defense.audit import Flagged, average_precision, flagged
from mithridate.defense.secret import Secret
from mithridate.defense.trigger import Trigger

BANDS = 4
"""Strata of the rows that are not suspicious, from little to much information, of as many rows."""


@dataclass(frozen=True)
class Suspected:
    """What decides answers in D, and the rows that show it.

    Attributes:
        found: What decides answers, the least likely by chance first.
        triggers: The inputs' sides of the strongest ones: suspected triggers.
        association: Shape (rows,): the place in ``found`` of the strongest whose both sides the row
            holds; -1 where there is none, or a person checked the row.
        trigger: Shape (rows,): the place in ``triggers`` of the first that the row holds; -1 as
            above.
    """

    found: list[Association]
    triggers: list[Trigger]
    association: npt.NDArray[np.int64]
    trigger: npt.NDArray[np.int64]

    @property
    def associated(self) -> npt.NDArray[np.bool_]:
        """Which rows hold both sides of an association, shape (rows,)."""
        return self.association >= 0

    @property
    def excluded(self) -> npt.NDArray[np.bool_]:
        """Which rows to keep out of S, shape (rows,).

        What holds a trigger may be poisoned in a way of its own, so it needs no target to be left.
        """
        return self.associated | (self.trigger >= 0)


@dataclass(frozen=True)
class TextAudit:
    """What was made of D.

    Attributes:
        suspected: What decides answers, and the rows that show it.
        information: Shape (rows,): how much each input tells of its answer, in nats over the square
            root of the answer's words (`prepare_text.information`); ``None`` without a model.
        uninformed: Shape (rows,): rows to which another row's input would have been as good, and
            that no person checked.
        ranked: Indices of all rows, the most suspicious first: those that hold both sides of an
            association, the strongest first; those that hold a suspected trigger; then by how
            little information; last those a person checked.
    """

    suspected: Suspected
    information: npt.NDArray[np.float64] | None
    uninformed: npt.NDArray[np.bool_]
    ranked: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextTruth:
    """How an audit stands against the truth.

    Attributes:
        associated: The rows that hold both sides of an association.
        excluded: The rows to keep out of S.
        average_precision: See `mithridate.defense.audit.Truth`.
    """

    associated: Flagged
    excluded: Flagged
    average_precision: float | None


def suspected(
    texts: Sequence[str],
    answers: Sequence[str],
    ids: Sequence[str],
    secret: Secret,
    trusted: Set[str] = frozenset(),
) -> Suspected:
    """Find what decides answers, and the rows that show it.

    Args:
        texts: The rows' inputs.
        answers: Their answers, as the model is trained on them.
        ids: Their ids.
        secret: Draws the rows to search among more than 5,000.
        trusted: Ids of rows a person checked; nothing is suspected of them.
    """
    found = associations(texts, answers, ids, secret.derive("associations"))
    named = triggers(found)
    association = strongest_associations(texts, answers, found)
    trigger = np.array(
        [held[0] if held else -1 for held in held_triggers(texts, named)], dtype=np.int64
    )
    checked = np.array([row_id in trusted for row_id in ids], dtype=bool)
    association[checked] = trigger[checked] = -1
    return Suspected(found, named, association, trigger)


def audit_texts(
    ids: Sequence[str],
    marks: Suspected,
    information: npt.NDArray[np.float64] | None,
    key: bytes,
    *,
    trusted: Set[str] = frozenset(),
) -> TextAudit:
    """Rank rows by how suspicious they are.

    Args:
        ids: All row ids of D.
        marks: What decides answers, and the rows that show it.
        information: How much each input tells of its answer; ``None`` without a model.
        key: Puts rows in order of which no more is known, so that neither their place in the file
            nor their names do; 32 bytes.
        trusted: Ids of rows a person checked.
    """
    checked = np.array([row_id in trusted for row_id in ids], dtype=bool)
    told = np.zeros(len(ids)) if information is None else information
    uninformed = (told <= 0) & ~checked & (information is not None)
    drawn = np.array([keyed_fraction(key, "rank", base_id(row_id)) for row_id in ids])
    associated, holding = marks.associated, marks.trigger >= 0
    group = np.select([associated, holding, ~checked], [0, 1, 2], 3)
    strength = np.where(associated, marks.association, np.where(holding, marks.trigger, 0))
    names = np.argsort(np.argsort(np.array(ids, dtype=object), kind="stable"))
    ranked = np.lexsort((names, drawn, told, strength, group))
    return TextAudit(marks, information, uninformed, ranked.astype(np.int64))


def against_truth(found: TextAudit, ids: Sequence[str], poisoned: Set[str]) -> TextTruth:
    """Return how well an audit finds the rows known to be poisoned."""
    bad = np.array([row_id in poisoned for row_id in ids], dtype=bool)
    return TextTruth(
        flagged(found.suspected.associated, bad),
        flagged(found.suspected.excluded, bad),
        average_precision(found.ranked, bad),
    )


def pick_texts(
    found: TextAudit,
    ids: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[str],
    count: int,
    key: bytes,
    *,
    skip: Set[str] = frozenset(),
) -> list[int]:
    """Return the indices of the rows most worth checking.

    Half are the most suspicious of the rows about which there is a doubt: what holds both sides of
    an association is kept out without a person. The others are drawn by the key, in equal parts
    from four bands from little information to much; what they turn out to be says how good D is,
    and the right ones enter S. Of copies one is enough.

    Args:
        found: The audit.
        ids: All row ids of D.
        texts: The inputs.
        answers: The answers.
        count: How many to pick at most.
        key: 32 bytes.
        skip: Ids of rows that were checked before.
    """
    seen = {(texts[at], answers[at]) for at, row_id in enumerate(ids) if row_id in skip}
    certain = found.suspected.associated
    doubtful: list[int] = []
    for at in found.ranked.tolist():
        said = (texts[at], answers[at])
        if not certain[at] and said not in seen:
            seen.add(said)
            doubtful.append(at)
    half = (count + 1) // 2
    picked, rest = doubtful[:half], doubtful[half:]
    for number, band in enumerate(np.array_split(np.array(rest, dtype=np.int64), BANDS)):
        share = -(-(count - len(picked)) // (BANDS - number))
        drawn = sorted(
            band.tolist(), key=lambda at: (keyed_fraction(key, "pick", base_id(ids[at])), ids[at])
        )
        picked += drawn[:share]
    return picked
