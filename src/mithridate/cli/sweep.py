"""``mithridate sweep``: the paper's figures, one thing varied at a time, with bands over seeds."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mithridate.cli._matrix import (
    Folder,
    MatrixOptions,
    chosen,
    run_cells,
    show_matrix,
    show_plan,
)
from mithridate.cli._options import Json, spread
from mithridate.cli._output import note
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.bench.matrix import Matrix
    from mithridate.bench.sweep import Sweep

PAGE, DATA = "sweep.md", "sweep.csv"


@spread
def sweep(
    config: Annotated[
        Path, typer.Argument(help="A matrix and what is varied, a YAML file (docs/sweep.md).")
    ],
    *,
    output: Folder = Path("sweep"),
    render: Annotated[
        bool, typer.Option("--render", help="Draw from the journal alone; run nothing.")
    ] = False,
    options: MatrixOptions,
    json: Json = False,
) -> None:
    """Vary poison, benign share, rank and layers one at a time, and draw what that does.

    Figures of confidence, CA, ASR and its floor as SVG, with bands of one standard deviation over
    seeds, the numbers behind them as CSV. Cut off at any moment, the same command goes on.
    """
    from mithridate.cli._inputs import require_drawing, require_model_extra

    require_model_extra()
    if not options.dry_run:
        require_drawing()
    from mithridate.bench.check import check_cells
    from mithridate.bench.config import check_files
    from mithridate.bench.matrix import Matrix, check_folder
    from mithridate.bench.sweep import plan, read_sweep, sweep_cells
    from mithridate.cli._output import quiet_libraries

    quiet_libraries()
    swept = read_sweep(config)
    check_files(swept, config)
    sweeps = plan(swept)
    command = shlex.join(["mithridate", "sweep", str(config), "-o", str(output)])
    whole = Matrix(sweep_cells(sweeps), output, command)
    if render:
        _show(whole, sweeps, command, seconds=None, json=json)
        return
    part = Matrix(chosen(whole.cells, options.only), output, command)
    check_folder(output)
    check_cells(part.cells)
    if options.dry_run:
        show_plan(part, options, json=json)
        return
    seconds = run_cells(part, options)
    _show(whole, sweeps, command, seconds=seconds, json=json)


def _show(
    matrix: "Matrix", sweeps: "list[Sweep]", command: str, *, seconds: float | None, json: bool
) -> None:
    """Draw what is finished, and say what there is.

    Raises:
        InputError: Nothing was run, and no cell of the sweep is finished.
    """
    files = _written(matrix, sweeps, command)
    if not files and seconds is None:
        mend = "run the sweep without --render first, with the same files and version"
        what = "no cell of this sweep is finished, so there is nothing to draw"
        raise InputError(what, where=str(matrix.journal), mend=mend)
    if not files:
        note("No cell is finished yet, so no figure is drawn.")
    next_step = f"open {matrix.folder / PAGE}"
    show_matrix(matrix, json=json, seconds=seconds, files=files, next_step=next_step)


def _written(matrix: "Matrix", sweeps: "list[Sweep]", command: str) -> list[Path]:
    """Write figures, data and page; nothing where no cell is finished."""
    from mithridate.bench.sweep_figures import TITLES, Results, sweep_figures
    from mithridate.data.write import write_text_atomic
    from mithridate.report.sweep import render_csv, render_markdown
    from mithridate.report.sweep_figures import draw

    results = Results.of(matrix)
    if not results.finished(cell.mark for cell in matrix.cells):
        return []
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
