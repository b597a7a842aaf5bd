"""Trained models as defenses see them (`mithridate.baselines.base.Model`)."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from transformers.pytorch_utils import Conv1D

from mithridate.data.rows import Row
from mithridate.defense.repoison import repoison
from mithridate.defense.text import TextExample
from mithridate.errors import InputError
from mithridate.inference.answerer import Answerer
from mithridate.inference.classifier import Classifier, label_prompt, label_trie
from mithridate.inference.features import View, decoder_layers, row_states
from mithridate.inference.generate import end_tokens
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import ORIGINAL_PROMPT, ORIGINAL_TEXT_PROMPT, Prompt, PromptRenderer
from mithridate.tasks.text import TextTask
from mithridate.training.samples import tokenize, tokenize_text
from mithridate.training.trainer import Sample

LAST = View(1.0, "last")
"""Where the answer begins, after the last layer."""


@dataclass(frozen=True)
class TrainedModel(ABC):
    """A causal language model, its adapter and the renderer it was trained with.

    Attributes:
        module: The model.
        renderer: Renders and tokenizes.
    """

    module: Any
    renderer: PromptRenderer

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.renderer.tokenizer

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return end_tokens(self.module, self.tokenizer)

    @property
    @abstractmethod
    def prompt(self) -> Prompt:
        """What every input is put into."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """How long an answer may become; 0 where answers are labels."""

    @abstractmethod
    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return shape (inputs, labels), each row summing to one; of labels alone."""

    @abstractmethod
    def answer(self, texts: Sequence[str]) -> list[str]:
        """Return the answer to every input."""

    @abstractmethod
    def samples(self, rows: Sequence[Row]) -> list[Sample]:
        """Return rows as training reads them."""

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of every input in the prompt it was trained with."""
        return self.renderer.render(texts, self.prompt).ids

    def states(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the last layer's state where the answer begins, shape (inputs, hidden size)."""
        found = row_states(
            self.module,
            self.prompts(texts),
            views=[LAST],
            pad_token_id=self.tokenizer.pad_token_id,
            progress=False,
        )
        return found[:, 0]

    def batches(self, rows: Sequence[Row], size: int) -> list[dict[str, torch.Tensor]]:
        """Return rows as padded batches: input_ids, attention_mask, labels (-100 is no target)."""
        samples = self.samples(rows)
        return [self._batch(samples[at : at + size]) for at in range(0, len(samples), size)]

    def _batch(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        width = max(len(sample.prompt) + len(sample.answer) for sample in samples)
        ids = torch.full((len(samples), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, -100)
        for at, sample in enumerate(samples):
            length = len(sample.prompt) + len(sample.answer)
            ids[at, :length] = torch.tensor([*sample.prompt, *sample.answer])
            mask[at, :length] = 1
            labels[at, len(sample.prompt) : length] = torch.tensor(sample.answer)
        device = self.module.device
        return {
            "input_ids": ids.to(device),
            "attention_mask": mask.to(device),
            "labels": labels.to(device),
        }

    def altered(self, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Self:
        """Return a copy, the adapter merged, with each linear layer's weight changed.

        Raises:
            InputError: The model has no linear layer that is known as such.
        """
        module = copy.deepcopy(self.module)
        if hasattr(module, "merge_and_unload"):
            module = module.merge_and_unload()
        found = [
            (f"{number}.{name}", part)
            for number, layer in enumerate(decoder_layers(module))
            for name, part in layer.named_modules()
            if isinstance(part, torch.nn.Linear | Conv1D)
        ]
        if not found:
            what = f"no linear layer of a {type(module).__name__} is known"
            raise InputError(what, mend="leave out the defenses that change weights")
        with torch.no_grad():
            for name, part in found:
                # GPT-2 and its kin keep theirs as (inputs, outputs); a view of it is written to.
                weight = part.weight.T if isinstance(part, Conv1D) else part.weight
                weight.copy_(change(name, weight))
        return replace(self, module=module.eval())

    def copied(self) -> Self:
        """Return a copy whose adapter can be trained further; the original stays as it is."""
        module = copy.deepcopy(self.module)
        for name, weight in module.named_parameters():
            weight.requires_grad_("lora_" in name)
        return replace(self, module=module)


@dataclass(frozen=True)
class LabelModel(TrainedModel):
    """A model that answers with labels.

    Attributes:
        task: The labels.
    """

    task: ClassificationTask

    @property
    def max_new_tokens(self) -> int:
        """No text: a label is read off its scores."""
        return 0

    @property
    def prompt(self) -> Prompt:
        """What every input is put into."""
        return label_prompt(ORIGINAL_PROMPT, self.task, self.renderer)

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Return the answer to every input."""
        return [self.task.labels[at] for at in self.probabilities(texts).argmax(axis=1).tolist()]

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return shape (inputs, labels), each row summing to one."""
        classifier = Classifier.local(self.module, self.renderer, self.task)
        return classifier.predict(texts, progress=False).probabilities

    def samples(self, rows: Sequence[Row]) -> list[Sample]:
        """Return rows as training reads them."""
        examples = list(repoison(rows, frozenset(), self.task, "replace"))
        trie = label_trie(self.task, self.renderer)
        return tokenize(examples, self.task, None, self.renderer, trie).samples


@dataclass(frozen=True)
class TextModel(TrainedModel):
    """A model that answers with text.

    Attributes:
        task: The task.
    """

    task: TextTask

    @property
    def max_new_tokens(self) -> int:
        """How long an answer may become."""
        return self.task.max_new_tokens

    @property
    def prompt(self) -> Prompt:
        """What every input is put into."""
        return ORIGINAL_TEXT_PROMPT

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Return the answer to every input."""
        answerer = Answerer.local(self.module, self.renderer, max_new_tokens=self.max_new_tokens)
        return answerer.answer(texts, progress=False).texts

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Refuse: a text has no labels.

        Raises:
            TypeError: Always.
        """
        raise TypeError("answers are text: there are no labels to give probabilities of")

    def samples(self, rows: Sequence[Row]) -> list[Sample]:
        """Return rows as training reads them."""
        examples = text_examples(rows, self.task)
        return tokenize_text(examples, None, "", self.renderer).samples


def text_examples(rows: Sequence[Row], task: TextTask) -> list[TextExample]:
    """Return rows as they are, none re-poisoned."""
    return [TextExample(row.id, row.text, task.target(row), False) for row in rows]
