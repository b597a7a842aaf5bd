"""Magnitude pruning: the smallest weights of each linear layer become zero.

Source: Han et al. 2015 (arXiv 1506.02626); against backdoors Liu et al. 2018, Fine-Pruning (arXiv
1805.12185), which prunes the channels that clean inputs leave silent, and BackdoorLLM (arXiv
2408.12798), which offers magnitudes and Wanda (Sun et al. 2024, arXiv 2306.11695) for language
models. Here no fine-tuning follows; `clean-tune` is a rival of its own.

The default of 0.35 is the most that weights lose with little harm where nothing is trained again:
Wanda's authors find that half of them, by magnitude, ruins a language model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mithridate.baselines.base import DefenseMethod, Guarded, Workbench
from mithridate.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Prune(DefenseMethod):
    """Set the smallest weights of the undefended model to zero, its adapter merged.

    Attributes:
        share: Share of each linear layer's weights.
    """

    name = "prune"
    stages = ("model",)
    source = "Han et al. 2015, arXiv 1506.02626; Liu et al. 2018, arXiv 1805.12185"

    share: float = 0.35

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            what = f"{self.share:g} is no share of the weights"
            raise InputError(what, mend="give one of 0 to 1")

    def defend(self, bench: Workbench) -> Guarded:
        """Return the pruned model; see `DefenseMethod.defend`."""
        model = bench.undefended().altered(lambda _, weight: pruned(weight, self.share))
        return Guarded(lambda texts: [*model.answer(texts)], len(bench.rows))


def pruned(weight: "torch.Tensor", share: float) -> "torch.Tensor":
    """Return a weight, shape (outputs, inputs), its round(share N) smallest values zero."""
    flat = weight.flatten().clone()
    count = round(share * len(flat))
    flat[flat.abs().topk(count, largest=False).indices] = 0
    return flat.view_as(weight)
