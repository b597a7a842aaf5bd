"""``mithridate bench``: attacks by defenses by data sets by models, one journal line a cell."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

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


@spread
def bench(
    config: Annotated[Path, typer.Argument(help="The matrix, a YAML file (docs/bench.md).")],
    *,
    output: Folder = Path("bench"),
    options: MatrixOptions,
    json: Json = False,
) -> None:
    """Run every attack against every defense: a matrix with one journal line a finished cell.

    What is finished stays finished: cut off at any moment, the same command goes on. The same
    command in several terminals shares the cells out among them.
    """
    from mithridate.cli._inputs import require_model_extra

    require_model_extra()
    from mithridate.bench.cells import matrix_cells
    from mithridate.bench.check import check_cells
    from mithridate.bench.config import check_files, read_config
    from mithridate.bench.matrix import Matrix, check_folder
    from mithridate.cli._output import quiet_libraries

    quiet_libraries()
    matrix_config = read_config(config)
    check_files(matrix_config, config)
    cells = chosen(matrix_cells(matrix_config), options.only)
    check_folder(output)
    check_cells(cells)
    matrix = Matrix(cells, output, shlex.join(["mithridate", *sys.argv[1:]]))
    if options.dry_run:
        show_plan(matrix, options, json=json)
        return
    seconds = run_cells(matrix, options)
    next_step = f"mithridate report {matrix.journal}"
    show_matrix(matrix, json=json, seconds=seconds, files=(), next_step=next_step)
