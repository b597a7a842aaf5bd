"""The judge: which rows' labels a probe that never saw them would have given as well.

The probe is L2-regularized logistic regression on standardized features: hidden states of the
frozen base model, in several views (`mithridate.inference.features`). A poisoned row carries a
wrong label on a text that reads otherwise, so a judge that did not learn from it disagrees. Two
judges:

- cross-fitted: learns from D itself. Its weakness: a trigger or a style that is frequent enough
  is learned along with the task. Four things keep that low. Strong regularization: the task is in
  many features, a trigger in few. Folds that are clusters of rows alike apart from their class:
  rows that share a trigger or a style are judged by rows that do not. Trimming: in each of three
  rounds the rows least believed in the round before are not learned from. Several views: what one
  mistakes another may not.
- anchored: learns from rows a person checked, then from its own surest answers. No label of D that
  nobody checked is ever learned from.

Either judge mistakes some poisoned rows for good ones, and sees through others of the same attack.
So what the disputed rows of a label have in common, and the other rows have not, is learned as well
(`resemblance`): a style, as an n-gram, is what the miner looks for.

Poisoned rows in an S of 692 of 3,460 rows of SST-2, SmolLM2-135M, the surest rows, one draw of the
folds (100 trusted rows: mean of three draws); an earlier judge (random folds, mean state of the
middle layer, weaker regularization) in brackets:

| attack | cross-fitted | anchored |
|---|---|---|
| BadNets 5%, one word | 0 (1) | - |
| BadNets 20% | 9 (93) | 0 (7) |
| AddSent 5% | 1 (20) | 0 |
| SynBkd 10% | 5 (46) | 1 (7) |
| StyleBkd 10% | 1 (36) | 3 (8) |
| words that mark the target class 5% | 16 (20) | 4 (5) |
| BadNets with clean labels 5%: nothing to see | 36 (35) | 25 (-) |
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.errors import InputError

STRENGTH = 1.0
"""scikit-learn's C times the rows trained on. With 10 the judge learns a style: 24 poisoned rows in
S in place of 6 (StyleBkd, one view)."""

CLUSTERS = 3
CLUSTERINGS = 2
DIRECTIONS = 30
"""Rows are clustered by the first 30 principal components of what their class does not explain."""

ROUNDS = 3
TRIMMED = 0.3
"""The share of each class that a round leaves out of the next one's training rows."""

OWN_SHARE = 0.5
TRUSTED_WEIGHT = 2.0
"""The anchored judge learns from the surest half of its own answers to each class; a trusted row
counts for two of them."""

FEWEST_ROWS = 10
"""Below this there is nothing to cluster."""

FOLDS = 5
TAKEN_OVER = 0.05
"""Each round but the last takes this share of a label's good rows, those most like the disputed
ones, for disputed. On SST-2 with 10% StyleBkd one round leaves 4 poisoned rows in an S of 692,
three leave 2; without any resemblance 13."""

TELLING = 0.85
"""A label's disputed rows share something where a probe ranks one of them over a row agreed with in
this share of pairs. Under cross-fitting the rows of rewriting attacks reached 0.86 to 0.94 (SynBkd
and StyleBkd at 5, 10 and 20%); rows that are merely hard 0.87 in one label, at most 0.85 in 34
others (SST-2, TREC, AG News). To take the hard ones for poison keeps whole kinds of text out of S:
on TREC it cost 20 points of accuracy."""

FIT_ROWS = 20_000
"""Of more rows a part, drawn by the key, is clustered and learned from: what hidden states of a
frozen model can tell is learned from fewer, and neither time nor memory grows with the rest."""

CHUNK_ROWS = 20_000
"""Rows that are scaled and judged at a time."""

_LEAST = 1e-7

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def cross_fitted(
    features: Array,
    classes: Sequence[int],
    ids: Sequence[str],
    n: int,
    key: bytes,
    suspects: Flags | None = None,
) -> Array:
    """Return class probabilities of every row, by probes trained on rows unlike it.

    Args:
        features: Shape (rows, views, dimensions). The first view is clustered by; the others are
            judged by, each on its own, or it alone where there is no other.
        classes: The rows' classes in 0..n-1, as D has them.
        ids: The rows' ids: the order of the rows decides nothing.
        n: The number of classes.
        key: 32 bytes.
        suspects: Shape (rows,): rows that are judged, but not learned from.

    Returns:
        Array of shape (rows, n), float32: the geometric mean of all probes that did not learn from
        the row.

    Raises:
        InputError: The rows are too few to judge one by the others.
    """
    if len(ids) < FEWEST_ROWS:
        raise InputError(
            f"{len(ids)} rows are too few to judge one by the others",
            mend="add rows; `defend --selection random` judges none",
        )
    rank = [keyed_fraction(key, "part", row_id) for row_id in ids]
    order = np.array(sorted(range(len(ids)), key=lambda at: (rank[at], ids[at])))
    labels = np.asarray(classes, dtype=np.int64)[order]
    first = np.arange(len(ids)) < FIT_ROWS  # in the order of the key
    if suspects is not None and not suspects.all():
        first &= ~np.asarray(suspects, dtype=bool)[order]
    learned = first
    foldings = _clusterings(features[:, 0][order], labels, learned, key)
    places = np.arange(len(labels))
    logs = np.zeros((len(labels), n))
    for round_ in range(ROUNDS):
        if round_:
            learned = _believed(logs[places, labels], labels) & first
        logs = np.mean(
            [
                np.log(np.maximum(_held_out(states, labels, fold, learned, n), _LEAST))
                for states in (features[:, view][order] for view in _views(features))
                for fold in foldings
            ],
            axis=0,
        )
    found = np.empty((len(ids), n), dtype=np.float32)
    found[order] = _normalized(logs)
    return found


