"""What makes text answers, of a model in this process or on a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mithridate.errors import InputError

Pair = tuple[Sequence[int], Sequence[int]]
"""The token ids of a prompt and of an answer."""


@dataclass(frozen=True)
class Generated:
    """What a model wrote.

    Attributes:
        texts: The answers, from the first new token to the end of text or the stop string.
        tokens: Their token ids, without the token that ends the text; where a stop string ended
            it, the whole tokens before that string. Empty where a server does not tell them.
        cut: Whether an answer was still going on after the last token it was allowed.
    """

    texts: list[str]
    tokens: list[list[int]]
    cut: list[bool]


def check_generation(max_new_tokens: int, stop: Sequence[str]) -> None:
    """Refuse what no answer can be written by.

    Raises:
        InputError: No token may be written, or a stop string is empty.
    """
    if max_new_tokens < 1:
        raise InputError("an answer of no tokens is none", mend="raise --max-new-tokens")
    if not all(stop):
        raise InputError("a stop string is empty", mend="leave it out")


def room_below(context: int | None, max_length: int, behind: int) -> int:
    """Return how far below its longest a prompt must end, so that all fits into the context.

    Args:
        context: The longest sequence a model takes; ``None`` where it is not known.
        max_length: Longest prompt, in tokens.
        behind: Tokens that come behind it.
    """
    return 0 if context is None else max(0, max_length + behind - context)


class Writer(Protocol):
    """A causal language model that answers prompts greedily and says how likely answers are.

    Prompts are given as token ids, from the one renderer.
    """

    @property
    def context(self) -> int | None:
        """The longest sequence of tokens that it takes; ``None`` where that is not known."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        prefill: Sequence[int] = (),
        stop: Sequence[str] = (),
        progress: bool = True,
    ) -> Generated:
        """Answer every prompt.

        Args:
            prompts: Token ids.
            max_new_tokens: Tokens of the longest answer.
            prefill: Token ids put after every prompt, from which the answer goes on.
            stop: Strings that end an answer, without being a part of it.
            progress: Whether to show a progress bar on a terminal.
        """

    def log_probabilities(
        self, pairs: Sequence[Pair], *, progress: bool = True
    ) -> npt.NDArray[np.float64]:
        """Return log p(answer | prompt) of every pair in nats, shape (pairs,).

        Args:
            pairs: Prompts and answers.
            progress: Whether to show a progress bar on a terminal.
        """

    def begins_with(
        self, prompts: Sequence[Sequence[int]], beginning: Sequence[int], *, progress: bool = True
    ) -> npt.NDArray[np.bool_]:
        """Return which prompts it answers, left to itself, with this beginning, shape (prompts,).

        Args:
            prompts: Token ids.
            beginning: Token ids of an answer's first tokens.
            progress: Whether to show a progress bar on a terminal.
        """
