"""``mithridate bench``: attacks by defenses by data sets by models, one journal line a cell."""

import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mithridate.cli._options import Json
from mithridate.cli._output import duration, note, print_facts, print_json, print_table, say
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.bench.cells import BenchCell
    from mithridate.bench.matrix import Matrix

_RAY = "Ray"


def bench(
    config: Annotated[Path, typer.Argument(help="The matrix, a YAML file (docs/bench.md).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the journal; the same one goes on.")
    ] = Path("bench"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells with estimated minutes and memory.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the cells that failed, and no other.")
    ] = False,
    only: Annotated[
        str, typer.Option(help="Run the cells alone whose name holds one of these, a,b.")
    ] = "",
    minutes: Annotated[
        float | None, typer.Option(help="Start no cell after so many minutes.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a local run.")] = None,
    backend: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Run the cells here, or as tasks of a Ray cluster (extra ray)."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="An existing cluster; one is started here if none.", rich_help_panel=_RAY
        ),
    ] = None,
    cell_cpus: Annotated[
        int, typer.Option(min=1, help="Cores of each cell.", rich_help_panel=_RAY)
    ] = 1,
    cell_gpus: Annotated[
        float, typer.Option(min=0.0, help="GPUs of each cell.", rich_help_panel=_RAY)
    ] = 0.0,
    cell_memory: Annotated[
        float | None,
        typer.Option(min=0.1, help="Gigabytes of each cell.", rich_help_panel=_RAY),
    ] = None,
    json: Json = False,
) -> None:
    """Run every attack against every defense: a matrix with one journal line a finished cell.

    What is finished stays finished: cut off at any moment, the same command goes on. The same
    command in several terminals shares the cells out among them.
    """
    from mithridate.cli._inputs import require_model_extra

    require_model_extra()
    from mithridate.bench.cells import matrix_cells
    from mithridate.bench.config import read_config
    from mithridate.bench.matrix import Matrix, check_folder
    from mithridate.cli._output import quiet_libraries

    quiet_libraries()
    started = time.monotonic()
    settings = read_config(config)
    cells = matrix_cells(settings)
    parts = [part for part in only.split(",") if part]
    cells = [cell for cell in cells if not parts or any(part in cell.name for part in parts)]
    if not cells:
        raise InputError("no cell is left to run", mend="see which there are with --dry-run")
    check_folder(output)
    matrix = Matrix(cells, output, shlex.join(["mithridate", *sys.argv[1:]]))
    if dry_run:
        _show_plan(matrix, json=json)
        return
    matrix.kept.mkdir(parents=True, exist_ok=True)
    wanted = matrix.wanted(retry_failed=retry_failed)
    _say_what_is_left(matrix, wanted, retry_failed=retry_failed)
    progress = _Progress(len(wanted))
    if backend == "ray":
        from mithridate.bench.on_ray import Resources, run_on_ray

        memory = None if cell_memory is None else int(cell_memory * 1e9)
        run_on_ray(
            matrix,
            wanted,
            progress,
            address=ray_address,
            resources=Resources(cell_cpus, cell_gpus, memory),
        )
    else:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        until = float("inf") if minutes is None else started + 60 * minutes
        matrix.run(wanted, progress, until=until)
    _show(matrix, json=json, seconds=time.monotonic() - started)


class _Progress:
    """Say of every cell that ends what came of it, and how long the rest will take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended = 0
        self.started = time.monotonic()

    def __call__(self, cell: "BenchCell", line: dict[str, Any] | None, error: str) -> None:
        """Note one cell."""
        self.ended += 1
        left = (time.monotonic() - self.started) / self.ended * (self.total - self.ended)
        rest = f"{self.ended} of {self.total}, about {duration(left)} left"
        if line is None:
            note(f"{cell.name}: failed: {error} ({rest})")
            return
        quality = "clean_accuracy" if "clean_accuracy" in line else "utility"
        note(
            f"{cell.name}: {'CA' if quality == 'clean_accuracy' else 'utility'} "
            f"{line[quality]:.3f}, ASR {line['attack_success_rate']:.3f}, "
            f"floor {line['floor']:.3f} ({rest})"
        )


def _say_what_is_left(matrix: "Matrix", wanted: "list[BenchCell]", *, retry_failed: bool) -> None:
    """Say what is run, what is finished, and what failed before."""
    states = Counter(matrix.states().values())
    note(f"{len(matrix.cells)} cells: {states['done']} finished, {len(wanted)} to run.")
    if states["failed"] and not retry_failed:
        note(f"{states['failed']} failed before; --retry-failed runs these alone.")


def _show_plan(matrix: "Matrix", *, json: bool) -> None:
    """Print the cells and what they will take."""
    from mithridate.bench.estimate import estimates

    found = estimates(matrix.cells, matrix.journal)
    states = matrix.states()
    plan = [
        {
            "cell": cell.name,
            "state": states[cell.mark],
            "minutes": round(own.minutes, 1),
            "gigabytes": round(own.gigabytes, 1),
            "measured": own.measured,
        }
        for cell, own in zip(matrix.cells, found, strict=True)
    ]
    left = sum(row["minutes"] for row in plan if row["state"] == "open")  # type: ignore[misc]
    if json:
        print_json({"cells": plan, "minutes_left": round(left, 1)})
        return
    print_table(
        "Cells",
        ("cell", "state", "minutes", "GB"),
        (
            (str(row["cell"]), str(row["state"]), f"{row['minutes']}", f"{row['gigabytes']}")
            for row in plan
        ),
    )
    measured = sum(bool(row["measured"]) for row in plan)
    say(f"About {duration(60 * left)} for what is open; {measured} of {len(plan)} from cells run.")


def _show(matrix: "Matrix", *, json: bool, seconds: float) -> None:
    """Print what is finished, and the next step."""
    states: Counter[str] = Counter(matrix.states().values())
    if json:
        counts = {name: states[name] for name in ("done", "failed", "open")}
        print_json({"folder": str(matrix.folder), "journal": str(matrix.journal), **counts})
    else:
        facts = [
            ("finished", states["done"]),
            ("failed", states["failed"] or None),
            ("open", states["open"] or None),
            ("time", duration(seconds)),
            ("journal", matrix.journal),
        ]
        print_facts("Matrix", facts)
        if states["failed"]:
            say(f"What went wrong: {matrix.failures}; --retry-failed runs those cells alone.")
        say(f"Next: mithridate report {matrix.journal}")
    if states["failed"]:
        raise typer.Exit(1)
