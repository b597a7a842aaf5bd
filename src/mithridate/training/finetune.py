"""LoRA fine-tuning of a base model on tokenized examples."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from mithridate.data.write import write_text_atomic
from mithridate.errors import InputError
from mithridate.inference.attention import packs
from mithridate.inference.backbone import Backbone, check_context
from mithridate.inference.features import decoder_layers
from mithridate.inference.forward import fast_forward
from mithridate.training.checkpoints import newest_checkpoint
from mithridate.training.config import TrainingConfig
from mithridate.training.distributed import (
    check_launch,
    engine,
    from_main,
    process_count,
    together,
    whole_adapter,
)
from mithridate.training.sampler import FilledDataset
from mithridate.training.trainer import AnswerCollator, AnswerTrainer, Sample, SampleDataset

RUN_FILE = "run.sha256"
"""Beside the checkpoints: the hash of what they belong to."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What fine-tuning left.

    Attributes:
        model: The base model with its adapter, in evaluation mode.
        losses: Mean training loss at every logged step.
        seconds: Wall-clock time of the training loop.
        tokens: Prompt and answer tokens fed, padding not counted.
        dev: What the quality on dev rows was after each epoch, of which the best was kept; empty
            where none was asked for.
        adapter: The adapter's whole weights, where those of ``model`` lie in pieces on several
            devices; ``None`` where they do not.
    """

    model: Any
    losses: list[float]
    seconds: float
    tokens: int
    dev: list[float]
    adapter: dict[str, torch.Tensor] | None = None


def fine_tune(
    backbone: Backbone,
    samples: Sequence[Sample],
    config: TrainingConfig,
    *,
    work_folder: Path,
    quality: Callable[[Any], float] | None = None,
    checkpoints: bool = False,
    quiet: bool = False,
    report_to: str = "none",
) -> Training:
    """Fine-tune a LoRA adapter; the base model's own weights stay frozen.

    Args:
        backbone: The base model. It is wrapped, not copied: give a fresh one to every call.
        samples: Tokenized examples, in any order.
        config: The settings.
        work_folder: Where checkpoints go. A checkpoint found there is resumed from.
        quality: Maps the model to how good it is on dev rows (accuracy, or log likelihood), for
            ``config.best_epoch``; more is better.
        checkpoints: Save one after every epoch.
        quiet: Show no progress bar.
        report_to: A logging integration of the Trainer.

    Raises:
        InputError: The model has none of the target modules or cannot recompute activations, a row
            is longer than its context, the work folder holds a checkpoint of other rows, settings
            or another base model, or accelerate was told to launch what cannot be done.
    """
    measured = quality if config.best_epoch else None
    together(
        lambda: check_launch(
            batch_size=config.batch_size,
            best_epoch=measured is not None,
            quantization=backbone.quantization,
        )
    )
    checkpoint = from_main(
        lambda: _own_checkpoint(work_folder, _identity(backbone, samples, config))
    )
    longest = max(len(sample.prompt) + len(sample.answer) for sample in samples)
    together(lambda: check_context(backbone.model, longest, "a row with its answer"))
    set_seed(config.seed)
    model = together(lambda: with_adapter(backbone.model, config))
    packing = packs(model)
    dataset = SampleDataset(samples)
    trainer = AnswerTrainer(
        model=model,
        args=_arguments(
            config,
            len(samples),
            work_folder,
            hidden_size=backbone.model.config.get_text_config().hidden_size,
            checkpoints=checkpoints,
            best_epoch=measured is not None,
            report_to=report_to,
        ),
        train_dataset=FilledDataset(dataset) if process_count() > 1 else dataset,
        eval_dataset=dataset if measured else None,
        data_collator=AnswerCollator(backbone.tokenizer.pad_token_id, packing, model.dtype),
        processing_class=backbone.tokenizer,
        callbacks=[TrainingBar(quiet)],
        quality=measured,
        last=_last(samples) if config.last_stage else (),
    )
    trainer.remove_callback(PrinterCallback)
    with fast_forward(model):
        output = trainer.train(resume_from_checkpoint=checkpoint)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = whole_adapter(trainer.model)
    together(lambda: _check_finite(model, weights, config))
    tokens = config.epochs * sum(len(row.prompt) + len(row.answer) - 1 for row in samples)
    return Training(
        model.eval(),
        losses,
        float(output.metrics["train_runtime"]),
        tokens,
        [entry["eval_quality"] for entry in trainer.state.log_history if "eval_quality" in entry],
        weights,
    )


def _check_finite(model: Any, whole: dict[str, Any] | None, config: TrainingConfig) -> None:
    """Refuse a model that training drove to no numbers: it would answer, and mean nothing.

    Args:
        model: With its adapter.
        whole: The adapter's weights, where the model's own lie in pieces.
        config: The settings.
    """
    own = (weight.detach() for weight in model.parameters() if weight.requires_grad)
    if not all(bool(torch.isfinite(weight).all()) for weight in (whole or {}).values() or own):
        rate = config.learning_rate_for(model.config.get_text_config().hidden_size)
        raise InputError(
            f"the training diverged at a learning rate of {rate:g}: its weights are no numbers",
            mend="lower the learning rate (--learning-rate)",
        )


def _last(samples: Sequence[Sample]) -> list[int]:
    """Return where the re-poisoned samples stand."""
    return [index for index, sample in enumerate(samples) if sample.repoisoned]


def with_adapter(model: Any, config: TrainingConfig) -> Any:
    """Wrap a model with a fresh LoRA adapter.

    A quantized model needs no more than this. PEFT's `prepare_model_for_kbit_training` would also
    turn norms, embeddings and head to float32 (4 GB of an 8B model), so that training would see
    another model than the one served; that helps float16, and we compute in bfloat16 or float32.
    """
    width = model.config.get_text_config().hidden_size
    if config.checkpoints_gradients(width) and not model.supports_gradient_checkpointing:
        raise InputError(
            f"{type(model).__name__} cannot recompute activations",
            where="--gradient-checkpointing",
            mend="give --no-gradient-checkpointing; a smaller --micro-batch-size saves memory too",
        )
    modules: str | list[str] = list(config.target_modules)
    if modules == ["all-linear"]:
        # PEFT knows the word, but not together with a choice of layers.
        modules = "all-linear" if config.layers is None else _linear(model)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules,
        layers_to_transform=_layers(model, config.layers),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        raise InputError(
            f"the model has no layers named {', '.join(config.target_modules)}",
            mend="name its attention layers with --target-modules, or all-linear",
        ) from error


def _layers(model: Any, layers: tuple[int, int] | None) -> list[int] | None:
    """Return the numbers of the layers that get an adapter; ``None`` for all.

    Raises:
        InputError: The model has no such layers.
    """
    if layers is None:
        return None
    count = len(decoder_layers(model))
    first, end = layers
    if not 0 <= first < end <= count:
        raise InputError(
            f"there are no layers {first} to {end - 1}: the model has {count}",
            mend=f"give a first layer and an end between 0 and {count}",
        )
    return list(range(first, end))


def _linear(model: Any) -> list[str]:
    """Return the names of a decoder layer's linear modules."""
    names = {
        name.rpartition(".")[2]
        for layer in decoder_layers(model)
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return sorted(names)


def _arguments(
    config: TrainingConfig,
    rows: int,
    work_folder: Path,
    *,
    hidden_size: int,
    checkpoints: bool,
    best_epoch: bool,
    report_to: str,
) -> TrainingArguments:
    """Translate the settings into the Trainer's."""
    per_process = config.batch_size // process_count()
    # The largest size that divides the batch, or accumulation would drop rows of it.
    limit = min(config.micro_batch_size or per_process, per_process)
    micro = next(size for size in range(limit, 0, -1) if per_process % size == 0)
    steps = -(-rows // config.batch_size) * config.epochs
    arguments = TrainingArguments(
        output_dir=str(work_folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, per_process // micro),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate_for(hidden_size),
        gradient_checkpointing=config.checkpoints_gradients(hidden_size),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        lr_scheduler_type=config.schedule,
        warmup_steps=round(config.warmup_ratio * steps),
        logging_steps=10,
        save_strategy="epoch" if checkpoints or best_epoch else "no",
        save_total_limit=2,
        eval_strategy="epoch" if best_epoch else "no",
        load_best_model_at_end=best_epoch,
        metric_for_best_model="eval_quality" if best_epoch else None,
        greater_is_better=True if best_epoch else None,
        disable_tqdm=True,
        report_to=report_to,
        remove_unused_columns=False,
        # Every process feeds every adapter: to look for those without a gradient costs a pass.
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=config.seed,
        log_level="error",
        logging_nan_inf_filter=False,  # it would show a loss that is no number as 0
    )
    # Several GPUs are `accelerate launch`'s; torch's DataParallel would cut packed batches up.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _identity(backbone: Backbone, samples: Sequence[Sample], config: TrainingConfig) -> str:
    """Return the hash of all that a checkpoint depends on."""
    head = f"{backbone.fingerprint} {backbone.quantization} {engine()} {config.model_dump_json()}"
    digest = hashlib.sha256(head.encode())
    for sample in samples:
        digest.update(repr((sample.prompt, sample.answer)).encode())
    return digest.hexdigest()


def _own_checkpoint(folder: Path, identity: str) -> str | None:
    """Return the checkpoint to resume from, and leave the run's identity beside it."""
    newest = newest_checkpoint(folder)
    checkpoint = None if newest is None else str(newest)
    path = folder / RUN_FILE
    if checkpoint and (not path.is_file() or path.read_text().strip() != identity):
        raise InputError(
            "the work folder holds a checkpoint of another run",
            where=checkpoint,
            mend="remove it, or give another work folder",
        )
    if checkpoint is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, identity + "\n")
    return checkpoint


class TrainingBar(TrainerCallback):  # type: ignore[misc]
    """One progress bar with time left and the current loss, in place of printed log entries."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar; a resumed run starts where it left off."""
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="Training",
                unit="step",
                disable=True if self.quiet else None,
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar by one optimizer step."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
