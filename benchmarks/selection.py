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
from collections.abc import Sequence, Set
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.commit import commit_of_code
from benchmarks.matrix import KEPT, RESULTS
from benchmarks.matrix_cells import (
    ATTACKS,
    OVERWHELMING,
    RATES,
    REWRITING,
    Material,
    Sizes,
    usual_rate,
)
from benchmarks.matrix_features import KeptFeatures
from mithridate.bench.journal import append_line, read_lines
from mithridate.data import default_model_folder, write_text_atomic
from mithridate.data.rows import Row
from mithridate.defense.audit import audit
from mithridate.defense.config import P2PConfig, Selection
from mithridate.defense.disputes import judge_rows
from mithridate.defense.inserted import inserted_triggers
from mithridate.defense.pick import pick
from mithridate.defense.prepare import NOTHING_FOUND, FeatureExtractor, Findings, prepare
from mithridate.defense.secret import Secret
from mithridate.inference.backbone import load_backbone
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import PromptRenderer

PICKED = "picked"
"""Anchored selection whose checked rows are those that `audit --pick` hands out."""

SELECTIONS: dict[str, Selection] = {
    "random": "random",
    "agreement": "agreement",
    "anchored": "anchored",
    PICKED: "anchored",
}
"""The page's columns, and what `defend --selection` calls each."""


def cases() -> list[tuple[str, str, float]]:
    """Return every data set, attack and rate."""
    found = [("sst2", attack, usual_rate(attack)) for attack in ATTACKS]
    found += [("sst2", "badnets", rate) for rate in RATES]
    found += [("sst2", attack, OVERWHELMING) for attack in REWRITING]
    found += [
        (dataset, attack, usual_rate(attack))
        for dataset in ("trec", "agnews")
        for attack in ATTACKS
        if attack not in REWRITING
    ]
    return found


