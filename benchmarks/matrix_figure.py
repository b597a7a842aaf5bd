"""The curve of the matrix: what the ASR does as poisoned rows enter S."""

import io
from collections.abc import Sequence
from typing import Any

from benchmarks.page import Line

COLOURS = ("#0072b2", "#d55e00")
"""Told apart by every kind of colour blindness (Okabe and Ito)."""

BESIDE = 0.3
"""Room at both sides of the points."""


def planted_curve(lines: Sequence[Line]) -> str | None:
    """Draw ASR over its floor against the number of poisoned rows in S, as an SVG file's text.

    Args:
        lines: The finished cells; those with oracle selection and no variant are drawn, the ones
            without a planted row at 0.

    Returns:
        The SVG; ``None`` where no row was planted in any cell.
    """
    drawn = [line for line in lines if line["selection"] == "oracle" and not line["variant"]]
    attacks = list(dict.fromkeys(line["attack"] for line in drawn if line["planted"]))
    if not attacks:
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: Any = {"svg.hashsalt": "mithridate", "font.size": 10, "svg.fonttype": "none"}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        for attack, colour in zip(attacks, COLOURS, strict=False):
            own = sorted(
                (line for line in drawn if line["attack"] == attack and line["dataset"] == "sst2"),
                key=lambda line: line["planted"],
            )
            counts = [line["planted"] for line in own]
            over = [100 * (line["attack_success_rate"] - line["floor"]) for line in own]
            below, above = (
                [
                    100 * abs(line[f"attack_success_rate{end}"] - line["attack_success_rate"])
                    for line in own
                ]
                for end in ("_low", "_high")
            )
            label = f"{attack} {own[0]['poison_rate']:.0%}"
            axes.errorbar(
                counts, over, (below, above), color=colour, marker="o", capsize=3, label=label
            )
        axes.axhline(3, color="#666666", linestyle=":", linewidth=1)
        axes.annotate("the bar: 3 points", (0, 3), (4, 4), textcoords="offset points", size=8)
        axes.set_xscale("symlog", linthresh=1)
        ticks = sorted({line["planted"] for line in drawn})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlim(-BESIDE, (1 + BESIDE) * ticks[-1])  # to the left the scale is linear
        axes.minorticks_off()
        size = drawn[0]["n_subset"]
        axes.set_xlabel(f"poisoned rows among the {size} of S, put in on purpose")
        axes.set_ylabel("ASR over its floor (points)")
        axes.legend(frameon=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()
