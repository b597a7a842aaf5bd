"""What a scorer is, wherever the model runs; imports no torch, so an engine's client needs none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scores:
    """What a model makes of each prompt.

    Attributes:
        log_probabilities: Shape (prompts, candidates): log p(candidate | prompt), float64, up to a
            number of each prompt's own, the share of all other answers. It is zero, and the
            probabilities those over the whole vocabulary, where a candidate has several tokens,
            where ``greedy`` was asked for, and where a server answered.
        greedy: Shape (prompts,): the candidate that greedy decoding over the whole vocabulary
            produces, -1 where it produces none of them; ``None`` where it is not known.
    """

    log_probabilities: npt.NDArray[np.float64]
    greedy: npt.NDArray[np.int64] | None


def along_paths(
    paths: Sequence[Sequence[int]], terms: npt.NDArray[np.float64], taken: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return what the edges of a trie say of its candidates.

    Args:
        paths: Per candidate, the indices of its edges.
        terms: Shape (prompts, edges): log p(token | prompt and node before it).
        taken: Shape (prompts, edges): whether the token is the likeliest there.

    Returns:
        The candidates' log probabilities, shape (prompts, candidates), and the candidate that
        greedy decoding produces, -1 for none, shape (prompts,).
    """
    values = np.stack([terms[:, path].sum(axis=1) for path in paths], axis=1)
    greedy = np.full(len(terms), -1, dtype=np.int64)
    for candidate, path in enumerate(paths):
        greedy[taken[:, path].all(axis=1)] = candidate
    return values, greedy


class LabelScorer(Protocol):
    """Scores all label words of a task after each prompt."""

    def score(
        self, prompts: Sequence[Sequence[int]], *, greedy: bool = False, progress: bool = True
    ) -> Scores:
        """Score every candidate after every prompt, given as token ids.

        With ``greedy``, find out what greedy decoding would produce, too.
        """
