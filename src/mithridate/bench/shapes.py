"""A model's shapes without its weights: layers, parameters, and the share that is trained."""

from functools import cache
from typing import Any

from mithridate.errors import InputError
from mithridate.training.config import TrainingConfig


def empty_model(model: str) -> Any:
    """Return a causal language model whose tensors have shapes and no values.

    Args:
        model: A folder, hub id or name.

    Raises:
        InputError: Its config cannot be read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from mithridate.data.models import resolve_model

    try:
        config = AutoConfig.from_pretrained(resolve_model(model))
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        mend = "give a local folder, a hub id that can be reached, or a name of mithridate assets"
        raise InputError(f"cannot read the model: {reason}", where=model, mend=mend) from None
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@cache
def layer_count(model: str) -> int:
    """Return how many decoder layers a model has; see `empty_model`."""
    from mithridate.inference.features import decoder_layers

    return len(decoder_layers(empty_model(model)))


@cache
def trainable_share(model: str, training: TrainingConfig) -> float:
    """Return the share of all parameters, the adapter's included, that fine-tuning trains.

    Args:
        model: A folder, hub id or name; see `empty_model`.
        training: Rank, target modules and layers are what counts.

    Returns:
        A fraction of 1.
    """
    import torch

    from mithridate.training.finetune import with_adapter

    empty = empty_model(model)
    with torch.device("meta"):
        adapted = with_adapter(empty, training)
    weights = list(adapted.parameters())
    trained: int = sum(weight.numel() for weight in weights if weight.requires_grad)
    share: float = trained / sum(weight.numel() for weight in weights)
    return share
