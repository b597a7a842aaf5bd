"""Which rows a person should check: of all labels, near the judge's boundary and far from it.

The anchored judge learns from the checked rows alone, so most of them should turn out right and all
of them should be unlike each other. Which they are depends on a key: an attacker who knew could
keep the poison away from them.
"""

from collections.abc import Sequence, Set

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import base_id, keyed_fraction

BANDS = 4
"""Strata of a label's undisputed rows, from the judge's boundary outwards, each of as many rows."""

DISPUTED_SHARE = 0.1
"""Of a label's rows handed out: disputed ones, for where the judge is wrong about them, nothing
else would say so."""

MOST_COMPARED = 2000
"""Rows of a stratum, drawn by the key, that are compared with each other."""


def pick(
    ids: Sequence[str],
    texts: Sequence[str],
    classes: Sequence[int],
    scores: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    count: int,
    key: bytes,
    *,
    skip: Set[str] = frozenset(),
) -> list[int]:
    """Return the indices of the rows most worth checking, label by label.

    Each label gets an equal share, as far as it has rows; within it a tenth are disputed rows, the
    others come in equal parts from four bands of the judge's confidence. In a band rows are grouped
    by their features (k-means) and the one nearest to each group's middle is taken. Of rows with
    the same text one is enough.

    Args:
        ids: All row ids of D.
        texts: The inputs.
        classes: The labels, as D has them.
        scores: The judge's disagreement with them, see `mithridate.defense.audit`.
        features: Hidden states, shape (rows, views, dimensions).
        count: How many to pick at most.
        key: 32 bytes.
        skip: Ids of rows that were checked before.
    """
    labels = np.asarray(classes, dtype=np.int64)
    features = features.reshape(len(features), -1)
    rank = np.array([keyed_fraction(key, "pick", base_id(row_id)) for row_id in ids])
    order = sorted(range(len(ids)), key=lambda at: (rank[at], ids[at]))
    known = {texts[at] for at in order if ids[at] in skip}
    first = {texts[at]: at for at in reversed(order) if texts[at] not in known}
    candidates = np.array(sorted(first.values(), key=lambda at: (rank[at], ids[at])), dtype=int)
    picked: list[int] = []
    for label, share in _equal_shares(labels[candidates], count).items():
        own = candidates[labels[candidates] == label]
        picked += _of_label(own, scores, features, share)
    return picked


def _equal_shares(labels: npt.NDArray[np.int64], count: int) -> dict[int, int]:
    """Share a count out equally; what a label cannot fill goes to the others."""
    values, sizes = np.unique(labels, return_counts=True)
    left = {int(value): int(size) for value, size in zip(values, sizes, strict=True)}
    shares = dict.fromkeys(left, 0)
    for _ in range(min(count, len(labels))):
        label = min((v for v in shares if left[v]), key=lambda v: shares[v])
        shares[label] += 1
        left[label] -= 1
    return shares


def _of_label(
    own: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    count: int,
) -> list[int]:
    """Pick among one label's rows, which come in the order of the key."""
    disputed, agreed = own[scores[own] > 0], own[scores[own] <= 0]
    hard = min(len(disputed), max(round(DISPUTED_SHARE * count), count - len(agreed)))
    picked = _diverse(disputed, features, hard)
    outwards = np.argsort(-scores[agreed], kind="stable")
    for number, band in enumerate(np.array_split(outwards, BANDS)):
        share = -(-(count - len(picked)) // (BANDS - number))
        picked += _diverse(agreed[np.sort(band)], features, share)
    return picked


def _diverse(
    rows: npt.NDArray[np.int64], features: npt.NDArray[np.float32], count: int
) -> list[int]:
    """Return rows unlike each other: of each of as many groups the one nearest its middle.

    The rows come in the order of the key.
    """
    if count >= len(rows):
        return [int(row) for row in rows]
    if count < 1:
        return []
    from sklearn.cluster import KMeans

    some = rows[: max(MOST_COMPARED, count)]
    states = features[some]
    spread = states.std(axis=0)
    states = (states - states.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    # The first rows in the order of the key are the starting points, so no other seed is needed.
    groups = KMeans(count, init=states[:count], n_init=1, max_iter=20).fit(states)
    distance = groups.transform(states)
    chosen: list[int] = []
    for group in range(count):
        ranked = np.argsort(distance[:, group], kind="stable")
        chosen.append(next(int(at) for at in ranked if int(at) not in chosen))
    return [int(some[at]) for at in chosen]
