"""How long a matrix will take, and what memory: rough figures before anything is run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mithridate.bench.cells import BenchCell
from mithridate.bench.journal import read_lines
from mithridate.bench.shapes import empty_model

OPERATIONS_PER_TOKEN = 6.0
"""Of a training step per parameter and token (Kaplan et al. 2020, arXiv 2001.08361); of frozen
weights no gradient is made, which leaves 4, and what activations cost makes up for the rest."""

EFFICIENCY = 0.25
"""The share of a bare matrix product's speed that a whole training step reaches: SmolLM2-135M at
about 500 tokens/s on 2 cores whose products do 1.6e12 operations a second."""

BYTES = {"bfloat16": 2, "float32": 4}
TEXT_TOKENS = 4.0
"""Characters of a token, about."""

EVALUATION = 0.3
"""Scoring an input costs this share of training on it (DESIGN.md: 1,250 against 500 tokens/s)."""


@dataclass(frozen=True)
class Estimate:
    """What a cell will take.

    Attributes:
        minutes: Of wall-clock time; measured on this matrix's own cells where there are any.
        gigabytes: Of memory at the peak.
        measured: Whether the time is from finished cells.
    """

    minutes: float
    gigabytes: float
    measured: bool


def estimates(cells: Sequence[BenchCell], journal: Path) -> list[Estimate]:
    """Return an estimate for every cell.

    Args:
        cells: The cells.
        journal: Its lines say how long cells of the same model, data and defense took.
    """
    past: dict[tuple[str, str, str], list[float]] = {}
    for line in read_lines(journal):
        if line["variant"] == "reference":
            continue
        key = (str(line["model"]), str(line["dataset"]), str(line["defense"]))
        past.setdefault(key, []).append(line["train_seconds"] + line["eval_seconds"])
    found = []
    trained: set[str] = set()
    for cell in cells:
        known = past.get((Path(cell.model).name, cell.data.name, cell.defense.title))
        size = _size(cell.model)
        memory = size.parameters * BYTES[size.dtype] * 1.5 / 1e9 + 1.0
        if known:
            found.append(Estimate(sum(known) / len(known) / 60, memory, True))
            continue
        tokens = _tokens(cell.data.train, cell.data.rows, cell.training.max_length)
        passes = 0.0
        stages = cell.defense.method().stages
        for mark in (f"reference {cell.clean_mark}", f"undefended {cell.undefended_mark}"):
            own_training = "data" in stages or "training" in stages
            if mark not in trained and not (own_training and mark.startswith("undefended")):
                trained.add(mark)
                passes += cell.training.epochs
        if "data" in stages or "training" in stages:
            passes += cell.training.epochs
        tested = (cell.data.clean + 2 * cell.data.triggered) / max(1, cell.data.rows or 2000)
        work = tokens * (passes + EVALUATION * tested) * OPERATIONS_PER_TOKEN * size.parameters
        seconds = work / (EFFICIENCY * _speed(size.dtype))
        found.append(Estimate(seconds / 60, memory, False))
    return found


@dataclass(frozen=True)
class _Size:
    parameters: float
    dtype: str


@cache
def _size(model: str) -> _Size:
    """Return a model's number of parameters, without loading its weights, and its dtype here."""
    from mithridate.inference.backbone import best_device, resolve_precision

    parameters = sum(weight.numel() for weight in empty_model(model).parameters())
    dtype = str(resolve_precision("auto", best_device())).removeprefix("torch.")
    return _Size(float(parameters), dtype)


@cache
def _tokens(train: str, rows: int | None, max_length: int) -> float:
    """Return about how many tokens a pass over the training rows is."""
    path = Path(train)
    if not path.is_file():
        return float((rows or 2000) * min(max_length, 64))
    with path.open("rb") as file:
        sizes = [len(line) for line, _ in zip(file, range(rows or 10**9), strict=False)]
    return float(sum(min(max_length, size / TEXT_TOKENS) for size in sizes))


@cache
def _speed(dtype: str) -> float:
    """Return the operations per second of a matrix product here."""
    import torch

    from mithridate.inference.backbone import best_device

    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    one = torch.randn(1024, 1024, device=best_device()).to(kind)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        (one @ one).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best
