"""How likely a model finds given answers: their log probabilities, in one forward pass each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm.auto import tqdm

from mithridate.inference.batching import (
    begun_batches,
    by_length,
    padded_batch,
    shared_prefix,
    tokens_per_batch,
)
from mithridate.inference.cross_entropy import cross_entropy
from mithridate.inference.forward import fast_forward
from mithridate.inference.head import has_plain_head, head_gives, logits_at
from mithridate.inference.packing import pack_begun
from mithridate.inference.writer import Pair


def answer_log_probabilities(
    model: Any, pairs: Sequence[Pair], pad_token_id: int, *, progress: bool = True
) -> npt.NDArray[np.float64]:
    """Return log p(answer | prompt) of every pair: the sum over the answer's tokens, in nats.

    Rows of like length make a batch, without padding where the model can; what a row begins with
    that an earlier one of its batch has is not computed again, and the LM head at the answers'
    tokens alone, in pieces of the vocabulary.

    Args:
        model: A causal language model, with or without an adapter.
        pairs: Token ids of prompts and of answers. No prompt is empty; one token, such as that
            which begins a text, is enough. An answer of no tokens has log probability 0.
        pad_token_id: Any valid token id.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Shape (pairs,).
    """
    values = np.zeros(len(pairs))
    asked = [place for place, (_, answer) in enumerate(pairs) if len(answer)]
    model.eval()
    bar = tqdm(
        total=len(pairs), desc="Reading answers", unit="row", disable=None if progress else True
    )
    with torch.inference_mode(), bar, fast_forward(model) as packing:
        bar.update(len(pairs) - len(asked))
        # The last token of an answer is predicted, never fed; the last of a prompt predicts.
        rows = {place: [*pairs[place][0], *pairs[place][1]][:-1] for place in asked}
        budget = tokens_per_batch(model.device)
        for batch, begun in _batches([*rows.values()], budget, packed=packing):
            places = [asked[at] for at in batch]
            given = [rows[place] for place in places]
            answers = [pairs[place][1] for place in places]
            losses = _losses(model, given, answers, begun, pad_token_id)
            owners = np.repeat(np.arange(len(places)), [len(answer) for answer in answers])
            values[places] = -np.bincount(owners, losses, minlength=len(places))
            bar.update(len(places))
    return values


def _batches(
    rows: Sequence[Sequence[int]], budget: int, *, packed: bool
) -> Iterator[tuple[list[int], list[tuple[int, int]] | None]]:
    """Yield indices of rows that are read together and, of packed ones, how each begins."""
    if packed:
        yield from begun_batches(rows, shared_prefix(rows), budget)
    else:
        for batch in by_length([len(row) for row in rows], budget):
            yield batch, None


def _losses(
    model: Any,
    rows: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    begun: Sequence[tuple[int, int]] | None,
    pad_token_id: int,
) -> npt.NDArray[np.float64]:
    """Return -log p of every answer token of a batch, row after row.

    Args:
        model: A causal language model.
        rows: What is fed: prompts, and answers but for their last tokens.
        answers: The answers.
        begun: Of a packed batch, how each row begins (`pack_begun`); ``None`` of a padded one.
        pad_token_id: Any valid token id.
    """
    device = model.device
    # What predicts an answer's tokens are the row's last ones, as many as the answer has.
    ends = [(len(row) - len(answer), len(row)) for row, answer in zip(rows, answers, strict=True)]
    if begun is None:
        batch = padded_batch(rows, pad_token_id)
        inputs = batch.inputs_on(device)
        lines = [at for at, (first, end) in enumerate(ends) for _ in range(first, end)]
        places = [place for first, end in ends for place in range(first, end)]
    else:
        laid = pack_begun(rows, begun, model.dtype)
        inputs = {name: value.to(device) for name, value in laid.inputs().items()}
        places = [place for at, (first, _) in enumerate(ends) for place in laid.places(at)[first:]]
        lines = [0] * len(places)
    wanted = np.array([lines, places, [token for answer in answers for token in answer]])
    # Rows that begin alike ask the same of the same token.
    once, owners = np.unique(wanted, axis=1, return_inverse=True)
    at_line, at_place, labels = torch.from_numpy(once).to(device)
    if has_plain_head(model):
        head = model.get_output_embeddings()

        def losses(states: torch.Tensor) -> torch.Tensor:
            return cross_entropy(states[at_line, at_place], head.weight, head.bias, labels)

        with head_gives(model, losses):
            found = model(**inputs, use_cache=False).logits
    else:
        with logits_at(model, at_line, at_place):
            logits = model(**inputs, use_cache=False).logits.float()
        found = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    result: npt.NDArray[np.float64] = found.cpu().double().numpy()[owners]
    return result
