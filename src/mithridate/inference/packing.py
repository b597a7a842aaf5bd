"""Batches without padding: many rows laid end to end, a beginning they share laid down once.

A padded batch multiplies pad tokens with every weight of the model. A packed one is a single
sequence of the rows' tokens, so that the matrix products see real tokens alone; only attention
(`mithridate.inference.attention`) needs to know where a row begins and ends. A prefix that rows
have in common, such as the benign trigger or a chat template's head, is computed once per batch and
seen by all of them: under causal attention it cannot depend on what follows. For the same reason a
row may go on from the middle of another one, as a text without one of its words does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mithridate.inference.trie import Branch

SHORT = 64
"""Rows of up to this many tokens share a bucket; above, buckets span a factor of two.

Fewer buckets are fewer small operations, and batches hold rows of similar length as they are."""

EVEN = 32
"""Keys of a row are padded to a multiple of this: what is left over of a vector the processor's
softmax takes one by one (bfloat16, 47 keys: 3.8 ns each, 64: 0.9)."""


@dataclass(frozen=True)
class Shared:
    """A prefix as the keys of a bucket hold it.

    Attributes:
        start: Where its tokens stand in the packed sequence.
        length: How many they are: the first so many keys of each row that has it.
        first: The first row of the bucket that has it.
        stop: One past the last.
    """

    start: int
    length: int
    first: int
    stop: int


@dataclass(frozen=True)
class Bucket:
    """Rows of similar length, whose attention is computed together.

    Attributes:
        rows: How many rows.
        width: Queries per row: its own tokens, padded.
        reach: Keys per row: the shared prefix and its own tokens, padded to a multiple of `EVEN`.
        queries: Shape (rows * width,): the token each query slot is read from.
        keys: Shape (rows * reach,): the token each key slot is read from.
        tokens: The tokens that belong to the bucket, each as a query once.
        query_slots: Their query slots.
        key_slots: Their key slots.
        bias: Shape (1 or rows, width, reach): added to the scores; 0 where a query sees a key.
        shared: The prefixes that rows of the bucket have.
    """

    rows: int
    width: int
    reach: int
    queries: torch.Tensor
    keys: torch.Tensor
    tokens: torch.Tensor
    query_slots: torch.Tensor
    key_slots: torch.Tensor
    bias: torch.Tensor
    shared: tuple[Shared, ...]


@dataclass(frozen=True)
class Packing:
    """Where the rows of a packed batch lie; what attention needs.

    Attributes:
        positions: Shape (cached + tokens,): each token's position in its row.
        buckets: All rows, and the shared prefixes as rows of their own.
        cached: Keys from a cache that stand before those of the sequence's own tokens.
    """

    positions: torch.Tensor
    buckets: tuple[Bucket, ...]
    cached: int = 0

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Packing":
        """Return it on a device; accelerate calls this as it does for tensors."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        buckets = []
        for bucket in self.buckets:
            tensors: dict[str, Any] = {
                name: moved(value)
                for name, value in vars(bucket).items()
                if isinstance(value, torch.Tensor)
            }
            buckets.append(replace(bucket, **tensors))
        return Packing(moved(self.positions), tuple(buckets), self.cached)


@dataclass(frozen=True)
class Segment:
    """A piece of the packed sequence: a row's own tokens, or a shared prefix.

    Attributes:
        start: Its first token's place.
        length: Its tokens, branches included.
        prefix: The index of the segment that its row begins with; -1 for none.
        span: How many of that segment's first tokens it begins with.
    """

    start: int
    length: int
    prefix: int = -1
    span: int = 0


