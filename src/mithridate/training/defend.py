"""The main job: a data set of unknown provenance in, a defended model out."""

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.features import pooled_states
from mithridate.defense.manifest import DefenseManifest, ModelFacts, file_sha256, make_manifest
from mithridate.defense.prepare import FeatureExtractor, Prepared, prepare
from mithridate.defense.repoison import Example
from mithridate.defense.secret import Secret
from mithridate.inference.backbone import Backbone
from mithridate.inference.classifier import Classifier, label_trie
from mithridate.inference.defended import ADAPTER_WEIGHTS, DefendedModel
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import ORIGINAL_PROMPT, Prompt, PromptRenderer, PromptStyle
from mithridate.training.config import TrainingConfig
from mithridate.training.finetune import Training, fine_tune
from mithridate.training.samples import tokenize


@dataclass(frozen=True)
class Fitted:
    """A fine-tuned classifier and how it came about.

    Attributes:
        classifier: Ready to predict.
        training: Losses and seconds.
        cut: Training inputs that were shortened to fit.
        seconds: Wall-clock time, tokenizing included.
    """

    classifier: Classifier
    training: Training
    cut: int
    seconds: float


@dataclass(frozen=True)
class Defense:
    """A finished defense.

    Attributes:
        model: The defended model.
        prepared: D* and what was found on the way to it.
        fitted: The training.
        probe_seconds: Time the choice of S took.
    """

    model: DefendedModel
    prepared: Prepared
    fitted: Fitted
    probe_seconds: float


def feature_extractor(
    backbone: Backbone, renderer: PromptRenderer, *, layer: int | None = None, quiet: bool = False
) -> FeatureExtractor:
    """Return the judge's eyes: rows under the original prompt, mean-pooled at a middle layer."""

    def extract(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return pooled_states(
            backbone.model,
            renderer.render(texts, ORIGINAL_PROMPT).ids,
            layer=layer,
            pad_token_id=backbone.tokenizer.pad_token_id,
            progress=not quiet,
        )

    return extract


def fit(
    backbone: Backbone,
    examples: Sequence[Example],
    task: ClassificationTask,
    benign: Prompt | None,
    config: TrainingConfig,
    *,
    work_folder: Path,
    dev: Sequence[Row] = (),
    prompt_style: PromptStyle = "plain",
    quiet: bool = False,
    **options: Any,
) -> Fitted:
    """Fine-tune a classifier on D*, or on D where nothing is re-poisoned.

    Args:
        backbone: A freshly loaded base model.
        examples: D*.
        task: The labels.
        benign: The benign prompt; ``None`` trains an undefended model.
        config: The settings.
        work_folder: For checkpoints.
        dev: Rows to choose the best epoch by, for ``config.best_epoch``.
        prompt_style: How prompts are wrapped.
        quiet: Show no progress.
        options: Passed on to `fine_tune`.
    """
    started = time.monotonic()
    renderer = PromptRenderer(backbone.tokenizer, max_length=config.max_length, style=prompt_style)
    trie = label_trie(task, backbone.tokenizer)
    tokenized = tokenize(examples, task, benign, renderer, trie)

    def dev_accuracy(model: Any) -> float:
        predicted = Classifier.local(model, renderer, task, benign).predict(
            [row.text for row in dev], progress=not quiet
        )
        return float((predicted.classes == np.asarray(task.classes(dev))).mean())

    training = fine_tune(
        backbone,
        tokenized.samples,
        config,
        work_folder=work_folder,
        accuracy=dev_accuracy if dev else None,
        quiet=quiet,
        **options,
    )
    classifier = Classifier.local(training.model, renderer, task, benign)
    return Fitted(classifier, training, tokenized.cut, time.monotonic() - started)


def defend(
    rows: Sequence[Row],
    backbone: Backbone,
    task: ClassificationTask,
    *,
    p2p: P2PConfig,
    training: TrainingConfig,
    secret: Secret,
    work_folder: Path,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    dev: Sequence[Row] = (),
    prompt_style: PromptStyle = "plain",
    quiet: bool = False,
    **options: Any,
) -> Defense:
    """Re-poison a data set and fine-tune a model on it (Zhao et al. 2025, algorithm 1).

    Args:
        rows: D, of unknown provenance.
        backbone: A freshly loaded base model.
        task: The labels.
        p2p: Settings of the re-poisoning.
        training: Settings of the fine-tuning.
        secret: The deployment's secret.
        work_folder: For checkpoints.
        trusted: Ids of rows a person checked.
        clean_ids: For oracle selection, benchmarks only.
        dev: Rows to choose the best epoch by.
        prompt_style: How prompts are wrapped.
        quiet: Show no progress.
        options: Passed on to `fine_tune`.

    Raises:
        InputError: See `prepare` and `fine_tune`.
    """
    started = time.monotonic()
    renderer = PromptRenderer(
        backbone.tokenizer, max_length=training.max_length, style=prompt_style
    )
    prepared = prepare(
        rows,
        task,
        p2p,
        secret,
        features=feature_extractor(backbone, renderer, quiet=quiet),
        trusted=trusted,
        clean_ids=clean_ids,
    )
    probe_seconds = time.monotonic() - started
    fitted = fit(
        backbone,
        prepared.examples,
        task,
        prepared.benign,
        training,
        work_folder=work_folder,
        dev=dev,
        prompt_style=prompt_style,
        quiet=quiet,
        **options,
    )
    manifest = make_manifest(
        rows,
        task,
        p2p,
        secret,
        prepared,
        prompt_style=prompt_style,
        max_length=training.max_length,
        model=ModelFacts(
            reference=backbone.reference,
            fingerprint=backbone.fingerprint,
            precision=backbone.precision,
        ),
    )
    return Defense(DefendedModel(fitted.classifier, manifest), prepared, fitted, probe_seconds)


def save(defense: Defense, folder: Path) -> DefenseManifest:
    """Write adapter and manifest into a folder, the manifest last.

    Returns:
        The manifest as written, with the adapter's hash.
    """
    defense.fitted.training.model.save_pretrained(str(folder), safe_serialization=True)
    manifest = defense.model.manifest
    facts = manifest.model
    if facts is not None:
        facts = facts.model_copy(update={"adapter_sha256": file_sha256(folder / ADAPTER_WEIGHTS)})
    manifest = manifest.model_copy(update={"model": facts})
    manifest.save(folder)
    return manifest
