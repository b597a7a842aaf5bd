"""What the pages of all matrices say in the same words."""

from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]

EXCESS = 0.03
"""The bar: ASR at most this far over its floor."""

USUAL = "bfloat16"
"""The precision of all cells that a page does not mark."""

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
"""How the backdoors of one attack are told apart."""


def excess(line: Line) -> float:
    """Return the ASR over its floor: the worst one, where an attack planted several backdoors."""
    return _excess_alone(worst_backdoor(line))


def backdoors(line: Line) -> list[Line]:
    """Return the rates of each backdoor of a line's attack, the line's own first."""
    return [line, *line.get("further_backdoors", [])]


def worst_backdoor(line: Line) -> Line:
    """Return the rates of a line's backdoor that is farthest over its floor."""
    return max(backdoors(line), key=_excess_alone)


def which_backdoor(line: Line) -> str:
    """Return ", its second backdoor" for the worst of several; nothing where there is one."""
    found = backdoors(line)
    if len(found) == 1:
        return ""
    return f", its {ORDINALS[found.index(worst_backdoor(line))]} backdoor"


def _excess_alone(backdoor: Line) -> float:
    return float(backdoor["attack_success_rate"] - backdoor["floor"])


def backdoor_table(lines: Sequence[Line]) -> str:
    """Return the table of all backdoors of the lines whose attacks plant several, if any."""
    rows = [
        f"| {line['cell']} | its {ordinal} backdoor{_drawing(found)} "
        f"| {interval(found, 'attack_success_rate')} | {interval(found, 'floor')} |"
        for line in lines
        if line.get("further_backdoors")
        for ordinal, found in zip(ORDINALS, backdoors(line), strict=False)
    ]
    head = [
        "Each backdoor of cells with several; the rows above show the one farthest over its floor:",
        "",
        "| cell | backdoor | ASR | floor |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) if rows else ""


def _drawing(backdoor: Line) -> str:
    """Return what a further backdoor is and draws; of the first the line says neither."""
    return f", {backdoor['attack']} → {backdoor['target']}" if "target" in backdoor else ""


def added_by_trigger(backdoor: Line) -> float | None:
    """Return the ASR less the rate without the trigger, where that was measured."""
    untriggered = backdoor.get("untriggered_rate")  # further backdoors and old cells have none
    return None if untriggered is None else float(backdoor["attack_success_rate"] - untriggered)


def marked(words: str, line: Line) -> str:
    """Return words with the precision of a line, if it is not the usual one."""
    precision = line.get("dtype", USUAL)  # lines of before 2026-11-30 do not say theirs
    return words if precision == USUAL else f"{words} in {precision}"


def precision_note(lines: Sequence[Line]) -> str:
    """Return a sentence on the cells of another precision; nothing where there are none."""
    others = ", ".join(sorted({line.get("dtype", USUAL) for line in lines} - {USUAL}))
    if not others:
        return ""
    return (
        f" Computed in {USUAL}, but *in {others}* on a processor that does not multiply in "
        f"{USUAL}, in two to three times the seconds."
    )


def in_subset(line: Line) -> str:
    """Return how many of S's rows are poisoned, of a defense that has an S."""
    if line["n_subset"] is None:
        return "—"
    return f"{line['n_subset_poisoned']} of {line['n_subset']}"


def dates(lines: Sequence[Line]) -> str:
    """Return the days that cells were run on, as "first to last", or the only one."""
    first, last = min(line["date"] for line in lines), max(line["date"] for line in lines)
    return str(first) if first == last else f"{first} to {last}"


def points(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * share:+.1f}"


def interval(line: Line, name: str) -> str:
    """Return a value with its interval."""
    if line[name] is None:
        return "—"
    return f"{line[name]:.3f} [{line[f'{name}_low']:.3f}, {line[f'{name}_high']:.3f}]"


def verdict(defense: str, line: Line, *, is_test: bool) -> str:
    """Return what a cell says of its defense.

    Args:
        defense: ``none``, or how S was chosen.
        line: The cell's.
        is_test: Whether the undefended model learned the backdoor.
    """
    if defense == "none":
        return "" if is_test else "not learned"
    if not is_test:
        return "no test"
    return "holds" if excess(line) <= EXCESS else "misses"
