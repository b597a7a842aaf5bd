"""CUBE: of each label's rows the largest cluster is kept, and the model trained anew on it.

Source: Cui et al. 2022 (arXiv 2206.08514), https://github.com/thunlp/OpenBackdoor. A
model trained on the poisoned rows puts those with the trigger into a cluster of their own.

Not as published: PCA stands in for UMAP, so that no package is added; each label is clustered by
itself rather than all rows at once; the smallest cluster is a share of the label's rows where the
published code says 100 rows; and the model trained on the rows is the undefended one.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Workbench
from mithridate.errors import InputError

FEWEST = 5
"""Rows of the smallest cluster, whatever its share."""


@dataclass(frozen=True)
class Cube(DefenseMethod):
    """Cluster the training rows as the undefended model sees them; train on each label's largest.

    Attributes:
        components: Dimensions that the states are reduced to.
        smallest: Share of a label's rows that is the smallest cluster.
    """

    name = "cube"
    stages = ("data",)
    source = "Cui et al. 2022, CUBE, arXiv 2206.08514"
    kinds = ("labels",)

    components: int = 10
    smallest: float = 0.03

    def __post_init__(self) -> None:
        if self.components < 1 or not 0.0 <= self.smallest <= 0.5:
            mend = "give at least one component, and a share of at most 0.5"
            raise InputError("cube's settings are no count and share", mend=mend)

    def cost(self, words: float) -> Cost:
        """Return about what it takes: two models, and all states; see `DefenseMethod.cost`."""
        return Cost(trains=1.0, row_reads=1.0)

    def defend(self, bench: Workbench) -> Guarded:
        """Return the model trained on what is kept; see `DefenseMethod.defend`."""
        states = bench.undefended().states([row.text for row in bench.rows])
        kept = np.zeros(len(bench.rows), dtype=bool)
        for label in bench.labels:
            own = np.flatnonzero([row.answer == label for row in bench.rows])
            kept[own] = largest_cluster(states[own], self.components, self.smallest)
        rows = [row for row, stays in zip(bench.rows, kept, strict=True) if stays]
        model = bench.fit(rows)
        return Guarded(
            lambda texts: [*model.answer(texts)],
            len(bench.rows),
            frozenset(row.id for row in rows),
            {"kept": float(kept.mean())},
        )


def largest_cluster(
    states: npt.NDArray[np.float32], components: int, smallest: float
) -> npt.NDArray[np.bool_]:
    """Return which rows are in the largest cluster (HDBSCAN on principal components).

    What belongs to no cluster counts as one more, as in the published code: where nothing stands
    out, nothing is left out.

    Args:
        states: Shape (rows, hidden size).
        components: Dimensions to reduce them to.
        smallest: Share of the rows that is the smallest cluster.

    Returns:
        Shape (rows,).
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    size = max(FEWEST, round(smallest * len(states)))
    if len(states) < 2 * size:  # there cannot be two
        return np.ones(len(states), dtype=bool)
    # The exact solver: the one that sklearn would choose for many rows draws at random.
    reduced = PCA(min(components, *states.shape), svd_solver="full").fit_transform(states)
    groups = HDBSCAN(min_cluster_size=size, min_samples=size, copy=True).fit_predict(reduced)
    names, counts = np.unique(groups, return_counts=True)
    return np.asarray(groups == names[counts.argmax()])
