"""Loading a tokenizer: all that a model on a server needs of its own on this machine."""

from pathlib import Path
from typing import Any

from mithridate.data.models import resolve_model
from mithridate.errors import InputError

# A tokenizer's own files, of which a model's folder holds one at least.
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab*", "*.tiktoken", "tekken.json")


def load_tokenizer(reference: str, *, trust_remote_code: bool = False) -> Any:
    """Load a fast tokenizer from a local folder, a hub id or a model's name here.

    It has a padding token.

    Raises:
        InputError: It cannot be found, is none of the fast ones, or its model's licence was not
            accepted.
    """
    place = resolve_model(reference)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        folder = Path(place)
        if folder.is_dir() and not any(any(folder.glob(name)) for name in _VOCABULARIES):
            raise InputError(
                "the folder holds no tokenizer",
                where=reference,
                mend="give the folder of a whole model, tokenizer.json and all",
            ) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"cannot load the model's tokenizer: {reason}",
            where=reference,
            mend="give a local folder with the model, or a hub id that can be reached",
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            "the model has no fast tokenizer", where=reference, mend="convert it to tokenizer.json"
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has neither a token that ends a text nor one to pad with",
            where=reference,
            mend="name one in its tokenizer_config.json (eos_token)",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
