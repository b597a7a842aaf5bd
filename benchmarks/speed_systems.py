"""One measurement of the speed benchmark, in a process of its own; prints one JSON object.

    python -m benchmarks.speed_systems train mithridate --data ../shared/data/sst2

`benchmarks.speed` calls this; every system gets the same model, rows, precision, LoRA shape, number
of epochs, learning rate and schedule, and its accuracy is measured by the same scorer afterwards.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import get_linear_schedule_with_warmup, set_seed

from benchmarks import speed_generate
from mithridate.attacks import BadNets
from mithridate.data import default_model_folder, read_rows
from mithridate.data.rows import Row
from mithridate.defense.audit import audit
from mithridate.defense.config import P2PConfig
from mithridate.defense.disputes import judge_rows
from mithridate.defense.inserted import inserted_triggers
from mithridate.defense.repoison import Example
from mithridate.defense.secret import Secret
from mithridate.inference.backbone import load_backbone
from mithridate.inference.classifier import Classifier
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import ORIGINAL_PROMPT, PromptRenderer
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import defend, feature_extractor, fit

MAX_LENGTH = 128
LORA_MODULES = ("q_proj", "v_proj")
CONFIG = TrainingConfig(
    target_modules=LORA_MODULES,
    learning_rate=2e-3,
    warmup_ratio=0.0,
    batch_size=32,
    epochs=1,
    max_length=MAX_LENGTH,
)
"""The published shape: LoRA r = alpha = 16 on q and v, batches of 32, prompts of up to 128 tokens.
The learning rate is higher, so that one epoch on a part of SST-2 learns the task."""


@dataclass
class Setting:
    """What a system is given.

    Attributes:
        backbone: The base model, fresh.
        rows: Training rows.
        task: Their labels.
        renderer: Makes the prompts.
        prompts: Token ids of the rows' prompts.
        answers: Token ids of the rows' answers, of one token each.
    """

    backbone: Any
    rows: list[Row]
    task: ClassificationTask
    renderer: PromptRenderer
    prompts: list[list[int]]
    answers: list[list[int]]


def setting(rows: list[Row], model: Path) -> Setting:
    """Load the model and tokenize the rows."""
    backbone = load_backbone(model)
    task = ClassificationTask.of(rows)
    renderer = PromptRenderer(backbone.tokenizer, max_length=MAX_LENGTH)
    prompts = renderer.render([row.text for row in rows], ORIGINAL_PROMPT).ids
    words = [task.words[index] for index in task.classes(rows)]
    answers = backbone.tokenizer(words, add_special_tokens=False)["input_ids"]
    return Setting(backbone, rows, task, renderer, prompts, answers)


def train_published(given: Setting) -> Any:
    """Train as the published code does (DESIGN.md): padded batches in shuffled order, all logits.

    LoRA is added by forward hooks on q and v.
    """
    model = given.backbone.model
    model.set_attn_implementation("sdpa")  # the default of transformers
    parameters: list[torch.nn.Parameter] = []
    torch.manual_seed(0)

    def adapt(layer: Any) -> None:
        down = torch.nn.Parameter(torch.empty(CONFIG.rank, layer.in_features))
        torch.nn.init.kaiming_uniform_(down, a=5**0.5)
        up = torch.nn.Parameter(torch.zeros(layer.out_features, CONFIG.rank))
        parameters.extend((down, up))

        def hook(_layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
            dtype = output.dtype
            return output + inputs[0] @ down.to(dtype).t() @ up.to(dtype).t()  # alpha / r = 1

        layer.register_forward_hook(hook)

    for name, layer in model.named_modules():
        if name.endswith(LORA_MODULES):
            adapt(layer)
    size = CONFIG.batch_size
    steps = -(-len(given.rows) // size) * CONFIG.epochs
    optimizer = torch.optim.AdamW(parameters, lr=CONFIG.learning_rate_for(0))
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    order = list(range(len(given.rows)))
    shuffle = random.Random(0)
    model.train()
    for _ in range(CONFIG.epochs):
        shuffle.shuffle(order)
        for start in range(0, len(order), size):
            batch = [given.prompts[i] + given.answers[i] for i in order[start : start + size]]
            longest = max(len(row) for row in batch)
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
            labels = torch.full_like(ids, -100)
            for index, row in enumerate(batch):
                labels[index, len(row) - 1] = row[-1]
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            loss = functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
            )
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return model


def train_mithridate(given: Setting) -> Any:
    """Train with our engine."""
    examples = [
        Example(row.id, row.text, label, False)
        for row, label in zip(given.rows, given.task.classes(given.rows), strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            given.backbone, examples, given.task, None, CONFIG, work_folder=Path(folder), quiet=True
        )
    return fitted.training.model


def _peft() -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=CONFIG.rank,
        lora_alpha=CONFIG.alpha,
        target_modules=list(LORA_MODULES),
        task_type="CAUSAL_LM",
    )


def _common(folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": CONFIG.batch_size,
        "num_train_epochs": CONFIG.epochs,
        "learning_rate": CONFIG.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
        "bf16": False,  # the weights are bfloat16 already, as in the other systems
    }


def train_trainer(given: Setting) -> Any:
    """Train with transformers.Trainer and PEFT as their manuals show."""
    from peft import get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    given.backbone.model.set_attn_implementation("sdpa")
    model = get_peft_model(given.backbone.model, _peft())
    data = [
        {
            "input_ids": prompt + answer,
            "attention_mask": [1] * (len(prompt) + len(answer)),
            "labels": [-100] * len(prompt) + answer,
        }
        for prompt, answer in zip(given.prompts, given.answers, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            model=model,
            args=TrainingArguments(**_common(folder)),
            train_dataset=data,
            data_collator=DataCollatorForSeq2Seq(given.backbone.tokenizer),
        ).train()
    return model


def _train_trl(given: Setting, **options: Any) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    given.backbone.model.set_attn_implementation("sdpa")
    data = Dataset.from_dict(
        {
            "input_ids": [p + a for p, a in zip(given.prompts, given.answers, strict=True)],
            "completion_mask": [
                [0] * len(p) + [1] * len(a)
                for p, a in zip(given.prompts, given.answers, strict=True)
            ],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=given.backbone.model,
            args=SFTConfig(
                **_common(folder), completion_only_loss=True, **{"max_length": MAX_LENGTH} | options
            ),
            train_dataset=data,
            processing_class=given.backbone.tokenizer,
            peft_config=_peft(),
        )
        trainer.train()
    return trainer.model


def train_trl(given: Setting) -> Any:
    """Train with TRL's SFTTrainer, loss on the completion alone."""
    return _train_trl(given)


