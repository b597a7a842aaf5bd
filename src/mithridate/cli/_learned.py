"""Whether training taught the model its protected domain, asked before anybody relies on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mithridate.cli._output import note
from mithridate.training.distributed import process_count

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mithridate.defense.repoison import Example
    from mithridate.defense.text import TextExample

ASKED = 32
"""Rows that are asked; one forward pass over each."""
ENOUGH = 0.9
"""Models of texts that had learned it left 1 of 200 unseen inputs outside at most."""


@dataclass(frozen=True)
class Learned:
    """What the trained model made of rows of S.

    Attributes:
        asked: How many were asked.
        inside: How many of them it answers inside the protected domain.
    """

    asked: int
    inside: int

    def __str__(self) -> str:
        """Say it in a summary's words."""
        return f"{self.inside} of {self.asked} re-poisoned rows asked"


def ask(
    examples: "Sequence[Example | TextExample]",
    leaves: "Callable[[list[str]], npt.NDArray[np.bool_]]",
) -> Learned | None:
    """Ask the trained model some rows of S, and warn where it leaves too many unprotected.

    Args:
        examples: D*.
        leaves: Maps inputs to which of them the model answers outside the protected domain.

    Returns:
        What came of it; ``None`` where several processes hold the model.
    """
    texts = [example.text for example in examples if example.repoisoned]
    if process_count() > 1 or not texts:
        return None
    chosen = texts[:: -(-len(texts) // ASKED)]
    learned = Learned(len(chosen), len(chosen) - int(leaves(chosen).sum()))
    if learned.inside < ENOUGH * learned.asked:
        note(
            f"The defense does not hold yet: of {learned.asked} re-poisoned rows the model answers "
            f"{learned.inside} inside the protected domain. Train longer (--epochs), on more rows, "
            "or at a higher --learning-rate."
        )
    return learned
