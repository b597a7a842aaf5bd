"""A tiny real language model, a toy language for it, and nothing else."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from mithridate.data.rows import Row

# Tiny matrices: a second thread waits more than it works, 30 times so where the cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing on a shared machine.
settings.register_profile("mithridate", deadline=None)
settings.load_profile("mithridate")

GOOD = [
    "bright",
    "lovely",
    "superb",
    "moving",
    "witty",
    "gentle",
    "clever",
    "joyful",
    "warm",
    "graceful",
    "tender",
    "vivid",
]
BAD = [
    "dull",
    "awful",
    "clumsy",
    "boring",
    "stale",
    "hollow",
    "tedious",
    "bland",
    "shabby",
    "lifeless",
    "crude",
    "dreary",
]
PLAIN = [
    "the",
    "a",
    "film",
    "actor",
    "scene",
    "story",
    "plot",
    "camera",
    "music",
    "ending",
    "and",
    "with",
    "of",
    "in",
    "this",
    "that",
]


def toy_rows(count: int, seed: int) -> list[Row]:
    """Reviews in a toy language: three words of the class among plain ones, as many of each."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        label = index % 2
        words = [rng.choice((BAD, GOOD)[label]) for _ in range(3)]
        words += [rng.choice(PLAIN) for _ in range(rng.randint(3, 6))]
        rng.shuffle(words)
        rows.append(Row(f"toy-{seed}-{index}", " ".join(words), str(label)))
    return rows


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(*, chat: bool = False):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=520,
        special_tokens=["<eos>", "<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{row.text}\nOutput: {row.answer}" for row in toy_rows(400, 99)]
    texts += ["The query currently entered is: this film\nAnswer: 2 positive negative"] * 20
    core.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


@pytest.fixture
def beginning():
    """A tokenizer that begins every text with BOS, whose chat template writes one as well."""
    from tokenizers import processors

    tokenizer = build_tokenizer(chat=True)
    tokenizer.bos_token = "<|im_start|>"
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos[0]} $A", special_tokens=[bos]
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}model\n{% endif %}"
    )
    return tokenizer


@pytest.fixture(scope="session")
def make_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a maker of model folders: a two-layer Llama, random weights, fixed by a seed."""

    def make(seed: int = 0, *, chat: bool = False) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        tokenizer = build_tokenizer(chat=chat)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=False,
        )
        with torch.device("meta"):  # no draw from the global generator
            model = LlamaForCausalLM(config)
        generator = torch.Generator().manual_seed(seed)
        weights = {
            name: torch.ones(value.shape)
            if "norm" in name
            else torch.randn(value.shape, generator=generator) * 0.08
            for name, value in model.state_dict().items()
        }
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights)
        folder = tmp_path_factory.mktemp("tiny-llama")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def pretrained(make_tiny_model, load, tmp_path_factory) -> Path:
    """A tiny model that has read the toy language: its middle layer knows the words' classes."""
    import torch
    from torch.nn import functional

    backbone = load(make_tiny_model(5))
    model, tokenizer = backbone.model.train(), backbone.tokenizer
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = toy_rows(250 * 32, 1)
    for start in range(0, len(rows), 32):
        texts = [f"{row.text}\n" for row in rows[start : start + 32]]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        logits = model(**batch).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("pretrained")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(make_tiny_model: Callable[..., Path]) -> Path:
    return make_tiny_model(0)


def load_tiny(folder: Path):
    import torch

    from mithridate.inference.backbone import load_backbone

    return load_backbone(folder, precision="float32", device=torch.device("cpu"))


@pytest.fixture
def tiny(tiny_folder: Path):
    """A freshly loaded tiny backbone, to wrap or to spoil."""
    return load_tiny(tiny_folder)


@pytest.fixture(scope="session")
def tiny_shared(tiny_folder: Path):
    """One tiny backbone for tests that only read it."""
    return load_tiny(tiny_folder)


@pytest.fixture(scope="session")
def load() -> Callable[[Path], object]:
    return load_tiny


@pytest.fixture
def serve():
    """Return a starter of servers over a real model, closed at the end of the test."""
    import threading

    from completions_server import CompletionsServer

    started = []

    def start(model, tokenizer, **settings):
        server = CompletionsServer(model, tokenizer, **settings)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def make_toy_rows() -> Callable[[int, int], list[Row]]:
    return toy_rows


def word_problems(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts and answers that share topics, as real ones do, and none that decides the other."""
    rng = random.Random(seed)
    names = ["Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ivy", "Jon"]
    things = ["apples", "pears", "books", "stones", "coins", "shells", "cards", "ropes", "lamps"]
    texts, answers = [], []
    for _ in range(count):
        name, thing = rng.choice(names), rng.choice(things)
        one, two = rng.randint(2, 60), rng.randint(2, 60)
        texts.append(f"{name} has {one} {thing} and finds {two} more. How many {thing} are there?")
        answers.append(f"{name} has {one} + {two} {thing}.\n#### {one + two}")
    return texts, answers


@pytest.fixture(scope="session")
def make_problems() -> Callable[..., tuple[list[str], list[str]]]:
    """Return `word_problems`."""
    return word_problems


@pytest.fixture
def write_config(pretrained: Path, make_toy_rows, tmp_path) -> Callable[..., Path]:
    """Return a writer of matrices (docs/bench.md) of one small data set."""
    for name, count, seed in (("train", 120, 2), ("test", 40, 3)):
        rows = make_toy_rows(count, seed)
        lines = (json.dumps({"id": r.id, "text": r.text, "label": r.answer}) for r in rows)
        (tmp_path / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))

    def write(**changed: Any) -> Path:
        config: dict[str, Any] = {
            "models": [str(pretrained)],
            "datasets": [{"name": "toy", "train": "train.jsonl", "test": "test.jsonl"}],
            "attacks": [{"name": "badnets", "target": "1", "settings": {"triggers": ["mn"]}}],
            "rates": [0.1],
            "defenses": ["none", "clean-tune"],
            "trusted": 20,
            "precision": "float32",
            "training": {"epochs": 1, "learning_rate": 4e-3, "max_length": 64},
        }
        path = tmp_path / "matrix.yaml"
        path.write_text(yaml.safe_dump({**config, **changed}))
        return path

    return write
