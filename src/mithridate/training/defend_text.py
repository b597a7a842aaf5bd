"""The main job where answers are text: rows of unknown provenance in, a defended model out."""

import time
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.data.rows import Row
from mithridate.defense.association import Association
from mithridate.defense.config import P2PConfig
from mithridate.defense.manifest import ModelFacts, make_text_manifest
from mithridate.defense.prepare import NOTHING_FOUND, Findings
from mithridate.defense.prepare_text import (
    Likelihood,
    PreparedText,
    TextChoice,
    carry_out_text,
    choose_text,
)
from mithridate.defense.secret import Secret
from mithridate.defense.select import Subset
from mithridate.defense.text import TextExample
from mithridate.inference.answerer import Answerer, Protection
from mithridate.inference.backbone import Backbone, check_context, check_room
from mithridate.inference.defended_text import DefendedAnswerer
from mithridate.inference.likelihood import answer_log_probabilities
from mithridate.tasks.prompt import ORIGINAL_TEXT_PROMPT, PromptRenderer, PromptStyle
from mithridate.tasks.text import TextTask
from mithridate.training.config import TrainingConfig
from mithridate.training.distributed import (
    from_main,
    is_main,
    process_count,
    process_index,
    start,
    summed,
    together,
)
from mithridate.training.finetune import Training, fine_tune
from mithridate.training.samples import tokenize_text


@dataclass(frozen=True)
class FittedText:
    """A fine-tuned model and how it came about.

    Attributes:
        answerer: Ready to answer.
        training: Losses and seconds.
        cut: Training inputs that were shortened to fit.
        cut_answers: Training answers that were.
        seconds: Wall-clock time, tokenizing included.
    """

    answerer: Answerer
    training: Training
    cut: int
    cut_answers: int
    seconds: float


@dataclass(frozen=True)
class TextDefense:
    """A finished defense.

    Attributes:
        model: The defended model.
        prepared: D* and what was found on the way to it.
        fitted: The training.
        judge_seconds: Time the choice of S took.
    """

    model: DefendedAnswerer
    prepared: PreparedText
    fitted: FittedText
    judge_seconds: float


def frozen_likelihood(
    backbone: Backbone, renderer: PromptRenderer, *, quiet: bool = False
) -> Likelihood:
    """Return the judge's eyes: what the frozen base model thinks of an answer after an input.

    Args:
        backbone: The base model, before it is fine-tuned.
        renderer: Prompt and answer share its longest prompt, as in training.
        quiet: Show no progress.

    Raises:
        InputError: The longest prompt is longer than the model's context.
    """
    check_context(backbone.model, renderer.max_length, "the longest prompt")
    tokenizer = renderer.tokenizer
    half = renderer.longest_answer

    def likelihood(texts: Sequence[str], answers: Sequence[str]) -> npt.NDArray[np.float64]:
        prompts = renderer.render(texts, ORIGINAL_TEXT_PROMPT, reserve=half).ids
        encoded = renderer.answers(answers)
        pairs = [(prompt, ids[:half]) for prompt, ids in zip(prompts, encoded, strict=True)]
        return answer_log_probabilities(
            backbone.model, pairs, tokenizer.pad_token_id, progress=not quiet
        )

    return likelihood


