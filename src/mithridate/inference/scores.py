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
        log_probabilities: Shape (prompts, candidates): log p(candidate | prompt), float64, over
            the whole vocabulary, so a row need not sum to one.
        greedy: Shape (prompts,): the candidate that greedy decoding over the whole vocabulary
            produces, -1 where it produces none of them.
    """

    log_probabilities: npt.NDArray[np.float64]
    greedy: npt.NDArray[np.int64]


class LabelScorer(Protocol):
    """Scores all label words of a task after each prompt."""

    def score(self, prompts: Sequence[Sequence[int]], *, progress: bool = True) -> Scores:
        """Score every candidate after every prompt, given as token ids."""
