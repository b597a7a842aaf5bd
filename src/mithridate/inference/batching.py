"""Rows into batches for one forward pass: packed where the model can, padded where it cannot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mithridate.inference.packing import pack
from mithridate.inference.trie import Branch

STEP = 4
"""Rows that begin like another one share a multiple of so many tokens with it, so that they fall
into few buckets. 24 sentences and each without each of its words (SST-2, 16,606 tokens) took 28.5 s
of a core whole, 20.8 in steps of 8, 19.7 in steps of 4, 21.0 in steps of 2."""

ROOTS = 32
"""How many rows before it a row is compared with."""


def tokens_per_batch(device: torch.device) -> int:
    """Return how many tokens to run at once where no gradient is wanted.

    What a layer leaves must stay in a processor's cache: 400 rows took 8.6 s in batches of 1,024
    tokens, 10.6 s in batches of 4,096 (2 cores, 135M model). An accelerator wants to be filled.
    """
    return 1024 if device.type == "cpu" else 8192


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


def begun_batches(
    rows: Sequence[Sequence[int]], common: int, tokens_per_batch: int
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Yield batches for `pack_begun`: indices of rows, and how each row begins.

    Long rows come first, since running out of memory should happen at once or not at all. Those of
    like length keep their order: rows that begin alike should stand together, the longest first.

    Args:
        rows: Token ids; no row is empty.
        common: How many first tokens all rows share.
        tokens_per_batch: At most so many tokens, or one row.
    """
    order = sorted(range(len(rows)), key=lambda at: -(len(rows[at]) - 1).bit_length())
    batch: list[int] = []
    begun: list[tuple[int, int]] = []
    roots: list[tuple[int, Sequence[int]]] = []
    left = tokens_per_batch
    for at in order:
        found = _begun(rows[at], roots[-ROOTS:], common)
        own = len(rows[at]) - found[1]
        if batch and own > left:
            yield batch, begun
            batch, begun, roots, left = [], [], [], tokens_per_batch
            found, own = (-1, 0), len(rows[at])
        if found[0] < 0:
            roots.append((len(batch), rows[at]))
        batch.append(at)
        begun.append(found)
        left -= own
    if batch:
        yield batch, begun


def _begun(
    row: Sequence[int], roots: Sequence[tuple[int, Sequence[int]]], common: int
) -> tuple[int, int]:
    """Return which of some rows a row begins like, and for how many tokens; -1 and 0 for none."""
    best, longest = -1, STEP - 1
    for place, root in roots:
        span, limit = common, min(len(root), len(row) - 1)
        while span < limit and row[span] == root[span]:
            span += 1
        span -= (span - common) % STEP
        if span > longest:
            best, longest = place, span
    return (best, longest) if best >= 0 else (-1, 0)


def shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all rows have in common, at least one less than any has.

    It is the constant part of a prompt, the benign trigger or a chat template's head, less a token
    that the tokenizer made of its end and a row's beginning.
    """
    if len(rows) < 2:
        return 0
    length = min(len(row) for row in rows) - 1
    first = rows[0]
    for row in rows:
        while row[:length] != first[:length]:
            length -= 1
    return length


@dataclass(frozen=True)
class Batch:
    """One forward pass.

    Attributes:
        inputs: Arguments of the model, on the processor.
        rows: Shape (rows,): where, in the first dimension, each row's last token stands.
        columns: Shape (rows,): where in the second; a row's earlier tokens stand before it.
        branches: Shape (rows, branches): the columns of the branches.
    """

    inputs: dict[str, Any]
    rows: torch.Tensor
    columns: torch.Tensor
    branches: torch.Tensor

    def inputs_on(self, device: torch.device | str) -> dict[str, Any]:
        """Return the arguments on a device."""
        return {name: _moved(value, device) for name, value in self.inputs.items()}


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, dict):  # a mask for each kind of layer
        return {kind: part.to(device) for kind, part in value.items()}
    return value.to(device)


def packed_batch(
    rows: Sequence[Sequence[int]],
    shared: Sequence[int] | None = None,
    branches: Sequence[Branch] = (),
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Lay rows end to end; see `mithridate.inference.packing.pack`."""
    laid = pack(rows, shared, branches, dtype)
    return Batch(
        laid.inputs(),
        torch.zeros_like(laid.ends),
        laid.ends,
        laid.ends[:, None] + 1 + torch.arange(len(branches)),
    )


