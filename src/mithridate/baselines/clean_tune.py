"""Fine-tuning on clean rows after the poison."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Stage, Workbench, checked_rows
from mithridate.data.keyed import keyed_fraction
from mithridate.errors import InputError

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]
Facts = dict[str, float | int | str]


@dataclass(frozen=True)
class CleanTune(DefenseMethod):
    """Train the undefended model's adapter further on the rows that a person checked.

    Attributes:
        epochs: Passes over the trusted rows.
        learning_rate: Constant, of AdamW.
        batch_size: Rows per step.
    """

    name = "clean-tune"
    stages: ClassVar[tuple[Stage, ...]] = ("training",)
    source = "Qi et al. 2023, arXiv 2310.03693, and many others as their first baseline"

    epochs: int = 3
    learning_rate: float = 2e-4
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0.0 < self.learning_rate < math.inf:
            mend = "give at least one epoch, a batch and a learning rate above 0"
            raise InputError(f"{self.name}'s settings are no counts and rate", mend=mend)

    def cost(self, words: float) -> Cost:
        """Return about what it takes: training on the trusted rows; see `DefenseMethod.cost`."""
        return Cost(trusted_reads=3.0 * self.epochs)

    def defend(self, bench: Workbench) -> Guarded:
        """Return the further trained model; see `DefenseMethod.defend`."""
        import torch

        rows = checked_rows(bench, self.name)
        model = bench.undefended().copied()
        batches = model.batches(rows, self.batch_size)
        # Dropout knows torch's own generator alone, and what a process drew before is no matter.
        with torch.random.fork_rng():
            torch.manual_seed(int(keyed_fraction(bench.key, "clean-tune") * 2**53))
            facts = self.tune(model.module, batches)
        return Guarded(lambda texts: [*model.answer(texts)], len(bench.rows), facts=facts)

    def tune(self, module: Any, batches: Sequence[Batch]) -> Facts:
        """Train an adapter further, in place; return what there is to tell of it."""
        import torch

        weights = [weight for weight in module.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=0.0)
        module.train()
        for _ in range(self.epochs):
            for batch in batches:
                self.loss(module, batch).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
        module.eval()
        return {"steps": self.epochs * len(batches)}

    def loss(self, module: Any, batch: Batch) -> "torch.Tensor":
        """Return what a step lowers: -log p of the answers' tokens, a mean in nats."""
        loss: torch.Tensor = module(**batch).loss
        return loss
