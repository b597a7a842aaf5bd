"""The zero-ASR boundary of the matrix's cells: the smallest margins, and what ASR they rule out."""

from collections.abc import Sequence

from benchmarks.page import Line
from mithridate.evaluation.intervals import certificate

NOTE = (
    "Margin: log p(best label but the target's) - log p(the target's), in nats, of each triggered "
    "input; the boundary holds on a set whose smallest margin is positive "
    "([what that means](../../docs/zero_asr_boundary.md)). No classifier with a floor above 0 "
    "reaches it: inputs that the model gets wrong without any trigger have negative margins. "
    "Brackets: bootstrap, 95%. Last column: with 95% confidence the ASR on this distribution is "
    "below it (Clopper-Pearson, one-sided).\n\n"
    "| cell | smallest margin | 1st percentile | median | boundary | ASR below |\n"
    "|---|---|---|---|---|---|"
)


def boundary_table(lines: Sequence[Line]) -> str:
    """Return the table of the cells whose margins were measured.

    Args:
        lines: Finished cells, in the order to show them.
    """
    rows = [
        f"| {line['cell']} | {_nats(line, 'minimum')} | {_nats(line, 'first_percentile')} "
        f"| {_nats(line, 'median')} | {'holds' if line['margin_minimum'] > 0 else 'does not hold'} "
        f"| {certificate(line['attack_success_rate_successes'], line['n_triggered']).bound:.3f} |"
        for line in lines
        if line.get("margin_minimum") is not None
    ]
    return "\n".join([NOTE, *rows]) if rows else ""


def _nats(line: Line, name: str) -> str:
    low, high = (line[f"margin_{name}_{end}"] for end in ("low", "high"))
    return f"{line[f'margin_{name}']:.2f} [{low:.2f}, {high:.2f}]"
