"""Numbers and times as a reader sees them; every table and figure writes them through here."""

import re

from mithridate.report.model import Share, SystemResult

MISSING = "—"
# A spreadsheet takes what begins so for a formula, and the texts may be an attacker's.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")


def percent(value: float, digits: int = 1) -> str:
    """Write a fraction of 1 as a percentage.

    Args:
        value: Fraction of 1.
        digits: Decimals to keep.

    Returns:
        For instance ``"97.9%"``.
    """
    return f"{100 * value:.{digits}f}%"


def legible(text: str) -> str:
    """Show what cannot be seen, such as zero-width characters, by code: ``no⟨U+200B⟩ne``."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else f"⟨U+{ord(one):04X}⟩" for one in text
    )


def inert(cell: str) -> str:
    """Return a text that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def markdown(text: str) -> str:
    """Keep a text from ending its column or line, and from being markup or a link."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\1", flat)


def clipped(text: str, limit: int) -> str:
    """Return a text that is no longer than so many characters, an ellipsis where it was."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def whole_percent(value: float) -> str:
    """Write a fraction as a whole percentage that never rounds something to nothing or to all."""
    if 0 < value < 0.005:
        return "under 1%"
    if 0.995 < value < 1:
        return "over 99%"
    return percent(value, 0)


def points(difference: float) -> str:
    """Write a difference of two fractions in signed percentage points, for instance ``+1.2``."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "±0.0"  # noqa: RUF001


def nats(value: float) -> str:
    """Write a margin with two decimals and a true minus sign, for instance ``−0.31``."""  # noqa: RUF002
    return f"{value:.2f}".replace("-", "−")  # noqa: RUF001


def interval(share: Share) -> str:
    """Write the 95% interval of a share in percent, for instance ``97.1 to 98.5``."""
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def count(number: int) -> str:
    """Write a count with thousands separated."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """Write a time the way one says it: ``4.2 s``, ``8 min 05 s``, ``2 h 10 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def recipe(system: SystemResult) -> str:
    """Say in words how a system was trained and read, for the line under its name."""
    parts = [
        "no defense" if system.defense == "none" else "P2P",
        f"{system.selection} S" if system.selection else "",
        system.mode or "",
        f"{system.decoding} decoding",
    ]
    return ", ".join(part for part in parts if part)


def subset(system: SystemResult) -> str:
    """Say how many rows of S are poisoned, as far as that is known."""
    if system.n_subset is None:
        return MISSING
    if system.n_subset_poisoned is None:
        return f"unknown of {count(system.n_subset)}"
    return f"{count(system.n_subset_poisoned)} of {count(system.n_subset)}"
