"""No defense: what an attack does where nobody looks."""

from dataclasses import dataclass

from mithridate.baselines.base import DefenseMethod, Guarded, Workbench


@dataclass(frozen=True)
class Undefended(DefenseMethod):
    """Train on D as it is (LoRA fine-tuning; Zhao et al. 2025 compare with it first)."""

    name = "none"
    stages = ()
    source = "ordinary fine-tuning"

    def defend(self, bench: Workbench) -> Guarded:
        """Return the undefended model; see `DefenseMethod.defend`."""
        model = bench.undefended()
        return Guarded(
            lambda texts: [*model.answer(texts)],
            len(bench.rows),
            probabilities=model.probabilities if bench.kind == "labels" else None,
        )
