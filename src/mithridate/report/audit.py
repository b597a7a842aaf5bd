"""The audit as one self-contained HTML page, and the model that is its input and `audit.json`."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt

from mithridate.defense.odd import odd_characters
from mithridate.defense.tokens import is_word, to_text, tokens
from mithridate.defense.trigger import Kind
from mithridate.report import figures, words
from mithridate.report.html import CONTROL, Run, environment
from mithridate.report.model import Fraction, Text

BINS = 20
_SPACE = r"[^\S\t\n\r]*"
"""White space that is no token, or part of one."""

_EXCERPT = 480
_LEAD = 120
PLACES = {
    "words": "anywhere",
    "prefix": "at the front",
    "suffix": "at the end",
    "character": "a character",
    "beginning": "begins a word",
    "ending": "ends a word",
}


class Part(BaseModel):
    """The base of every part: immutable, and closed to fields nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class LabelCount(Part):
    """One label: its rows, and those whose label the judge disputes."""

    label: int | Text
    rows: NonNegativeInt
    disputed: NonNegativeInt


class TriggerFound(Part):
    """What marks the suspicious rows of a label.

    Attributes:
        text: Words or a character.
        kind: Where it stands.
        label: The label of those rows.
        z: Two-proportion z-score; of what was put in, by how many standard deviations the label is
            more frequent than a judge expects.
        p: Probability that chance does as much for any candidate; of what was put in there is none.
        disputed: Disputed rows of the label that hold it.
        others: All other rows that hold it.
        folded: Whether case and punctuation were left out of account.
        counter: Whether it is strong enough for counter-triggers.
        inserted: Whether it was found by where it stands.
    """

    text: Text
    kind: Kind
    label: int | Text
    z: float
    p: NonNegativeFloat | None
    disputed: NonNegativeInt
    others: NonNegativeInt
    folded: bool = False
    counter: bool = False
    inserted: bool = False


class Suspect(Part):
    """A suspicious row.

    Attributes:
        id: Of the row.
        why: What speaks against it: it holds a ``trigger``, disputed or not, or it is ``disputed``
            and holds none.
        trigger: The trigger it holds; ``None`` where it is merely disputed.
        score: log p(judge's label) - log p(the row's label).
        label: As the data has it.
        judged: The judge's.
        text: The input.
        poisoned: Whether it is known to be poisoned; ``None`` where that is unknown.
    """

    id: Text
    why: Literal["trigger", "disputed"]
    trigger: Text | None
    score: float
    label: int | Text
    judged: int | Text
    text: Text
    poisoned: bool | None = None


class FlaggedRows(Part):
    """A list of suspects against the truth; see `mithridate.defense.audit.Flagged`."""

    rows: NonNegativeInt
    poisoned: NonNegativeInt
    known: NonNegativeInt
    precision: Fraction | None
    recall: Fraction | None


class TruthFound(Part):
    """An audit against the truth; see `mithridate.defense.audit.Truth`."""

    disputed: FlaggedRows
    excluded: FlaggedRows
    average_precision: Fraction | None


class AuditReport(Part):
    """All that an audit says.

    Attributes:
        schema_version: Of this layout.
        data: The data set's name.
        date: ISO 8601.
        version: Of Mithridate.
        model: The model the judge read the rows with.
        judge: ``agreement`` (cross-fitted) or ``anchored``.
        trusted: Rows a person checked that the judge learned from.
        rows: Rows of D.
        labels: Each label's rows.
        disputed: Rows whose label the judge disputes.
        excluded: Rows to keep out of S.
        triggers: What was put in, then what marks the disputed rows, each the strongest first.
        suspects: The most suspicious rows: those that hold what was put in, those that are
            disputed, those that hold what marks disputed rows, each by their scores.
        confidence: Share of the rows by the judge's probability of their label, in 20 bins.
        confidence_poisoned: The same of rows known to be poisoned; empty where unknown.
        truth: How well the audit did, where the truth is known.
        picked: Rows handed out to be checked.
        cut: Inputs of which the model read the beginning alone.
        seconds: Wall time.
    """

    schema_version: Literal[1] = 1
    data: Text
    date: Text
    version: Text
    model: Text
    judge: Literal["agreement", "anchored"]
    trusted: NonNegativeInt
    rows: NonNegativeInt
    labels: list[LabelCount]
    disputed: NonNegativeInt
    excluded: NonNegativeInt
    triggers: list[TriggerFound]
    suspects: list[Suspect]
    confidence: list[Fraction] = Field(min_length=BINS, max_length=BINS)
    confidence_poisoned: list[Fraction] = Field(default_factory=list, max_length=BINS)
    truth: TruthFound | None = None
    picked: NonNegativeInt = 0
    cut: NonNegativeInt = 0
    seconds: NonNegativeFloat


