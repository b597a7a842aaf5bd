"""The report as one self-contained HTML page: no request leaves it and nothing in it runs.

The page's own content security policy forbids scripts and every fetch, so even a text that slipped
through escaping could neither run nor call home.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mithridate.errors import MithridateError, installing
from mithridate.report import figures, words
from mithridate.report.model import ExampleRow, Report, RunFacts, SystemResult
from mithridate.report.table import footnotes
from mithridate.report.verdict import excess, judge

if TYPE_CHECKING:
    from jinja2 import Environment

# What HTML cannot hold as text: control characters other than tab and line break.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_EXCERPT = 480
_LEAD = 120

Kind = Literal["right", "target", "wrong"]


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of an example's text, part of the trigger or not."""

    text: str
    is_trigger: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What one system said: its label, how to judge it, and the target's probability if known."""

    system: str
    label: str
    kind: Kind
    probability: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure's panel: its title, its drawing as SVG, and a line under it."""

    title: str
    svg: str
    caption: str = ""


def render_page(report: Report) -> str:
    """Render the report as one HTML page.

    Args:
        report: The report.

    Returns:
        The page, to be written as UTF-8. It refers to nothing outside itself.

    Raises:
        MithridateError: jinja2 is not installed.
    """
    examples = [(example, runs(example), answers(example, report)) for example in report.examples]
    page = environment().get_template("page.html.j2")
    html = page.render(
        report=report,
        verdict=judge(report),
        excess=excess,
        footnotes=footnotes(report)[1:],
        confidence=_confidence(report),
        margins=_margins(report),
        has_outline=len({s.defense for s in report.systems if s.margins_triggered}) > 1,
        suspicion=_suspicion(report),
        dots=[
            Panel("Clean accuracy", figures.accuracy_panel(report), "Higher is better."),
            Panel(
                "Attack success rate", figures.attack_panel(report), "Nearer its floor is better."
            ),
        ],
        examples=examples,
        facts=_facts(report.facts),
        has_floor=any(system.floor is not None for system in report.systems),
        lacks_floor=any(system.floor is None for system in report.systems),
        words=words,
    )
    return CONTROL.sub("\ufffd", html)


def runs(example: ExampleRow) -> list[Run]:
    """Cut an example's text at its trigger, and to a length a page can bear.

    Args:
        example: The example; its spans may overlap and come in any order.

    Returns:
        The text's stretches in order. Of a long text the stretch around its first trigger is kept,
        with an ellipsis where something is left out.
    """
    first = min((start for start, _ in example.trigger_spans), default=0)
    begin, end = 0, len(example.text)
    if end > _EXCERPT:
        begin = max(0, min(first - _LEAD, end - _EXCERPT))
        end = begin + _EXCERPT
    pieces = [Run("… ", False)] if begin else []
    at = begin
    for start, stop in sorted(example.trigger_spans):
        start, stop = max(start, at), min(stop, end)
        if start < stop:
            pieces += [Run(example.text[at:start], False), Run(example.text[start:stop], True)]
            at = stop
    pieces.append(Run(example.text[at:end], False))
    if end < len(example.text):
        pieces.append(Run(" …", False))
    return [piece for piece in pieces if piece.text]


def answers(example: ExampleRow, report: Report) -> list[Answer]:
    """Judge what each system said to an example, in the report's order.

    Args:
        example: The example.
        report: The report it belongs to.

    Returns:
        One answer for each system that gave one.
    """
    found = []
    for system in report.systems:
        label = example.answers.get(system.name)
        if label is None:
            continue
        kind: Kind = "wrong"
        if label == example.true_label:
            kind = "right"
        elif label == example.target_label:
            kind = "target"
        probability = example.probabilities.get(system.name)
        found.append(Answer(system.name, label, kind, probability))
    return found


def environment() -> "Environment":
    """Return what renders the pages' templates, escaping every value.

    Raises:
        MithridateError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MithridateError("the HTML report needs jinja2", mend=installing("model")) from error
    return Environment(
        loader=PackageLoader("mithridate.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _confidence(report: Report) -> list[Panel]:
    measured = [s for s in report.systems if s.p_target_triggered]
    shown = [s for s in measured if s.defense == "p2p"] or measured[:1]
    return [
        Panel(system.name, svg, _halves(system))
        for system, svg in zip(shown, figures.confidence_panels(report), strict=True)
    ]


def _halves(system: SystemResult) -> str:
    values = system.p_target_triggered
    above = sum(value > 0.5 for value in values)
    return f"Above 0.5 on {words.count(above)} of {words.count(len(values))} triggered inputs."


def _margins(report: Report) -> list[Panel]:
    measured = [s for s in report.systems if s.margins_triggered]
    shown = [s for s in measured if s.defense == "p2p"] or measured
    return [
        Panel(system.name, svg, _boundary(system))
        for system, svg in zip(shown, figures.margin_panels(report), strict=True)
    ]


def _boundary(system: SystemResult) -> str:
    """Say a system's lowest margins, whether the boundary holds, and its certificate."""
    parts = []
    if found := system.margins:
        lowest, percentile = found.minimum, found.first_percentile
        parts.append(
            f"Smallest {words.nats(lowest.value)}; 1st percentile {words.nats(percentile.value)} "
            f"({words.nats(percentile.low)} to {words.nats(percentile.high)}); "
            f"median {words.nats(found.median.value)}."
        )
        parts.append(
            "The boundary holds on this set."
            if found.holds
            else f"The boundary does not hold: {words.count(found.not_positive)} of "
            f"{words.count(found.n)} margins are not positive."
        )
    if system.certificate:
        statement = system.certificate.statement
        parts.append(f"{statement[:1].upper()}{statement[1:]}.")
    return " ".join(parts)


def _suspicion(report: Report) -> list[Panel]:
    panels = []
    for system in report.systems:
        clean, triggered = system.suspicion_clean, system.suspicion_triggered
        if system.defense == "p2p" and clean and triggered:
            area = figures.separation(clean, triggered)
            caption = (
                f"A triggered input scores above a clean one {words.percent(area, 0)} of the time."
            )
            panels.append(Panel(system.name, figures.suspicion_panel(system), caption))
    return panels


def _facts(facts: RunFacts) -> Sequence[tuple[str, str]]:
    packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
    rows = [
        ("Model", facts.model),
        ("Data", facts.dataset),
        ("Attack", facts.attack),
        ("Poison rate", words.percent(facts.poison_rate)),
        (
            "Rows",
            f"{words.count(facts.train_rows)} to train, {words.count(facts.test_rows)} to test",
        ),
        ("LoRA", facts.lora),
        (
            "Training",
            f"{facts.epochs:g} epochs, batch {facts.batch_size}, lr {facts.learning_rate:g}",
        ),
        ("Seed", str(facts.seed)),
        ("Whole run", words.duration(facts.total_seconds)),
        ("Machine", facts.machine),
        ("Packages", packages),
        ("Mithridate", facts.version),
        ("Date", facts.date),
    ]
    return [(name, value) for name, value in rows if value]
