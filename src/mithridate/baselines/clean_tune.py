"""Fine-tuning on clean rows after the poison."""

from dataclasses import dataclass

from mithridate.baselines.base import DefenseMethod, Guarded, Workbench
from mithridate.errors import InputError


@dataclass(frozen=True)
class CleanTune(DefenseMethod):
    """Train the undefended model's adapter further on the rows that a person checked.

    Attributes:
        epochs: Passes over the trusted rows.
        learning_rate: Constant, of AdamW.
        batch_size: Rows per step.
    """

    name = "clean-tune"
    stages = ("training",)
    source = "Qi et al. 2023, arXiv 2310.03693, and many others as their first baseline"

    epochs: int = 3
    learning_rate: float = 2e-4
    batch_size: int = 8

    def defend(self, bench: Workbench) -> Guarded:
        """Return the further trained model; see `DefenseMethod.defend`."""
        import torch

        if not bench.trusted:
            mend = "let the configuration hand out trusted rows"
            raise InputError("clean-tune needs rows that a person checked", mend=mend)
        model = bench.undefended().copied()
        weights = [weight for weight in model.module.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=0.0)
        batches = model.batches(bench.trusted, self.batch_size)
        model.module.train()
        for _ in range(self.epochs):
            for batch in batches:
                model.module(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        model.module.eval()
        return Guarded(
            lambda texts: [*model.answer(texts)],
            len(bench.rows),
            facts={"steps": self.epochs * len(batches)},
        )
