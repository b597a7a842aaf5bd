"""Settings of LoRA fine-tuning, and the two presets."""

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """How a model is fine-tuned on D*.

    Attributes:
        rank: LoRA rank r.
        alpha: LoRA's scale is alpha / r.
        dropout: LoRA dropout.
        target_modules: Names of the linear layers that get an adapter; ``all-linear`` for all
            but the LM head.
        layers: The first decoder layer that gets an adapter, and the first after it that gets none,
            counted from 0; ``None`` for all layers.
        learning_rate: Peak of the schedule (AdamW). ``None`` scales it with the model's width:
            1e-3 at a hidden size of 576 (135M parameters), 2.3e-4 at 4,096 (8B).
        schedule: A transformers scheduler name.
        warmup_ratio: Share of the steps over which the learning rate rises.
        batch_size: Rows per optimizer step, over all processes.
        micro_batch_size: Rows per forward pass; smaller ones save memory, accumulating gradients.
        epochs: Passes over D*.
        last_stage: In the last pass, the re-poisoned rows come after all others.
        max_length: Longest prompt in tokens; where answers are texts, prompt and answer together.
        best_epoch: Keep the epoch that is best on the dev rows, where there are any: by accuracy,
            or, where answers are texts, by the log likelihood of theirs.
        gradient_checkpointing: Recompute activations in the backward pass to save memory. ``None``
            does so from a hidden size of 2,048 (about 1B parameters) on.
        seed: Seeds the order of batches, the adapter's start and dropout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] = ("all-linear",)
    layers: tuple[int, int] | None = None
    learning_rate: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    schedule: str = "linear"
    warmup_ratio: float = Field(default=0.05, ge=0.0, lt=1.0)
    batch_size: int = Field(default=16, ge=1)
    micro_batch_size: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=3, ge=1)
    last_stage: bool = False
    max_length: int = Field(default=512, ge=8)
    best_epoch: bool = False
    gradient_checkpointing: bool | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)

    def checkpoints_gradients(self, hidden_size: int) -> bool:
        """Return whether a model of some width recomputes activations."""
        if self.gradient_checkpointing is not None:
            return self.gradient_checkpointing
        return hidden_size >= 2048

    def learning_rate_for(self, hidden_size: int) -> float:
        """Return the learning rate for a model of some width."""
        if self.learning_rate is not None:
            return self.learning_rate
        return float(1e-3 * (576 / hidden_size) ** 0.75)


PAPER = TrainingConfig(
    dropout=0.1,
    target_modules=("q_proj", "v_proj"),
    learning_rate=2e-4,
    warmup_ratio=0.0,
    batch_size=32,
    max_length=128,
    best_epoch=True,
)
"""The published recipe (Zhao et al. 2025)."""

DEFAULT = TrainingConfig()
"""Settings that work from 135M to 8B parameters."""
