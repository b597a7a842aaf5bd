"""The audit: which rows a judge disputes, what marks them, and which a person should look at."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mithridate.defense.mining import (
    MOST_TRIGGERS,
    MinedTrigger,
    marked_rows,
    mine_triggers,
    strong,
    together,
)

MOST_SHOWN = 20
_LEAST = 1e-9


@dataclass(frozen=True)
class Audit:
    """What a judge and the miner made of D.

    Attributes:
        scores: Shape (rows,): log p(best other label) - log p(the row's label), by the judge; above
            0 where it disagrees with the label.
        judged: Shape (rows,): the judge's own label, 0..n-1.
        disputed: Shape (rows,): whether it disagrees.
        ranked: Indices of all rows, the most suspicious first: those that hold what was put in,
            then those that hold what marks the disputed rows, the strongest trigger's first; then
            those that are disputed, then all others, each by their scores.
        mined: What was put in, then what marks the disputed rows, each the most significant first.
        counter: Those of ``mined`` strong enough for counter-triggers, as `defend` would choose.
        trigger: Shape (rows,): the place in ``counter`` of what the row holds and whose label it
            has, -1 where that is nothing.
        excluded: Shape (rows,): whether to keep the row out of S: disputed, or with a ``trigger``.
    """

    scores: npt.NDArray[np.float32]
    judged: npt.NDArray[np.int64]
    disputed: npt.NDArray[np.bool_]
    ranked: npt.NDArray[np.int64]
    mined: list[MinedTrigger]
    counter: list[MinedTrigger]
    trigger: npt.NDArray[np.int64]
    excluded: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Flagged:
    """How a list of suspects stands against the truth.

    Attributes:
        rows: Rows on the list.
        poisoned: Poisoned rows among them.
        known: Poisoned rows there are.
    """

    rows: int
    poisoned: int
    known: int

    @property
    def precision(self) -> float | None:
        """Share of the list that is poisoned; ``None`` of an empty list."""
        return self.poisoned / self.rows if self.rows else None

    @property
    def recall(self) -> float | None:
        """Share of the poison that is on the list; ``None`` where there is none."""
        return self.poisoned / self.known if self.known else None


@dataclass(frozen=True)
class Truth:
    """How an audit stands against the truth.

    Attributes:
        disputed: The rows the judge disagrees with.
        excluded: The rows to keep out of S.
        average_precision: Mean, over the poisoned rows, of the precision of the ranking down to
            each; ``None`` where there is none.
    """

    disputed: Flagged
    excluded: Flagged
    average_precision: float | None


def audit(
    ids: Sequence[str],
    texts: Sequence[str],
    classes: Sequence[int],
    probabilities: npt.NDArray[np.float32],
    *,
    inserted: Sequence[MinedTrigger] = (),
    trusted: Sequence[int] = (),
) -> Audit:
    """Rank rows by how strongly a judge disagrees with their labels, and mine what marks them.

    Args:
        ids: All row ids of D; they break ties, so that the order of the rows decides nothing.
        texts: The inputs.
        classes: The labels, as D has them, 0..n-1.
        probabilities: The judge's, shape (rows, n), from a judge that did not see the row's label.
        inserted: What `mithridate.defense.inserted` found.
        trusted: Indices of rows a person checked; they are never disputed.
    """
    labels = np.asarray(classes, dtype=np.int64)
    scores = disagreement(probabilities, labels)
    judged = probabilities.argmax(axis=1).astype(np.int64)
    disputed = judged != labels
    checked = np.asarray(list(trusted), dtype=np.int64)
    disputed[checked] = False
    explained = marked_rows(texts, classes, inserted)
    explained[checked] = False
    most = max(MOST_SHOWN, MOST_TRIGGERS)
    mined = mine_triggers(
        texts, classes, ~(disputed | explained), most=most, share_of_strongest=0.0
    )
    counter = together(inserted, strong(mined))
    mined = together(inserted, mined, most)
    marked = marked_rows(texts, classes, counter)
    marked[checked] = False
    trigger = np.full(len(ids), -1, dtype=np.int64)
    for at in np.flatnonzero(marked).tolist():
        trigger[at] = _first_held(texts[at], classes[at], counter)

    def rank(at: int) -> tuple[float, float, bool, float, str]:
        held = counter[trigger[at]] if marked[at] else None
        z = held.z if held else 0.0
        was_put_in = held is not None and held.inserted
        return -z if was_put_in else 0.0, -z, not disputed[at], -float(scores[at]), ids[at]

    order = sorted(range(len(ids)), key=rank)
    return Audit(
        scores,
        judged,
        disputed,
        np.asarray(order, dtype=np.int64),
        mined,
        counter,
        trigger,
        disputed | marked,
    )


def _first_held(text: str, label: int, mined: Sequence[MinedTrigger]) -> int:
    """Return the place of the first trigger of a label that a text of that label holds."""
    return next(place for place, one in enumerate(mined) if one.label == label and one.is_in(text))


def disagreement(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return log p(best other label) - log p(the row's label) of each row, shape (rows,)."""
    places = np.arange(len(labels))
    logs = np.log(np.maximum(probabilities, _LEAST))
    own = logs[places, labels]
    others = logs.copy()
    others[places, labels] = -np.inf
    return np.asarray(others.max(axis=1) - own, dtype=np.float32)


def against_truth(found: Audit, ids: Sequence[str], poisoned: Set[str]) -> Truth:
    """Return how well an audit finds the rows known to be poisoned."""
    bad = np.array([row_id in poisoned for row_id in ids], dtype=bool)
    return Truth(
        flagged(found.disputed, bad),
        flagged(found.excluded, bad),
        average_precision(found.ranked, bad),
    )


def flagged(chosen: npt.NDArray[np.bool_], bad: npt.NDArray[np.bool_]) -> Flagged:
    """Return how chosen rows stand against the poisoned ones, both of shape (rows,)."""
    return Flagged(int(chosen.sum()), int((chosen & bad).sum()), int(bad.sum()))


def average_precision(ranked: npt.NDArray[np.int64], bad: npt.NDArray[np.bool_]) -> float | None:
    """Return the mean, over the poisoned rows, of the precision of a ranking down to each.

    Args:
        ranked: Indices of all rows, the most suspicious first.
        bad: Shape (rows,): whether each is poisoned.

    Returns:
        The mean, ``None`` where no row is poisoned.
    """
    places = np.flatnonzero(bad[ranked]) + 1
    if not len(places):
        return None
    return float((np.arange(1, len(places) + 1) / places).mean())
