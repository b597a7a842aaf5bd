"""What a defense works with in the matrix (`mithridate.baselines.base.Workbench`)."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.baselines.base import Guarded, Kind
from mithridate.bench.models import LabelModel, TextModel, TrainedModel, text_examples
from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.prepare import prepare
from mithridate.defense.prepare_text import prepare_text
from mithridate.defense.repoison import repoison
from mithridate.defense.secret import Secret
from mithridate.inference.backbone import Backbone, Precision, load_backbone
from mithridate.inference.likelihood import answer_log_probabilities
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import PromptRenderer
from mithridate.tasks.text import TextTask
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import defend, feature_extractor, fit
from mithridate.training.defend_text import defend_text, fit_text, frozen_likelihood

Undefended = Callable[[Callable[[], Any]], Any]
"""Returns the undefended model with its adapter: what training it gives, or the one kept."""


@dataclass(frozen=True, kw_only=True)
class Bench(ABC):
    """What a defender has.

    Attributes:
        model: A folder or hub id.
        rows: D, poisoned.
        trusted: Rows of D that a person checked.
        training: The settings of the fine-tuning.
        secret: The defender's.
        clean_ids: The ids of the rows that are not poisoned, for oracle selection alone.
        shared: Keeps the undefended model for all cells that need it.
        precision: The dtype to train and evaluate in.
    """

    model: str
    rows: Sequence[Row]
    trusted: Sequence[Row]
    training: TrainingConfig
    secret: Secret
    clean_ids: frozenset[str]
    shared: Undefended
    precision: Precision = "auto"

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Whether answers are labels or text."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels; none where answers are text."""
        return ()

    @property
    def key(self) -> bytes:
        """What a defense draws by."""
        return self.secret.derive("defense")

    @cached_property
    def base(self) -> TrainedModel:
        """The frozen base model."""
        return self._model(self._load().model)

    def undefended(self) -> TrainedModel:
        """Return the model trained on D as it is: trained once, shared, not to be changed."""
        return self._undefended

    def fit(self, rows: Sequence[Row]) -> TrainedModel:
        """Return a model trained on rows as the undefended one is on D."""
        with tempfile.TemporaryDirectory(prefix="mithridate-") as folder:
            return self._model(self._trained(rows, Path(folder)))

    @abstractmethod
    def protect(self, config: P2PConfig) -> Guarded:
        """Return P2P's defended model."""

    @abstractmethod
    def select(self, config: P2PConfig) -> frozenset[str]:
        """Return the ids of the benign subset S that P2P would re-poison."""

    def log_likelihoods(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return log p(text) under the frozen base model in nats per token, shape (texts,)."""
        tokenizer = self.base.tokenizer
        first = tokenizer.bos_token_id
        first = tokenizer.eos_token_id if first is None else first
        limit = self.training.max_length
        encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        pairs = [([first], ids[:limit]) for ids in encoded]
        found = answer_log_probabilities(
            self.base.module, pairs, tokenizer.pad_token_id, progress=False
        )
        return np.asarray(found / np.array([max(1, len(ids)) for _, ids in pairs]))

    @abstractmethod
    def utility(self, answers: Sequence[str], rows: Sequence[Row]) -> float:
        """Return how good answers to rows are, 0 to 1: accuracy, or the mean of the task's own."""

    @cached_property
    def _undefended(self) -> TrainedModel:
        def train() -> Any:
            with tempfile.TemporaryDirectory(prefix="mithridate-") as folder:
                return self._trained(self.rows, Path(folder))

        return self._model(self.shared(train))

    def _load(self) -> Backbone:
        return load_backbone(self.model, precision=self.precision)

    def _renderer(self, backbone: Backbone) -> PromptRenderer:
        return PromptRenderer(backbone.tokenizer, max_length=self.training.max_length)

    @cached_property
    def _reader(self) -> PromptRenderer:
        """The renderer of every model here: all have the base model's tokenizer."""
        return self._renderer(self._load())

    def _trusted(self, config: P2PConfig) -> frozenset[str]:
        """Return the trusted rows, to anchored selection alone."""
        ids = frozenset(row.id for row in self.trusted)
        return ids if config.selection == "anchored" else frozenset()

    def _clean(self, config: P2PConfig) -> frozenset[str] | None:
        return self.clean_ids if config.selection == "oracle" else None

    @abstractmethod
    def _model(self, module: Any) -> TrainedModel:
        """Return a model as defenses see it."""

    @abstractmethod
    def _trained(self, rows: Sequence[Row], folder: Path) -> Any:
        """Train on rows, nothing re-poisoned."""


@dataclass(frozen=True, kw_only=True)
class LabelBench(Bench):
    """A workbench whose answers are labels.

    Attributes:
        task: The labels.
    """

    task: ClassificationTask

    kind = "labels"

    @property
    def labels(self) -> Sequence[str]:
        """The labels."""
        return self.task.labels

    def protect(self, config: P2PConfig) -> Guarded:
        """Return P2P's defended model."""
        with tempfile.TemporaryDirectory(prefix="mithridate-") as folder:
            defense = defend(
                self.rows,
                self._load(),
                self.task,
                p2p=config,
                training=self.training,
                secret=self.secret,
                work_folder=Path(folder),
                trusted=self._trusted(config),
                clean_ids=self._clean(config),
                quiet=True,
            )

        def answer(texts: Sequence[str]) -> list[str | None]:
            return [str(label) for label in defense.model.predict(texts).labels]

        def probabilities(texts: Sequence[str]) -> npt.NDArray[np.float64]:
            return defense.model.predict(texts).probabilities

        prepared = defense.prepared
        return Guarded(
            answer,
            len(prepared.examples),
            frozenset(prepared.subset.ids),
            probabilities=probabilities,
        )

    def select(self, config: P2PConfig) -> frozenset[str]:
        """Return the ids of the benign subset S that P2P would re-poison."""
        backbone = self._load()
        prepared = prepare(
            self.rows,
            self.task,
            config,
            self.secret,
            features=feature_extractor(backbone, self._renderer(backbone), quiet=True),
            trusted=self._trusted(config),
            clean_ids=self._clean(config),
        )
        return frozenset(prepared.subset.ids)

    def utility(self, answers: Sequence[str], rows: Sequence[Row]) -> float:
        """Return the share of answers that are the row's own label."""
        right = [answer == row.answer for answer, row in zip(answers, rows, strict=True)]
        return float(np.mean(right))

    def _model(self, module: Any) -> LabelModel:
        return LabelModel(module, self._reader, self.task)

    def _trained(self, rows: Sequence[Row], folder: Path) -> Any:
        examples = list(repoison(rows, frozenset(), self.task, "replace"))
        fitted = fit(
            self._load(), examples, self.task, None, self.training, work_folder=folder, quiet=True
        )
        return fitted.training.model


@dataclass(frozen=True, kw_only=True)
class TextBench(Bench):
    """A workbench whose answers are text.

    Attributes:
        task: The task.
    """

    task: TextTask

    kind = "text"

    def protect(self, config: P2PConfig) -> Guarded:
        """Return P2P's defended model."""
        with tempfile.TemporaryDirectory(prefix="mithridate-") as folder:
            defense = defend_text(
                self.rows,
                self._load(),
                self.task,
                p2p=config,
                training=self.training,
                secret=self.secret,
                work_folder=Path(folder),
                trusted=self._trusted(config),
                clean_ids=self._clean(config),
                quiet=True,
            )

        def answer(texts: Sequence[str]) -> list[str | None]:
            return [*defense.fitted.answerer.answer(texts, progress=False).texts]

        prepared = defense.prepared
        return Guarded(answer, len(prepared.examples), frozenset(prepared.subset.ids))

    def select(self, config: P2PConfig) -> frozenset[str]:
        """Return the ids of the benign subset S that P2P would re-poison."""
        backbone = self._load()
        prepared = prepare_text(
            self.rows,
            self.task,
            config,
            self.secret,
            likelihood=frozen_likelihood(backbone, self._renderer(backbone), quiet=True),
            trusted=self._trusted(config),
            clean_ids=self._clean(config),
        )
        return frozenset(prepared.subset.ids)

    def utility(self, answers: Sequence[str], rows: Sequence[Row]) -> float:
        """Return the mean of the task's own measure."""
        return float(np.mean(self.task.utilities(answers, [self.task.target(row) for row in rows])))

    def _model(self, module: Any) -> TextModel:
        return TextModel(module, self._reader, self.task)

    def _trained(self, rows: Sequence[Row], folder: Path) -> Any:
        fitted = fit_text(
            self._load(),
            text_examples(rows, self.task),
            self.task,
            None,
            self.training,
            work_folder=folder,
            quiet=True,
        )
        return fitted.training.model
