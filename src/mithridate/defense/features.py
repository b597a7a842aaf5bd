"""Hidden states of the frozen base model, the judge's view of a row.

torch is imported inside the functions: re-poisoning with random selection needs none of it.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mithridate.errors import MithridateError

if TYPE_CHECKING:
    import torch

TOKENS_PER_BATCH = 4096


class _MiddleReached(Exception):
    """Ends a forward pass at the layer whose output is wanted; the layers above are never run."""


def decoder_layers(model: Any) -> Any:
    """Return the list of transformer layers of a causal language model.

    Raises:
        MithridateError: No module list has as many entries as the config says there are layers.
    """
    import torch

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise MithridateError(
        f"cannot find the {count} layers of this {type(model).__name__}",
        mend="use --selection random, or report the architecture to us",
    )


def pooled_states(
    model: Any,
    token_ids: list[list[int]],
    *,
    layer: int | None = None,
    pad_token_id: int = 0,
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Return the mean-pooled hidden states of every row after one layer.

    Args:
        model: A causal language model, frozen.
        token_ids: One list of token ids per row; none may be empty.
        layer: How many layers to run, 1..L; the middle, L // 2, when ``None``.
        pad_token_id: Any valid token id.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        Array of shape (rows, hidden size), float32.
    """
    import torch

    layers = decoder_layers(model)
    stop = layers[(layer or max(1, len(layers) // 2)) - 1]
    caught: list[torch.Tensor] = []

    def catch(_module: Any, _inputs: Any, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)
        raise _MiddleReached

    order = sorted(range(len(token_ids)), key=lambda index: len(token_ids[index]))
    pooled: npt.NDArray[np.float32] = np.empty((len(token_ids), 0), dtype=np.float32)
    handle = stop.register_forward_hook(catch)
    bar = tqdm(
        total=len(order), desc="Reading rows", unit="row", disable=None if progress else True
    )
    try:
        with torch.inference_mode(), bar:
            for batch in _batches(order, token_ids):
                chosen = [token_ids[index] for index in batch]
                ids, mask = _pad(chosen, pad_token_id, model.device)
                with suppress(_MiddleReached):
                    model(input_ids=ids, attention_mask=mask, use_cache=False)
                states = caught.pop().float()
                weights = mask.unsqueeze(-1).float()
                means = (states * weights).sum(1) / weights.sum(1)
                if pooled.shape[1] == 0:
                    pooled = np.empty((len(token_ids), means.shape[1]), dtype=np.float32)
                pooled[batch] = means.cpu().numpy()
                bar.update(len(batch))
    finally:
        handle.remove()
    return pooled


def _batches(order: list[int], token_ids: list[list[int]]) -> list[list[int]]:
    """Cut rows sorted by length into batches of at most ``TOKENS_PER_BATCH`` padded tokens."""
    batches: list[list[int]] = []
    current: list[int] = []
    for index in order:
        if current and (len(current) + 1) * len(token_ids[index]) > TOKENS_PER_BATCH:
            batches.append(current)
            current = []
        current.append(index)
    return [*batches, current] if current else batches


def _pad(
    rows: list[list[int]], pad_token_id: int, device: Any
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Pad on the right: causal attention keeps the real tokens from seeing what follows them."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_token_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)
