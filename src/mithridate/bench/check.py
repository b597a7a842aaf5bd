"""What cannot be, told before hours are spent on the other cells: nothing is trained or loaded."""

from collections.abc import Iterable

from mithridate.baselines.base import DefenseMethod
from mithridate.baselines.rewrite import Rewrite
from mithridate.bench.cells import BenchCell
from mithridate.bench.scene import NAME_DATA_SETS, Scene
from mithridate.errors import InputError


def check_cells(cells: Iterable[BenchCell]) -> None:
    """Refuse cells that must fail; each data set is read once.

    Args:
        cells: The cells to be run.

    Raises:
        InputError: The data cannot be read, or do not allow an attack or a defense; it names the
            first such cell.
    """
    scenes: dict[str, Scene] = {}
    seen = set()
    for cell in cells:
        scene = scenes.setdefault(cell.data.name, Scene(cell))
        attack = (cell.data.name, cell.attack.title, cell.rate)
        defense = (cell.data.name, cell.defense.title)
        try:
            if defense not in seen:
                check_defense(cell)
            if attack not in seen:
                scene.check_attack(cell.attack, cell.rate)
        except InputError as error:
            where = f"{cell.name}: {error.where}" if error.where else cell.name
            raise InputError(error.what, where=where, mend=error.mend) from error
        seen |= {attack, defense}


def check_defense(cell: BenchCell) -> DefenseMethod:
    """Return a cell's defense if it can handle the cell's answers.

    Raises:
        InputError: It cannot, or it is to run a program that there is not.
    """
    method = cell.defense.method()
    kind = "labels" if cell.data.task == "classification" else "text"
    if kind not in method.kinds:
        what = f"{method.name} is for {' and '.join(method.kinds)}, and the answers are {kind}"
        raise InputError(what, mend=NAME_DATA_SETS)
    if isinstance(method, Rewrite):
        method.arguments()
    return method
