"""What a judge disputes, and what that says of the rows it took for good ones.

A judge that learns from D learns an attacker's style along with the task. Its disputes show the
style: the rows that share it are left out of what the next judge learns from, which disputes more
of them, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mithridate.defense.config import Drop
from mithridate.defense.judge import anchored, cross_fitted, resemblance
from mithridate.defense.mining import (
    MOST_OF_LABEL,
    MinedTrigger,
    marked_rows,
    mine_triggers,
    together,
)

AGAIN = 4
"""How often the rows are judged again, without the suspects of the time before. SST-2, 1,730 rows,
20% of them SynBkd's or StyleBkd's, two keys each: of S's 692 rows 32, 14, 30, 28 are poisoned with
one judge, 15, 4, 6, 11 with the second, 2, 4, 4, 8 with the fifth."""

RESEMBLING = 0.5
"""A row is left out if a probe holds it rather for one of the disputed rows of its label than for
any other. SST-2, 1,730 rows, 173 of them SynBkd's or StyleBkd's, agreement, one judge: of those
outside S 36 and 40 stay, and 72 and 52 clean rows go with the others; leaving out the disputed rows
alone 74 and 90 stay, and 85 and 72 go; at 0.3 12 and 11 stay, and 185 and 148 go."""

EXCLUSIVE = 0.9
"""A trigger that somebody put in stands in rows of its label; a word that is merely hard to judge
stands in others as well, and without its rows the model would learn that it means another label."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Disputes:
    """What a judge made of the rows.

    Attributes:
        probabilities: Its class probabilities, shape (rows, n).
        agrees: Shape (rows,): where it agrees with the label and nothing was put in, or a person
            checked the row.
        mined: What was put in, then what marks the disputed rows beyond that.
        marked: Shape (rows,): which rows hold one of these and have its label.
        resemblance: How much each row is like the disputed rows of its label, shape (rows,); see
            `judge.resemblance`.
    """

    probabilities: npt.NDArray[np.float32]
    agrees: Flags
    mined: list[MinedTrigger]
    marked: Flags
    resemblance: npt.NDArray[np.float32]

    def suspects(self, texts: Sequence[str], classes: Sequence[int], drop: Drop) -> Flags:
        """Return which rows to leave out of D*, shape (rows,).

        Args:
            texts: The rows' inputs.
            classes: Their labels, 0..n-1.
            drop: See `P2PConfig`.
        """
        alike = self.resemblance > RESEMBLING
        return suspects(texts, classes, self.mined, ~self.agrees, alike, drop)


def judge_rows(
    ids: Sequence[str],
    texts: Sequence[str],
    classes: Sequence[int],
    features: npt.NDArray[np.float32],
    n: int,
    key: bytes,
    *,
    inserted: Sequence[MinedTrigger] = (),
    trusted: Sequence[int] = (),
) -> Disputes:
    """Judge rows by the others, or by those that a person checked.

    Args:
        ids: The rows' ids.
        texts: Their inputs.
        classes: Their labels, as D has them, 0..n-1.
        features: Shape (rows, views, dimensions); see `judge.cross_fitted`.
        n: The number of classes.
        key: 32 bytes.
        inserted: What `mithridate.defense.inserted` found; its rows are disputed.
        trusted: Indices of rows a person checked, of every class: the judge then learns no other
            row's label, so no style of theirs, and judges once.

    Raises:
        InputError: The rows are too few to judge one by the others.
    """
    labels = np.asarray(classes, dtype=np.int64)
    is_trusted = np.isin(np.arange(len(ids)), np.asarray(trusted, dtype=np.int64))
    explained = marked_rows(texts, classes, inserted)

    def judged(probabilities: npt.NDArray[np.float32]) -> Disputes:
        agrees = (probabilities.argmax(axis=1) == labels) & ~explained | is_trusted
        mined = together(inserted, mine_triggers(texts, classes, agrees))
        # A judge that took a few triggered rows for good ones has seen through the others.
        marked = marked_rows(texts, classes, mined) & ~is_trusted
        like = resemblance(features, classes, agrees, marked, ids, key)
        return Disputes(probabilities, agrees, mined, marked, like)

    if len(trusted):
        return judged(anchored(features, trusted, classes, n, ids))
    left_out = explained
    found = judged(cross_fitted(features, classes, ids, n, key, left_out))
    for _ in range(AGAIN):
        if not found.resemblance.any():
            break
        more = found.suspects(texts, classes, "shared")
        # Of a label that is suspected as a whole too little would be left to learn from.
        more &= ~np.isin(labels, mostly(classes, more))
        more |= explained
        if (more == left_out).all():
            break
        left_out = more
        found = judged(cross_fitted(features, classes, ids, n, key, left_out))
    return found


def suspects(
    texts: Sequence[str],
    classes: Sequence[int],
    mined: Sequence[MinedTrigger],
    disputed: Flags,
    alike: Flags,
    drop: Drop,
) -> Flags:
    """Return which rows to leave out of D*, shape (rows,).

    Args:
        texts: The rows' inputs.
        classes: Their labels, 0..n-1.
        mined: What marks the disputed rows.
        disputed: Shape (rows,): where the judge disagrees.
        alike: Shape (rows,): which resemble the disputed rows of their label, unlike all others.
        drop: See `P2PConfig`.
    """
    if drop == "nothing":
        return np.zeros(len(texts), dtype=bool)
    likely = marked_rows(texts, classes, mined, exclusive=EXCLUSIVE)
    if drop in ("marked", "shared"):
        out = likely | (marked_rows(texts, classes, mined) & disputed)
        return out | alike if drop == "shared" else out
    # Of a label that is disputed as a whole, as tiny ones are, the judge knows nothing.
    return likely | (disputed & ~np.isin(classes, mostly(classes, disputed)))


def mostly(classes: Sequence[int], chosen: Flags) -> tuple[int, ...]:
    """Return the classes of which more than half of the rows are chosen, in order."""
    labels = np.asarray(classes)
    return tuple(
        int(label) for label in np.unique(labels) if chosen[labels == label].mean() > MOST_OF_LABEL
    )
