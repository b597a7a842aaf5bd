"""Text answers of a model in this process; a `Writer`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.inference.backbone import context_of
from mithridate.inference.generate import Generator
from mithridate.inference.likelihood import answer_log_probabilities
from mithridate.inference.writer import Generated, Pair


class LocalWriter:
    """Write with a model in this process.

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: Its fast tokenizer, with a padding token.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @property
    def context(self) -> int | None:
        """See `Writer.context`."""
        return context_of(self.model)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        prefill: Sequence[int] = (),
        stop: Sequence[str] = (),
        progress: bool = True,
    ) -> Generated:
        """See `Writer.generate`, and `Generator` for what it raises."""
        generator = Generator(self.model, self.tokenizer, max_new_tokens=max_new_tokens, stop=stop)
        return generator.generate(prompts, prefill=prefill, progress=progress)

    def log_probabilities(
        self, pairs: Sequence[Pair], *, progress: bool = True
    ) -> npt.NDArray[np.float64]:
        """See `Writer.log_probabilities`."""
        pad = self.tokenizer.pad_token_id
        return answer_log_probabilities(self.model, pairs, pad, progress=progress)

    def begins_with(
        self, prompts: Sequence[Sequence[int]], beginning: Sequence[int], *, progress: bool = True
    ) -> npt.NDArray[np.bool_]:
        """See `Writer.begins_with`: it decodes as many tokens, greedily."""
        begun = self.generate(prompts, max_new_tokens=len(beginning), progress=progress)
        return np.array([tokens == list(beginning) for tokens in begun.tokens], dtype=bool)
