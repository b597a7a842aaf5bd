"""The finished cells of a matrix, read from journals of one JSON line each."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mithridate.errors import InputError
from mithridate.report.model import Fraction, Seconds, Text

_MEND = "give a journal of cells, as mithridate bench writes it"


def _as_text(value: object) -> object:
    return value if value is None or isinstance(value, str) else str(value)


def _blank(value: object) -> object:
    return "" if value is None else value


def _zero(value: object) -> object:
    return 0 if value is None else value


Name = Annotated[Text, Field(min_length=1)]
Loose = Annotated[Text | None, BeforeValidator(_as_text)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured value with its 95% interval, whose ends are ``None`` where a line has none."""

    value: float
    low: float | None
    high: float | None


class _Measured(BaseModel):
    """What every backdoor of a cell is measured by; fields nobody needs are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    attack: Name
    target: Loose = None
    attack_success_rate: Fraction | None = None
    attack_success_rate_low: Fraction | None = None
    attack_success_rate_high: Fraction | None = None
    attack_success_rate_successes: Count | None = None
    floor: Fraction | None = None
    floor_low: Fraction | None = None
    floor_high: Fraction | None = None
    floor_successes: Count | None = None
    untriggered_rate: Fraction | None = None
    untriggered_rate_low: Fraction | None = None
    untriggered_rate_high: Fraction | None = None
    untriggered_rate_successes: Count | None = None

    @property
    def against(self) -> str:
        """The field an ASR is read against: the floor, or where none is known its stand-in."""
        if self.floor is not None:
            return "floor"
        return "untriggered_rate" if self.untriggered_rate is not None else ""

    @property
    def over(self) -> float | None:
        """The ASR less what it is read against, a fraction of 1; ``None`` where either lacks."""
        base = getattr(self, self.against) if self.against else None
        if self.attack_success_rate is None or base is None:
            return None
        return float(self.attack_success_rate - base)

    def measure(self, name: str) -> Measure | None:
        """Return a field with its interval, or ``None`` where the line does not hold it."""
        value = getattr(self, name)
        if value is None:
            return None
        return Measure(value, getattr(self, f"{name}_low"), getattr(self, f"{name}_high"))


class Backdoor(_Measured):
    """A further backdoor of an attack that plants several."""


class Cell(_Measured):
    """One line of a journal: an attack, a defense, and what the model they left does.

    The fields are those of DESIGN.md's result files. All but the four names may be missing.
    """

    cell: Name
    defense: Name
    dataset: Name
    task: Loose = None
    model: Loose = None
    selection: Loose = None
    mode: Loose = None
    variant: Annotated[Text, BeforeValidator(_blank)] = ""
    planted: Annotated[Count, BeforeValidator(_zero)] = 0
    poison_rate: Fraction | None = None
    seed: int | None = None
    n_train: Count | None = None
    n_poisoned: Count | None = None
    n_subset: Count | None = None
    n_subset_poisoned: Count | None = None
    n_clean: Count | None = None
    n_triggered: Count | None = None
    clean_accuracy: Fraction | None = None
    clean_accuracy_low: Fraction | None = None
    clean_accuracy_high: Fraction | None = None
    clean_accuracy_successes: Count | None = None
    utility_metric: Loose = None
    utility: Finite | None = None
    utility_low: Finite | None = None
    utility_high: Finite | None = None
    rejected_clean: Fraction | None = None
    rejected_clean_low: Fraction | None = None
    rejected_clean_high: Fraction | None = None
    rejected_clean_successes: Count | None = None
    rejected_triggered: Fraction | None = None
    rejected_triggered_low: Fraction | None = None
    rejected_triggered_high: Fraction | None = None
    rejected_triggered_successes: Count | None = None
    further_backdoors: Annotated[
        tuple[Backdoor, ...], BeforeValidator(lambda value: value or ())
    ] = ()
    train_seconds: Seconds | None = None
    eval_seconds: Seconds | None = None
    settings: dict[str, Any] | None = None
    packages: dict[str, Any] | None = None
    config_hash: Loose = None
    dtype: Loose = None
    device: Loose = None
    threads: Loose = None
    host: Loose = None
    command: Loose = None
    version: Loose = None
    commit: Loose = None
    date: Loose = None

    @cached_property
    def kind(self) -> str:
        """What the defense is; `defense` may be only what its matrix calls it."""
        told = (self.settings or {}).get("defense")
        name = told.get("name") if isinstance(told, dict) else None
        return name if isinstance(name, str) and name else self.defense

    @property
    def is_undefended(self) -> bool:
        """Whether nothing was done against the attack."""
        return self.kind == "none"

    @property
    def is_reference(self) -> bool:
        """Whether this is a model trained without the poison, which gives others their floor."""
        unpoisoned = self.is_undefended and self.poison_rate == 0
        return self.variant == "reference" or unpoisoned

    @property
    def quality(self) -> Measure | None:
        """The clean accuracy, or the utility where answers are text."""
        return self.measure("clean_accuracy") or self.measure("utility")

    @cached_property
    def excess(self) -> float | None:
        """The ASR over its floor, of the worst backdoor where the attack planted several."""
        found = [one.over for one in (self, *self.further_backdoors)]
        known = [over for over in found if over is not None]
        return max(known) if known and self.over is not None else None

    @cached_property
    def label(self) -> str:
        """The defense with what tells it from its variants, as tables and figures name it."""
        if self.is_undefended:
            called = "" if self.defense == "none" else self.defense.removeprefix("none ")
            return ", ".join(dict.fromkeys(filter(None, ["undefended", called, self.variant])))
        planted = f"{self.planted} planted" if self.planted else ""
        parts = (self.defense, self.selection, self.variant, planted)
        return ", ".join(part for part in parts if part)

    @cached_property
    def settings_but_seed(self) -> str:
        """The settings as text, without the seed, which is a field of its own."""
        return json.dumps(_unseeded(self.settings), sort_keys=True)

    @cached_property
    def settings_but_defense(self) -> str:
        """The same without the defense's own: what the cell shares with its undefended one."""
        return json.dumps(_without("defense", _unseeded(self.settings)), sort_keys=True)

    @cached_property
    def training(self) -> str:
        """The settings of the training as text, without the seed; ``null`` where none are told."""
        return json.dumps(_unseeded(self.settings).get("training"), sort_keys=True)


