"""What every matrix is run by: cells shared out among processes, lines, reference models."""

import argparse
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from peft import PeftModel

from benchmarks.commit import commit_of_code
from benchmarks.page import Line
from mithridate.bench.cells import wanted_names
from mithridate.bench.journal import append_line, claimed, locked, read_lines
from mithridate.data import default_model_folder, write_text_atomic
from mithridate.defense.config import P2PConfig
from mithridate.inference.backbone import best_device, load_backbone, resolve_precision
from mithridate.tasks.prompt import PromptRenderer
from mithridate.training.config import TrainingConfig


class AnyCell(Protocol):
    """A line of a journal to be."""

    @property
    def name(self) -> str:
        """What tells the cell from the others."""

    def p2p(self) -> P2PConfig | None:
        """Return the settings of the re-poisoning."""


OwnCell = TypeVar("OwnCell", bound=AnyCell)


@dataclass(frozen=True)
class MatrixRun:
    """What all cells of a run share.

    Attributes:
        data: The folder of the data sets.
        model: A folder or hub id.
        sizes: How much of each data set is used, a dataclass.
        training: The settings of the fine-tuning.
        seed: Of the attacker's and the defender's draws.
        journal: Where finished cells are noted.
        kept: What is kept between cells: reference models, features, locks.
    """

    data: Path
    model: str
    sizes: Any
    training: TrainingConfig
    seed: int
    journal: Path
    kept: Path

    @property
    def settings(self) -> Line:
        """Return what makes two runs of a cell the same."""
        chosen = ("rank", "target_modules", "learning_rate", "batch_size", "epochs", "max_length")
        return {
            "model": Path(self.model).name,
            **{f"n_{name}": count for name, count in asdict(self.sizes).items()},
            **{name: self.training.model_dump(mode="json")[name] for name in chosen},
            "seed": self.seed,
        }

    @property
    def tag(self) -> str:
        """Return a hash of the settings, for file names."""
        return hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()[:12]

    def lines(self) -> list[Line]:
        """Return the finished cells of these settings."""
        return [line for line in read_lines(self.journal) if line["settings"] == self.settings]

    def first(self) -> Self:
        """Return the run of the first seed, whose page it is."""
        return replace(self, seed=0)

    def again(self) -> list[Line]:
        """Return the finished cells of the same settings but for the seed."""
        return [
            line
            for line in read_lines(self.journal)
            if line["settings"] != self.settings
            and {**line["settings"], "seed": self.seed} == self.settings
        ]

    def is_done(self, cell: AnyCell) -> bool:
        """Whether a cell is finished.

        Raises:
            ValueError: It was run with another re-poisoning, as when a default changed since: the
                line then needs another name, or it would pass for what it is not.
        """
        config = cell.p2p()
        wanted = config.model_dump(mode="json") if config else None
        lines = [line for line in self.lines() if line["cell"] == cell.name]
        for line in lines:
            found = line.get("p2p")
            if found and found.get("drop", "") is None and wanted:
                # Before the default had a name; where it was another D* the cell is renamed.
                found = {**found, "drop": wanted["drop"]}
            if found != wanted:
                raise ValueError(f"{cell.name} was run with {line.get('p2p')}, not {wanted}")
        return bool(lines)

    def run(
        self,
        cells: Sequence[OwnCell],
        run_cell: Callable[[OwnCell], Line],
        quality: tuple[str, str],
        until: float,
    ) -> None:
        """Run the cells that are not finished and that no other process is at.

        Args:
            cells: In the order to run them.
            run_cell: Trains and measures one cell, and returns its line.
            quality: What the accuracy is called, and its field of a line.
            until: The time, by the monotonic clock, after which no cell is started.
        """
        for cell in cells:
            if time.monotonic() > until:
                print("time is up: the same command goes on", flush=True)
                return
            with claimed(self.kept / f"{self.tag}-{cell.name.replace('/', '-')}.claim") as mine:
                if not mine or self.is_done(cell):
                    continue
                started = time.monotonic()
                record = run_cell(cell)
                append_line(self.journal, record)
                print(
                    f"{datetime.now().strftime('%H:%M:%S')} {cell.name}: "
                    f"{quality[0]} {record[quality[1]]:.3f} "
                    f"ASR {record['attack_success_rate']:.3f} "
                    f"floor {record['floor']:.3f} poisoned in S {record['n_subset_poisoned']} "
                    f"({time.monotonic() - started:.0f} s)",
                    flush=True,
                )

    def reference(
        self, name: str, train: Callable[[], tuple[Any, Line]]
    ) -> tuple[Any, PromptRenderer]:
        """Return the model trained on a data set's clean rows, which gives the floors.

        It is trained once for each data set; a process that comes while another trains it waits.

        Args:
            name: The data set.
            train: Trains it, and returns the model and its line.

        Returns:
            The model with its adapter, and the renderer it was trained with.
        """
        folder = self.kept / f"reference-{name}-{self.tag}"
        adapter, done = folder / "adapter", folder / "done.json"
        with locked(folder / "lock"):
            if not done.exists():
                trained, record = train()
                trained.save_pretrained(str(adapter), safe_serialization=True)
                append_line(self.journal, record)
                write_text_atomic(done, "{}\n")
        backbone = load_backbone(self.model)
        model = PeftModel.from_pretrained(backbone.model, str(adapter)).eval()
        return model, PromptRenderer(backbone.tokenizer, max_length=self.training.max_length)


