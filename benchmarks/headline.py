"""The headline: does P2P stop a backdoor that plain fine-tuning learns, on SST-2?

    python -m benchmarks.headline --data ../shared/data/sst2

Each finished cell is one line of benchmarks/results/headline.jsonl; a run that is cut off goes on
where it stopped, and the page headline.md is rendered from the lines.
"""

import argparse
import dataclasses
import os
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.page import in_subset
from mithridate.attacks import BadNets
from mithridate.bench.experiment import Cell, Experiment, Outcome
from mithridate.bench.journal import read_lines
from mithridate.data import default_model_folder, read_rows, write_jsonl, write_text_atomic
from mithridate.defense.config import P2PConfig
from mithridate.evaluation.intervals import Share
from mithridate.inference.backbone import best_device
from mithridate.training.config import TrainingConfig

RESULTS = Path(__file__).parent / "results"

CELLS = [
    Cell("trained without the poison (gives the floor)", "reference"),
    Cell("undefended", "undefended"),
    Cell("P2P, agreement (default)", "p2p", P2PConfig()),
    Cell(
        "no P2P: S of agreement alone, a fifth",
        "subset",
        P2PConfig(benign_ratio=0.2, counter_triggers=False),
    ),
    Cell("P2P, random, a fifth in S", "p2p", P2PConfig(selection="random", benign_ratio=0.2)),
    Cell("P2P, agreement, a fifth in S", "p2p", P2PConfig(benign_ratio=0.2)),
    Cell("P2P, oracle", "p2p", P2PConfig(selection="oracle")),
]

EARLIER = """Measured before, by another program, and to be matched or beaten:

| training | CA | ASR | untriggered rate |
|---|---|---|---|
| undefended | 0.899 | 0.979 | 0.120 |
| P2P, random | 0.892 | 0.942 | 0.144 |
| P2P, agreement | 0.877 | 0.089 | 0.081 |
| S alone | 0.858 | 0.162 | 0.179 |"""