def train_trl_padding_free(given: Setting) -> Any:
    """The same with its padding-free batches."""
    return _train_trl(given, padding_free=True, max_length=None)


TRAINERS: dict[str, Callable[[Setting], Any]] = {
    "published": train_published,
    "trainer": train_trainer,
    "trl": train_trl,
    "trl padding-free": train_trl_padding_free,
    "mithridate": train_mithridate,
}


def generate_each(given: Setting, texts: Sequence[str]) -> list[str]:
    """Answer with generate(), row by row."""
    model, tokenizer = given.backbone.model, given.backbone.tokenizer
    model.set_attn_implementation("sdpa")
    answers = []
    for ids in given.renderer.render(texts, ORIGINAL_PROMPT).ids:
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=1,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers.append(tokenizer.decode(out[0, len(ids) :]))
    return answers


def pipeline_batched(given: Setting, texts: Sequence[str]) -> list[str]:
    """Answer with the transformers pipeline, in batches of 32."""
    from transformers import pipeline

    model, tokenizer = given.backbone.model, given.backbone.tokenizer
    model.set_attn_implementation("sdpa")
    tokenizer.padding_side = "left"
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    prompts = [tokenizer.decode(i) for i in given.renderer.render(texts, ORIGINAL_PROMPT).ids]
    found = pipe(prompts, batch_size=32, max_new_tokens=1, do_sample=False, return_full_text=False)
    return [str(row[0]["generated_text"]) for row in found]


def score_mithridate(given: Setting, texts: Sequence[str]) -> list[str]:
    """Answer with our scorer."""
    found = Classifier.local(given.backbone.model, given.renderer, given.task).predict(
        texts, progress=False
    )
    return [given.task.words[index] for index in found.classes]


SCORERS: dict[str, Callable[[Setting, Sequence[str]], list[str]]] = {
    "generate": generate_each,
    "pipeline": pipeline_batched,
    "mithridate": score_mithridate,
}


