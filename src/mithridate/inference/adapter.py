"""PEFT adapters as they are read from a folder: whole and fitting, or refused."""

import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mithridate.errors import InputError

_MISSING = "Found missing adapter keys"


def adapter_config(folder: str | Path) -> Any:
    """Return the settings of an adapter.

    Raises:
        InputError: They cannot be read, or are of prompt or prefix tuning, whose virtual tokens
            move every position that is read here.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unfit(folder, error) from error
    if config.is_prompt_learning:
        raise InputError(
            "the adapter is of prompt or prefix tuning, which is not supported",
            where=str(folder),
            mend="train LoRA or another adapter of the weights, or all weights",
        )
    return config


def with_adapter_of(model: Any, folder: str | Path) -> Any:
    """Return a base model with the adapter of a folder.

    Args:
        model: The base model.
        folder: Holds ``adapter_config.json`` and the weights as safetensors.

    Raises:
        InputError: The adapter cannot be read, or does not fit the model, wholly or in part: PEFT
            itself only warns where it finds no weights for a layer, which then answers as the base
            model does.
    """
    from peft import PeftModel

    config = adapter_config(folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=_MISSING)
            return PeftModel.from_pretrained(model, str(folder), config=config)
    except UserWarning as error:
        raise InputError(
            "the adapter has no weights for some of the layers it is made for",
            where=str(folder),
            mend="train and load it with one class of model, or merge it and give the whole model",
        ) from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unfit(folder, error) from error


def _unfit(folder: str | Path, error: Exception) -> InputError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" .:")
    return InputError(
        f"the adapter cannot be loaded ({reason:.200})",
        where=str(folder),
        mend="check that its files are whole and belong to the model",
    )
