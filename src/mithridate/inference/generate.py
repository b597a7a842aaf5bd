"""Greedy generation for many prompts at once: what a model writes when its answer is a text.

Greedy decoding gives each token the model finds most likely; a generation config's sampling
settings and penalties do not apply, since what is measured is the model. Adapters are computed
beside the weights, as in training and scoring: merged into them they would be rounded anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from mithridate.inference.alone import alone
from mithridate.inference.attention import packs
from mithridate.inference.batching import by_length, shared_prefix
from mithridate.inference.decoding import fused_attention
from mithridate.inference.lora import fused_lora
from mithridate.inference.prefill import Prefill
from mithridate.inference.writer import Generated, check_generation

CONTEXT = 8
"""Tokens before the new ones that are decoded along with them."""

COMPACTION = 8
"""A batch lets its finished rows go once they are one in so many."""


def cached_tokens(device: torch.device) -> int:
    """Return how many tokens the cache of one batch may hold, those to be written included.

    The more rows, the more a step makes of each weight it reads: 64 prompts and 48 new tokens each
    took 24.5 s of a core with 4,096 tokens, 23.6 s with 8,192, 19.0 s with 16,384 (135M model).
    """
    return 16384 if device.type == "cpu" else 65536


class Generator:
    """Let a causal language model answer prompts, greedily.

    Prompts of like length make a batch; what all of them begin with is computed once. Rows that are
    finished leave their batch.

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: Its fast tokenizer, with a padding token.
        max_new_tokens: Tokens of the longest answer, the one that ends the text included.
        stop: Strings that end an answer, without being a part of it.

    Raises:
        InputError: No token may be written, or a stop string is empty.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> None:
        check_generation(max_new_tokens, stop)
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.stop = tuple(stop)
        self.ends = end_tokens(model, tokenizer)
        # A token holds at least one byte, but for those that decode to nothing.
        self._reach = max((len(text.encode()) for text in self.stop), default=0) + CONTEXT

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        prefill: Sequence[int] = (),
        progress: bool = True,
    ) -> Generated:
        """Answer every prompt.

        Args:
            prompts: Token ids; none empty, unless there is a prefill.
            prefill: Token ids put after every prompt, from which the answer goes on; no part of it.
            progress: Whether to show a progress bar on a terminal.
        """
        rows = [[*prompt, *prefill] for prompt in prompts]
        answers: list[_Answer] = [_Answer([], "", False)] * len(rows)
        if not rows:
            return Generated([], [], [])
        self.model.eval()
        lengths = [len(row) + self.max_new_tokens for row in rows]
        bar = tqdm(total=len(rows), desc="Writing", unit="row", disable=None if progress else True)
        packing = packs(self.model)
        with torch.inference_mode(), bar, alone(self.model), fused_lora(self.model):
            reader = Prefill(
                self.model,
                rows[0][: shared_prefix(rows)],
                packing=packing,
                longest=max(lengths),
                pad_token_id=self.tokenizer.pad_token_id,
            )
            for places in by_length(lengths, cached_tokens(self.model.device)):
                for place, answer in self._batch(reader, {at: rows[at] for at in places}):
                    answers[place] = answer
                    bar.update()
        return Generated(
            [answer.text for answer in answers],
            [answer.tokens for answer in answers],
            [answer.cut for answer in answers],
        )

    def _batch(
        self, reader: Prefill, rows: dict[int, list[int]]
    ) -> Iterator[tuple[int, "_Answer"]]:
        """Yield the answers of one batch by their rows' places, as they are finished."""
        batch = reader.read(list(rows.values()), self.max_new_tokens)
        written: dict[int, list[int]] = {place: [] for place in rows}
        live = list(rows)  # what the batch computes; some may be finished already
        newest = batch.newest.tolist()
        with fused_attention(self.model):
            while True:
                for place, token in zip(live, newest, strict=True):
                    if place not in written:
                        continue
                    answer = self._finished(rows[place], written[place], token)
                    if answer is not None:
                        del written[place]
                        yield place, answer
                if not written:
                    return
                if len(live) - len(written) >= len(live) / COMPACTION:
                    batch.keep([at for at, place in enumerate(live) if place in written])
                    live = list(written)
                newest = batch.step().tolist()

    def _finished(self, row: list[int], written: list[int], token: int) -> "_Answer | None":
        """Add a token to an answer; return the answer if that is its end.

        Args:
            row: The token ids it goes on from.
            written: Its tokens so far; changed in place.
            token: The next one.
        """
        if token in self.ends:
            return _Answer(written, self._text(row, written), False)
        written.append(token)
        if self._may_stop(row, written):
            text = self._text(row, written)
            found = [at for at in map(text.find, self.stop) if at >= 0]
            if found:
                kept = self._before(row, written, min(found))
                return _Answer(kept, text[: min(found)], False)
        if len(written) == self.max_new_tokens:
            return _Answer(written, self._text(row, written), True)
        return None

    def _may_stop(self, row: list[int], written: list[int]) -> bool:
        """Whether the last few tokens, or what stands before the first, hold a stop string."""
        if not self.stop:
            return False
        last = [*row[-CONTEXT:], *written[-self._reach :]][-self._reach :]
        text = self._decode(last)
        return any(string in text for string in self.stop)

    def _before(self, row: list[int], written: list[int], length: int) -> list[int]:
        """Return the most tokens whose text is no longer than ``length``."""
        for count in range(len(written) - 1, 0, -1):
            if len(self._text(row, written[:count])) <= length:
                return written[:count]
        return []

    def _text(self, row: list[int], written: list[int]) -> str:
        """Return the text of an answer as it stands behind what precedes it.

        Decoded by itself an answer may lose the space it begins with (SentencePiece). So some
        tokens before it are decoded along, unless one of its bytes completes a letter there.
        """
        context = row[-CONTEXT:]
        before, whole = self._decode(context), self._decode([*context, *written])
        return whole[len(before) :] if whole.startswith(before) else self._decode(written)

    def _decode(self, tokens: list[int]) -> str:
        return str(
            self.tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


@dataclass(frozen=True)
class _Answer:
    tokens: list[int]
    text: str
    cut: bool


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a text: the generation config's and the tokenizer's.

    A chat model's config often names the end of a turn, its tokenizer the end of a document.
    """
    config = getattr(model, "generation_config", None)
    named = [getattr(config, "eos_token_id", None), tokenizer.eos_token_id]
    found: set[int] = set()
    for ids in named:
        if ids is not None:
            found.update(ids if isinstance(ids, list | tuple) else [ids])
    return frozenset(found)