def _unseeded(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return settings without the seed, which a bench holds among those of the training."""
    rest = _without("seed", settings or {})
    if isinstance(training := rest.get("training"), dict):
        rest["training"] = _without("seed", training)
    return rest


def _without(key: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != key}


@dataclass(frozen=True, slots=True)
class Entry:
    """A cell, all that its line holds, and where that line is (``journal.jsonl:17``)."""

    cell: Cell
    record: dict[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal that was read.

    Attributes:
        name: The file, as it was given.
        sha256: Of its bytes.
        entries: Its lines in their order.
        torn: The numbers of lines that a crash tore, which are left out.
    """

    name: str
    sha256: str
    entries: tuple[Entry, ...]
    torn: tuple[int, ...]


def read_journals(paths: Sequence[str | Path]) -> list[Journal]:
    """Read several journals.

    Args:
        paths: The files.

    Returns:
        The journals in their order.

    Raises:
        InputError: A file cannot be read or holds no cell, or one of its lines is none.
    """
    return [read_journal(path) for path in paths]


def read_journal(path: str | Path) -> Journal:
    """Read a journal, one cell a line.

    A line that ends too early was torn by a crash: it is left out and counted. Any other line that
    is no cell is an error, lest a page look complete that is not.

    Args:
        path: The file.

    Returns:
        The journal; it holds at least one line.

    Raises:
        InputError: The file cannot be read or holds no cell, or one of its lines is none.
    """
    name = str(path)
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise InputError("this is a folder", where=name, mend="name a journal in it") from error
    except FileNotFoundError as error:
        raise InputError("no such file", where=name, mend="check the path") from error
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise InputError(what, where=name, mend="check the path and its permissions") from error
    entries, torn = [], []
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", errors="replace").strip()
        if not text:
            continue
        try:
            entries.append(_entry(text, f"{name}:{number}"))
        except json.JSONDecodeError as error:
            if not _is_torn(text, error, is_last=number == len(lines)):
                where = f"{name}:{number}"
                raise InputError(f"no JSON ({error.msg})", where=where, mend=_MEND) from error
            torn.append(number)
    if not entries:
        what = "no finished cell, but a torn line" if torn else "the file is empty"
        mend = "run the bench again: it goes on where it was" if torn else _MEND
        raise InputError(what, where=name, mend=mend)
    return Journal(name, hashlib.sha256(content).hexdigest(), tuple(entries), tuple(torn))


def _is_torn(text: str, error: json.JSONDecodeError, *, is_last: bool) -> bool:
    """Whether a line that is no JSON is the front of one that a crash cut off.

    The last line has no line break then. Where a later run went on, torn lines stand further up,
    for each run begins on a line of its own.
    """
    cut = not text.endswith("}") or error.pos >= len(text)
    return text.startswith("{") and (is_last or cut)


def _entry(text: str, where: str) -> Entry:
    try:
        # NaN and Infinity are no JSON and would break the page's: what cannot be stays text.
        record = json.loads(text, parse_constant=str)
    except (RecursionError, ValueError) as error:
        if isinstance(error, json.JSONDecodeError):
            raise
        what = "no cell: nested too deeply, or a number too long"
        raise InputError(what, where=where, mend=_MEND) from error
    if not isinstance(record, dict):
        raise InputError("no cell, for it is no JSON object", where=where, mend=_MEND)
    try:
        return Entry(Cell.model_validate(record), record, where)
    except ValidationError as error:
        raise InputError(_told(error), where=where, mend=_MEND) from error


def _told(error: ValidationError) -> str:
    """Say in one clause what keeps a line from being a cell."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f'no cell: it has no "{field}"'
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return f'no cell: "{field}" is {str(first["input"])[:40]!r}, {reason}'
