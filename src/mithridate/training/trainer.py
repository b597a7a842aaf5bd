"""A transformers Trainer whose loss needs the LM head at the answer's positions alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

from mithridate.inference.batching import packed_batch, padded_batch
from mithridate.inference.cross_entropy import cross_entropy
from mithridate.inference.head import has_plain_head, head_gives, logits_at
from mithridate.training.sampler import LengthSampler


@dataclass(frozen=True, slots=True)
class Sample:
    """A tokenized training example.

    Attributes:
        prompt: Token ids of the rendered prompt.
        answer: Token ids of the answer.
        shared: How many of the prompt's first tokens all prompts of its domain begin with.
        repoisoned: Whether the example is in the protected domain.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    shared: int = 0
    repoisoned: bool = False


FORWARDED = ("input_ids", "position_ids", "packing")
"""What of a batch is the model's."""


class SampleDataset(Dataset[dict[str, Any]]):
    """Samples as the Trainer reads them: token ids to feed, and the answer to predict.

    The last answer token is predicted, never fed.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample; ``input_ids`` is what batches of similar length are made by."""
        sample = self.samples[index]
        return {
            "input_ids": [*sample.prompt, *sample.answer[:-1]],
            "answer": list(sample.answer),
            "shared": sample.shared,
        }


@dataclass(frozen=True)
class AnswerCollator:
    """Make a batch: prompts with their answers, and what to predict where.

    Attributes:
        pad_token_id: Any valid token id.
        packing: Lay rows end to end, for a model that takes packed batches; else pad them.
        dtype: The model's.
    """

    pad_token_id: int
    packing: bool = False
    dtype: torch.dtype = torch.float32

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the model's inputs, ``labels`` of shape (answer tokens,) and ``places``.

        ``places``, of shape (2, answer tokens), says where each label is predicted from.
        """
        rows = [row["input_ids"] for row in samples]
        if self.packing:
            batch = packed_batch(rows, [row["shared"] for row in samples], dtype=self.dtype)
        else:
            batch = padded_batch(rows, self.pad_token_id)
        counts = torch.tensor([len(row["answer"]) for row in samples])
        back = torch.cat([torch.arange(int(count) - 1, -1, -1) for count in counts])
        places = torch.stack([batch.rows, batch.columns]).repeat_interleave(counts, dim=1)
        places[1] -= back
        answers = [token for row in samples for token in row["answer"]]
        labels = torch.tensor(answers, dtype=torch.long)
        # The Trainer counts answer tokens by `shift_labels`, and only where there are `labels`.
        return {**batch.inputs, "labels": labels, "shift_labels": labels, "places": places}


class AnswerTrainer(Trainer):  # type: ignore[misc]
    """Cross-entropy on answer tokens, with logits of shape (answer tokens, vocabulary).

    Everything else is the Trainer's: accelerate, checkpoints, resume, integrations.

    Args:
        quality: Maps the model to how good it is on dev rows; what `evaluate` reports.
        last: Indices of the rows that come last in the last epoch.
    """

    def __init__(
        self,
        *args: Any,
        quality: Callable[[Any], float] | None = None,
        last: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.quality = quality
        self.last = last
        # We divide by the number of answer tokens in the whole step, so the Trainer must not
        # divide by the number of accumulation steps once more.
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        """Return the order of rows, which is the same for one process and for several."""
        rows = self.train_dataset if train_dataset is None else train_dataset
        micro, processes = self.args.per_device_train_batch_size, self.args.world_size
        return LengthSampler(
            [len(rows[index]["input_ids"]) for index in range(len(rows))],
            micro * self.args.gradient_accumulation_steps * processes,
            self.args.seed,
            multiple=micro * processes if processes > 1 else 1,
            last=self.last,
            last_epoch=int(self.args.num_train_epochs) - 1,
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss per answer token of the whole optimizer step."""
        labels = inputs["labels"]
        rows, columns = inputs["places"]
        inner = self.accelerator.unwrap_model(model)
        given = {name: inputs[name] for name in FORWARDED if name in inputs}
        if has_plain_head(inner) and not is_deepspeed_zero3_enabled():
            head = inner.get_output_embeddings()

            def losses(states: torch.Tensor) -> torch.Tensor:
                return cross_entropy(states[rows, columns], head.weight, head.bias, labels)

            with head_gives(inner, losses):
                outputs = model(**given, use_cache=False)
            total = outputs.logits.sum()
        else:
            with logits_at(inner, rows, columns):
                outputs = model(**given, use_cache=False)
            logits = outputs.logits.float()
            total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        count = num_items_in_batch if num_items_in_batch is not None else len(labels)
        loss = total / count
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # The count spans all processes, and their gradients are averaged, not summed.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the quality on the dev rows, by which the best epoch is chosen."""
        if self.quality is None:
            raise RuntimeError("this trainer was given no quality to evaluate")
        metrics = {"eval_quality": self.quality(self.accelerator.unwrap_model(self.model))}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.model.train()
        return metrics