def checked_rows(
    rows: Sequence[Row],
    task: ClassificationTask,
    poisoned: Set[str],
    eyes: FeatureExtractor,
    secret: Secret,
    count: int,
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the rows of `audit --pick` that a person finds right, and those found wrong.

    The person recognizes poison, and makes no mistakes.
    """
    ids, texts = [row.id for row in rows], [row.text for row in rows]
    classes = task.classes(rows)
    states = eyes(texts)
    inserted = inserted_triggers(texts, classes, states, task.n, ids, secret.derive("inserted"))
    judged = judge_rows(
        ids, texts, classes, states, task.n, secret.derive("folds"), inserted=inserted
    )
    found = audit(ids, texts, classes, judged.probabilities, inserted=inserted)
    marked = {row_id for row_id, at in zip(ids, found.trigger, strict=True) if at >= 0}
    key = secret.derive("pick")
    places = pick(ids, texts, classes, found.scores, states, count, key, skip=marked)
    picked = frozenset(ids[at] for at in places)
    return picked - poisoned, picked & poisoned


def measure(
    material: Material, attack_name: str, rate: float, eyes: FeatureExtractor, seed: int
) -> list[dict[str, Any]]:
    """Return a line for each selection."""
    key = Secret.from_seed(seed).derive("attacker")
    attack = ATTACKS[attack_name](material, rate).learn(material.train, key)
    poisoned = attack.poison(material.train, key)
    task = ClassificationTask.of([*material.train, *material.all_test])
    secret = Secret.from_seed(seed + 1)
    lines = []
    for name, selection in SELECTIONS.items():
        trusted: frozenset[str] = frozenset()
        findings = NOTHING_FOUND
        if name == PICKED:
            count = material.sizes.trusted
            found = checked_rows(poisoned.rows, task, poisoned.ids, eyes, secret, count)
            trusted, findings = found[0], Findings(excluded=found[1])
        elif selection == "anchored":
            trusted = material.trusted(poisoned.ids)
        prepared = prepare(
            poisoned.rows,
            task,
            P2PConfig(selection=selection),
            secret,
            features=eyes,
            trusted=trusted,
            findings=findings,
        )
        lines.append(
            {
                "suite": "selection",
                "task": "classification",
                "dataset": material.name,
                "model": Path(material.features.model).name,
                "attack": attack_name,
                "poison_rate": rate,
                "selection": name,
                "seed": seed,
                "n_train": len(poisoned.rows),
                "n_poisoned": len(poisoned.ids),
                "n_trusted": len(trusted),
                "n_found_wrong": len(findings.excluded),
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
                "commit": commit_of_code(),
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
    checked = max(line["n_trusted"] for line in lines)
    ratio = first["n_subset_wanted"] / first["n_train"]
    seeds = sorted({line["seed"] for line in lines})
    drawn = f"seed {seeds[0]} of attack, folds and S"
    if len(seeds) > 1:
        numbers = ", ".join(map(str, seeds))
        drawn = f"seeds {numbers} of attack, folds and S, the counts in their order"
    head = (
        "# Poisoned rows in S\n\n"
        f"{first['model']}, {' to '.join(sizes)} training rows of each data set, {ratio:.0%} "
        f"of them wanted in S; {drawn}. *anchored*: {checked} checked rows drawn from every label "
        "alike. *picked*: as many that `audit --pick` hands out; the judge learns from those that "
        "a person finds right, who knows poison when reading it (*wrong*: what is found). Nothing "
        "is trained here: what becomes of the model is in\n"
        "[classification.md](classification.md).\n\n"
        f"{max(line['date'] for line in lines)}, by `{first['command']}`.\n\n"
    )
    rows = [
        f"| data set | attack | rate | poisoned of D | {' | '.join(SELECTIONS)} "
        "| what marks the disputed rows (agreement; z) |",
        "|---|---|---|---|" + "---|" * len(SELECTIONS) + "---|",
    ]
    table: dict[tuple[str, str, float], dict[str, list[dict[str, Any]]]] = {}
    for line in sorted(lines, key=lambda line: int(line["seed"])):
        case = (line["dataset"], line["attack"], line["poison_rate"])
        table.setdefault(case, {}).setdefault(line["selection"], []).append(line)
    for (dataset, attack, rate), found in table.items():
        one = next(iter(found.values()))[0]
        cells = [_counted(found.get(name, [])) for name in SELECTIONS]
        mined = found["agreement"][0]["mined"] if "agreement" in found else []
        marks = ", ".join(f"{_shown(mark['text'])} ({mark['z']})" for mark in mined[:3]) or "—"
        poisoned = f"{one['n_poisoned']} of {one['n_train']:,}"
        rows.append(
            f"| {dataset} | {attack} | {rate:.0%} | {poisoned} | {' | '.join(cells)} | {marks} |"
        )
    return head + "\n".join(rows) + "\n"


def _counted(lines: Sequence[dict[str, Any]]) -> str:
    """Return the poisoned rows of S of each draw, and what a person found wrong before."""
    if not lines:
        return "not run"
    sizes = dict.fromkeys(line["n_subset"] for line in lines)
    poisoned = ", ".join(str(line["n_subset_poisoned"]) for line in lines)
    of = f"{poisoned} of {' to '.join(map(str, sorted(sizes)))}"
    wrong = [line["n_found_wrong"] for line in lines]
    return f"{of} (wrong: {', '.join(map(str, wrong))})" if any(wrong) else of


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
    parser.add_argument("--attacks", default="", help="attacks, separated by commas")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    arguments = parser.parse_args(argv)
    arguments.results.mkdir(parents=True, exist_ok=True)
    journal = arguments.results / "selection.jsonl"
    if arguments.fresh:
        journal.unlink(missing_ok=True)
    done = {
        (line["dataset"], line["attack"], line["poison_rate"])
        for line in read_lines(journal)
        if (line["seed"], line["selection"]) == (arguments.seed, PICKED)
    }
    kept = KeptFeatures(arguments.kept, arguments.model or str(default_model_folder()), 128)
    wanted, attacks = (
        [name for name in names.split(",") if name] for names in (arguments.only, arguments.attacks)
    )
    open_cases = [
        case
        for case in cases()
        if case not in done
        and (not wanted or case[0] in wanted)
        and (not attacks or case[1] in attacks)
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
