"""A fine-tuned classifier, with or without P2P: render, score, map back to the user's labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.errors import InputError
from mithridate.inference.scores import LabelScorer
from mithridate.inference.trie import LabelTrie
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import ORIGINAL_PROMPT, Prompt, PromptRenderer


def label_trie(task: ClassificationTask, renderer: PromptRenderer) -> LabelTrie:
    """Return the trie of all 2n label words of a task, originals first, as `label_prompt` needs it.

    Raises:
        InputError: The tokenizer does not keep the words apart, or from the prompt.
    """
    encoded, _ = renderer.label_words(task.words)
    return LabelTrie(encoded, renderer.tokenizer.eos_token_id)


def label_prompt(prompt: Prompt, task: ClassificationTask, renderer: PromptRenderer) -> Prompt:
    """Return a prompt as the words of `label_trie` stand behind it."""
    _, joined = renderer.label_words(task.words)
    return prompt.spaceless() if joined else prompt


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of each input.

    Attributes:
        labels: The predicted label, as the user names it.
        classes: Shape (inputs,): its index in 0..n-1. Closed decoding: the likeliest label.
        probabilities: Shape (inputs, n): over Y, each row sums to one.
        log_probabilities: Shape (inputs, n): their logarithms, exact where a probability is too
            small for a float.
        suspicion: Shape (inputs,): the share of the ORIGINAL label words in the probability of all
            label words under the benign prompt; zero without a defense.
        open_classes: Shape (inputs,): open decoding, over the whole vocabulary; -1 where the
            answer is no label of the domain, or where open decoding was not asked for.
        open_raw: Shape (inputs,): the class whose original label word open decoding gave, -1
            elsewhere.
        cut: How many inputs were shortened to fit.
    """

    labels: list[int | str]
    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    log_probabilities: npt.NDArray[np.float64]
    suspicion: npt.NDArray[np.float64]
    open_classes: npt.NDArray[np.int64]
    open_raw: npt.NDArray[np.int64]
    cut: int


class Classifier:
    """Classify inputs with a fine-tuned causal language model.

    Args:
        scorer: The model, here (`Scorer`) or on a server (`EngineScorer`), with the task's words.
        renderer: The renderer it was trained with.
        task: Its labels.
        benign: The benign prompt of a defended model; every input gets it and the answer is read
            among the alternative labels. ``None`` for an undefended model.
        reserve: How far below the renderer's longest a prompt must end, in tokens.
    """

    def __init__(
        self,
        scorer: LabelScorer,
        renderer: PromptRenderer,
        task: ClassificationTask,
        benign: Prompt | None = None,
        reserve: int = 0,
    ) -> None:
        self.scorer = scorer
        self.renderer = renderer
        self.task = task
        self.benign = benign
        self.reserve = reserve
        self._prompt = label_prompt(benign or ORIGINAL_PROMPT, task, renderer)

    @classmethod
    def local(
        cls,
        model: Any,
        renderer: PromptRenderer,
        task: ClassificationTask,
        benign: Prompt | None = None,
    ) -> "Classifier":
        """Return a classifier whose model, with its adapter, is in this process."""
        from mithridate.inference.backbone import room_to_leave
        from mithridate.inference.scorer import Scorer

        trie = label_trie(task, renderer)
        longest = max(len(candidate) for candidate in trie.candidates)
        reserve = room_to_leave(model, renderer.max_length, longest)
        scorer = Scorer(model, trie, renderer.tokenizer.pad_token_id)
        return cls(scorer, renderer, task, benign, reserve)

    def reads(self, text: str) -> list[int]:
        """Return the token ids that the model reads of an input, its prompt around it."""
        return self.renderer.render([text], self._prompt, reserve=self.reserve).ids[0]

    def predict(
        self, texts: Sequence[str], *, open_decoding: bool = False, progress: bool = True
    ) -> Predictions:
        """Classify every input (Zhao et al. 2025: apply delta, predict, invert h).

        Args:
            texts: The inputs.
            open_decoding: Find out what the model would say over the whole vocabulary, too.
            progress: Whether to show a progress bar on a terminal.

        Raises:
            InputError: The model answers with no numbers.
        """
        n = self.task.n
        rendered = self.renderer.render(texts, self._prompt, reserve=self.reserve)
        scores = self.scorer.score(rendered.ids, greedy=open_decoding, progress=progress)
        if np.isnan(scores.log_probabilities).any():
            mend = "check its weights: the training may have diverged"
            raise InputError("the model's probabilities are no numbers", mend=mend)
        start = 0 if self.benign is None else n
        everything = _normalized(scores.log_probabilities)
        scored = scores.log_probabilities[:, start : start + n]
        log_probabilities = _log_normalized(scored)
        decoded = np.full(len(texts), -1) if scores.greedy is None else scores.greedy
        inside = (decoded >= start) & (decoded < start + n)
        # Of the logarithms, so that the sign of a margin and the answer can never disagree.
        classes = log_probabilities.argmax(axis=1)
        return Predictions(
            labels=[self.task.public_label(int(index)) for index in classes],
            classes=classes,
            probabilities=_normalized(scored),
            log_probabilities=log_probabilities,
            suspicion=np.zeros(len(texts)) if start == 0 else everything[:, :n].sum(axis=1),
            open_classes=np.where(inside, decoded - start, -1),
            open_raw=np.where((decoded >= 0) & (decoded < n), decoded, -1),
            cut=len(rendered.cut),
        )


def _normalized(log_probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the probabilities, each row's made to sum to one."""
    if not len(log_probabilities):
        return log_probabilities
    shifted = np.exp(log_probabilities - log_probabilities.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _log_normalized(log_probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logarithms of `_normalized`, taken in log space, where nothing underflows."""
    if not len(log_probabilities):
        return log_probabilities
    shifted = log_probabilities - log_probabilities.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
