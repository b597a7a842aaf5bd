"""Batches of similar length."""

from collections.abc import Iterator, Sequence

import torch


def by_length(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first, each at most ``tokens_per_batch`` padded tokens.

    The longest come first so that running out of memory happens at once or not at all.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def pad(rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right.

    Causal attention keeps the real tokens from seeing what follows them, so no attention mask is
    needed, and attention takes its fast causal path.

    Returns:
        Token ids of shape (rows, longest row), and the rows' own lengths, shape (rows,).
    """
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad_token_id)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids, lengths