def line(experiment: Experiment, outcome: Outcome, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return an outcome as a line of the results file (DESIGN.md, result files)."""
    evaluation, cell = outcome.evaluation, outcome.cell
    record: dict[str, Any] = {
        "suite": "headline",
        "settings": settings(arguments),
        "cell": cell.name,
        "task": "classification",
        "dataset": Path(arguments.data).name,
        "model": Path(experiment.model).name,
        "attack": "badnets",
        "poison_rate": 0.0 if cell.arm == "reference" else experiment.attack.rate,
        "defense": "none" if cell.arm in ("reference", "undefended") else cell.arm,
        "selection": cell.p2p.selection if cell.p2p else None,
        "mode": cell.p2p.mode if cell.p2p else None,
        "counter_triggers": bool(cell.p2p and cell.p2p.counter_triggers and cell.arm == "p2p"),
        "mined": [
            {"text": found.text, "z": round(found.z, 1)}
            for found in (outcome.defense.prepared.mined if outcome.defense else [])
        ],
        "seed": experiment.seed,
        "decoding": evaluation.decoding,
        "n_train": outcome.n_train,
        "n_poisoned": 0 if cell.arm == "reference" else len(experiment.poisoned.ids),
        "n_subset": outcome.n_subset,
        "n_subset_poisoned": outcome.n_subset_poisoned,
        "n_clean": evaluation.clean_accuracy.n,
        "n_triggered": len(experiment.triggered),
    }
    for name in ("clean_accuracy", "attack_success_rate", "floor", "untriggered_rate"):
        measured: Share | None = getattr(evaluation, name)
        record[name] = measured.value if measured else None
        record[f"{name}_low"] = measured.low if measured else None
        record[f"{name}_high"] = measured.high if measured else None
        record[f"{name}_successes"] = measured.successes if measured else None
    record |= {
        "train_seconds": round(outcome.train_seconds, 1),
        "eval_seconds": round(evaluation.seconds, 1),
        "device": device_name(),
        "command": shlex.join(["python", "-m", "benchmarks.headline", *sys.argv[1:]]),
        "version": version("mithridate"),
        "date": datetime.now(UTC).date().isoformat(),
    }
    return record


def device_name() -> str:
    """Return where this runs, in words."""
    device = best_device()
    return f"{os.cpu_count()} CPU cores" if device.type == "cpu" else str(device)


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what makes two runs the same; cells of other settings are run anew."""
    names = ("rows", "rate", "epochs", "seed", "model")
    return {"data": Path(arguments.data).name} | {name: getattr(arguments, name) for name in names}


def _percent(record: dict[str, Any], name: str) -> str:
    """Return a share with its interval, or a dash."""
    if record[name] is None:
        return "—"
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def render(lines: list[dict[str, Any]]) -> str:
    """Return the page: the table, the two bars, and how it was made."""
    rows = [
        "| training | CA | ASR | floor | untriggered | poisoned rows in S | train s | eval s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in lines:
        rows.append(
            f"| {record['cell']} | {_percent(record, 'clean_accuracy')} "
            f"| {_percent(record, 'attack_success_rate')} | {_percent(record, 'floor')} "
            f"| {_percent(record, 'untriggered_rate')} | {in_subset(record)} "
            f"| {record['train_seconds']:.0f} | {record['eval_seconds']:.0f} |"
        )
    finished = {record["cell"] for record in lines}
    rows += [f"| {cell.name} | not run |" + " |" * 6 for cell in CELLS if cell.name not in finished]
    first = lines[0]
    poisoned = max(record["n_poisoned"] for record in lines)
    facts = (
        f"{first['dataset']}, {first['model']}, seed {first['seed']}, {poisoned} poisoned training "
        f"rows, {first['n_clean']} clean and {first['n_triggered']} triggered test rows, "
        f"{first['decoding']} decoding, exact binomial 95% intervals.\n"
        f"Run on {first['device']}, {first['date']}, by `{first['command']}`."
    )
    table = "\n".join(rows)
    return f"# Headline: SST-2, BadNets\n\n{facts}\n\n{table}\n\n{bars(lines)}\n\n{EARLIER}\n"


def bars(lines: list[dict[str, Any]]) -> str:
    """Say whether the bars are met: ASR within 3 points of floor, CA 1.5 of undefended."""
    by_name = {record["cell"]: record for record in lines}
    default, undefended = by_name.get(CELLS[2].name), by_name.get(CELLS[1].name)
    if default is None or undefended is None or default["floor"] is None:
        return "The bars are judged once the first three cells are finished."
    excess = 100 * (default["attack_success_rate"] - default["floor"])
    loss = 100 * (undefended["clean_accuracy"] - default["clean_accuracy"])
    return (
        f"- Bar: ASR at most 3 points over the floor. Measured: {excess:+.1f} points, "
        f"{'met' if excess <= 3 else 'MISSED'}.\n"
        f"- Bar: CA at most 1.5 points under the undefended model's. Measured: {-loss:+.1f} "
        f"points, {'met' if loss <= 1.5 else 'MISSED'}."
    )


def main() -> None:
    """Run the cells that are not finished yet, and render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", default=None, help="folder or hub id; default: SmolLM2-135M")
    parser.add_argument("--rows", type=int, default=3460)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=6, help="run the first K cells")
    parser.add_argument("--fresh", action="store_true", help="forget the finished cells")
    parser.add_argument("--name", default="headline", help="name of the results files")
    arguments = parser.parse_args()
    data = Path(arguments.data)
    experiment = Experiment(
        model=arguments.model or str(default_model_folder()),
        train=read_rows(data / "train.jsonl")[: arguments.rows],
        test=read_rows(data / "test.jsonl"),
        attack=BadNets(target="1", rate=arguments.rate, triggers=("mn",)),
        training=TrainingConfig(
            target_modules=("q_proj", "v_proj"),
            learning_rate=1e-3,
            batch_size=32,
            epochs=arguments.epochs,
            seed=arguments.seed,
            max_length=128,
        ),
        seed=arguments.seed,
    )
    RESULTS.mkdir(exist_ok=True)
    journal = RESULTS / f"{arguments.name}.jsonl"
    found = [] if arguments.fresh else read_lines(journal)
    lines = [record for record in found if record["settings"] == settings(arguments)]
    for cell in CELLS[: arguments.cells]:
        if any(record["cell"] == cell.name for record in lines):
            continue
        outcome = experiment.run(cell, floor=_floor(lines))
        if cell.arm == "reference":
            floor = experiment.floor_of(outcome)
            evaluation = dataclasses.replace(outcome.evaluation, floor=floor)
            outcome = dataclasses.replace(outcome, evaluation=evaluation)
        lines.append(line(experiment, outcome, arguments))
        write_jsonl(journal, lines)
        write_text_atomic(RESULTS / f"{arguments.name}.md", render(lines))
    print(render(lines))


def _floor(lines: list[dict[str, Any]]) -> Share | None:
    """Return the floor from the reference cell's line."""
    for record in lines:
        if record["cell"] == CELLS[0].name:
            return Share(
                record["floor"],
                record["floor_low"],
                record["floor_high"],
                record["floor_successes"],
                record["n_triggered"],
            )
    return None


if __name__ == "__main__":
    main()