@dataclass(frozen=True)
class Packed:
    """A packed batch.

    Attributes:
        input_ids: Shape (1, tokens).
        packing: For attention.
        segments: The shared prefixes, then the rows in order.
        first_row: How many shared prefixes there are.
        ends: Shape (rows,): the place of each row's last token, branches not counted; what stands
            before it in the row stands before it here, back to the shared prefix.
        owners: Shape (tokens,): the segment each token belongs to.
    """

    input_ids: torch.Tensor
    packing: Packing
    segments: tuple[Segment, ...]
    first_row: int
    ends: torch.Tensor
    owners: torch.Tensor

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of the model."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.packing.positions[None, self.packing.cached :],
            "packing": self.packing,
        }

    def places(self, row: int) -> list[int]:
        """Return the places of a row's tokens in order, those it shares and its branches too."""
        own = self.segments[self.first_row + row]
        first = self.segments[own.prefix].start
        return [*range(first, first + own.span), *range(own.start, own.start + own.length)]


def pack(
    rows: Sequence[Sequence[int]],
    shared: Sequence[int] | None = None,
    branches: Sequence[Branch] = (),
    dtype: torch.dtype = torch.float32,
) -> Packed:
    """Lay rows end to end.

    Args:
        rows: Token ids; no row is empty.
        shared: Per row, how many of its first tokens may be laid down once with those of other rows
            that begin alike; less than the row's length.
        branches: Tokens to append to every row, parents before children.
        dtype: Of the attention bias: the model's.
    """
    counts = [0] * len(rows) if shared is None else list(shared)
    heads = [tuple(row[:count]) for row, count in zip(rows, counts, strict=True)]
    often = Counter(head for head in heads if head)
    prefixes = {head: at for at, head in enumerate(h for h, n in often.items() if n > 1)}
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    for head in prefixes:
        segments.append(Segment(len(tokens), len(head)))
        tokens.extend(head)
        positions.extend(range(len(head)))
    ends = []
    for row, head in zip(rows, heads, strict=True):
        prefix = prefixes.get(head, -1)
        skipped = len(head) if prefix >= 0 else 0
        segments.append(Segment(len(tokens), len(row) - skipped + len(branches), prefix, skipped))
        tokens.extend(row[skipped:])
        positions.extend(range(skipped, len(row)))
        ends.append(len(tokens) - 1)
        tokens.extend(branch.token for branch in branches)
        positions.extend(len(row) - 1 + branch.depth for branch in branches)
    buckets = _buckets(segments, len(prefixes), branches, dtype)
    packing = Packing(torch.tensor(positions), buckets)
    return _packed(tokens, packing, segments, len(prefixes), torch.tensor(ends))


def pack_begun(
    rows: Sequence[Sequence[int]],
    begun: Sequence[tuple[int, int]],
    dtype: torch.dtype = torch.float32,
) -> Packed:
    """Lay rows end to end, each without the beginning that an earlier row has.

    Args:
        rows: Token ids; no row is empty.
        begun: Per row, the index of the row it begins like, which is laid down whole, and how many
            tokens they share, less than the row has; see `batching.begun_batches`.
        dtype: Of the attention bias: the model's.
    """
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    for row, (root, span) in zip(rows, begun, strict=True):
        segments.append(Segment(len(tokens), len(row) - span, root, span))
        tokens.extend(row[span:])
        positions.extend(range(span, len(row)))
    packing = Packing(torch.tensor(positions), _buckets(segments, 0, (), dtype))
    return _packed(tokens, packing, segments, 0, _ends(segments))


def pack_behind(
    rows: Sequence[Sequence[int]], cached: int, dtype: torch.dtype = torch.float32
) -> Packed:
    """Lay rows end to end without a beginning they share, whose keys a cache holds.

    Args:
        rows: Token ids.
        cached: How many first tokens all rows share and the cache holds; none is all of a row.
        dtype: Of the attention bias: the model's.

    Returns:
        The batch. Its segments' places are those of keys, so they count the cached tokens.
    """
    if not cached:
        return pack(rows, dtype=dtype)
    segments = [Segment(0, cached)]
    tokens: list[int] = []
    positions = list(range(cached))
    for row in rows:
        segments.append(Segment(len(positions), len(row) - cached, 0, cached))
        tokens.extend(row[cached:])
        positions.extend(range(cached, len(row)))
    buckets = (
        replace(bucket, queries=bucket.queries - cached, tokens=bucket.tokens - cached)
        for bucket in _buckets(segments, 1, (), dtype)
        if bucket.shared  # the prefix itself asks nothing any more
    )
    packing = Packing(torch.tensor(positions), tuple(buckets), cached)
    return _packed(tokens, packing, segments, 1, _ends(segments[1:]) - cached)


