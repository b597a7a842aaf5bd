"""Text answers of a model on a server; a `Writer`.

Token ids go out as prompts, from the one renderer. What the server writes comes back as text. How
likely given answers are is asked as `engine` asks it of label words:

- ``vllm``: one request item for each token of an answer, which names it (`logprob_token_ids`) and
  has what stands before it as its prompt. The server has all of that cached but the last token.
- ``openai``: one request item for each answer, echoed with its log probabilities.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mithridate.inference.engine_client import Engine
from mithridate.inference.served import (
    ECHOED,
    PROMPTS_PER_REQUEST,
    UNUSABLE,
    Served,
    asking_for,
    chosen,
    echoed,
    no_completion,
    reach,
)
from mithridate.inference.writer import Generated, Pair, check_generation

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_Told = tuple[float, bool]
"""A token's log probability, and whether greedy decoding writes it."""

MOST_STOPS = 4
"""How many stop strings the API takes; answers are cut at all of them here."""
_NO_PENALTY = {"repetition_penalty": 1.0}
"""Said to vLLM, which else takes one from a model's generation_config.json."""


class EngineWriter:
    """Write with a model on a server.

    Args:
        served: The model.
    """

    def __init__(self, served: Served) -> None:
        self.served = served

    @property
    def context(self) -> int | None:
        """See `Writer.context`; what is echoed needs room for one token that is not wanted."""
        context, echoes = self.served.context, self.served.engine.protocol == "openai"
        return context - 1 if context is not None and echoes else context

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        prefill: Sequence[int] = (),
        stop: Sequence[str] = (),
        progress: bool = True,
    ) -> Generated:
        """See `Writer.generate`; the answers' token ids are not told.

        Raises:
            EngineError: The server gives no answer, or none that can be used.
            InputError: No token may be written, or a stop string is empty.
        """
        check_generation(max_new_tokens, stop)
        asked: dict[str, Any] = {"max_tokens": max_new_tokens}
        if stop:
            asked["stop"] = list(stop[:MOST_STOPS])
        if self.served.engine.protocol == "vllm":
            asked |= _NO_PENALTY

        def ask(batch: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
            choices = self.served.complete([[*ids, *prefill] for ids in batch], **asked)
            try:
                return [
                    _ended(choice["text"], stop, choice["finish_reason"] == "length")
                    for choice in choices
                ]
            except UNUSABLE:
                raise no_completion(self.served.client.url) from None

        answers = self._all(prompts, ask, progress)
        texts, cut = [text for text, _ in answers], [cut for _, cut in answers]
        return Generated(texts, [[] for _ in texts], cut)

    def log_probabilities(
        self, pairs: Sequence[Pair], *, progress: bool = True
    ) -> npt.NDArray[np.float64]:
        """See `Writer.log_probabilities`.

        Raises:
            EngineError: The server gives no answer, or tells no log probabilities.
        """
        return np.array([value for value, _ in self._read(pairs, progress)], dtype=np.float64)

    def begins_with(
        self, prompts: Sequence[Sequence[int]], beginning: Sequence[int], *, progress: bool = True
    ) -> npt.NDArray[np.bool_]:
        """See `Writer.begins_with`: each token must be the likeliest where it stands.

        Raises:
            EngineError: The server gives no answer, or tells no log probabilities.
        """
        found = self._read([(ids, beginning) for ids in prompts], progress)
        return np.array([greedy for _, greedy in found], dtype=np.bool_)

    def _read(self, pairs: Sequence[Pair], progress: bool) -> list[tuple[float, bool]]:
        """Return each answer's log probability, and whether greedy decoding writes it."""
        vllm = self.served.engine.protocol == "vllm"
        told = self._named(pairs, progress) if vllm else self._echoed(pairs, progress)
        return [(sum(value for value, _ in own), all(best for _, best in own)) for own in told]

    def _named(self, pairs: Sequence[Pair], progress: bool) -> list[list[_Told]]:
        """Ask for every token of the answers by its name."""
        items = [(pair, at) for pair in pairs for at in range(len(pair[1]))]

        def ask(batch: Sequence[tuple[Pair, int]]) -> list[_Told]:
            # Equally many in every request (`node_questions` says why): others fill up.
            own = {answer[at] for (_, answer), at in batch}
            others = (token for token in range(2 * PROMPTS_PER_REQUEST) if token not in own)
            names = sorted([*own, *islice(others, PROMPTS_PER_REQUEST - len(own))])
            fed = [[*ids, *answer[:at]] for (ids, answer), at in batch]
            choices = self.served.complete(fed, **asking_for(names))
            try:
                return [
                    chosen(choice["logprobs"], answer[at])
                    for choice, ((_, answer), at) in zip(choices, batch, strict=True)
                ]
            except UNUSABLE:
                raise self.served.no_chosen() from None

        answers = iter(self._all(items, ask, progress))
        return [[next(answers) for _ in answer] for _, answer in pairs]

    def _echoed(self, pairs: Sequence[Pair], progress: bool) -> list[list[_Told]]:
        """Have the answers echoed."""

        def ask(batch: Sequence[Pair]) -> list[list[_Told]]:
            choices = self.served.complete([[*ids, *answer] for ids, answer in batch], **ECHOED)
            try:
                return [
                    [
                        echoed(choice["logprobs"], place)
                        for place in range(len(ids), len(ids) + len(answer))
                    ]
                    for choice, (ids, answer) in zip(choices, batch, strict=True)
                ]
            except UNUSABLE:
                raise self.served.no_echo() from None

        return self._all(pairs, ask, progress)

    def _all(
        self, items: Sequence[Item], ask: Callable[[Sequence[Item]], list[Answer]], progress: bool
    ) -> list[Answer]:
        """Return what requests of several items each answer, in the items' order."""
        starts = range(0, len(items), PROMPTS_PER_REQUEST)
        batches = [items[start : start + PROMPTS_PER_REQUEST] for start in starts]
        asking = self.served.in_parallel(batches, ask, progress=progress)
        return [answer for answers in asking for answer in answers]


def _ended(text: str, stop: Sequence[str], cut: bool) -> tuple[str, bool]:
    """Return an answer up to its first stop string, and whether its length ended it."""
    found = [at for at in map(text.find, stop) if at >= 0]
    return (text[: min(found)], False) if found else (text, cut)


def connect_writer(engine: Engine, tokenizer: Any) -> EngineWriter:
    """Return a writer with a model on a server; see `reach` for what it raises."""
    return EngineWriter(reach(engine, tokenizer))
