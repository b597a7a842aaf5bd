"""What the cells come to, in sentences: the headline, and what qualifies it."""

from collections.abc import Sequence

from mithridate.report import words
from mithridate.report.cells import Cell
from mithridate.report.cells_judged import EXCESS, LEARNED, Group, Study
from mithridate.report.words import clipped, legible

_MOST_NAMES = 6


def headline(study: Study) -> str:
    """Say in one sentence what the cells show.

    Args:
        study: The cells.
    """
    if not study.cells:
        return "No cell is finished."
    every = Group(study.cells)
    if not every.tests:
        return "No cell is a test of a defense yet."
    bar = f"the ASR is at most {100 * EXCESS:.0f} points over its floor"
    one = "test" if every.tests == 1 else "tests"
    return f"In {words.count(every.held)} of {words.count(every.tests)} {one} of a defense {bar}."


def qualifications(study: Study) -> list[str]:
    """Say what was counted, and what keeps which cells from saying anything.

    Args:
        study: The cells.
    """
    found = []
    if study.cells:
        found.append(_counts([judged.cell for judged in study.cells]))
    for verdict, what in (
        (
            "no test",
            f"no test of a defense, as the undefended model's ASR is less than "
            f"{100 * LEARNED:.0f} points over its floor",
        ),
        (
            "not learned",
            f"undefended and did not learn the backdoor (less than {100 * LEARNED:.0f} points over "
            "the floor)",
        ),
        (
            "no undefended",
            "not judged, as no journal holds the undefended model of the same training and seed",
        ),
        ("no floor", "without a floor or a stand-in for one, so that the ASR means nothing"),
    ):
        cells = [judged.cell for judged in study.cells if judged.verdict == verdict]
        if cells:
            attacks = sorted({f"{cell.dataset} {cell.attack}" for cell in cells})
            found.append(f"{_cells(len(cells))} {what}: {some(attacks)}.")
    stand_in = sum(judged.cell.against == "untriggered_rate" for judged in study.cells)
    if stand_in:
        found.append(
            f"{_cells(stand_in)} read against the model's own rate without the trigger: no model "
            "was trained without the poison."
        )
    if study.cells and not any(len(group.members) > 1 for group in study.by_seed()):
        found.append("Every cell was run with one seed: small differences mean nothing.")
    for journal in study.journals:
        if journal.torn:
            lines = ", ".join(map(str, journal.torn[:_MOST_NAMES]))
            found.append(
                f"Left out of {legible(journal.name)}: {len(journal.torn)} torn by a crash "
                f"(line {lines}{', ...' if len(journal.torn) > _MOST_NAMES else ''})."
            )
    if study.superseded:
        found.append(
            f"{_lines(study.superseded)} left out, as a later one is of the same cell, seed and "
            "settings."
        )
    return found


def _counts(cells: Sequence[Cell]) -> str:
    parts = [_count(len({cell.attack for cell in cells}), "attack")]
    parts.append(_count(len({cell.label for cell in cells if not cell.is_undefended}), "defense"))
    parts.append(_count(len({cell.dataset for cell in cells}), "data set"))
    parts.append(_count(len({cell.model for cell in cells}), "model"))
    parts.append(_count(len({cell.seed for cell in cells}), "seed"))
    return f"{_count(len(cells), 'cell')}: {', '.join(parts)}."


def _count(number: int, what: str) -> str:
    return f"{words.count(number)} {what}{'' if number == 1 else 's'}"


def _cells(number: int) -> str:
    return f"{_count(number, 'cell')} {'is' if number == 1 else 'are'}"


def _lines(number: int) -> str:
    return f"{_count(number, 'line')} {'is' if number == 1 else 'are'}"


def some(names: Sequence[str]) -> str:
    """Name the first few, and say how many more there are."""
    shown = [clipped(legible(name), 60) for name in names[:_MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {words.count(more)} more" if more else "")
