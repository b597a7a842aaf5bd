"""Attacks on generated outputs by defenses; run it as ``benchmarks.matrix --suite generation``.

Each finished cell is one line of benchmarks/results/generation.jsonl. Floors come from a model
trained on the same rows without the poison, one for each data set; of BackdoorLLM's sets, whose
poisoned rows nobody has unpoisoned, on the clean half alone.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generation_cells import (
    GenerationCell,
    Material,
    Sizes,
    generation_cells,
)
from benchmarks.generation_page import render
from benchmarks.runs import MatrixRun, asked_for, carry_out, provenance, usual
from mithridate.bench.journal import share_fields
from mithridate.bench.text_experiment import TextExperiment, TextOutcome
from mithridate.data import write_text_atomic
from mithridate.defense.association import triggers
from mithridate.evaluation.evaluate_text import Mean
from mithridate.evaluation.intervals import Share, share
from mithridate.inference.answerer import Answerer

NAME = "generation"


@dataclass(frozen=True)
class GenerationMatrix(MatrixRun):
    """A run of the cells of generated outputs."""

    sizes: Sizes

    def material(self, cell: GenerationCell) -> Material:
        """Return a cell's data set under its attack."""
        return Material(cell.dataset, cell.attack, self.data, self.sizes, self.seed)

    def experiment(self, material: Material) -> TextExperiment:
        """Return what a cell trains and tests on."""
        return TextExperiment(
            model=self.model,
            task=material.task,
            clean=material.clean,
            poisoned=material.poisoned,
            test=material.test,
            triggered=material.triggered,
            rule=material.attack.succeeds,
            training=self.training,
            seed=self.seed,
        )


def run_cell(matrix: GenerationMatrix, cell: GenerationCell) -> dict[str, Any]:
    """Train and measure one cell, and return its line."""
    material = matrix.material(cell)
    experiment = matrix.experiment(material)
    floor = _known_floor(matrix, cell) or experiment.floor_of(
        reference_model(matrix, cell, material, experiment), quiet=True
    )
    arm = experiment.run(
        "undefended" if cell.defense == "none" else "p2p", cell.p2p(), floor=floor, quiet=True
    )
    return line(matrix, cell, material, arm, floor)


def _known_floor(matrix: GenerationMatrix, cell: GenerationCell) -> Share | None:
    """Return the floor that a finished cell of the same attack was measured against.

    Or the rate of the reference model itself, where it was trained for a cell of that attack: its
    line stays when its adapter is gone.
    """
    for found in matrix.lines():
        same = (found["dataset"], found["attack"]) == (cell.dataset, cell.attack)
        name = "attack_success_rate" if found["variant"] == "reference" else "floor"
        if same and found[name] is not None:
            return share(found[f"{name}_successes"], found["n_triggered"])
    return None


def reference_model(
    matrix: GenerationMatrix, cell: GenerationCell, material: Material, experiment: TextExperiment
) -> Answerer:
    """Return the model trained on the data set's clean rows, which gives the floors.

    Of BackdoorLLM's sets each attack left other rows clean; the first attack's are taken.
    """

    def train() -> tuple[Any, dict[str, Any]]:
        outcome = experiment.run("reference", quiet=True)
        reference = GenerationCell(cell.dataset, cell.attack, "none")
        record = line(matrix, reference, material, outcome, None, reference=True)
        return outcome.model, record

    model, renderer = matrix.reference(cell.dataset, train)
    return Answerer.local(model, renderer, max_new_tokens=material.task.max_new_tokens)


def line(
    matrix: GenerationMatrix,
    cell: GenerationCell,
    material: Material,
    outcome: TextOutcome,
    floor: Share | None,
    *,
    reference: bool = False,
) -> dict[str, Any]:
    """Return a finished cell as a line of the journal (DESIGN.md, result files)."""
    measured, prepared, p2p = outcome.evaluation, outcome.prepared, cell.p2p()
    subset = prepared.subset if prepared else None
    record: dict[str, Any] = {
        "suite": NAME,
        "cell": f"{cell.dataset}/reference" if reference else cell.name,
        "settings": matrix.settings,
        "task": material.task.name,
        "dataset": cell.dataset,
        "model": Path(matrix.model).name,
        "attack": cell.attack,
        "target": material.attack.target,
        "poison_rate": 0.0 if reference else material.rate,
        "defense": "p2p" if p2p else "none",
        "selection": p2p.selection if p2p else None,
        "mode": p2p.mode if p2p else None,
        "variant": "reference" if reference else "",
        "p2p": p2p.model_dump(mode="json") if p2p else None,
        "suspected": [one.text for one in triggers(prepared.found)] if prepared else [],
        "seed": matrix.seed,
        "n_train": outcome.n_train,
        "n_cut": outcome.cut,
        "n_cut_answers": outcome.cut_answers,
        "n_poisoned": 0 if reference else len(material.poisoned.ids),
        "n_subset": len(subset.ids) if subset else None,
        "n_subset_poisoned": subset.poisoned(material.poisoned.ids) if subset else None,
        "n_dropped": prepared.dropped if prepared else None,
        "n_counter": prepared.counter_copies if prepared else None,
        "n_clean": measured.utility.n,
        "n_triggered": len(material.triggered),
        "utility_metric": measured.metric,
        **_mean_fields("utility", measured.utility),
        **_mean_fields("log_likelihood", measured.log_likelihood),
        "facts": measured.facts,
        **share_fields("attack_success_rate", measured.attack_success_rate),
        **share_fields("floor", floor),
        **share_fields("untriggered_rate", measured.untriggered_rate),
        "refused_rate": outcome.refused_rate.value if outcome.refused_rate else None,
        "flag_auroc": measured.flag.auroc if measured.flag else None,
        "flag_auroc_low": measured.flag.auroc_low if measured.flag else None,
        "flag_auroc_high": measured.flag.auroc_high if measured.flag else None,
        **share_fields(
            "flag_at_1_percent", measured.flag.at_false_alarms if measured.flag else None
        ),
        "flagged_clean": outcome.flagged_clean,
        "flagged_triggered": outcome.flagged_triggered,
        "empty": sum(not text for text in measured.clean.texts),
        "cut_outputs": measured.clean.cut_outputs,
    }
    return record | provenance(outcome.train_seconds, measured.seconds)


def _mean_fields(name: str, mean: Mean) -> dict[str, float]:
    return {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}


def main(arguments: argparse.Namespace) -> None:
    """Run the cells and render the page; `benchmarks.matrix` parses the arguments."""
    sizes = Sizes(usual(arguments.rows, Sizes().train), usual(arguments.clean, Sizes().test))
    matrix = GenerationMatrix(**asked_for(arguments, NAME, sizes, max_length=320))
    cells = generation_cells()
    quality = ("utility", "utility")
    if carry_out(matrix, arguments, cells, lambda cell: run_cell(matrix, cell), quality):
        page = arguments.results / f"{NAME}.md"
        write_text_atomic(page, render(matrix.first().lines(), cells))
        print(f"page: {page}")