def fit_text(
    backbone: Backbone,
    examples: Sequence[TextExample],
    task: TextTask,
    protection: Protection | None,
    config: TrainingConfig,
    *,
    work_folder: Path,
    dev: Sequence[Row] = (),
    prompt_style: PromptStyle = "plain",
    quiet: bool = False,
    **options: Any,
) -> FittedText:
    """Fine-tune a model on D*, or on D where nothing is re-poisoned.

    Args:
        backbone: A freshly loaded base model.
        examples: D*.
        task: Says how long an answer may become.
        protection: The benign prompt and p; ``None`` trains an undefended model.
        config: The settings; ``max_length`` is of prompt and answer together.
        work_folder: For checkpoints.
        dev: Rows to choose the best epoch by, for ``config.best_epoch``: that which finds their
            answers likeliest, by the mean log p(answer | input) per token, in nats.
        prompt_style: How prompts are wrapped.
        quiet: Show no progress.
        options: Passed on to `fine_tune`.

    Raises:
        InputError: See `tokenize_text` and `fine_tune`.
    """
    start()
    started = time.monotonic()
    renderer = PromptRenderer(backbone.tokenizer, max_length=config.max_length, style=prompt_style)
    benign, prefix = (protection.prompt, protection.prefix) if protection else (None, "")
    behind = task.max_new_tokens + len(renderer.answers([prefix])[0])
    together(lambda: check_room(backbone.model, config.max_length, behind))
    tokenized = together(lambda: tokenize_text(examples, benign, prefix, renderer))

    def answerer_of(model: Any) -> Answerer:
        return Answerer.local(
            model, renderer, max_new_tokens=task.max_new_tokens, protection=protection
        )

    def dev_log_likelihood(model: Any) -> float:
        share = dev[process_index() :: process_count()]
        found = answerer_of(model).log_likelihoods(
            [row.text for row in share],
            [task.target(row) for row in share],
            progress=not quiet and is_main(),
        )
        return summed(float(found.sum())) / len(dev)

    training = fine_tune(
        backbone,
        tokenized.samples,
        config,
        work_folder=work_folder,
        quality=dev_log_likelihood if dev else None,
        quiet=quiet,
        **options,
    )
    answerer = answerer_of(training.model)
    seconds = time.monotonic() - started
    return FittedText(answerer, training, tokenized.cut, tokenized.cut_answers, seconds)


def defend_text(
    rows: Sequence[Row],
    backbone: Backbone,
    task: TextTask,
    *,
    p2p: P2PConfig,
    training: TrainingConfig,
    secret: Secret,
    work_folder: Path,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    likelihood: Likelihood | None = None,
    findings: Findings = NOTHING_FOUND,
    dev: Sequence[Row] = (),
    prompt_style: PromptStyle = "plain",
    quiet: bool = False,
    **options: Any,
) -> TextDefense:
    """Re-poison a data set whose answers are text and fine-tune a model on it.

    Args:
        rows: D, of unknown provenance; rows that the task can use.
        backbone: A freshly loaded base model.
        task: The task.
        p2p: Settings of the re-poisoning.
        training: Settings of the fine-tuning.
        secret: The deployment's secret.
        work_folder: For checkpoints.
        trusted: Ids of rows a person checked.
        clean_ids: For oracle selection, benchmarks only.
        likelihood: The judge's eyes; by default the base model's (`frozen_likelihood`).
        findings: Rows to keep out of S, and triggers to counter.
        dev: Rows to choose the best epoch by; see `fit_text`.
        prompt_style: How prompts are wrapped.
        quiet: Show no progress.
        options: Passed on to `fine_tune`.

    Raises:
        InputError: See `prepare_text`, `fit_text`.
    """
    start()
    started = time.monotonic()
    renderer = PromptRenderer(
        backbone.tokenizer, max_length=training.max_length, style=prompt_style
    )
    # `fit_text` asks again, with the safe prefix; this spares the judge an hour for nothing.
    together(lambda: check_room(backbone.model, training.max_length, task.max_new_tokens))

    def chosen() -> dict[str, Any]:
        choice = choose_text(
            rows,
            task,
            p2p,
            secret,
            likelihood=likelihood or frozen_likelihood(backbone, renderer, quiet=quiet),
            trusted=trusted,
            clean_ids=clean_ids,
            findings=findings,
        )
        return {
            "subset": {**asdict(choice.subset), "ids": sorted(choice.subset.ids)},
            "found": [asdict(one) for one in choice.found],
            "dropped": sorted(choice.dropped),
        }

    told = from_main(chosen)  # one process judges, so that no rounding can make two D*
    subset = Subset(**{**told["subset"], "ids": frozenset(told["subset"]["ids"])})
    found = [Association(**one) for one in told["found"]]
    choice = TextChoice(subset, found, frozenset(told["dropped"]))
    prepared = together(lambda: carry_out_text(choice, rows, task, p2p, secret, findings.triggers))
    judge_seconds = time.monotonic() - started
    protection = Protection(prepared.benign, prepared.prefix)
    fitted = fit_text(
        backbone,
        prepared.examples,
        task,
        protection,
        training,
        work_folder=work_folder,
        dev=dev,
        prompt_style=prompt_style,
        quiet=quiet,
        **options,
    )
    manifest = make_text_manifest(
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
    model = DefendedAnswerer(fitted.answerer, manifest)
    return TextDefense(model, prepared, fitted, judge_seconds)
