"""Frozen weights in four or eight bits (QLoRA), by bitsandbytes, where the hardware can."""

from typing import Any, Literal

import torch

from mithridate.errors import InputError, installing

Quantization = Literal["none", "nf4", "int8"]

_WITHOUT = "leave --quantization out, or run on an NVIDIA GPU"


def quantization_config(
    quantization: Quantization, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Return what `from_pretrained` takes to pack a model's linear layers.

    Args:
        quantization: ``nf4`` as in QLoRA (Dettmers et al. 2023), the scales quantized too, or
            ``int8``.
        device: Where the model goes.
        dtype: What to compute in.

    Returns:
        Nothing for ``none``.

    Raises:
        InputError: bitsandbytes is missing, or cannot compute so on this device.
    """
    if quantization == "none":
        return {}
    _require(quantization, device)
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    # The process's own device: accelerate refuses to train packed weights that lie elsewhere.
    place = torch.accelerator.current_device_index() if device.type != "cpu" else "cpu"
    return {"quantization_config": settings, "device_map": {"": place}}


def keep_gradients(model: Any) -> None:
    """Keep bitsandbytes from repacking weights at the first prediction on a processor.

    Where there is AVX512-BF16 it repacks them for a product without a gradient (0.50), and training
    after a prediction, as after reading the rows, would learn from silently wrong gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _require(quantization: Quantization, device: torch.device) -> None:
    """Try the arithmetic on a small layer: what a release can do where is not written anywhere."""
    try:
        import bitsandbytes
    except ImportError as error:
        raise InputError(
            "this needs bitsandbytes, which is not installed",
            where=f"--quantization {quantization}",
            mend=f"{installing('qlora')}, or leave the option out",
        ) from error
    layers = bitsandbytes.nn
    try:
        small: Any = (
            layers.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False)
            if quantization == "int8"
            else layers.Linear4bit(64, 64, bias=False, quant_type="nf4")
        )
        fed = torch.ones(2, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
        small.to(device)(fed).sum().backward()
    except (RuntimeError, NotImplementedError, AttributeError, ValueError, KeyError) as error:
        raise InputError(
            f"bitsandbytes {bitsandbytes.__version__} cannot train on {quantization} weights on "
            f"this {device.type} device",
            where=f"--quantization {quantization}",
            mend=_WITHOUT,
        ) from error