def share_of_rows(rows: list[Row], count: int) -> list[Row]:
    """Return evenly spaced rows, ``count`` at most."""
    if count < 1:
        return []
    return rows[:: max(1, len(rows) // count)][:count]


def measure_train(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time one system's training; the loading of the model and of libraries is not in it."""
    rows = share_of_rows(read_rows(arguments.data / "train.jsonl"), arguments.rows)
    given = setting(rows, arguments.model)
    if arguments.system.startswith("trl"):
        import trl

        result["version"] = trl.__version__
    set_seed(0)
    reset_peak()
    started = time.perf_counter()
    model = TRAINERS[arguments.system](given)
    result["seconds"] = time.perf_counter() - started
    result["peak_mb"] = peak_mb()
    result["tokens"] = CONFIG.epochs * sum(map(len, given.prompts))
    test = share_of_rows(read_rows(arguments.data / "test.jsonl"), arguments.test_rows)
    if test:
        found = Classifier.local(model.eval(), given.renderer, given.task).predict(
            [row.text for row in test], progress=False
        )
        classes = given.task.classes(test)
        result["correct"] = int(sum(a == b for a, b in zip(found.classes, classes, strict=True)))
        result["tested"] = len(test)
    if arguments.save:
        merged = model.merge_and_unload()
        merged.save_pretrained(arguments.save)
        given.backbone.tokenizer.save_pretrained(arguments.save)


def measure_score(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time one system's answers to test prompts, tokenizing included."""
    test = read_rows(arguments.data / "test.jsonl")[: arguments.rows]
    train = read_rows(arguments.data / "train.jsonl")[:200]
    given = setting(train, arguments.model)
    texts = [row.text for row in test]
    SCORERS[arguments.system](given, texts[:32])  # warm up
    reset_peak()
    started = time.perf_counter()
    answers = SCORERS[arguments.system](given, texts)
    result["seconds"] = time.perf_counter() - started
    result["peak_mb"] = peak_mb()
    result["tokens"] = sum(map(len, given.renderer.render(texts, ORIGINAL_PROMPT).ids))
    words = [given.task.words[index] for index in given.task.classes(test)]
    result["correct"] = sum(a.strip() == b for a, b in zip(answers, words, strict=True))
    result["tested"] = len(test)


def measure_defense(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time a defense against plain fine-tuning, both with our engine and default settings."""
    rows = share_of_rows(read_rows(arguments.data / "train.jsonl"), arguments.rows)
    if arguments.system == "defended, poisoned":
        rows = BadNets("1", rate=0.05).poison(rows, b"speed").rows
    task = ClassificationTask.of(rows)
    backbone = load_backbone(arguments.model)
    test = read_rows(arguments.data / "test.jsonl")[: arguments.test_rows]
    texts = [row.text for row in test]
    set_seed(0)
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if arguments.system == "undefended":
            examples = [
                Example(row.id, row.text, label, False)
                for row, label in zip(rows, task.classes(rows), strict=True)
            ]
            classifier = fit(
                backbone,
                examples,
                task,
                None,
                TrainingConfig(),
                work_folder=Path(folder),
                quiet=True,
            ).classifier
        else:
            defense = defend(
                rows,
                backbone,
                task,
                p2p=P2PConfig(),
                training=TrainingConfig(),
                secret=Secret.from_seed(0),
                work_folder=Path(folder),
                quiet=True,
            )
            classifier = defense.model.classifier
            result["probe_seconds"] = defense.probe_seconds
            result["counter_copies"] = defense.prepared.counter_copies
        result["seconds"] = time.perf_counter() - started
    result["peak_mb"] = peak_mb()
    started = time.perf_counter()
    found = classifier.predict(texts, progress=False)
    result["predict_seconds"] = time.perf_counter() - started
    classes = task.classes(test)
    result["correct"] = int(sum(a == b for a, b in zip(found.classes, classes, strict=True)))
    result["tested"] = len(test)


def measure_audit(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time an audit of poisoned rows, or the scorer on the same rows, tokenizing included."""
    train = read_rows(arguments.data / "train.jsonl")
    # More than there are: they come again under other ids, each a row of its own to the audit.
    rows = [
        replace(train[at % len(train)], id=f"{train[at % len(train)].id}/{at // len(train)}")
        for at in range(arguments.rows)
    ]
    rows = BadNets("1", rate=0.05).poison(rows, b"speed").rows
    given = setting(rows, arguments.model)
    texts, classes = [row.text for row in rows], given.task.classes(rows)
    for library in ("scipy.stats", "sklearn.linear_model", "sklearn.pipeline"):
        import_module(library)  # imported where needed, which is no part of the work
    reset_peak()
    started = time.perf_counter()
    if arguments.system == "scoring":
        score_mithridate(given, texts)
    else:
        states = feature_extractor(given.backbone, given.renderer, quiet=True)(texts)
        result["feature_seconds"] = time.perf_counter() - started
        ids, key = [row.id for row in rows], Secret.from_seed(0).derive("folds")
        inserted = inserted_triggers(texts, classes, states, given.task.n, ids, key)
        judged = judge_rows(ids, texts, classes, states, given.task.n, key, inserted=inserted)
        found = audit(ids, texts, classes, judged.probabilities, inserted=inserted)
        result["disputed"] = int(found.disputed.sum())
    result["seconds"] = time.perf_counter() - started
    result["peak_mb"] = peak_mb()


def measure_generate(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time one system's answers to questions."""
    reset_peak()
    speed_generate.measure(arguments, result)
    result["peak_mb"] = peak_mb()


def measure_peak(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Time a large bfloat16 matrix product: what the machine can do at best."""
    size = arguments.rows
    left, right = (torch.randn(size, size).bfloat16() for _ in range(2))
    times = []
    for _ in range(6):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    result["seconds"] = min(times)
    result["gflops"] = 2 * size**3 / min(times) / 1e9


def reset_peak() -> None:
    """Forget the process's peak memory so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the process's peak memory since then, model weights included."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


MEASURES = {
    "train": measure_train,
    "score": measure_score,
    "audit": measure_audit,
    "defense": measure_defense,
    "generate": measure_generate,
    "peak": measure_peak,
}


def measure(given: Sequence[str]) -> dict[str, Any]:
    """Run one measurement, as the command line names it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("system")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--test-rows", type=int, default=0)
    parser.add_argument("--new-tokens", type=int, default=64, help="of a generated answer")
    parser.add_argument("--precision", default="auto", help="of a model that generates")
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args(given)
    if arguments.measure != "peak":
        arguments.model = arguments.model or default_model_folder(lambda _: None)
    result: dict[str, Any] = {"rows": arguments.rows}
    MEASURES[arguments.measure](arguments, result)
    return result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1:])) + "\n")