def render_audit(report: AuditReport, *, command: str = "") -> str:
    """Render an audit as one HTML page that refers to nothing outside itself.

    Args:
        report: The audit.
        command: The command to go on with.

    Raises:
        MithridateError: jinja2 is not installed.
    """
    page = environment().get_template("audit.html.j2")
    seen = {found.text: shown(found) for found in report.triggers}
    html = page.render(
        report=report,
        suspects=[
            (row, marked(row.text, report.triggers), seen.get(row.trigger or "", row.trigger))
            for row in report.suspects
        ],
        triggers=[(found, shown(found), PLACES[found.kind]) for found in report.triggers],
        figure=figures.judged_panel(report.confidence, report.confidence_poisoned),
        command=command,
        words=words,
    )
    return CONTROL.sub("\ufffd", html)


def shown(found: TriggerFound) -> str:
    """Return a trigger's text so that a reader sees it: odd characters by their code points."""
    return spelled(found.text, found.kind)


def spelled(text: str, kind: Kind) -> str:
    """Return a trigger's text in which odd characters are code points that can be seen."""
    odd = set(text) if kind == "character" else odd_characters(text)
    if text != " ".join(text.split()):
        odd |= {character for character in text if character.isspace()}
    return "".join(run.text for run in _spelled(text, False, odd))


def marked(text: str, triggers: Sequence[TriggerFound]) -> list[Run]:
    """Cut a text at the triggers in it; odd characters become code points that can be seen.

    Args:
        text: A row's input, shortened here to what a page can bear.
        triggers: What to look for.

    Returns:
        The text's stretches in order.
    """
    return cut(text, (pattern(found.text, found.kind, found.folded) for found in triggers))


def cut(text: str, patterns: Iterable[str]) -> list[Run]:
    """Cut a text at what matches, and to a length a page can bear, around the first match.

    Args:
        text: Any text.
        patterns: Regular expressions.

    Returns:
        The text's stretches in order, odd characters spelled out.
    """
    joined = "|".join(filter(None, patterns))
    found = [match.span() for match in re.finditer(joined, text)] if joined else []
    found = [span for span in found if span[1] > span[0]]
    begin, end = 0, len(text)
    if end > _EXCERPT:
        late = found and found[0][1] > _EXCERPT
        begin = max(0, min(found[0][0] - _LEAD, end - _EXCERPT)) if late else 0
        end = begin + _EXCERPT
    odd = odd_characters(text[begin:end])
    runs = [Run("… ", False)] if begin else []
    at = begin
    for start, stop in found:
        start, stop = max(start, at), min(stop, end)
        if start < stop:
            runs += _spelled(text[at:start], False, odd)
            runs += _spelled(text[start:stop], True, odd)
            at = stop
    runs += _spelled(text[at:end], False, odd)
    if end < len(text):
        runs.append(Run(" …", False))
    return runs


def pattern(text: str, kind: Kind, folded: bool = False) -> str:
    """Return a regular expression for words or a character where their kind says.

    Args:
        text: Words or a character.
        kind: Where they stand.
        folded: Whether case and punctuation are left out of account.
    """
    if kind == "character":
        return re.escape(text)
    if kind == "beginning":
        return rf"(?<![^\W_]){re.escape(text)}(?=[^\W_])"
    if kind == "ending":
        return rf"(?<=[^\W_]){re.escape(text)}(?![^\W_])"
    names = [token for token in tokens(text) if not folded or is_word(token)]
    body = _of_token(names[0]) if names else ""
    for before, name in pairwise(names):
        between = r"\s+" if is_word(before) and is_word(name) else r"\s*"
        body += (r"[\W_]+" if folded else between) + _of_token(name)
    if folded:
        return f"(?i:{body})"
    start = rf"\A{_SPACE}" if kind == "prefix" else ""
    end = rf"{_SPACE}\Z" if kind == "suffix" else ""
    return f"{start}{body}{end}"


def _of_token(token: str) -> str:
    """Return a regular expression for a token of a text."""
    if is_word(token):
        return rf"(?<![^\W_]){re.escape(token)}(?![^\W_])"
    space = to_text(token)
    if not space.isspace():
        return re.escape(token)
    between = _SPACE if space.strip(" ") else r"[^\S \t\n\r]*"
    return rf"(?<!\s){between}{between.join(space)}{between}(?!\s)"


def _spelled(text: str, is_trigger: bool, odd: set[str]) -> list[Run]:
    """Return a stretch with its odd characters spelled out and marked."""
    runs: list[Run] = []
    plain = ""
    for character in text:
        if character in odd:
            runs += [Run(plain, is_trigger)] if plain else []
            runs.append(Run(f"U+{ord(character):04X}", True))
            plain = ""
        else:
            plain += character
    return [*runs, Run(plain, is_trigger)] if plain else runs
