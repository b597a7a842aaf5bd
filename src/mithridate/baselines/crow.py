"""CROW: fine-tuning on clean rows that makes consecutive layers agree.

Source: Min et al. 2024 (arXiv 2411.12768, algorithm 1), https://github.com/NayMyatMin/CROW. A
trigger is said to make hidden states change abruptly from one layer to the next. So the embeddings
of clean rows are moved to where consecutive layers differ most (one step of the gradient's sign),
and the model learns, beside the rows' answers, to let them differ less there.

As published: 100 clean rows, epsilon 0.1, alpha 5.5, and which layers are compared. Not as
published: the clean rows are the task's own, epochs, learning rate and batch are those of
`clean-tune`, so that the two differ in the loss alone, and padding takes no part in the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mithridate.baselines.base import Cost
from mithridate.baselines.clean_tune import Batch, CleanTune, Facts
from mithridate.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Crow(CleanTune):
    """Train further on checked rows, consecutive layers' states kept alike under perturbation.

    Attributes:
        alpha: Weight of the consistency loss beside the answers'.
        epsilon: How far each coordinate of the embeddings is moved.
    """

    name = "crow"
    source = "Min et al. 2024, CROW, arXiv 2411.12768"

    alpha: float = 5.5
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.alpha >= 0 and self.epsilon >= 0):
            mend = "give 0 or more, such as the published 5.5 and 0.1"
            raise InputError("crow's alpha or epsilon is negative", mend=mend)

    def cost(self, words: float) -> Cost:
        """Return about what it takes: each step reads thrice; see `DefenseMethod.cost`."""
        return Cost(trusted_reads=9.0 * self.epochs + 10.0)

    def tune(self, module: Any, batches: Sequence[Batch]) -> Facts:
        """Train an adapter further, in place; see `CleanTune.tune`."""
        before = self._measured(module, batches)
        facts = super().tune(module, batches)
        after = self._measured(module, batches)
        return {**facts, "inconsistency_before": before, "inconsistency_after": after}

    def loss(self, module: Any, batch: Batch) -> "torch.Tensor":
        """Return what a step lowers: the answers' loss and alpha times the perturbed states'."""
        answers = super().loss(module, batch)
        return answers + self.alpha * self.perturbed(module, batch)

    def perturbed(self, module: Any, batch: Batch) -> "torch.Tensor":
        """Return the inconsistency where the embeddings have been moved to raise it."""
        import torch

        embeddings = module.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
        clean = inconsistency(module, embeddings, batch["attention_mask"])
        (gradient,) = torch.autograd.grad(clean, embeddings)
        moved = (embeddings + self.epsilon * gradient.sign()).detach()
        return inconsistency(module, moved, batch["attention_mask"])

    def _measured(self, module: Any, batches: Sequence[Batch]) -> float:
        """Return the mean perturbed inconsistency over batches."""
        return sum(self.perturbed(module, batch).item() for batch in batches) / len(batches)


def inconsistency(module: Any, embeddings: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    """Return how much states change from layer to layer: the mean of 1 - cos(h_l, h_l+1).

    The embeddings and the last layer's normed output are left out, as in the published code; of a
    model with two layers the last one is needed.

    Args:
        module: A causal language model.
        embeddings: Of the tokens, shape (rows, tokens, hidden size).
        mask: Shape (rows, tokens): 1 where a token is no padding.

    Returns:
        A scalar, 0 to 2.
    """
    import torch

    found = module(
        inputs_embeds=embeddings, attention_mask=mask, output_hidden_states=True, use_cache=False
    ).hidden_states
    states = torch.stack(found[1:-1] if len(found) > 3 else found[1:]).float()
    apart = 1 - torch.nn.functional.cosine_similarity(states[1:], states[:-1], dim=-1)
    return (apart * mask).sum() / (mask.sum() * len(apart))
