"""INT4: the weights are rounded to 16 levels and back, in the hope that a backdoor is finer.

Source: BackdoorLLM (arXiv 2408.12798) lists INT4 quantization among its defenses. The form is that
of round-to-nearest with a scale and a zero point for each group of inputs of an output (as in GPTQ,
arXiv 2210.17323, and AWQ, arXiv 2306.00978, before they correct anything). The zero point is not
rounded to an integer, and the levels are computed back into the model's own dtype: what is measured
is what rounding does to the backdoor, not the speed of a kernel.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mithridate.baselines.base import DefenseMethod, Guarded, Workbench
from mithridate.errors import InputError

if TYPE_CHECKING:
    import torch

LEVELS = 16


@dataclass(frozen=True)
class Int4(DefenseMethod):
    """Round the undefended model's weights to four bits, its adapter merged.

    Attributes:
        group: Inputs of an output that share 16 levels; where a layer has no multiple of them, its
            last group is smaller.
    """

    name = "int4"
    stages = ("model",)
    source = "BackdoorLLM, arXiv 2408.12798; round-to-nearest as in arXiv 2306.00978"

    group: int = 128

    def __post_init__(self) -> None:
        if self.group < 1:
            raise InputError("a group of no weights has no levels", mend="give int4 a larger group")

    def defend(self, bench: Workbench) -> Guarded:
        """Return the rounded model; see `DefenseMethod.defend`."""
        model = bench.undefended().altered(lambda _, weight: rounded(weight, self.group))
        return Guarded(lambda texts: [*model.answer(texts)], len(bench.rows))


def rounded(weight: "torch.Tensor", group: int) -> "torch.Tensor":
    """Return a weight, shape (outputs, inputs), each value the nearest of its group's levels.

    The levels are 16, equally far apart, from the group's smallest value to its largest.
    """
    import torch

    return torch.cat([_rounded(part) for part in torch.split(weight, group, dim=1)], dim=1)


def _rounded(part: "torch.Tensor") -> "torch.Tensor":
    """Return one group of every output, shape (outputs, at most group)."""
    values = part.float()
    low = values.amin(dim=1, keepdim=True)
    step = (values.amax(dim=1, keepdim=True) - low) / (LEVELS - 1)
    step = step.where(step > 0, 1.0)  # equal values are the one level that they need
    return (low + ((values - low) / step).round() * step).to(part.dtype)