def expected(features: Array, labels: Integers, asked: Flags, n: int) -> Array:
    """Return what a judge that learned from the other rows says of some.

    Args:
        features: Shape (rows, views, dimensions); see `cross_fitted`.
        labels: The rows' classes.
        asked: Shape (rows,): the rows to judge; the others are learned from.
        n: The number of classes.

    Returns:
        Array of shape (rows asked, n), float32: the geometric mean of a probe of each view.
    """
    found = [
        _probabilities(features[~asked, view], labels[~asked], features[asked, view], n)
        for view in _views(features)
    ]
    return _normalized(np.mean([np.log(np.maximum(one, _LEAST)) for one in found], axis=0))


def _views(features: Array) -> range:
    """Return the views to judge by: all but the first, which is clustered by, or it alone."""
    return range(min(1, features.shape[1] - 1), features.shape[1])


def anchored(
    features: Array, trusted: Sequence[int], classes: Sequence[int], n: int, ids: Sequence[str]
) -> Array:
    """Return class probabilities of every row, by a probe that learns from the trusted rows.

    It then learns from its own surest answers as well, whatever labels D gives those rows: a
    hundred rows alone are few, and what the others look like needs no label.

    Args:
        features: Shape (rows, views, dimensions).
        trusted: Indices of the trusted rows.
        classes: The rows' classes; only those of trusted rows are read.
        n: The number of classes.
        ids: The rows' ids, which break ties.

    Returns:
        Array of shape (rows, n), float32.
    """
    order = np.array(sorted(range(len(ids)), key=lambda at: ids[at]))
    states = features.reshape(len(features), -1)
    chosen = np.array(sorted(trusted, key=lambda at: ids[at]), dtype=np.int64)
    labels = np.asarray(classes, dtype=np.int64)[chosen]
    probabilities = _probabilities(states[chosen], labels, states, n)
    for _ in range(ROUNDS):
        own = probabilities.argmax(axis=1)
        sure = probabilities.max(axis=1)
        taken = []
        for label in np.unique(own):
            rows = order[own[order] == label]
            most = min(int(OWN_SHARE * len(rows)), FIT_ROWS // n)
            taken.append(rows[np.argsort(-sure[rows], kind="stable")[:most]])
        rows = np.concatenate([chosen, *taken])
        learned = np.concatenate([labels, own[np.concatenate(taken)]])
        weights = np.ones(len(rows))
        weights[: len(chosen)] = TRUSTED_WEIGHT
        probabilities = _probabilities(states[rows], learned, states, n, weights)
    return probabilities


def resemblance(
    features: Array,
    classes: Sequence[int],
    agrees: Flags,
    explained: Flags,
    ids: Sequence[str],
    key: bytes,
) -> Array:
    """Return how much each row is like the disputed rows of its label, and unlike all others.

    Rows of the other labels are among those others. So what makes a text belong to another label
    tells nothing here, and what is left is what the disputed rows share beside it: of the poisoned
    rows that a judge agreed with (SST-2, StyleBkd 10%, the target label) this ranks one over a good
    row in 96% of pairs, the judge's own confidence in 77%.

    Args:
        features: Shape (rows, views, dimensions).
        classes: The rows' classes, as D has them.
        agrees: Shape (rows,): where the judge agrees, or a person did.
        explained: Shape (rows,): rows that hold a mined trigger, which is reason enough.
        ids: The rows' ids.
        key: 32 bytes.

    Returns:
        Array of shape (rows,), float32, in [0, 1], by probes that did not learn from the row; 0 in
        labels of which fewer than 10 rows are disputed for no reason known, or such rows have
        nothing in common (`TELLING`).
    """
    order = np.array(sorted(range(len(ids)), key=lambda at: ids[at]))
    states = features.reshape(len(features), -1)[order]
    labels = np.asarray(classes, dtype=np.int64)[order]
    good = np.asarray(agrees, dtype=bool)[order]
    known = np.asarray(explained, dtype=bool)[order]
    drawn = np.array([keyed_fraction(key, "resemblance", base_id(ids[at])) for at in order])
    fold = (FOLDS * drawn).astype(np.int64)
    learned = np.zeros(len(ids), dtype=bool)
    learned[np.argsort(drawn, kind="stable")[:FIT_ROWS]] = True
    like = np.zeros(len(ids), dtype=np.float32)
    for label in np.unique(labels):
        own = labels == label
        suspect = own & ~good
        unexplained = suspect & ~known

        def judged(some: Flags, own: Flags = own) -> Array:
            weights = _balanced(some & learned, learned)
            marks = some.astype(np.int64)
            return _held_out(states, marks, fold, learned, 2, weights, own)[:, 1]

        if unexplained.sum() < FEWEST_ROWS:
            continue
        found = judged(unexplained)
        if _ranked_above(found[unexplained], found[own & good]) < TELLING:
            continue
        for round_ in range(ROUNDS):
            like[own] = judged(suspect)[own]
            if round_ < ROUNDS - 1:
                rows = np.flatnonzero(own & good)
                most = rows[np.argsort(-like[rows], kind="stable")[: int(TAKEN_OVER * len(rows))]]
                suspect[most] = True
    told = np.empty(len(ids), dtype=np.float32)
    told[order] = like
    return told


def _ranked_above(some: Array, others: Array) -> float:
    """Return the share of pairs in which one of some is above one of others, ties half."""
    if not len(some) or not len(others):
        return 0.0
    ordered = np.sort(others)
    below = np.searchsorted(ordered, some, "left") + np.searchsorted(ordered, some, "right")
    return float(below.mean() / (2 * len(others)))


def _balanced(suspect: Flags, learned: Flags) -> npt.NDArray[np.float64]:
    """Return weights that let both sides of a probe count for as much, shape (rows,)."""
    total, few = int(learned.sum()), max(int(suspect.sum()), 1)
    weights = np.full(len(suspect), total / (2 * max(total - few, 1)))
    weights[suspect] = total / (2 * few)
    return weights


def _probabilities(
    train: Array, classes: Integers, test: Array, n: int, weights: npt.ArrayLike | None = None
) -> Array:
    """Fit on one part, return class probabilities of the other: shape (rows of test, n)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    probabilities = np.zeros((len(test), n), dtype=np.float32)
    present = np.unique(classes)
    if len(present) == 1:
        probabilities[:, present[0]] = 1.0
        return probabilities
    scaler = StandardScaler()
    probe = LogisticRegression(C=STRENGTH / len(train), max_iter=300, tol=1e-3)
    # Products this small take four times as long where threads wait for each other.
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(scaler.fit_transform(train), classes, sample_weight=weights)
    for start in range(0, len(test), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        probabilities[chunk, present] = probe.predict_proba(scaler.transform(test[chunk]))
    return probabilities


def _held_out(
    features: Array,
    labels: Integers,
    fold: Integers,
    learned: Flags,
    n: int,
    weights: npt.NDArray[np.float64] | None = None,
    asked: Flags | None = None,
) -> Array:
    """Return each row's class probabilities by the probe of the other folds' rows.

    Args:
        features: Shape (rows, dimensions).
        labels: Their classes.
        fold: The fold of each.
        learned: The rows that may be learned from.
        n: The number of classes.
        weights: What each row counts for; one, where none are given.
        asked: The rows to judge; all, where none are given.
    """
    probabilities = np.full((len(labels), n), 1.0 / n, dtype=np.float32)
    for index in np.unique(fold):
        test, others = fold == index, (fold != index) & learned
        if asked is not None:
            test &= asked
        if others.any() and test.any():
            probabilities[test] = _probabilities(
                features[others],
                labels[others],
                features[test],
                n,
                None if weights is None else weights[others],
            )
    return probabilities


def _clusterings(view: Array, labels: Integers, learned: Flags, key: bytes) -> list[Integers]:
    """Return folds of rows that are alike apart from their class, several times over."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    rest = StandardScaler().fit(view[learned]).transform(view)
    for label in np.unique(labels):
        own = labels == label
        rest[own] -= rest[own & learned].mean(axis=0) if (own & learned).any() else 0.0
    count = min(DIRECTIONS, view.shape[1], int(learned.sum()))
    directions = PCA(count, svd_solver="full").fit(rest[learned])
    rest = directions.transform(rest)
    seeds = [int(keyed_fraction(key, "clustering", str(at)) * 2**32) for at in range(CLUSTERINGS)]
    return [
        KMeans(CLUSTERS, n_init=1, max_iter=30, random_state=seed)
        .fit(rest[learned])
        .predict(rest)
        .astype(np.int64)
        for seed in seeds
    ]


def _believed(own: npt.NDArray[np.float64], labels: Integers) -> Flags:
    """Return which rows to learn from: of each class all but the least believed.

    Args:
        own: The log probability of each row's own label.
        labels: The rows' classes.
    """
    kept = np.ones(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept[rows[np.argsort(own[rows], kind="stable")[: int(TRIMMED * len(rows))]]] = False
    return kept


def _normalized(logs: npt.NDArray[np.float64]) -> Array:
    """Return probabilities, each row's made to sum to one."""
    shifted = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)
