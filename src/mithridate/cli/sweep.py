"""``mithridate sweep``: the paper's figures, one thing varied at a time, with bands over seeds."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mithridate.cli._matrix import (
    Backend,
    CellCpus,
    CellGpus,
    CellMemory,
    DryRun,
    Folder,
    Means,
    Minutes,
    Only,
    RayAddress,
    RetryFailed,
    Threads,
    chosen,
    run_cells,
    show_matrix,
    show_plan,
)
from mithridate.cli._options import Json
from mithridate.cli._output import note
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.bench.matrix import Matrix
    from mithridate.bench.sweep import Sweep

PAGE, DATA = "sweep.md", "sweep.csv"


def sweep(
    config: Annotated[
        Path, typer.Argument(help="A matrix and what is varied, a YAML file (docs/sweep.md).")
    ],
    output: Folder = Path("sweep"),
    render: Annotated[
        bool, typer.Option("--render", help="Draw from the journal alone; run nothing.")
    ] = False,
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    only: Only = "",
    minutes: Minutes = None,
    threads: Threads = None,
    backend: Backend = "local",
    ray_address: RayAddress = None,
    cell_cpus: CellCpus = 1,
    cell_gpus: CellGpus = 0.0,
    cell_memory: CellMemory = None,
    json: Json = False,
) -> None:
    """Vary poison, benign share, rank and layers one at a time, and draw what that does.

    Figures of confidence, CA, ASR and its floor as SVG, with bands of one standard deviation over
    seeds, the numbers behind them as CSV. Cut off at any moment, the same command goes on.
    """
    from mithridate.cli._inputs import require_drawing, require_model_extra

    require_model_extra()
    if not dry_run:
        require_drawing()
    from mithridate.bench.matrix import Matrix, check_folder
    from mithridate.bench.sweep import plan, read_sweep, sweep_cells
    from mithridate.cli._output import quiet_libraries

    quiet_libraries()
    sweeps = plan(read_sweep(config))
    command = shlex.join(["mithridate", "sweep", str(config), "-o", str(output)])
    whole = Matrix(sweep_cells(sweeps), output, command)
    if render:
        _check_journal(whole)
        _show(whole, sweeps, command, seconds=None, json=json)
        return
    part = Matrix(chosen(whole.cells, only), output, command)
    check_folder(output)
    if dry_run:
        show_plan(part, json=json)
        return
    means = Means(backend, ray_address, cell_cpus, cell_gpus, cell_memory, minutes, threads)
    seconds = run_cells(part, means, retry_failed=retry_failed)
    _show(whole, sweeps, command, seconds=seconds, json=json)


def _check_journal(matrix: "Matrix") -> None:
    """Refuse to draw from nothing.

    Raises:
        InputError: No cell of the sweep is finished.
    """
    if "done" not in matrix.states().values():
        mend = "run the sweep without --render first, with the same files and version"
        what = "no cell of this sweep is finished, so there is nothing to draw"
        raise InputError(what, where=str(matrix.journal), mend=mend)


def _show(
    matrix: "Matrix", sweeps: "list[Sweep]", command: str, *, seconds: float | None, json: bool
) -> None:
    """Draw what is finished, and say what there is."""
    files = _written(matrix, sweeps, command)
    if files:
        next_step = f"open {matrix.folder / PAGE}"
    else:
        note("No cell is finished yet, so no figure is drawn.")
        next_step = command
    show_matrix(matrix, json=json, seconds=seconds, files=files, next_step=next_step)


def _written(matrix: "Matrix", sweeps: "list[Sweep]", command: str) -> list[Path]:
    """Write figures, data and page; nothing where no cell is finished."""
    from mithridate.bench.sweep_figures import TITLES, Results, sweep_figures
    from mithridate.data.write import write_text_atomic
    from mithridate.report.sweep import render_csv, render_markdown
    from mithridate.report.sweep_figures import draw

    if "done" not in matrix.states().values():
        return []
    results = Results.of(matrix)
    figures = sweep_figures(sweeps, results)
    missing = results.missing(matrix.cells)
    texts = {f"{figure.name}.svg": draw(figure) for figure in figures}
    texts[DATA] = render_csv(figures)
    texts[PAGE] = render_markdown(figures, command, missing)
    for name, text in texts.items():
        write_text_atomic(matrix.folder / name, text)
    for name in TITLES:  # one that an earlier configuration of this folder had
        if f"{name}.svg" not in texts:
            (matrix.folder / f"{name}.svg").unlink(missing_ok=True)
    return [matrix.folder / name for name in texts]
