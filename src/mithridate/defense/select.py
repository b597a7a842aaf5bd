"""The choice of the benign subset S, the heart of the defense.

The published code draws S from rows that hold no poison, because it knows where the poison is.
A poisoned row inside S gets the benign trigger and the remapped wrong label, and teaches the
backdoor inside the protected domain: of 692 rows 2 can be enough (docs/selection.md).
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.defense.config import Selection
from mithridate.errors import InputError
from mithridate.tasks.classification import ClassificationTask

ALIKE = 0.2
"""The share of a class's good rows that comes last because they resemble the disputed ones."""


@dataclass(frozen=True)
class Subset:
    """The benign subset S.

    Attributes:
        ids: The ids of its rows.
        selection: How it was chosen.
        wanted: round(rho N), the rows asked for; ``ids`` may hold fewer.
        disagreeing: Rows of D whose label the judge would not have given; ``None`` without one.
    """

    ids: frozenset[str]
    selection: Selection
    wanted: int
    disagreeing: int | None = None

    def poisoned(self, poisoned_ids: Set[str]) -> int:
        """Return how many poisoned rows S holds, where the truth is known."""
        return len(self.ids & poisoned_ids)


def wanted_rows(count: int, benign_ratio: float) -> int:
    """Return round(rho N).

    Raises:
        InputError: It rounds to none.
    """
    wanted = round(benign_ratio * count)
    if wanted < 1:
        raise InputError(
            f"{count} rows are too few: a benign ratio of {benign_ratio:g} of them is no row",
            mend="add rows or raise --benign-ratio",
        )
    return wanted


def check_every_class(
    classes: Set[int], chosen: Set[int], size: int, task: ClassificationTask
) -> None:
    """Refuse an S that would leave a class without its alternative label.

    Args:
        classes: Those of D.
        chosen: Those of S.
        size: Rows of S.
        task: The labels.

    Raises:
        InputError: S holds no row of some class of D.
    """
    missing = sorted(classes - chosen)
    if missing:
        raise InputError(
            f"the benign subset of {size} rows holds none of the label "
            f"{task.labels[missing[0]]!r}, so the model would not learn to answer with it",
            mend="raise --benign-ratio, or add rows of that label",
        )


def select_random(
    ids: Sequence[str],
    benign_ratio: float,
    key: bytes,
    *,
    excluded: Set[str] = frozenset(),
) -> Subset:
    """Choose the round(rho N) rows whose keyed hashes are lowest (the paper's text).

    Args:
        ids: All row ids of D, distinct.
        benign_ratio: rho.
        key: 32 bytes.
        excluded: Ids of rows that never enter S; others take their places.
    """
    wanted = wanted_rows(len(ids), benign_ratio)
    allowed = [row_id for row_id in ids if row_id not in excluded]
    # Copies share a hash, being one content; their number breaks the tie.
    ranked = sorted(allowed, key=lambda row_id: (keyed_fraction(key, base_id(row_id)), row_id))
    return Subset(frozenset(ranked[:wanted]), "random", wanted)


