"""The matrix with other seeds: does what misses by chance miss again?"""

from collections.abc import Sequence
from statistics import mean

from benchmarks.page import (
    EXCESS,
    Line,
    excess,
    in_subset,
    interval,
    points,
    which_backdoor,
    worst_backdoor,
)

DEFAULTS = ("agreement", "anchored")
"""The selections that users are given: without trusted rows, and with."""

NOTE = (
    "The draws of both sides and the order of training are others: the poisoned rows, S, the "
    "secrets, the test rows, and the reference model that gives the floor. Run again were the "
    "attacks with inserted triggers up to 10% of which a cell missed by the floor of its day, by "
    "both defaults.\n\n"
    "| cell | seed | CA | ASR | floor | over floor | without it | poisoned in S |\n"
    "|---|---|---|---|---|---|---|---|"
)


def is_default(line: Line) -> bool:
    """Whether a finished cell is of one of the defaults as they are."""
    return line["selection"] in DEFAULTS and not line["variant"]


def with_other_seeds(again: Sequence[Line]) -> list[str]:
    """Say how the cells of other seeds stand to the bar, by both defaults."""
    found = [line for line in again if is_default(line)]
    if not found:
        return []
    met = sum(excess(line) <= EXCESS for line in found)
    attacks = sorted({line["attack"] for line in found})
    return [
        f"- The same with other seeds, {' and '.join(attacks)} alone: {met} of {len(found)} cells, "
        f"{points(mean(excess(line) for line in found))} points on average."
    ]


def elsewhere(name: str, again: Sequence[Line]) -> str:
    """Say what the other seeds of a cell make together, which no miss has chosen."""
    found = [excess(line) for line in again if line["cell"] == name]
    if not found:
        return ""
    return (
        f" With other seeds, which no miss has chosen: {points(mean(found))} points on average "
        f"({', '.join(points(one) for one in found)})."
    )


def seeds_table(lines: Sequence[Line]) -> str:
    """Return the table of the cells that were run with several seeds."""
    runs: dict[str, list[Line]] = {}
    for line in lines:
        if line["variant"] != "reference":
            runs.setdefault(line["cell"], []).append(line)
    rows = [
        f"| {name}{which_backdoor(line)} | {line['seed']} {measured_columns(line)} |"
        for name, several in sorted(runs.items())
        if len({line["seed"] for line in several}) > 1
        for line in several
    ]
    return "\n".join([f"## Again with other seeds\n\n{NOTE}", *rows])


def measured_columns(line: Line) -> str:
    """Return the columns that all tables have, from CA to S: of several backdoors the worst."""
    worst = worst_backdoor(line)
    rate = worst.get("untriggered_rate")  # further backdoors and cells of before have none
    return (
        f"| {interval(line, 'clean_accuracy')} | {interval(worst, 'attack_success_rate')} "
        f"| {interval(worst, 'floor')} | {points(excess(line))} "
        f"| {'—' if rate is None else f'{rate:.3f}'} | {in_subset(line)}"
    )
