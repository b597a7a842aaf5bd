"""How many poisoned rows each selection lets into S, attack by attack, without training a model.

    python -m benchmarks.selection --data ../shared/data

What is in S decides most of what the defense does (docs/selection.md), and this takes seconds for
each attack where a cell of `benchmarks.matrix` takes minutes. Each line of
benchmarks/results/selection.jsonl is one attack on one data set under one selection; the page
selection.md is rendered from the lines.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.matrix import KEPT, RESULTS
from benchmarks.matrix_cells import ATTACKS, RATES, Material, Sizes, usual_rate
from benchmarks.matrix_features import KeptFeatures
from mithridate.bench.journal import append_line, read_lines
from mithridate.data import default_model_folder, write_text_atomic
from mithridate.defense.config import P2PConfig, Selection
from mithridate.defense.prepare import FeatureExtractor, prepare
from mithridate.defense.secret import Secret
from mithridate.inference.backbone import load_backbone
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import PromptRenderer

SELECTIONS: tuple[Selection, ...] = ("random", "agreement", "anchored")
REWRITTEN = ("synbkd", "stylebkd")


def cases() -> list[tuple[str, str, float]]:
    """Return every data set, attack and rate."""
    found = [("sst2", attack, usual_rate(attack)) for attack in ATTACKS]
    found += [("sst2", "badnets", rate) for rate in RATES]
    found += [
        (dataset, attack, usual_rate(attack))
        for dataset in ("trec", "agnews")
        for attack in ATTACKS
        if attack not in REWRITTEN
    ]
    return found


def measure(
    material: Material, attack_name: str, rate: float, eyes: FeatureExtractor, seed: int
) -> list[dict[str, Any]]:
    """Return a line for each selection."""
    key = Secret.from_seed(seed).derive("attacker")
    attack = ATTACKS[attack_name](material, rate).learn(material.train, key)
    poisoned = attack.poison(material.train, key)
    task = ClassificationTask.of([*material.train, *material.all_test])
    lines = []
    for selection in SELECTIONS:
        trusted = material.trusted(poisoned.ids) if selection == "anchored" else frozenset()
        prepared = prepare(
            poisoned.rows,
            task,
            P2PConfig(selection=selection),
            Secret.from_seed(seed + 1),
            features=eyes,
            trusted=trusted,
        )
        lines.append(
            {
                "suite": "selection",
                "task": "classification",
                "dataset": material.name,
                "model": Path(material.features.model).name,
                "attack": attack_name,
                "poison_rate": rate,
                "selection": selection,
                "seed": seed,
                "n_train": len(poisoned.rows),
                "n_poisoned": len(poisoned.ids),
                "n_trusted": len(trusted),
                "n_subset_wanted": prepared.subset.wanted,
                "n_subset": len(prepared.subset.ids),
                "n_subset_poisoned": prepared.subset.poisoned(poisoned.ids),
                "n_disputed": prepared.subset.disagreeing,
                "mined": [
                    {"text": found.text, "kind": found.kind, "z": round(found.z, 1)}
                    for found in prepared.mined
                ],
                "command": shlex.join(["python", "-m", "benchmarks.selection", *sys.argv[1:]]),
                "version": version("mithridate"),
                "date": datetime.now(UTC).date().isoformat(),
            }
        )
    return lines


def render(lines: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    if not lines:
        return "# Poisoned rows in S\n\nNothing was measured.\n"
    first = lines[0]
    counts = [line["n_train"] for line in lines]
    sizes = dict.fromkeys(f"{count:,}" for count in (min(counts), max(counts)))
    trusted = max(line["n_trusted"] for line in lines)
    ratio = first["n_subset_wanted"] / first["n_train"]
    head = (
        "# Poisoned rows in S\n\n"
        f"{first['model']}, {' to '.join(sizes)} training rows of each data set, {ratio:.0%} "
        f"of them wanted in S, anchored selection with {trusted} checked rows, one draw (seed "
        f"{first['seed']}). Nothing is trained here: what becomes of the model is in\n"
        "[classification.md](classification.md).\n\n"
        f"{max(line['date'] for line in lines)}, by `{first['command']}`.\n\n"
    )
    rows = [
        "| data set | attack | rate | poisoned of D | random | agreement | anchored "
        "| what marks the disputed rows (agreement; z) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    table: dict[tuple[str, str, float], dict[str, dict[str, Any]]] = {}
    for line in lines:
        case = (line["dataset"], line["attack"], line["poison_rate"])
        table.setdefault(case, {})[line["selection"]] = line
    for (dataset, attack, rate), by_selection in table.items():
        one = next(iter(by_selection.values()))
        cells = [
            f"{by_selection[name]['n_subset_poisoned']} of {by_selection[name]['n_subset']}"
            if name in by_selection
            else "not run"
            for name in SELECTIONS
        ]
        mined = by_selection.get("agreement", {}).get("mined", [])
        marks = ", ".join(f"{_shown(found['text'])} ({found['z']})" for found in mined[:3]) or "—"
        poisoned = f"{one['n_poisoned']} of {one['n_train']:,}"
        rows.append(
            f"| {dataset} | {attack} | {rate:.0%} | {poisoned} | {' | '.join(cells)} | {marks} |"
        )
    return head + "\n".join(rows) + "\n"


def _shown(text: str) -> str:
    """Return an n-gram as code, what is invisible written out."""
    seen = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return f"`{seen.replace('|', '&#124;')}`"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, and render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--model", default=None, help="folder or hub id; default: SmolLM2-135M")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--kept", type=Path, default=KEPT, help="where states are kept")
    parser.add_argument("--rows", type=int, default=Sizes().train)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="data sets, separated by commas")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    arguments = parser.parse_args(argv)
    arguments.results.mkdir(parents=True, exist_ok=True)
    journal = arguments.results / "selection.jsonl"
    if arguments.fresh:
        journal.unlink(missing_ok=True)
    done = {
        (line["dataset"], line["attack"], line["poison_rate"])
        for line in read_lines(journal)
        if (line["seed"], line["selection"]) == (arguments.seed, SELECTIONS[-1])
    }
    kept = KeptFeatures(arguments.kept, arguments.model or str(default_model_folder()), 128)
    wanted = [name for name in arguments.only.split(",") if name]
    open_cases = [
        case for case in cases() if case not in done and (not wanted or case[0] in wanted)
    ]
    materials: dict[str, Material] = {}
    eyes: FeatureExtractor | None = None
    for dataset, attack, rate in open_cases:
        if eyes is None:
            backbone = load_backbone(kept.model)
            renderer = PromptRenderer(backbone.tokenizer, max_length=kept.max_length)
            eyes = kept(backbone, renderer, quiet=True)
        if dataset not in materials:
            sizes = Sizes(train=arguments.rows)
            folder = arguments.data / dataset
            materials[dataset] = Material(dataset, folder, sizes, arguments.seed, kept)
        for line in measure(materials[dataset], attack, rate, eyes, arguments.seed):
            append_line(journal, line)
        print(f"{dataset} {attack} {rate:g}: done", flush=True)
    page = arguments.results / "selection.md"
    write_text_atomic(page, render(read_lines(journal)))
    print(f"page: {page}")


if __name__ == "__main__":
    main()