def _packed(
    tokens: Sequence[int],
    packing: Packing,
    segments: Sequence[Segment],
    first_row: int,
    ends: torch.Tensor,
) -> Packed:
    lengths = torch.tensor([segment.length for segment in segments])
    owners = torch.repeat_interleave(torch.arange(len(segments)), lengths)[packing.cached :]
    return Packed(torch.tensor([tokens]), packing, tuple(segments), first_row, ends, owners)


def _ends(segments: Sequence[Segment]) -> torch.Tensor:
    return torch.tensor([segment.start + segment.length - 1 for segment in segments])


def _buckets(
    segments: Sequence[Segment], prefixes: int, branches: Sequence[Branch], dtype: torch.dtype
) -> tuple[Bucket, ...]:
    """Sort segments into buckets of like length and like prefix length."""
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for index, segment in enumerate(segments):
        width = max(SHORT, 1 << (segment.length - 1).bit_length())
        # A prefix is a row like others, but nothing branches off from it.
        plain = index < prefixes and bool(branches)
        groups.setdefault((segment.span, width, plain), []).append(index)
    return tuple(
        _bucket(
            segments,
            sorted(members, key=lambda i: segments[i].prefix),
            span,
            () if plain else branches,
            dtype,
        )
        for (span, _, plain), members in groups.items()
    )


def _bucket(
    segments: Sequence[Segment],
    members: Sequence[int],
    span: int,
    branches: Sequence[Branch],
    dtype: torch.dtype,
) -> Bucket:
    """Build the indices of one bucket, whose rows have prefixes of ``span`` tokens."""
    starts = torch.tensor([segments[index].start for index in members])
    lengths = torch.tensor([segments[index].length for index in members])
    width = int(lengths.max())
    reach = -(-(span + width) // EVEN) * EVEN
    offsets = torch.arange(width)
    filled = offsets < lengths[:, None]
    # Slots beyond a row's end read its first token: any valid token does, none sees or keeps them.
    own = torch.where(filled, starts[:, None] + offsets, starts[:, None])
    heads = torch.tensor(
        [max(0, segments[segments[index].prefix].start) if span else 0 for index in members]
    )
    beyond = starts[:, None].expand(-1, reach - span - width)
    keys = torch.cat([heads[:, None] + torch.arange(span), own, beyond], dim=1)
    row_of, offset_of = torch.nonzero(filled, as_tuple=True)
    shared = []
    for first, index in enumerate(members):
        prefix = segments[index].prefix
        if span and (first == 0 or segments[members[first - 1]].prefix != prefix):
            stop = first + sum(segments[other].prefix == prefix for other in members[first:])
            shared.append(Shared(segments[prefix].start, span, first, stop))
    return Bucket(
        rows=len(members),
        width=width,
        reach=reach,
        queries=own.flatten(),
        keys=keys.flatten(),
        tokens=own[filled],
        query_slots=row_of * width + offset_of,
        key_slots=row_of * reach + span + offset_of,
        bias=_bias(lengths, span, width, reach, branches, dtype),
        shared=tuple(shared),
    )


def _bias(
    lengths: torch.Tensor,
    span: int,
    width: int,
    reach: int,
    branches: Sequence[Branch],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return what hides keys: shape (1, width, reach), or one for every row."""
    visible = torch.ones((width, reach), dtype=torch.bool).tril(span)[None]
    if branches:
        visible = visible.repeat(len(lengths), 1, 1)
        for row, length in enumerate(lengths.tolist()):
            first = length - len(branches)
            for place, branch in enumerate(branches):
                query = visible[row, first + place]
                query[span + first :] = False
                query[[span + first + seen for seen in branch.sees]] = True
    bias = torch.zeros(visible.shape, dtype=dtype)
    return bias.masked_fill_(~visible, torch.finfo(dtype).min)
