"""How fast a model is on this machine: one of its layers, with random weights, timed."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from mithridate.bench.shapes import empty_model
from mithridate.inference.backbone import Precision, best_device, resolve_precision
from mithridate.inference.features import decoder_layers

_VOCABULARY = 1000
"""Words of the model that is timed: embeddings cost next to nothing, and the head is computed."""

_REPEATS = 3


@dataclass(frozen=True)
class Pace:
    """How fast a whole model is here, and how large.

    Attributes:
        read: Seconds for each token of a batch that is read, the head left out.
        write: Seconds for each token that is written, in a batch of the same rows.
        weights: Bytes of its parameters.
        activations: Bytes that a training step keeps for each token of its batch, about.
    """

    read: float
    write: float
    weights: float
    activations: float


@cache
def pace(model: str, precision: Precision, rows: int, tokens: int) -> Pace:
    """Return how fast a model is.

    Args:
        model: A folder, hub id or name.
        precision: The dtype to compute in.
        rows: Of a batch.
        tokens: Of each row.

    Raises:
        InputError: The model's config cannot be read.
    """
    whole = empty_model(model)
    config = whole.config.get_text_config()
    device = best_device()
    dtype = resolve_precision(precision, device)
    layers = decoder_layers(whole)
    parameters = sum(weight.numel() for weight in whole.parameters())
    of_layer = sum(weight.numel() for weight in layers[0].parameters())
    one = _one_layer(whole.config, device, dtype)
    read = _seconds_in_layer(one, torch.ones(rows, tokens, dtype=torch.long, device=device))
    write = _seconds_in_layer(one, torch.ones(rows, 1, dtype=torch.long, device=device))
    # The head is one product more, as long as its weights are large beside a layer's.
    head = config.vocab_size * config.hidden_size / of_layer
    return Pace(
        read=read * len(layers) / (rows * tokens),
        write=write * (len(layers) + head) / rows,
        weights=float(parameters * dtype.itemsize),
        # Korthikanti et al. 2022 (arXiv 2205.05198): 34 values of two bytes, attention apart.
        activations=17.0 * config.hidden_size * len(layers) * dtype.itemsize,
    )


def _one_layer(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a model of the same shape with one layer, few words and random weights."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers, text.vocab_size, text.pad_token_id = 1, _VOCABULARY, None
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1]
    attention = "eager" if device.type == "cpu" else "sdpa"
    # Initialized by a generator of its own: the global one is the user's.
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    return model.to(device).eval()


def _seconds_in_layer(model: Any, ids: torch.Tensor) -> float:
    """Return the seconds that a model's only layer takes to read a batch, the best of some."""
    [layer] = decoder_layers(model)
    started: list[tuple[float, float]] = []
    took: list[float] = []

    def begin(*_: Any) -> None:
        started.append(_now())

    def end(*_: Any) -> None:
        took.append(min(now - then for now, then in zip(_now(), started.pop(), strict=True)))

    handles = [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]
    with torch.inference_mode():
        for _ in range(_REPEATS + 1):  # the first one warms up
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
    for handle in handles:
        handle.remove()
    return max(min(took[1:]), 1e-7)


def _now() -> tuple[float, float]:
    """Return the time by the wall's clock and by the processor's, which skips what others run.

    Of an accelerator only the wall's says anything.
    """
    wall: Callable[[], float] = time.perf_counter
    if best_device().type != "cpu":
        torch.accelerator.synchronize()
        return wall(), wall()
    return wall(), time.process_time()
