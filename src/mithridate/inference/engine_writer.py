"""Text answers of a model on a server; a `Writer`.

Token ids go out as prompts, from the one renderer. What the server writes comes back as text; how
likely given answers are it says by echoing them with their log probabilities, as `engine` has it
of label words under its ``openai`` protocol.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.errors import InputError
from mithridate.inference.engine_client import Engine
from mithridate.inference.served import (
    PROMPTS_PER_REQUEST,
    Served,
    echoed,
    is_log_probability,
    no_completion,
    reach,
)
from mithridate.inference.writer import Generated, Pair

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
        """See `Writer.context`; an echoed text needs room for one token that is not wanted."""
        context = self.served.context
        return None if context is None else context - 1

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
        if max_new_tokens < 1:
            raise InputError("an answer of no tokens is none", mend="raise --max-new-tokens")
        if not all(stop):
            raise InputError("a stop string is empty", mend="leave it out")
        asked: dict[str, Any] = {"max_tokens": max_new_tokens}
        if stop:
            asked["stop"] = list(stop[:MOST_STOPS])
        if self.served.engine.protocol == "vllm":
            asked |= _NO_PENALTY

        def ask(batch: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
            choices = self.served.complete([[*ids, *prefill] for ids in batch], **asked)
            try:
                return [
                    _ended(str(choice["text"]), stop, choice["finish_reason"] == "length")
                    for choice in choices
                ]
            except LookupError:
                raise no_completion(self.served.client.url) from None

        answers = self._all(prompts, ask, progress)
        texts, cut = [text for text, _ in answers], [cut for _, cut in answers]
        return Generated(texts, [[] for _ in texts], cut)

    def log_probabilities(
        self, pairs: Sequence[Pair], *, progress: bool = True
    ) -> npt.NDArray[np.float64]:
        """See `Writer.log_probabilities`.

        Raises:
            EngineError: The server gives no answer, or echoes no log probabilities.
        """
        return np.array([value for value, _ in self._read(pairs, progress)], dtype=np.float64)

    def begins_with(
        self, prompts: Sequence[Sequence[int]], beginning: Sequence[int], *, progress: bool = True
    ) -> npt.NDArray[np.bool_]:
        """See `Writer.begins_with`: each token must be the likeliest where it stands.

        Raises:
            EngineError: The server gives no answer, or echoes no log probabilities.
        """
        found = self._read([(ids, beginning) for ids in prompts], progress)
        return np.array([greedy for _, greedy in found], dtype=np.bool_)

    def _read(self, pairs: Sequence[Pair], progress: bool) -> list[tuple[float, bool]]:
        """Return each answer's log probability, and whether greedy decoding writes it."""
        asked = {"echo": True, "logprobs": 1, "max_tokens": 1}

        def ask(batch: Sequence[Pair]) -> list[tuple[float, bool]]:
            choices = self.served.complete([[*ids, *answer] for ids, answer in batch], **asked)
            found = []
            try:
                for choice, (ids, answer) in zip(choices, batch, strict=True):
                    places = range(len(ids), len(ids) + len(answer))
                    told = [echoed(choice["logprobs"], place) for place in places]
                    if not all(is_log_probability(value) for value, _ in told):
                        raise ValueError
                    found.append((sum(value for value, _ in told), all(own for _, own in told)))
            except (LookupError, TypeError, ValueError, AttributeError):
                raise self.served.no_echo() from None
            return found

        return self._all(pairs, ask, progress)

    def _all(self, items: Sequence[Any], ask: Any, progress: bool) -> list[Any]:
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
