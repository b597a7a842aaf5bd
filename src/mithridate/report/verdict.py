"""The report's verdict: one plain sentence with the numbers, and what qualifies it."""

from dataclasses import dataclass
from typing import Literal

from mithridate.report.model import Report, Share, SystemResult
from mithridate.report.words import count, percent, points, whole_percent

Tone = Literal["plain", "attack", "defense"]

# The order in which a user would deploy them. The headline follows it, never the lowest ASR: to
# pick the best of several measured rates would flatter the defense.
_PREFERRED = ("anchored", "agreement", "random")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the headline, with the tone its numbers deserve."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The headline in pieces, and the sentences that qualify it."""

    headline: tuple[Piece, ...]
    details: tuple[str, ...]

    def __str__(self) -> str:
        """Return the headline as plain text."""
        return "".join(piece.text for piece in self.headline)


def judge(report: Report) -> Verdict:
    """Say what the report shows.

    Args:
        report: The report.

    Returns:
        The headline and its qualifications. It speaks of the first undefended system and of the
        first defended one in the order a user would deploy them.
    """
    undefended = next((s for s in report.systems if s.defense == "none"), None)
    defended = _deployed([s for s in report.systems if s.defense == "p2p"])
    details: list[str] = []
    if undefended and not _is_steered(undefended):
        details.append(
            "The attack did not take on the undefended model: its ASR is not above its reference, "
            "so these figures say nothing about the defense."
        )
    if defended:
        details += _leak(defended)
        if undefended:
            details.append(_cost(undefended, defended))
        if defended.n_subset is not None and defended.n_subset_poisoned is not None:
            details.append(_purity(defended))
    others = [s for s in report.systems if s.defense == "p2p" and s is not defended]
    details += [_other(system) for system in others]
    return Verdict(tuple(_headline(undefended, defended)), tuple(details))


def reference(system: SystemResult) -> Share:
    """Return what an ASR is read against: the floor, or failing it the untriggered rate."""
    return system.floor if system.floor is not None else system.untriggered_rate


def excess(system: SystemResult) -> str:
    """Say how far the ASR lies from its reference, in points; empty when one was not measured."""
    asr, base = system.attack_success_rate, reference(system)
    if not asr.n or not base.n:
        return ""
    name = "floor" if system.floor is not None else "untriggered"
    difference = asr.value - base.value
    return f"{abs(100 * difference):.1f} pts {'over' if difference >= 0 else 'under'} {name}"


def _deployed(systems: list[SystemResult]) -> SystemResult | None:
    for selection in _PREFERRED:
        for system in systems:
            if system.selection == selection:
                return system
    return systems[0] if systems else None


def _is_steered(system: SystemResult) -> bool:
    return system.attack_success_rate.low > reference(system).high


def _headline(undefended: SystemResult | None, defended: SystemResult | None) -> list[Piece]:
    pieces: list[Piece] = []
    if undefended:
        pieces += [
            Piece("With the trigger, the undefended model gave the attacker’s answer to "),  # noqa: RUF001
            Piece(_rate(undefended), "attack"),
            Piece(" of inputs" if undefended.attack_success_rate.n else ""),
        ]
    if defended:
        choice = f" with {defended.selection} selection" if defended.selection else ""
        lead = "; after P2P" if undefended else "With the trigger, the model trained by P2P"
        verb = ", to " if undefended else " gave the attacker’s answer to "  # noqa: RUF001
        tone: Tone = "attack" if _is_steered(defended) else "defense"
        pieces += [Piece(f"{lead}{choice}{verb}"), Piece(_rate(defended), tone)]
        pieces += _against(defended)
    elif undefended:
        pieces += _against(undefended)
    return [*pieces, Piece(".")]


def _rate(system: SystemResult) -> str:
    asr = system.attack_success_rate
    return whole_percent(asr.value) if asr.n else "an unmeasured share"


def _against(system: SystemResult) -> list[Piece]:
    base = reference(system)
    if not base.n:
        return []
    if system.floor is None:
        return [
            Piece(", where without the trigger it gives that answer to "),
            Piece(whole_percent(base.value)),
        ]
    return [
        Piece(", where a model that never saw the poison gives it to "),
        Piece(whole_percent(base.value)),
    ]


def _leak(system: SystemResult) -> list[str]:
    asr, base = system.attack_success_rate, reference(system)
    if not asr.n or not base.n:
        return []
    name = "its floor" if system.floor is not None else "its rate without the trigger"
    left = (
        "the 95% intervals lie apart, so some of the backdoor is left."
        if _is_steered(system)
        else "the 95% intervals overlap."
    )
    difference = asr.value - base.value
    side = "over" if difference >= 0 else "under"
    distance = f"{abs(100 * difference):.1f} points {side} {name}"
    return [f"The ASR of {system.name} lies {distance}; {left}"]


def _cost(undefended: SystemResult, defended: SystemResult) -> str:
    before, after = undefended.clean_accuracy, defended.clean_accuracy
    return (
        f"Clean accuracy went from {percent(before.value)} to {percent(after.value)} "
        f"({points(after.value - before.value)} points)."
    )


def _purity(system: SystemResult) -> str:
    poisoned, rows = system.n_subset_poisoned or 0, system.n_subset or 0
    noun = "row" if poisoned == 1 else "rows"
    return (
        f"S, the {count(rows)} rows that P2P re-poisoned, held {count(poisoned)} poisoned {noun}."
    )


def _other(system: SystemResult) -> str:
    asr = system.attack_success_rate
    rate = percent(asr.value) if asr.n else "not measured"
    sentence = f"{system.name}: ASR {rate}"
    if system.n_subset is not None and system.n_subset_poisoned is not None:
        poisoned, rows = count(system.n_subset_poisoned), count(system.n_subset)
        sentence += f", with {poisoned} poisoned rows among the {rows} of S"
    return sentence + "."
