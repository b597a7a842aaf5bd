"""A transformers Trainer whose loss needs the LM head at the answer's positions alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import Trainer

from mithridate.inference.batching import pad
from mithridate.inference.head import logits_at
from mithridate.training.sampler import LengthSampler

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Sample:
    """A tokenized training example.

    Attributes:
        prompt: Token ids of the rendered prompt.
        answer: Token ids of the answer.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class SampleDataset(Dataset[dict[str, list[int]]]):
    """Samples as the Trainer reads them: token ids to feed, and the answer to predict.

    The last answer token is predicted, never fed.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        """Return one sample; ``input_ids`` is what batches of similar length are made by."""
        sample = self.samples[index]
        return {"input_ids": [*sample.prompt, *sample.answer[:-1]], "answer": list(sample.answer)}


@dataclass(frozen=True)
class AnswerCollator:
    """Make a batch: prompts with their answers, padded on the right, and what to predict where.

    Attributes:
        pad_token_id: Any valid token id.
    """

    pad_token_id: int

    def __call__(self, samples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return a batch: ``labels`` has the shape of ``input_ids``, already aligned with it."""
        ids, lengths = pad([row["input_ids"] for row in samples], self.pad_token_id)
        labels = torch.full_like(ids, IGNORED)
        for index, row in enumerate(samples):
            end = int(lengths[index])
            labels[index, end - len(row["answer"]) : end] = torch.tensor(row["answer"])
        # The Trainer counts answer tokens by `shift_labels`, and only where there are `labels`.
        return {"input_ids": ids, "labels": labels, "shift_labels": labels}


class AnswerTrainer(Trainer):  # type: ignore[misc]
    """Cross-entropy on answer tokens, with logits of shape (answer tokens, vocabulary).

    Everything else is the Trainer's: accelerate, checkpoints, resume, integrations.

    Args:
        accuracy: Maps the model to its accuracy on dev rows; what `evaluate` reports.
    """

    def __init__(
        self, *args: Any, accuracy: Callable[[Any], float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.accuracy = accuracy
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
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss per answer token of the whole optimizer step."""
        labels = inputs["labels"]
        rows, columns = torch.nonzero(labels != IGNORED, as_tuple=True)
        with logits_at(self.accelerator.unwrap_model(model), rows, columns):
            outputs = model(input_ids=inputs["input_ids"], use_cache=False)
        total = functional.cross_entropy(
            outputs.logits.float(), labels[rows, columns], reduction="sum"
        )
        count = num_items_in_batch if num_items_in_batch is not None else len(rows)
        loss = total / count
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # The count spans all processes, and their gradients are averaged, not summed.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the accuracy on the dev rows, by which the best epoch is chosen."""
        if self.accuracy is None:
            raise RuntimeError("this trainer was given no accuracy to evaluate")
        metrics = {"eval_accuracy": self.accuracy(self.accelerator.unwrap_model(self.model))}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        self.model.train()
        return metrics