def select_judged(
    ids: Sequence[str],
    classes: Sequence[int],
    probabilities: npt.NDArray[np.float32],
    benign_ratio: float,
    *,
    selection: Selection,
    trusted: Sequence[int] = (),
    excluded: Set[str] = frozenset(),
    resemblance: npt.NDArray[np.float32] | None = None,
    draw_from: float = 0.0,
    key: bytes = b"",
) -> Subset:
    """Choose among the rows whose label the judge agrees with most confidently, class by class.

    With ``resemblance``, the fifth of each class's rows that most resembles the disputed ones
    comes last, however sure the judge is of them.

    Each class gets its share of round(rho N) in proportion to its rows that may enter S; what a
    class cannot fill goes to the others' next most confident agreements. Where the judge agrees
    with too few rows altogether, S is smaller than asked for. A class without a single agreement
    and without trusted rows, as tiny ones can be, enters S by the rows that come closest to it, or
    S would not teach it at all.

    Args:
        ids: All row ids of D.
        classes: Their classes, as D has them.
        probabilities: The judge's, shape (rows, n).
        benign_ratio: rho.
        selection: The name of the judge.
        trusted: Indices of rows that enter S whatever the judge says.
        excluded: Ids of rows that never enter S.
        resemblance: How much each row is like the disputed ones of its label, shape (rows,).
        draw_from: S is drawn at random from this share of the rows agreed with, the surest of each
            class; 0 takes the very surest.
        key: Fixes the draw; 32 bytes.

    Raises:
        InputError: rho rounds to no row.
    """
    wanted = wanted_rows(len(ids), benign_ratio)
    labels = np.asarray(classes)
    agrees = probabilities.argmax(axis=1) == labels
    disagreeing = int((~agrees).sum())
    allowed = np.array([row_id not in excluded for row_id in ids], dtype=bool)
    agrees &= allowed
    places = np.asarray(trusted, dtype=np.int64)
    covered = np.concatenate([labels[agrees], labels[places]])
    agrees |= allowed & ~np.isin(labels, covered)
    confidence = probabilities[np.arange(len(labels)), labels]
    last = np.zeros(len(labels), dtype=bool)
    if resemblance is not None:
        last = _alike(resemblance, labels, agrees, ids)
    # Ties are broken by id, so that the order of the rows decides nothing.
    ranked = sorted(
        np.flatnonzero(agrees).tolist(),
        key=lambda index: (last[index], -confidence[index], ids[index]),
    )
    chosen = dict.fromkeys(int(index) for index in trusted)
    # Rows kept out of S have no say in it, or whoever put them there would shift the shares.
    quota = _quotas(labels[allowed], max(wanted, len(chosen)))
    for index in chosen:
        quota[int(labels[index])] -= 1
    # Where trusted rows of a class exceed its share, the others' shares shrink to make room.
    for _ in range(-sum(min(left, 0) for left in quota.values())):
        largest = max(quota, key=lambda label: quota[label])
        if quota[largest] > 1:
            quota[largest] -= 1
    for index in _drawn(ranked, labels, ids, quota, draw_from, key):
        if int(index) not in chosen and quota[int(labels[index])] > 0:
            quota[int(labels[index])] -= 1
            chosen[int(index)] = None
    for index in ranked:
        if len(chosen) >= wanted:
            break
        chosen.setdefault(int(index), None)
    members = frozenset(ids[index] for index in chosen)
    return Subset(members, selection, wanted, disagreeing)


def _alike(
    resemblance: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.bool_],
    ids: Sequence[str],
) -> npt.NDArray[np.bool_]:
    """Return the fifth of each class's candidates that most resembles the disputed rows."""
    alike = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[candidates]):
        own = np.flatnonzero(candidates & (labels == label)).tolist()
        ranked = sorted(own, key=lambda index: (-resemblance[index], ids[index]))
        most = ranked[: int(ALIKE * len(own))]
        alike[most] = resemblance[most] > 0.0
    return alike


def _drawn(
    ranked: list[int],
    labels: npt.NDArray[Any],
    ids: Sequence[str],
    quota: dict[int, int],
    draw_from: float,
    key: bytes,
) -> list[int]:
    """Return the rows in the order to take them: the surest share of each class by a keyed draw."""
    if draw_from == 0.0:
        return ranked
    order: list[int] = []
    for label, left in quota.items():
        own = [index for index in ranked if labels[index] == label]
        pool = max(left, round(draw_from * len(own)), 0)
        first = {index: keyed_fraction(key, base_id(ids[index])) for index in own[:pool]}
        order += sorted(first, key=lambda index: (first[index], ids[index]))
        order += own[pool:]
    return order


def _quotas(labels: npt.NDArray[np.int64], wanted: int) -> dict[int, int]:
    """Share ``wanted`` out among classes by largest remainder, at least one row for each."""
    values, counts = np.unique(labels, return_counts=True)
    shares = wanted * counts / counts.sum()
    quota = np.maximum(np.floor(shares).astype(int), 1)
    for index in np.argsort(np.floor(shares) - shares, kind="stable"):
        if quota.sum() >= wanted:
            break
        quota[index] += 1
    return {int(value): int(share) for value, share in zip(values, quota, strict=True)}
