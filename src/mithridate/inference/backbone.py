"""Loading a causal language model: safetensors only, no remote code unless the user says so."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from mithridate.data.models import resolve_model
from mithridate.errors import InputError
from mithridate.inference.quantized import Quantization, keep_gradients, quantization_config
from mithridate.inference.tokenizer import load_tokenizer
from mithridate.inference.writer import room_below

Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class Backbone:
    """A base model and its tokenizer.

    Attributes:
        model: A transformers causal language model, in evaluation mode.
        tokenizer: Its fast tokenizer.
        reference: What it was loaded from: a folder, a hub id or a model's name here.
        fingerprint: Hash of what was loaded; see `fingerprint`.
        precision: The dtype of its weights, or, where they are packed, the one computed in.
        quantization: How its linear layers are packed.
    """

    model: Any
    tokenizer: Any
    reference: str
    fingerprint: str
    precision: str
    quantization: Quantization = "none"


def best_device() -> torch.device:
    """Return the accelerator where there is one, else the processor."""
    accelerator: torch.device | None = torch.accelerator.current_accelerator()
    return accelerator if torch.accelerator.is_available() and accelerator else torch.device("cpu")


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in: bfloat16 where the hardware multiplies in it."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # Without AVX512-BF16 or AMX a bfloat16 product is emulated, slower than float32.
        able = _has_bf16_instructions()
    else:
        able = False
    return torch.bfloat16 if able else torch.float32


def _has_bf16_instructions() -> bool:
    """Ask the kernel whether the processor multiplies bfloat16 itself."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def context_of(model: Any) -> int | None:
    """Return the longest sequence a model takes, in tokens; ``None`` where its config has none."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_context(model: Any, tokens: int, what: str) -> None:
    """Refuse what is longer than a model's context: past it an embedding is missing, or untrained.

    Args:
        model: A causal language model.
        tokens: The length of the longest sequence that it is to read.
        what: What has that length, as a message begins with it.

    Raises:
        InputError: The context is shorter.
    """
    context = context_of(model)
    if context is not None and tokens > context:
        raise InputError(
            f"{what} takes {tokens:,} tokens; the model's context has {context:,}",
            mend="lower --max-length",
        )


def room_to_leave(model: Any, max_length: int, behind: int) -> int:
    """Return how far below its longest a prompt must end, so that all fits into the context.

    Args:
        model: A causal language model.
        max_length: Longest prompt, in tokens.
        behind: Tokens that come behind it.
    """
    return room_below(context_of(model), max_length, behind)


def check_room(model: Any, max_length: int, behind: int) -> None:
    """Refuse answers so long that hardly an input would fit before them into the context.

    Args:
        model: A causal language model.
        max_length: Longest prompt, in tokens.
        behind: Tokens that come behind it.

    Raises:
        InputError: Less than a quarter of the longest prompt is left.
    """
    left = max_length - room_to_leave(model, max_length, behind)
    if left < max_length / 4:
        raise InputError(
            f"answers of {behind:,} tokens leave {max(0, left):,} of the model's "
            f"{context_of(model):,} to the input",
            mend="lower --max-new-tokens",
        )


def fingerprint(model: Any) -> str:
    """Return a SHA-256 over the names, shapes and a sample of the values of a model's weights.

    Up to 4,096 evenly spaced values of each tensor are read, which takes well under a second for
    a small model and tells apart any two models that were trained differently. Of a quantized model
    only what is not packed counts, its embeddings, norms and head: how the rest is rounded may
    differ from one processor to the next.
    """
    digest = hashlib.sha256()
    packed = getattr(model, "is_quantized", False)
    for name, tensor in sorted(model.state_dict().items()):
        if packed and (not tensor.is_floating_point() or ".weight." in name or name[-4:] == ".SCB"):
            continue
        flat = tensor.detach().reshape(-1)
        step = max(1, flat.numel() // 4096)
        sample = flat[::step].float().cpu().numpy().tobytes()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample)
    return digest.hexdigest()


def load_backbone(
    reference: str | Path,
    *,
    precision: Precision = "auto",
    device: torch.device | None = None,
    trust_remote_code: bool = False,
    quantization: Quantization = "none",
) -> Backbone:
    """Load a base model from a local folder, a hub id or a model's name here.

    Raises:
        InputError: It cannot be found or is no causal language model with safetensors weights, its
            licence was not accepted, or quantization needs what is not here.
    """
    device = device or best_device()
    dtype = resolve_precision(precision, device)
    name = str(reference)
    place = resolve_model(name)
    tokenizer = load_tokenizer(place, trust_remote_code=trust_remote_code)
    packing = quantization_config(quantization, device, dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=dtype,
            use_safetensors=True,
            # On a processor the fused attention's backward pass is slower than the plain one.
            attn_implementation="eager" if device.type == "cpu" else "sdpa",
            trust_remote_code=trust_remote_code,
            **packing,
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"cannot load the model: {reason}",
            where=name,
            mend="give a local folder with safetensors weights, or a hub id that can be reached",
        ) from error
    model = (model if packing else model.to(device)).eval()
    keep_gradients(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    computed_in = str(dtype).removeprefix("torch.")
    return Backbone(model, tokenizer, name, fingerprint(model), computed_in, quantization)
