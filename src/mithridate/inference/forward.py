"""The fast way through a model, which training, scoring and the judge's reading all take."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mithridate.inference.alone import alone
from mithridate.inference.attention import packed, packs
from mithridate.inference.head import has_plain_head
from mithridate.inference.lora import fused_lora
from mithridate.inference.norm import fused_norms


@contextmanager
def fast_forward(model: Any) -> Iterator[bool]:
    """Run a model the fast way inside the block: LoRA and norms fused, packed batches if it can.

    Other threads that want the same model wait for the block's end.

    Yields:
        Whether it takes packed batches, and those alone.
    """
    with alone(model), ExitStack() as stack:
        packing = packs(model)
        has_plain_head(model)  # tries the model out, which packed attention would not allow
        stack.enter_context(fused_lora(model))
        stack.enter_context(fused_norms(model))
        if packing:
            stack.enter_context(packed(model))
        yield packing
