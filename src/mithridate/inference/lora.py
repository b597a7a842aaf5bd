"""LoRA layers computed with fewer passes over memory.

PEFT keeps an adapter in float32 beside a bfloat16 base, casts every activation up, multiplies in
float32 and adds the result in a pass of its own. Here the small matrices are cast down instead,
and the product is accumulated where the base layer's output already lies. The adapter's own
weights, and so its optimizer, stay in float32. On 2 cores a whole training step of a 135M model
with an adapter on every linear layer takes 1.56 s in place of 1.93 s (32 rows of 28 tokens).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLayer
from torch import nn

from mithridate.inference.replace import replaced_forwards


@contextmanager
def fused_lora(model: Any) -> Iterator[int]:
    """Compute the LoRA layers that allow it the short way inside the block.

    Layers with dropout, DoRA, several active adapters or a quantized base keep PEFT's own way.

    Yields:
        How many layers it is.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    # One that has a forward of its own is fused already, by a block around this one.
    chosen = [layer for layer in layers if "forward" not in vars(layer) and _is_plain(layer)]
    with replaced_forwards(chosen, _forward_of) as count:
        yield count


def _is_plain(layer: Any) -> bool:
    """Whether a layer is a frozen linear map plus one low-rank product."""
    if layer.merged or layer.disable_adapters or len(layer.active_adapters) != 1:
        return False
    name = layer.active_adapters[0]
    return (
        name in layer.lora_A
        and type(layer.base_layer) is nn.Linear
        and not layer.base_layer.weight.requires_grad
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and name not in layer.lora_variant
        and layer.lora_A[name].bias is None
        and layer.lora_B[name].bias is None
    )


def _forward_of(layer: Any) -> Callable[..., torch.Tensor]:
    name = layer.active_adapters[0]

    def forward(states: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        # Read anew at every call: sharded training replaces the tensors behind these names.
        out: torch.Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            states,
            layer.base_layer.weight,
            layer.base_layer.bias,
            layer.lora_A[name].weight,
            layer.lora_B[name].weight,
            layer.scaling[name],
        )
        return out

    return forward


class _LoraLinear(torch.autograd.Function):
    """y = x W' + b + s (x A') B', W and b frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Return shape (..., outputs) of ``states``, shape (..., inputs)."""
        flat = states.reshape(-1, states.shape[-1])
        down16, up16 = down.to(flat.dtype), up.to(flat.dtype)
        narrow = flat @ down16.t()
        out = nn.functional.linear(flat, weight, bias)
        out.addmm_(narrow, up16.t(), alpha=scale)
        ctx.save_for_backward(flat, weight, narrow, down16, up16)
        ctx.scale, ctx.shape, ctx.dtype = scale, states.shape, down.dtype
        return out.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of the states and of the two small matrices."""
        flat, weight, narrow, down, up = ctx.saved_tensors
        grad = gradients[0].reshape(-1, gradients[0].shape[-1])
        by_narrow = (grad @ up).mul_(ctx.scale)
        by_up = (grad.t() @ narrow).to(ctx.dtype).mul_(ctx.scale)
        by_down = (by_narrow.t() @ flat).to(ctx.dtype)
        by_states = None
        if ctx.needs_input_grad[0]:
            by_states = (grad @ weight).addmm_(by_narrow, down).view(ctx.shape)
        return by_states, None, None, by_down, by_up, None