def provenance(train_seconds: float, eval_seconds: float) -> Line:
    """Return how a line came about, as every line ends."""
    return {
        "train_seconds": round(train_seconds, 1),
        "eval_seconds": round(eval_seconds, 1),
        "threads": torch.get_num_threads(),
        "dtype": str(resolve_precision("auto", best_device())).removeprefix("torch."),
        "device": "CPU" if best_device().type == "cpu" else torch.cuda.get_device_name(),
        "command": shlex.join(["python", "-m", "benchmarks.matrix", *sys.argv[1:]]),
        "version": version("mithridate"),
        "commit": commit_of_code(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def asked_for(
    arguments: argparse.Namespace, suite: str, sizes: Any, max_length: int
) -> dict[str, Any]:
    """Return the fields of a `MatrixRun` that the command line gives.

    Args:
        arguments: What `benchmarks.matrix` parsed.
        suite: Names the journal.
        sizes: How much of each data set is used.
        max_length: Longest prompt in tokens.
    """
    return {
        "data": arguments.data,
        "model": arguments.model or str(default_model_folder()),
        "sizes": sizes,
        "training": TrainingConfig(
            learning_rate=1e-3,
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            max_length=max_length,
            seed=arguments.seed,
        ),
        "seed": arguments.seed,
        "journal": arguments.results / f"{suite}.jsonl",
        "kept": arguments.kept,
    }


def carry_out(
    matrix: MatrixRun,
    arguments: argparse.Namespace,
    cells: Sequence[OwnCell],
    run_cell: Callable[[OwnCell], Line],
    quality: tuple[str, str],
) -> bool:
    """Do what the command line asks of the cells: list them, run them, or neither.

    Args:
        matrix: What they share.
        arguments: What `benchmarks.matrix` parsed.
        cells: All there are.
        run_cell: See `MatrixRun.run`.
        quality: See `MatrixRun.run`.

    Returns:
        Whether the page is to be rendered.
    """
    until = time.monotonic() + 60 * arguments.minutes
    names = wanted_names((cell.name for cell in cells), arguments.only)
    cells = [cell for cell in cells if cell.name in names]
    if arguments.list:
        done = {record["cell"] for record in matrix.lines()}
        for cell in cells:
            print(f"{'done' if cell.name in done else 'open'}  {cell.name}")
        return False
    if not arguments.render:
        matrix.run(cells, run_cell, quality, until)
    return True


def usual(given: int | None, default: int) -> int:
    """Return what was given, else the default."""
    return default if given is None else given
