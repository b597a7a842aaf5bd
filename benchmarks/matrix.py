"""Attacks by defenses, on several data sets: does the defense hold, and where does it fall?

    python -m benchmarks.matrix --suite classification --data ../shared/data

Each finished cell is one line of benchmarks/results/classification.jsonl. A run that is cut off
goes on where it stopped, and several processes share the cells out among them (two with one
thread each do more than one with two). The page classification.md is rendered from the lines.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import generation
from benchmarks.matrix_cells import (
    ATTACKS,
    SEARCH,
    TRAINED,
    Material,
    MatrixCell,
    Sizes,
    classification_cells,
)
from benchmarks.matrix_features import KeptFeatures
from benchmarks.matrix_figure import planted_curve
from benchmarks.matrix_floors import FLOORS, of_attack, read_floors, shares, with_floors
from benchmarks.matrix_page import CURVE, render
from benchmarks.runs import MatrixRun, asked_for, carry_out, provenance, usual
from mithridate.attacks import Attack, Several
from mithridate.bench.experiment import Arm, Cell, Experiment, Outcome
from mithridate.bench.journal import append_line, locked, share_fields
from mithridate.data import write_text_atomic
from mithridate.data.rows import Row
from mithridate.evaluation.evaluate import target_rate
from mithridate.evaluation.intervals import Share, share
from mithridate.evaluation.margins import Margins
from mithridate.inference.classifier import Classifier

RESULTS = Path(__file__).parent / "results"
DATA = Path("../shared/data")
KEPT = Path(__file__).parents[1] / ".bench"
"""The usual place of what a run keeps; git ignores it."""


@dataclass(frozen=True)
class Matrix(MatrixRun):
    """A run of the classification cells."""

    sizes: Sizes

    @property
    def features(self) -> KeptFeatures:
        """Return the judge's eyes, with a memory."""
        return KeptFeatures(self.kept, self.model, self.training.max_length)

    def material(self, dataset: str) -> Material:
        """Return a data set and what attacks on it are made of."""
        return Material(dataset, self.data / dataset, self.sizes, self.seed, self.features)

    def experiment(self, cell: MatrixCell) -> tuple[Material, Experiment]:
        """Return a cell's data, attacked."""
        material = self.material(cell.dataset)
        experiment = Experiment(
            model=self.model,
            train=material.train,
            test=material.test,
            attack=ATTACKS[cell.attack](material, cell.rate),
            training=cell.training(self.training),
            seed=self.seed,
            test_triggered=material.to_trigger,
            eyes=self.features,
        )
        trusted = material.trusted(experiment.poisoned.ids)
        return material, replace(experiment, trusted=trusted)


def run_cell(matrix: Matrix, cell: MatrixCell) -> dict[str, Any]:
    """Train and measure one cell, and return its line."""
    material, experiment = matrix.experiment(cell)
    floors = floors_of(matrix, cell, material, experiment)
    arm: Arm = "undefended" if cell.defense == "none" else "p2p"
    own = Cell(cell.name, arm, cell.p2p(), cell.planted)
    outcome = experiment.run(own, floor=floors[0], quiet=True)
    return line(matrix, cell, experiment, outcome, floors)


def floors_of(
    matrix: Matrix,
    cell: MatrixCell,
    material: Material,
    experiment: Experiment,
    answers: dict[str, int] | None = None,
) -> list[Share]:
    """Return the floors of a cell's attack; measure and note them where nobody has.

    Args:
        matrix: The run.
        cell: The cell.
        material: Its data set.
        experiment: Its data, attacked.
        answers: The reference model's classes by text, of this data set; what is asked is added.
    """
    with locked(matrix.kept / f"{matrix.tag}-floors.lock"):
        attacked = {"dataset": cell.dataset, "attack": cell.attack, "poison_rate": cell.rate}
        known = read_floors(matrix.journal, matrix.settings)
        found = of_attack(known, attacked)
        if found is None:
            started = time.monotonic()
            measured = floors_at_another_rate(matrix, cell, experiment, known)
            if measured is None:
                measured = measured_floors(
                    matrix, material, experiment, {} if answers is None else answers
                )
            found = {"settings": matrix.settings, **attacked, "backdoors": measured}
            found |= provenance(0.0, time.monotonic() - started)
            append_line(matrix.journal.with_name(FLOORS), found)
    return shares(found)


