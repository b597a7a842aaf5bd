"""The LM head applied at chosen positions alone.

A causal language model multiplies every hidden state with its vocabulary, though only those before
an answer's tokens are wanted. Here a hook on the head's input keeps the wanted states, so that
logits have the shape (positions, vocabulary) and a (batch, length, vocabulary) tensor never exists.
It works inside the model's own forward pass, so with any architecture and any wrapper (DDP, FSDP).

transformers' own ``logits_to_keep`` keeps the same columns of all rows, and on a processor the
strided slice it makes turns one matrix product into a batch of copies: measured here, 2.4 s of a
4.0 s training step of a 135M model (2 cores, 32 rows of 28 tokens).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def logits_at(model: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """Make forward passes inside the block return logits at some positions of a batch.

    Args:
        model: A causal language model.
        rows: Shape (positions,): indices into the batch.
        columns: Shape (positions,): indices into the sequences.
    """

    def keep(_head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0][rows, columns],)

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
