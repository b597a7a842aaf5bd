"""The audit of rows whose answers are text as one HTML page, and its input, `audit.json`."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat, NonNegativeInt

from mithridate.defense.association import Association
from mithridate.defense.trigger import Kind, Trigger
from mithridate.report import figures, words
from mithridate.report.audit import PLACES, FlaggedRows, Part, cut, pattern, spelled
from mithridate.report.html import CONTROL, Run, environment
from mithridate.report.model import Fraction, Text

_LONGEST_ANSWER = 200
_MORE = " …"
_NEARLY = 0.9
_OUTLYING = 0.2
_LONE_ZERO = re.compile(r"(?<!\d)0(?!\d)")


class AssociationFound(Part):
    """Words of the input that decide an answer, all that they decide taken together.

    Attributes:
        text: The input's words, or a character.
        kind: Which of the two.
        answer: The most of the answer that they decide; 0 stands for any number.
        more: Parts of answers besides that they decide, most of them parts of ``answer``.
        holders: Rows that hold the text, of those searched.
        together: Those whose answer holds ``answer``.
        elsewhere: Share of the other rows searched whose answer does.
        log10_p: Decimal logarithm of the probability that chance does as much for any pair.
        counter: Whether it is suspected as a trigger, and worth counter-triggers.
    """

    text: Text
    kind: Kind
    answer: Text
    more: NonNegativeInt
    holders: NonNegativeInt
    together: NonNegativeInt
    elsewhere: Fraction
    log10_p: float
    counter: bool

    @property
    def at_most(self) -> str:
        """The probability, rounded up to a power of ten."""
        return f"1e{int(np.ceil(self.log10_p))}"


class TextSuspect(Part):
    """A suspicious row.

    Attributes:
        id: Of the row.
        why: What speaks against it: both sides of an ``association``, a ``trigger`` without what it
            decides, ``information`` (the answer is no likelier after its own input than after
            another row's), or ``none``: it merely comes next.
        trigger: The words of the input that do; ``None`` for the last two.
        decides: The words of the answer; with ``association`` alone.
        information: In nats over the square root of the answer's words; ``None`` without a model.
        text: The input.
        answer: The answer.
        poisoned: Whether it is known to be poisoned; ``None`` where that is unknown.
    """

    id: Text
    why: Literal["association", "trigger", "information", "none"]
    trigger: Text | None
    decides: Text | None
    information: float | None
    text: Text
    answer: Text
    poisoned: bool | None = None


class Spread(Part):
    """How values spread: shares of the rows in equal bins.

    Attributes:
        low: The left end; what lies beyond an end counts into its bin.
        high: The right end.
        rows: Of all rows.
        poisoned: Of rows known to be poisoned; empty where unknown.
    """

    low: float
    high: float
    rows: list[Fraction]
    poisoned: list[Fraction] = Field(default_factory=list)


class TextTruthFound(Part):
    """An audit against the truth; see `mithridate.defense.audit_text.TextTruth`."""

    associated: FlaggedRows
    excluded: FlaggedRows
    average_precision: Fraction | None


class TextAuditReport(Part):
    """All that an audit says.

    Attributes:
        schema_version: Of this layout.
        task: What the answers are.
        data: The data set's name.
        date: ISO 8601.
        version: Of Mithridate.
        model: The model that read the rows; ``None`` where none did.
        trusted: Rows a person checked.
        rows: Rows of D that the task can use.
        skipped: Rows it cannot.
        searched: Rows in which associations were looked for; they were then looked up in all.
        associated: Rows that hold both sides of an association.
        holding: Rows that hold a suspected trigger, whatever their answer.
        excluded: Rows to keep out of S: the two together.
        uninformed: Rows to which another row's input would be as good; ``None`` without a model.
        associations: What decides answers, strongest first, by the input's words.
        suspects: The most suspicious rows.
        information: How information spreads; ``None`` without a model.
        truth: How well the audit did, where the truth is known.
        picked: Rows handed out to be checked.
        cut: Inputs of which the model read the beginning alone.
        cut_answers: Answers of which it did.
        seconds: Wall time.
    """

    schema_version: Literal[1] = 1
    task: Text
    data: Text
    date: Text
    version: Text
    model: Text | None
    trusted: NonNegativeInt
    rows: NonNegativeInt
    skipped: NonNegativeInt
    searched: NonNegativeInt
    associated: NonNegativeInt
    holding: NonNegativeInt
    excluded: NonNegativeInt
    uninformed: NonNegativeInt | None
    associations: list[AssociationFound]
    suspects: list[TextSuspect]
    information: Spread | None = None
    truth: TextTruthFound | None = None
    picked: NonNegativeInt = 0
    cut: NonNegativeInt = 0
    cut_answers: NonNegativeInt = 0
    seconds: NonNegativeFloat


def grouped(found: Sequence[Association], triggers: Sequence[Trigger]) -> list[AssociationFound]:
    """Return one entry for each thing in the input, with the most of an answer that it decides.

    A fixed answer of ten words has dozens of parts, and a trigger decides them all.

    Args:
        found: Associations, the strongest first.
        triggers: Those of their inputs' sides that are suspected.
    """
    together: dict[Trigger, list[Association]] = {}
    for one in found:
        together.setdefault(one.trigger, []).append(one)
    return [
        AssociationFound(
            text=trigger.text,
            kind=trigger.kind,
            answer=_clipped(most.answer),
            more=len({one.answer for one in own} - {most.answer}),
            holders=most.holders,
            together=most.together,
            elsewhere=most.elsewhere,
            log10_p=own[0].log_p / np.log(10),
            counter=trigger in triggers,
        )
        for trigger, own in together.items()
        for most in [_most_decided(own)]
    ]


def _most_decided(own: Sequence[Association]) -> Association:
    """Return the longest answer of those that nearly as many rows give as any."""
    enough = _NEARLY * max(one.together for one in own)
    return max((one for one in own if one.together >= enough), key=lambda one: len(one.answer))


def _clipped(answer: str) -> str:
    if len(answer) <= _LONGEST_ANSWER:
        return answer
    return answer[:_LONGEST_ANSWER].rsplit(" ", 1)[0] + _MORE


def spread_of(values: npt.NDArray[np.float64], poisoned: npt.NDArray[np.bool_]) -> Spread:
    """Return how values spread; a few outlying ones do not decide how wide the figure is.

    Args:
        values: Shape (rows,); at least one.
        poisoned: Shape (rows,): rows known to be poisoned.
    """
    ends = np.percentile(values, [_OUTLYING, 100 - _OUTLYING])
    low, high, bins = figures.round_range([float(end) for end in ends])

    def shares(chosen: npt.NDArray[np.float64]) -> list[float]:
        counts = np.histogram(np.clip(chosen, low, high), bins, (low, high))[0]
        return [float(count) / len(chosen) for count in counts]

    return Spread(
        low=low,
        high=high,
        rows=shares(values),
        poisoned=shares(values[poisoned]) if poisoned.any() else [],
    )


def render_text_audit(report: TextAuditReport, *, command: str = "") -> str:
    """Render an audit as one HTML page that refers to nothing outside itself.

    Args:
        report: The audit.
        command: The command to go on with.

    Raises:
        MithridateError: jinja2 is not installed.
    """
    inputs = [pattern(one.text, one.kind) for one in report.associations if one.counter]
    page = environment().get_template("audit_text.html.j2")
    spread = report.information
    html = page.render(
        report=report,
        suspects=[(row, *_runs(row, inputs, report.associations)) for row in report.suspects],
        associations=[
            (one, spelled(one.text, one.kind), PLACES[one.kind]) for one in report.associations
        ],
        figure=spread
        and figures.information_panel(spread.low, spread.high, spread.rows, spread.poisoned),
        command=command,
        words=words,
    )
    return CONTROL.sub("\ufffd", html)


def _runs(
    row: TextSuspect, inputs: Iterable[str], found: Sequence[AssociationFound]
) -> tuple[list[Run], list[Run]]:
    """Return a row's input and its answer, cut at what decides and at what is decided."""
    own = [one for one in found if one.text == row.trigger]
    sides = [pattern(one.text, one.kind) for one in own]
    decided = [*(one.answer for one in own), row.decides] if row.decides else []
    longest_first = sorted((answer for answer in decided if answer), key=len, reverse=True)
    return (
        cut(row.text, [*sides, *inputs]),
        cut(row.answer, map(_decided, longest_first)),
    )


def _decided(answer: str) -> str:
    """Return a regular expression for what is decided of an answer; a lone 0 is any number."""
    return _LONE_ZERO.sub(r"\\d+", pattern(answer.removesuffix(_MORE), "words", folded=True))