def floors_at_another_rate(
    matrix: Matrix, cell: MatrixCell, experiment: Experiment, floors: Sequence[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """Return the floors of the same attack at another rate, if it triggers the same inputs.

    Args:
        matrix: The run.
        cell: The cell.
        experiment: Its data, attacked.
        floors: Those that are known.
    """

    def inputs(experiment: Experiment) -> list[list[str]]:
        return [[row.text for row in rows] for _, rows in backdoors(experiment)]

    for floor in floors:
        if (floor["dataset"], floor["attack"]) == (cell.dataset, cell.attack):
            _, other = matrix.experiment(replace(cell, rate=floor["poison_rate"]))
            if inputs(other) == inputs(experiment):
                found: list[dict[str, Any]] = floor["backdoors"]
                return found
    return None


def measured_floors(
    matrix: Matrix, material: Material, experiment: Experiment, answers: dict[str, int]
) -> list[dict[str, Any]]:
    """Return the reference model's target rates for each backdoor.

    Args:
        matrix: The run.
        material: The data set.
        experiment: Its data, attacked.
        answers: See `floors_of`.

    Returns:
        Of each its number of inputs, the rate with the trigger in them (``floor``) and without it
        (``untriggered_rate``).
    """
    clean = {row.id: row for row in material.all_test}
    inputs = backdoors(experiment)
    asked = dict.fromkeys(
        text for _, rows in inputs for row in rows for text in (row.text, clean[row.id].text)
    )
    if new := [text for text in asked if text not in answers]:
        found = reference_model(matrix, material).predict(new, progress=False)
        answers.update(zip(new, found.classes.tolist(), strict=True))

    def rate(rows: Sequence[Row], attack: Attack) -> Share:
        target = experiment.task.label_index(attack.target)
        return share(sum(answers[row.text] == target for row in rows), len(rows))

    return [
        {
            "attack": attack.name,
            "target": attack.target,
            "n_triggered": len(rows),
            **share_fields("floor", rate(rows, attack)),
            **share_fields("untriggered_rate", rate([clean[row.id] for row in rows], attack)),
        }
        for attack, rows in inputs
    ]


def measure_floors(matrix: Matrix) -> None:
    """Measure the floors of every attack that has a finished cell."""
    cells = {
        (line["dataset"], line["attack"], line["poison_rate"]): None
        for line in matrix.lines()
        if line["variant"] != "reference"
    }
    answers: dict[str, dict[str, int]] = {}
    for dataset, attack, rate in sorted(cells):
        cell = MatrixCell(dataset, attack, rate, "none")
        material, experiment = matrix.experiment(cell)
        known = answers.setdefault(dataset, {})
        floors = floors_of(matrix, cell, material, experiment, known)
        print(f"{dataset}/{attack}@{rate:g}: floor {floors[0].value:.3f}", flush=True)


def backdoors(experiment: Experiment) -> list[tuple[Attack, list[Any]]]:
    """Return each backdoor of an attack with its triggered inputs, the main one first."""
    attack = experiment.fitted_attack
    first = (attack, experiment.triggered)
    if not isinstance(attack, Several):
        return [first]
    rows = experiment.test
    return [
        first,
        *((part, part.triggered(rows, experiment.attack_key)) for part in attack.parts[1:]),
    ]


def reference_model(matrix: Matrix, material: Material) -> Classifier:
    """Return the model trained on the data set's clean rows, which gives the floors."""
    experiment = Experiment(
        model=matrix.model,
        train=material.train,
        test=material.test,
        attack=ATTACKS["badnets"](material, 0.05),
        training=matrix.training,
        seed=matrix.seed,
        test_triggered=material.to_trigger,
    )

    def train() -> tuple[Any, dict[str, Any]]:
        outcome = experiment.run(Cell("reference", "reference"), quiet=True)
        scorer: Any = outcome.classifier.scorer
        cell = MatrixCell(material.name, "badnets", 0.05, "none", "reference")
        floor = experiment.floor_of(outcome)
        return scorer.model, line(matrix, cell, experiment, outcome, [floor])

    model, renderer = matrix.reference(material.name, train)
    return Classifier.local(model, renderer, experiment.task)


def line(
    matrix: Matrix,
    cell: MatrixCell,
    experiment: Experiment,
    outcome: Outcome,
    floors: Sequence[Share],
) -> dict[str, Any]:
    """Return a finished cell as a line of the journal (DESIGN.md, result files)."""
    evaluation = replace(outcome.evaluation, floor=floors[0])
    p2p, reference = outcome.cell.p2p, outcome.cell.arm == "reference"
    record: dict[str, Any] = {
        "suite": "classification",
        "cell": cell.name,
        "settings": matrix.settings,
        "task": "classification",
        "dataset": cell.dataset,
        "model": Path(matrix.model).name,
        "attack": cell.attack,
        "poison_rate": 0.0 if reference else cell.rate,
        "defense": "p2p" if p2p else "none",
        "selection": p2p.selection if p2p else None,
        "mode": p2p.mode if p2p else None,
        "variant": cell.variant,
        "p2p": p2p.model_dump(mode="json") if p2p else None,
        "training": TRAINED.get(cell.variant, {}),
        "planted": cell.planted,
        "search": SEARCH,
        "mined": [
            {"text": found.text, "z": round(found.z, 1)}
            for found in (outcome.defense.prepared.mined if outcome.defense else [])
        ],
        "seed": matrix.seed,
        "decoding": evaluation.decoding,
        "n_train": outcome.n_train,
        "n_poisoned": 0 if reference else len(experiment.poisoned.ids),
        "n_without_rewrite": experiment.poisoned.without_rewrite,
        "n_subset": outcome.n_subset,
        "n_subset_poisoned": outcome.n_subset_poisoned,
        "n_trusted": len(experiment.trusted) if cell.defense == "anchored" else 0,
        "n_clean": evaluation.clean_accuracy.n,
        "n_triggered": len(experiment.triggered),
    }
    for name in ("clean_accuracy", "attack_success_rate", "floor", "untriggered_rate"):
        measured: Share | None = getattr(evaluation, name)
        record |= share_fields(name, measured)
    record |= _margins(evaluation.margins)
    record["further_backdoors"] = [
        {
            "attack": attack.name,
            "target": attack.target,
            "n_triggered": len(rows),
            **share_fields(
                "attack_success_rate",
                target_rate(
                    outcome.classifier.predict([row.text for row in rows], progress=False),
                    experiment.task.label_index(attack.target),
                    "closed",
                ),
            ),
            **share_fields("floor", floor),
        }
        for (attack, rows), floor in list(zip(backdoors(experiment), floors, strict=False))[1:]
    ]
    return record | provenance(outcome.train_seconds, evaluation.seconds)


def _margins(found: Margins | None) -> dict[str, float | None]:
    """Return the smallest margin to the zero-ASR boundary and the 1st percentile, in nats."""
    record: dict[str, float | None] = {}
    for name in ("minimum", "first_percentile", "median"):
        measured = getattr(found, name) if found else None
        record[f"margin_{name}"] = round(measured.value, 3) if measured else None
        record[f"margin_{name}_low"] = round(measured.low, 3) if measured else None
        record[f"margin_{name}_high"] = round(measured.high, 3) if measured else None
    return record


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cells and render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--suite", choices=["classification", "generation"], default="classification"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--model", default=None, help="folder or hub id; default: SmolLM2-135M")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--kept", type=Path, default=KEPT, help="what is kept between cells")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=None, help="training rows at most")
    parser.add_argument("--clean", type=int, default=None, help="clean test rows")
    parser.add_argument("--triggered", type=int, default=None, help="triggered test rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--only", default="", help="run these cells: names, or parts, a,b")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no cell after")
    parser.add_argument("--list", action="store_true", help="list the cells and stop")
    parser.add_argument("--floors", action="store_true", help="measure missing floors and stop")
    parser.add_argument("--render", action="store_true", help="render the page and stop")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.results.mkdir(parents=True, exist_ok=True)
    if arguments.suite == "generation":
        generation.main(arguments)
        return
    sizes = Sizes(
        usual(arguments.rows, Sizes().train),
        usual(arguments.clean, Sizes().clean),
        usual(arguments.triggered, Sizes().triggered),
    )
    matrix = Matrix(**asked_for(arguments, arguments.suite, sizes, max_length=128))
    if arguments.floors:
        measure_floors(matrix)
        return
    asked = carry_out(
        matrix,
        arguments,
        classification_cells(),
        lambda cell: run_cell(matrix, cell),
        ("CA", "clean_accuracy"),
    )
    if not asked:
        return
    page = arguments.results / f"{arguments.suite}.md"
    first = matrix.first()  # the page shows the others beside it
    floors = read_floors(first.journal, first.settings)
    curve = planted_curve(with_floors(first.lines(), floors))
    if curve:
        write_text_atomic(arguments.results / CURVE, curve)
    write_text_atomic(page, render(first.lines(), classification_cells(), first.again(), floors))
    print(f"page: {page} ({os.path.getsize(page)} bytes)")


if __name__ == "__main__":
    main()
