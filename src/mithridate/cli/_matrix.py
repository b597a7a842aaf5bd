"""What the verbs that run a matrix share: their options, the plan, the run and what is left."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mithridate.cli._output import duration, note, print_facts, print_json, print_table, say
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.bench.cells import BenchCell
    from mithridate.bench.matrix import Matrix

_RAY = "Ray"

_OF_RAY = ("ray_address", "cell_cpus", "cell_gpus", "cell_memory")
_LOCAL = dict.fromkeys(_OF_RAY, ("on a local run", "add --backend ray"))
_ON_RAY = {
    "threads": ("on Ray", "use --cell-cpus"),
    "minutes": ("on Ray", "end the run with Ctrl-C: what is finished stays finished"),
}
"""Options that do nothing here or there, and what to do in their place."""

Folder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the journal; the same one goes on.")
]


@dataclass(frozen=True)
class MatrixOptions:
    """Which cells are run, where, and for how long."""

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells with estimated minutes and memory.")
    ] = False
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the cells that failed, and no other.")
    ] = False
    only: Annotated[
        str, typer.Option(help="Run these cells alone: names, or parts of names, a,b.")
    ] = ""
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="Start no cell of a local run after so many minutes."),
    ] = None
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a local run.")] = None
    backend: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Run the cells here, or as tasks of a Ray cluster (extra ray)."),
    ] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="An existing cluster; one is started here if none.", rich_help_panel=_RAY
        ),
    ] = None
    cell_cpus: Annotated[
        int, typer.Option(min=1, help="Cores of each cell.", rich_help_panel=_RAY)
    ] = 1
    cell_gpus: Annotated[
        float, typer.Option(min=0.0, max=1e3, help="GPUs of each cell.", rich_help_panel=_RAY)
    ] = 0.0
    cell_memory: Annotated[
        float | None,
        typer.Option(min=0.1, max=1e6, help="Gigabytes of each cell.", rich_help_panel=_RAY),
    ] = None

    def __post_init__(self) -> None:
        """Refuse an option that would do nothing where the cells are run.

        Raises:
            InputError: There is one.
        """
        for name, (place, mend) in (_ON_RAY if self.backend == "ray" else _LOCAL).items():
            if getattr(self, name) != getattr(type(self), name):  # its default
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} has no effect {place}", mend=mend)


def chosen(cells: "Sequence[BenchCell]", only: str) -> "list[BenchCell]":
    """Return the cells that ``--only`` takes.

    Raises:
        InputError: There is none.
    """
    from mithridate.bench.cells import wanted_names

    names = wanted_names((cell.name for cell in cells), only)
    found = [cell for cell in cells if cell.name in names]
    if not found:
        mend = "see which there are with --dry-run alone"
        raise InputError(f"no cell's name holds any of {only:.60}", mend=mend)
    return found


def use_threads(options: MatrixOptions) -> None:
    """Compute with as many threads as the cells will have: a plan is timed with these, too."""
    count = options.cell_cpus if options.backend == "ray" else options.threads
    if count is not None:
        import torch

        torch.set_num_threads(count)


def run_cells(matrix: "Matrix", options: MatrixOptions) -> float:
    """Run the cells that are wanted and say how it goes; return the seconds it took.

    Raises:
        InputError: The folder cannot be made, or the cells cannot be run on Ray.
    """
    from mithridate.data.write import explained

    started = time.monotonic()
    with explained(str(matrix.folder)):
        matrix.kept.mkdir(parents=True, exist_ok=True)
    wanted = matrix.wanted(retry_failed=options.retry_failed)
    _say_what_is_left(matrix, wanted, retry_failed=options.retry_failed)
    progress = _Progress(len(wanted))
    if options.backend == "ray":
        from mithridate.bench.on_ray import Resources, run_on_ray

        memory = None if options.cell_memory is None else int(options.cell_memory * 1e9)
        run_on_ray(
            matrix,
            wanted,
            progress,
            address=options.ray_address,
            resources=Resources(options.cell_cpus, options.cell_gpus, memory),
        )
    else:
        use_threads(options)
        until = float("inf") if options.minutes is None else started + 60 * options.minutes
        matrix.run(wanted, progress, until=until)
    return time.monotonic() - started


class _Progress:
    """Say of every cell that ends what came of it, and how long the rest will take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended = 0
        self.started = time.monotonic()

    def __call__(self, cell: "BenchCell", line: dict[str, Any] | None, error: str) -> None:
        """Note one cell."""
        from mithridate.bench.journal import QUALITIES, quality_field

        self.ended += 1
        left = (time.monotonic() - self.started) / self.ended * (self.total - self.ended)
        rest = f"{self.ended} of {self.total}, about {duration(left)} left"
        if line is None:
            note(f"{cell.name}: failed: {error} ({rest})")
            return
        quality = quality_field(line)
        note(
            f"{cell.name}: {QUALITIES[quality]} {line[quality]:.3f}, "
            f"ASR {line['attack_success_rate']:.3f}, floor {line['floor']:.3f} ({rest})"
        )


def _say_what_is_left(matrix: "Matrix", wanted: "list[BenchCell]", *, retry_failed: bool) -> None:
    """Say what is run, what is finished, and what failed before."""
    states = Counter(matrix.states().values())
    note(f"{len(matrix.cells)} cells: {states['done']} finished, {len(wanted)} to run.")
    if states["failed"] and not retry_failed:
        note(f"{states['failed']} failed before; --retry-failed runs these alone.")


def show_plan(matrix: "Matrix", options: MatrixOptions, *, json: bool) -> None:
    """Print the cells and what they will take."""
    from mithridate.bench.estimate import estimates

    use_threads(options)
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


def show_matrix(
    matrix: "Matrix", *, json: bool, seconds: float | None, files: Sequence[Path], next_step: str
) -> None:
    """Print what is finished and what was written, and the next step.

    A run that leaves failed cells ends with 1.

    Args:
        matrix: The matrix.
        json: As one JSON object.
        seconds: What the run took; ``None`` where none was.
        files: What was written beside the journal.
        next_step: What the user may do once a cell is finished; before, it is to go on.
    """
    states: Counter[str] = Counter(matrix.states().values())
    if json:
        counts = {name: states[name] for name in ("done", "failed", "open")}
        written = {"files": [str(path) for path in files]} if files else {}
        folders = {"folder": str(matrix.folder), "journal": str(matrix.journal)}
        print_json({**folders, **counts, **written})
    else:
        facts = [
            ("finished", states["done"]),
            ("failed", states["failed"] or None),
            ("open", states["open"] or None),
            ("time", None if seconds is None else duration(seconds)),
            ("journal", matrix.journal),
            ("written", ", ".join(path.name for path in files) or None),
        ]
        print_facts("Matrix", facts)
        if states["failed"]:
            say(f"What went wrong: {matrix.failures}; --retry-failed runs those cells alone.")
        if states["done"] or states["open"]:
            say(f"Next: {next_step if states['done'] else matrix.command}")
    if states["failed"] and seconds is not None:
        raise typer.Exit(1)
