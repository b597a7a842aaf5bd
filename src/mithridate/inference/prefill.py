"""What a model makes of prompts before it writes: their keys and values, and their first tokens.

What all prompts begin with is computed once, however many batches there are, and copied into each.
Where the model takes packed batches no padding is computed either; the keys are then laid out as
the decoding cache wants them, padded on the left.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from mithridate.inference.attention import packed
from mithridate.inference.batching import by_length, tokens_per_batch
from mithridate.inference.decoding import (
    BLOCK,
    LiveBatch,
    States,
    decoder_config,
    filled_cache,
    fused_attention,
    new_cache,
    states_of,
    takes_positions,
)
from mithridate.inference.head import logits_at
from mithridate.inference.packing import Packed, pack_behind

_KNOWN: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class Prefill:
    """Read prompts.

    Args:
        model: A causal language model.
        prefix: Token ids that every prompt begins with, and that none ends with; may be empty.
        packing: Whether the model takes packed batches (`mithridate.inference.attention.packs`).
        longest: Tokens of the longest row, those to be written included.
        pad_token_id: Any valid token id.
    """

    def __init__(
        self, model: Any, prefix: Sequence[int], *, packing: bool, longest: int, pad_token_id: int
    ) -> None:
        self.model = model
        self.packing = packing
        self.pad_token_id = pad_token_id
        if not packing and not (prefix and can_pad_behind(model, longest)):
            prefix = ()
        self.shared = len(prefix)
        self._prefix: list[States | None] = []
        if prefix:
            # Without the model's settings the cache keeps all tokens, of sliding windows too.
            cache = DynamicCache() if packing else DynamicCache(config=decoder_config(model))
            ids = torch.tensor([list(prefix)], device=model.device)
            with fused_attention(model), logits_at(model, *_places([0], [0], model.device)):
                model(input_ids=ids, past_key_values=cache, use_cache=True)
            self._prefix = states_of(cache)

    def read(self, rows: Sequence[Sequence[int]], new_tokens: int) -> LiveBatch:
        """Read a batch of prompts.

        Args:
            rows: Token ids, each longer than the prefix and beginning with it.
            new_tokens: How many tokens are to be written at most.
        """
        room = max(len(row) for row in rows) + min(BLOCK, new_tokens)
        return self._packed(rows, room) if self.packing else self._padded(rows, room)

    def _padded(self, rows: Sequence[Sequence[int]], room: int) -> LiveBatch:
        """Read prompts padded on the left, the padding behind the prefix where there is one."""
        own = [row[self.shared :] for row in rows]
        width = max(len(row) for row in own)
        ids = [[self.pad_token_id] * (width - len(row)) + list(row) for row in own]
        device = self.model.device
        lengths = torch.tensor([len(row) for row in own], device=device)
        real = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
        visible = torch.cat([real.new_ones(len(rows), self.shared), real], dim=1)
        if self._prefix:
            cache = filled_cache(self.model, room, _expanded(self._prefix, len(rows)))
        else:
            cache = new_cache(self.model, room)
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": visible,
        }
        if takes_positions(self.model):
            inputs["position_ids"] = (visible.cumsum(dim=1) - 1).clamp(min=0)[:, self.shared :]
        ends = _places(range(len(rows)), [width - 1] * len(rows), device)
        with fused_attention(self.model), logits_at(self.model, *ends):
            logits = self.model(**inputs, past_key_values=cache, use_cache=True).logits
        return LiveBatch(self.model, cache, visible, logits.argmax(dim=-1), room)

    def _packed(self, rows: Sequence[Sequence[int]], room: int) -> LiveBatch:
        """Read prompts end to end, and lay out their keys padded on the left."""
        width = max(len(row) for row in rows)
        newest: list[torch.Tensor] = []
        pieces: list[list[States | None]] = []
        order: list[int] = []
        lengths = [len(row) - self.shared for row in rows]
        with packed(self.model):
            for places in by_length(lengths, tokens_per_batch(self.model.device)):
                part = [rows[place] for place in places]
                laid = pack_behind(part, self.shared, self.model.dtype)
                cache: Cache = DynamicCache()
                for layer, held in enumerate(self._prefix):
                    if held is not None:
                        cache.update(*held, layer)
                ends = _places([0] * len(part), laid.ends.tolist(), self.model.device)
                with logits_at(self.model, *ends):
                    logits = self.model(**laid.inputs(), past_key_values=cache, use_cache=True)
                newest.append(logits.logits.argmax(dim=-1))
                pieces.append(_left_padded(states_of(cache), _slots(laid, part, width), width))
                order += places
        back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
        counts = torch.tensor([len(row) for row in rows])
        visible = (torch.arange(width) >= width - counts[:, None]).long()
        # Layer by layer, so that what is laid out twice for a moment is one layer's alone.
        joined = (_joined([piece.pop(0) for piece in pieces], back) for _ in list(pieces[0]))
        cache = filled_cache(self.model, room, joined)
        return LiveBatch(self.model, cache, visible, torch.cat(newest)[back], room)


def can_pad_behind(model: Any, longest: int) -> bool:
    """Return whether padding may stand between a beginning that rows share and the rest of each.

    Attention does not care, as long as positions are given and no window slides; a recurrent layer
    and positions counted by place in the cache do. The layers' kinds and one short try tell.

    Args:
        model: A causal language model.
        longest: Tokens of the longest row.
    """
    for layer in DynamicCache(config=decoder_config(model)).layers:
        if not isinstance(layer, DynamicLayer) or hasattr(layer, "conv_states"):
            return False
        if longest >= getattr(layer, "sliding_window", longest + 1):
            return False
    if model not in _KNOWN:
        try:
            _KNOWN[model] = _agrees(model)
        except Exception:  # any failure of a foreign model's code means the same: no
            _KNOWN[model] = False
    return _KNOWN[model]


def _agrees(model: Any) -> bool:
    """Whether a row gives the same with padding in its middle; tried on one short row."""
    device, size = model.device, decoder_config(model).vocab_size
    row = [(7 * i + 3) % size for i in range(6)]
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0, -1]
        cache = DynamicCache(config=decoder_config(model))
        inputs: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
        model(input_ids=torch.tensor([row[:3]], device=device), **inputs)
        if takes_positions(model):
            inputs["position_ids"] = torch.tensor([[0, 0, 0, 3, 4, 5]], device=device)
        ids = torch.tensor([[0, 0, 0, *row[3:]]], device=device)
        visible = torch.tensor([[1, 1, 1, 0, 0, 0, 1, 1, 1]], device=device)
        found = model(input_ids=ids, attention_mask=visible, **inputs).logits[0, -1]
    spread = (alone.float() - alone.float().mean()).norm()
    return bool((found.float() - alone.float()).norm() < 0.1 * spread)


def _places(
    rows: Sequence[int], columns: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(list(rows), device=device), torch.tensor(list(columns), device=device)


def _expanded(states: Sequence[States | None], rows: int) -> list[States | None]:
    """Return what one row holds as what so many rows hold."""
    return [
        held and (held[0].expand(rows, -1, -1, -1), held[1].expand(rows, -1, -1, -1))
        for held in states
    ]


def _slots(laid: Packed, rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    """Return which key of a packed batch stands where in a padded one, shape (rows * width,).

    Padding reads key 0: any does, none sees it.
    """
    slots = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        slots[number, width - len(row) :] = torch.tensor(laid.places(number))
    return slots.flatten()


def _left_padded(
    states: Sequence[States | None], slots: torch.Tensor, width: int
) -> list[States | None]:
    """Return the keys and values of a packed batch as those of a padded one."""

    def laid(tensor: torch.Tensor) -> torch.Tensor:
        heads, _, size = tensor.shape[1:]
        rows = tensor[0].index_select(1, slots).view(heads, -1, width, size)
        return rows.transpose(0, 1)

    return [held and (laid(held[0]), laid(held[1])) for held in states]


def _joined(states: Sequence[States | None], order: torch.Tensor) -> States | None:
    """Return the rows of several batches as one, in another order."""
    held = [state for state in states if state is not None]
    if not held:
        return None
    keys = torch.cat([keys for keys, _ in held])[order]
    return keys, torch.cat([values for _, values in held])[order]