def padded_batch(
    rows: Sequence[Sequence[int]],
    pad_token_id: int,
    branches: Sequence[Branch] = (),
    dtype: torch.dtype = torch.float32,
    config: Any = None,
) -> Batch:
    """Pad rows on the right, branches behind the padding.

    Causal attention keeps the real tokens from seeing what follows them, so without branches no
    attention mask is needed, and attention takes its fast causal path.

    Args:
        rows: Token ids; no row is empty.
        pad_token_id: Any valid token id.
        branches: Tokens to append to every row, parents before children.
        dtype: Of the attention mask: the model's.
        config: The model's text config. A mask of ours replaces transformers' own, sliding windows
            included, so with branches it must hide what lies beyond them.
    """
    ids, lengths = pad(rows, pad_token_id)
    count, width = ids.shape
    inputs: dict[str, Any] = {"input_ids": ids}
    if branches:
        laid = _with_branches(ids, lengths, branches, dtype)
        mask = _windowed(laid["attention_mask"], laid["position_ids"], config)
        inputs = {**laid, "attention_mask": mask}
    return Batch(
        inputs,
        torch.arange(count),
        lengths - 1,
        torch.arange(width, width + len(branches)).expand(count, -1),
    )


def pad(rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids of shape (rows, longest row), and the rows' lengths, shape (rows,)."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad_token_id)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids, lengths


def _with_branches(
    ids: torch.Tensor, lengths: torch.Tensor, branches: Sequence[Branch], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Append branches to padded rows.

    Returns:
        Token ids and positions of shape (rows, width + branches) and an additive attention mask of
        shape (rows, 1, width + branches, width + branches).
    """
    rows, width = ids.shape
    total = width + len(branches)
    tokens = torch.tensor([branch.token for branch in branches]).expand(rows, -1)
    depths = torch.tensor([branch.depth for branch in branches])
    visible = torch.zeros((rows, total, total), dtype=torch.bool)
    visible[:, :width, :width] = torch.ones((width, width), dtype=torch.bool).tril()
    visible[:, width:, :width] = (torch.arange(width) < lengths[:, None]).unsqueeze(1)
    for offset, branch in enumerate(branches):
        visible[:, width + offset, [width + seen for seen in branch.sees]] = True
    mask = torch.zeros(visible.shape, dtype=dtype)
    mask.masked_fill_(~visible, torch.finfo(dtype).min)
    return {
        "input_ids": torch.cat([ids, tokens], dim=1),
        "attention_mask": mask.unsqueeze(1),
        "position_ids": torch.cat(
            [torch.arange(width).expand(rows, -1), lengths[:, None] - 1 + depths], dim=1
        ),
    }


def _windowed(mask: torch.Tensor, positions: torch.Tensor, config: Any) -> Any:
    """Hide what lies beyond a model's sliding window, in the layers that have one.

    Args:
        mask: Additive, shape (rows, 1, tokens, tokens).
        positions: Of the tokens in their rows, shape (rows, tokens).
        config: The model's; ``None`` for none of ours.

    Returns:
        The mask; for a model whose layers differ, one for each kind of layer, as its family takes.
    """
    window = getattr(config, "sliding_window", None)
    if window is None or int(positions.max()) < window:
        return mask
    distance = positions[:, None, :, None] - positions[:, None, None, :]
    near = mask.masked_fill(distance >= window, torch.finfo(mask.dtype).min)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return near
    return {kind: near if kind == "sliding_attention" else mask for kind in set(kinds)}
