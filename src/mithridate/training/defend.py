"""The main job: a data set of unknown provenance in, a defended model out."""

import hashlib
import hmac
import json
import time
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.manifest import DefenseManifest, ModelFacts, file_sha256, make_manifest
from mithridate.defense.mining import MinedTrigger
from mithridate.defense.prepare import (
    NOTHING_FOUND,
    Choice,
    FeatureExtractor,
    Findings,
    Prepared,
    carry_out,
    choose,
    needs_features,
)
from mithridate.defense.repoison import Example
from mithridate.defense.secret import Secret
from mithridate.defense.select import Subset
from mithridate.defense.text import TextExample
from mithridate.inference.backbone import Backbone, check_context
from mithridate.inference.batching import shared_prefix
from mithridate.inference.classifier import Classifier, label_trie
from mithridate.inference.defended import ADAPTER_WEIGHTS, DefendedModel
from mithridate.inference.features import Span, reading_bar, row_states
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import JUDGE_PROMPT, Prompt, PromptRenderer, PromptStyle
from mithridate.training.config import TrainingConfig
from mithridate.training.distributed import (
    from_main,
    gathered,
    is_main,
    process_count,
    process_index,
    start,
    summed,
    together,
)
from mithridate.training.finetune import Training, fine_tune
from mithridate.training.samples import tokenize

if TYPE_CHECKING:
    from mithridate.training.defend_text import TextDefense

BLOCK_ROWS = 16_384
"""Rows that the judge's eyes tokenize and read at a time."""


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
    backbone: Backbone, renderer: PromptRenderer, *, quiet: bool = False
) -> FeatureExtractor:
    """Return the judge's eyes: the frozen base model's states of rows under the judge's own prompt.

    Of several processes each reads its share; the main one, where the judge sits, gets the whole.

    Args:
        backbone: The base model.
        renderer: Whose tokenizer and longest prompt are taken; the prompt is never wrapped in a
            chat template, as the model is to go on with the sentence, not to answer.
        quiet: Show no progress.

    Raises:
        InputError: The longest prompt is longer than the model's context.
    """
    check_context(backbone.model, renderer.max_length, "the longest prompt")
    plain = PromptRenderer(renderer.tokenizer, max_length=renderer.max_length)
    samples = plain.render(["a", "b"], JUDGE_PROMPT).ids
    span = Span(shared_prefix(samples), shared_prefix([ids[::-1] for ids in samples]))

    def read(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        blocks = []
        with reading_bar(len(texts), progress=not quiet and is_main()) as bar:
            # Block by block, for the token ids of a large set take more room than its states.
            for start in range(0, max(1, len(texts)), BLOCK_ROWS):
                block = row_states(
                    backbone.model,
                    plain.render(texts[start : start + BLOCK_ROWS], JUDGE_PROMPT).ids,
                    span=span,
                    pad_token_id=backbone.tokenizer.pad_token_id,
                    bar=bar,
                )
                blocks.append(block)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    return lambda texts: gathered(read, list(texts))


def prepare_together(
    rows: Sequence[Row],
    task: ClassificationTask,
    config: P2PConfig,
    secret: Secret,
    *,
    features: FeatureExtractor,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    findings: Findings = NOTHING_FOUND,
) -> Prepared:
    """Re-poison a data set as `prepare` does, the same on every process.

    The main process alone judges and tells the others what it chose, so that no rounding of
    another processor can put a row into one D* and not into the next.
    """
    eyes = features
    if needs_features(config) and process_count() > 1:
        states = features([row.text for row in rows])

        def eyes(_texts: Sequence[str]) -> npt.NDArray[np.float32]:
            return states

    def chosen() -> dict[str, Any]:
        choice = choose(
            rows,
            task,
            config,
            secret,
            features=eyes,
            trusted=trusted,
            clean_ids=clean_ids,
            findings=findings,
        )
        subset = {**asdict(choice.subset), "ids": sorted(choice.subset.ids)}
        return {
            "subset": subset,
            "mined": [asdict(found) for found in choice.mined],
            "dropped": sorted(choice.dropped),
            "doubtful": choice.doubtful,
        }

    told = from_main(chosen)
    subset = Subset(**{**told["subset"], "ids": frozenset(told["subset"]["ids"])})
    mined = [MinedTrigger(**found) for found in told["mined"]]
    choice = Choice(subset, mined, frozenset(told["dropped"]), tuple(told["doubtful"]))
    return together(lambda: carry_out(choice, rows, task, config, secret, findings.triggers))


def examples_mac(examples: Sequence[Example | TextExample], secret: Secret) -> str:
    """Return a hash of D* by which two runs with one secret can be compared.

    It is keyed: an open hash would let a guess at S be confirmed.
    """
    mac = hmac.new(secret.derive("examples"), digestmod=hashlib.sha256)
    for example in examples:
        answer = example.label if isinstance(example, Example) else example.answer
        record = (example.id, example.text, answer, example.repoisoned)
        mac.update(json.dumps(record).encode() + b"\n")
    return mac.hexdigest()


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
    start()
    started = time.monotonic()
    renderer = PromptRenderer(backbone.tokenizer, max_length=config.max_length, style=prompt_style)
    trie = label_trie(task, renderer)
    tokenized = together(lambda: tokenize(examples, task, benign, renderer, trie))

    def dev_accuracy(model: Any) -> float:
        share = dev[process_index() :: process_count()]
        predicted = Classifier.local(model, renderer, task, benign).predict(
            [row.text for row in share], progress=not quiet and is_main()
        )
        right = (predicted.classes == np.asarray(task.classes(share), dtype=np.int64)).sum()
        return summed(float(right)) / len(dev)

    training = fine_tune(
        backbone,
        tokenized.samples,
        config,
        work_folder=work_folder,
        quality=dev_accuracy if dev else None,
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
    features: FeatureExtractor | None = None,
    findings: Findings = NOTHING_FOUND,
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
        features: The judge's eyes; by default the base model's states (`feature_extractor`).
        findings: Rows to keep out of S, and triggers to counter.
        dev: Rows to choose the best epoch by.
        prompt_style: How prompts are wrapped.
        quiet: Show no progress.
        options: Passed on to `fine_tune`.

    Raises:
        InputError: See `mithridate.defense.prepare.prepare` and `fine_tune`.
    """
    start()
    started = time.monotonic()
    renderer = PromptRenderer(
        backbone.tokenizer, max_length=training.max_length, style=prompt_style
    )
    prepared = prepare_together(
        rows,
        task,
        p2p,
        secret,
        features=features or feature_extractor(backbone, renderer, quiet=quiet),
        trusted=trusted,
        clean_ids=clean_ids,
        findings=findings,
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
            quantization=backbone.quantization,
        ),
    )
    return Defense(DefendedModel(fitted.classifier, manifest), prepared, fitted, probe_seconds)


def save(defense: "Defense | TextDefense", folder: Path) -> DefenseManifest:
    """Write adapter and manifest into a folder, the manifest last; one process is enough.

    Returns:
        The manifest as written, with the adapter's hash.
    """
    model: Any = defense.fitted.training.model
    whole = defense.fitted.training.adapter
    model.save_pretrained(str(folder), state_dict=whole, safe_serialization=True)
    manifest = defense.model.manifest
    facts = manifest.model
    if facts is not None:
        facts = facts.model_copy(update={"adapter_sha256": file_sha256(folder / ADAPTER_WEIGHTS)})
    manifest = manifest.model_copy(update={"model": facts})
    manifest.save(folder)
    return manifest
