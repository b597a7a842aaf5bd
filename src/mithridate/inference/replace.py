"""Layers that are computed another way for a while."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def replaced_forwards(
    layers: Sequence[Any], forward_of: Callable[[Any], Callable[..., torch.Tensor]]
) -> Iterator[int]:
    """Give each layer a forward of its own inside the block, and its class's after it.

    Args:
        layers: Layers without one; a block within a block finds those of the outer one to have it.
        forward_of: Returns a layer's.

    Yields:
        How many layers it is.
    """
    for layer in layers:
        layer.forward = forward_of(layer)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.forward
