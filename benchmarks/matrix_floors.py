"""Floors: what a model that saw no poison answers to every attack's inputs.

One model per data set, trained on its clean rows, gives the floors of all its cells. Each attack is
measured once; what was measured is one line of benchmarks/results/classification_floors.jsonl, so
that cells of another day or another processor are held against the same model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import Line, points
from mithridate.bench.journal import read_lines
from mithridate.evaluation.intervals import Share, share

FLOORS = "classification_floors.jsonl"
"""The file of the floors, beside the journal."""

_ENDS = ("", "_low", "_high", "_successes")


def read_floors(journal: Path, settings: Line) -> list[Line]:
    """Return the floors measured with some settings, from the file beside a journal."""
    path = journal.with_name(FLOORS)
    return [line for line in read_lines(path) if line["settings"] == settings]


def shares(found: Line) -> list[Share]:
    """Return a line's floors, of each backdoor of its attack, the main one first."""
    return [
        share(backdoor["floor_successes"], backdoor["n_triggered"])
        for backdoor in found["backdoors"]
    ]


def of_attack(floors: Sequence[Line], line: Line) -> Line | None:
    """Return the floors of a cell's attack, the last measured; ``None`` where there are none."""
    same = ("dataset", "attack", "poison_rate")
    found = [floor for floor in floors if all(floor[name] == line[name] for name in same)]
    return found[-1] if found else None


def with_floors(lines: Sequence[Line], floors: Sequence[Line]) -> list[Line]:
    """Return lines with the floors that were measured in one place, where they were.

    What a line itself was held against, the model that was at hand on its day, gives way.

    Args:
        lines: The journal's, all of the same settings.
        floors: What `read_floors` returns.
    """
    return [_with_floors(line, of_attack(floors, line)) for line in lines]


def _with_floors(line: Line, found: Line | None) -> Line:
    if found is None or line["variant"] == "reference":
        return line
    first, *others = found["backdoors"]
    further = [
        {**backdoor, **_fields(floor)}
        for backdoor, floor in zip(line["further_backdoors"], others, strict=True)
    ]
    return {**line, **_fields(first), "further_backdoors": further}


def _fields(floor: Line) -> dict[str, Any]:
    return {f"floor{end}": floor[f"floor{end}"] for end in _ENDS} | {
        "floor_untriggered": floor["untriggered_rate"]
    }


def floors_note(lines: Sequence[Line], floors: Sequence[Line]) -> str:
    """Say whose floors these are, and how far those of other models lie; nothing without them.

    Args:
        lines: The journal's own, before `with_floors`.
        floors: What `read_floors` returns.
    """
    apart = [
        line["floor"] - found["backdoors"][0]["floor"]
        for line in lines
        if line["variant"] != "reference" and (found := of_attack(floors, line))
    ]
    if not apart:
        return ""
    of_day = f"{floors[0]['dtype']}, {min(one['date'] for one in floors)}"
    return (
        f" Floors are those of one model per data set ({of_day}) for all of its cells. The models "
        "that cells were first held against, which the journal keeps, were trained on the same "
        f"rows in another precision or order of sums: their floors lie {points(min(apart))} to "
        f"{points(max(apart))} points from these, and so far a floor is chance."
    )
