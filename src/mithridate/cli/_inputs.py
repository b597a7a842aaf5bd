"""From options to what the library takes: rows, task, settings, trusted ids, secret."""

import stat
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mithridate.cli._data_options import DataOptions
from mithridate.cli._known import read_known
from mithridate.cli._options import DefenseOptions, Preset, TrainingOptions
from mithridate.cli._output import note
from mithridate.errors import InputError, MithridateError, installing

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.config import P2PConfig
    from mithridate.defense.prepare import Findings
    from mithridate.defense.secret import Secret
    from mithridate.tasks.classification import ClassificationTask
    from mithridate.training.config import TrainingConfig

ENOUGH_TRUSTED = 100

_Settings = TypeVar("_Settings", bound="BaseModel")


@dataclass(frozen=True)
class Inputs:
    """What a defense starts from, checked as far as it can be without a model.

    Attributes:
        rows: D.
        task: Its labels.
        p2p: The settings of the re-poisoning.
        secret: From ``--secret-file``; ``None`` asks for a new one.
        trusted: Ids of rows a person checked.
        poisoned: Ids of rows known to be poisoned, for the report alone; ``None`` where unknown.
        findings: Rows to keep out of S, and triggers to counter.
    """

    rows: "list[Row]"
    task: "ClassificationTask"
    p2p: "P2PConfig"
    secret: "Secret | None"
    trusted: frozenset[str]
    poisoned: frozenset[str] | None
    findings: "Findings"


def read_inputs(data: str, preset: Preset, options: DataOptions, defense: DefenseOptions) -> Inputs:
    """Read and check all that a defense starts from.

    Raises:
        InputError: A file or a setting cannot be used.
    """
    from mithridate.data.read import read_rows
    from mithridate.tasks.classification import ClassificationTask

    p2p = p2p_config(preset, defense)
    secret = read_secret(defense.secret_file) if defense.secret_file else None
    columns = columns_of(options)
    rows = read_rows(data, columns, split=options.split)
    task = ClassificationTask.of(
        rows, labels=listed(options.labels), words=listed(options.label_words)
    )
    check_rows(rows, p2p)
    known = read_known(defense, rows, columns, labels=task.labels)
    if p2p.selection == "anchored":
        check_trusted(rows, task, known.trusted)
        if len(known.trusted) < ENOUGH_TRUSTED:
            note(
                f"{len(known.trusted)} trusted rows: about {ENOUGH_TRUSTED} held in what was "
                "measured, 50 did not always (docs/selection.md)."
            )
    return Inputs(rows, task, p2p, secret, known.trusted, known.poisoned, known.findings)


def check_rows(rows: "list[Row]", p2p: "P2PConfig") -> None:
    """Refuse before a model is loaded what re-poisoning would refuse after.

    Raises:
        InputError: The benign ratio is of no row.
        CollisionError: The rows hold a published string, which cannot be drawn again.
    """
    from mithridate.defense.collisions import draw_prefix, draw_trigger
    from mithridate.defense.secret import Secret
    from mithridate.defense.select import wanted_rows

    wanted_rows(len(rows), p2p.benign_ratio)
    if p2p.trigger == "published":
        draw_trigger(rows, Secret.from_seed(0), published=True)
        draw_prefix(rows, Secret.from_seed(0), published=True)


def columns_of(options: DataOptions) -> "Columns":
    """Return the columns the user named."""
    from mithridate.data.read import Columns

    return Columns(
        options.text_column or "text", options.answer_column or "label", options.id_column
    )


def listed(value: str | None) -> tuple[str, ...] | None:
    """Return a comma-separated option as a tuple, ``None`` where it is not given."""
    return None if value is None else tuple(part.strip() for part in value.split(","))


def p2p_config(preset: Preset, options: DefenseOptions) -> "P2PConfig":
    """Return the preset's re-poisoning with the given options in place of its own.

    Raises:
        InputError: A value is out of range, or trusted rows are given that would not be used.
    """
    from mithridate.defense.config import DEFAULT, PAPER

    selection = options.selection or ("anchored" if options.trusted else None)
    if options.trusted and selection != "anchored":
        raise InputError(
            f"--trusted has no part in {selection} selection",
            mend="drop --selection, or name anchored",
        )
    base = PAPER if preset == "paper" else DEFAULT
    if (selection or base.selection) == "random":
        for name, unused in (("--drop", options.drop), ("--draw-from", options.draw_from)):
            if unused not in (None, "nothing"):
                raise InputError(
                    f"{name} has no part in random selection, which judges no row",
                    mend="drop it, or choose another --selection",
                )
    given = {
        "benign_ratio": options.benign_ratio,
        "selection": selection,
        "draw_from": options.draw_from,
        "mode": options.mode,
        "counter_triggers": options.counter_triggers,
        "drop": options.drop,
        "trigger": options.trigger,
    }
    return _overridden(base, given)


def training_config(
    preset: Preset, options: TrainingOptions, max_length: int | None
) -> "TrainingConfig":
    """Return the preset's training with the given options in place of its own.

    Raises:
        InputError: A value is out of range.
    """
    from mithridate.training.config import DEFAULT, PAPER

    given = {
        "epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "micro_batch_size": options.micro_batch_size,
        "gradient_checkpointing": options.gradient_checkpointing,
        "rank": options.rank,
        "target_modules": listed(options.target_modules),
        "seed": options.seed,
        "max_length": max_length,
        "best_epoch": True if options.dev else None,
    }
    return _overridden(PAPER if preset == "paper" else DEFAULT, given)


def read_secret(path: Path) -> "Secret":
    """Read a secret key; no message ever quotes the file.

    Raises:
        InputError: It cannot be read, others can read it, or it does not hold 64 hex digits.
    """
    from mithridate.defense.secret import Secret

    where = str(path)
    try:
        mode = path.stat().st_mode
        content = path.read_text("ascii").strip()
        key = bytes.fromhex(content)
    except OSError as error:
        what = f"the secret cannot be read ({error.strerror})"
        raise InputError(what, where=where, mend="check the path and its permissions") from None
    except ValueError:
        key = b""
    if stat.S_IMODE(mode) & 0o077:
        mend = f"make it yours alone: chmod 600 {path}"
        raise InputError("others can read the secret", where=where, mend=mend)
    if len(key) != 32:
        mend = "make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
        raise InputError("the secret is not 64 hex digits", where=where, mend=mend)
    return Secret(key)


def require_model_extra() -> None:
    """Refuse to go on where the libraries a model needs are not installed.

    Raises:
        MithridateError: One is missing.
    """
    _require("model", "peft", "sklearn", "torch", "transformers")


def require_generation_extra() -> None:
    """Refuse to go on where what measures answers that are texts is not installed.

    Raises:
        MithridateError: It is missing.
    """
    _require("generation", "math_verify", "rouge_score")


def require_statistics() -> None:
    """Refuse to go on where what an audit without a model needs is not installed.

    Raises:
        MithridateError: It is missing.
    """
    _require("model", "jinja2", "scipy")


def require_drawing() -> None:
    """Refuse to go on where what draws figures is not installed.

    Raises:
        MithridateError: It is missing.
    """
    _require("bench", "matplotlib")


def require_engine_extra() -> None:
    """Refuse to go on where the libraries a server's client needs are not installed.

    Raises:
        MithridateError: One is missing.
    """
    _require("engine", "scipy", "transformers")


def check_report_to(name: str) -> None:
    """Refuse before a model is loaded what the Trainer would refuse when it starts.

    Raises:
        InputError: There is no such logging integration, or what it needs is not installed.
    """
    if name == "none":
        return
    require_model_extra()
    # A callback of transformers' that fails half-made complains once more when it is dropped.
    with redirect_stderr(StringIO()):
        why = _why_not_reported(name)
    if why is not None:
        mend = "install what it needs, name another, or leave the option out"
        raise InputError(why, where="--report-to", mend=mend)


def _why_not_reported(name: str) -> str | None:
    from transformers.integrations import get_reporting_integration_callbacks

    from mithridate.data._formats import first_line

    try:
        for callback in get_reporting_integration_callbacks(name):
            callback()
    except (ValueError, RuntimeError, ImportError) as error:
        return first_line(error)
    return None


def _require(extra: str, *modules: str) -> None:
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        raise MithridateError(
            f"this needs {error.name or 'the model libraries'}, which is not installed",
            mend=installing(extra),
        ) from error


def _overridden(preset: _Settings, given: Mapping[str, Any]) -> _Settings:
    from pydantic import ValidationError

    changes = {name: value for name, value in given.items() if value is not None}
    try:
        return type(preset).model_validate({**preset.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        what = f"{first['input']!r} is no value for it"
        mend = first["msg"][:1].lower() + first["msg"][1:]
        raise InputError(what, where=flag, mend=mend.replace("input should", "it should")) from None


def check_trusted(
    rows: "Sequence[Row]", task: "ClassificationTask", trusted: frozenset[str]
) -> None:
    """Refuse before a model is loaded what anchored selection would refuse after.

    Raises:
        InputError: A label has no trusted row.
    """
    if not trusted:
        raise InputError(
            "anchored selection needs rows that a person checked",
            mend="name them with --trusted, about a hundred of all classes",
        )
    covered = {row.answer for row in rows if row.id in trusted}
    for label in task.labels:
        if label not in covered and any(row.answer == label for row in rows):
            mend = "check some rows of every class"
            raise InputError(f"no trusted row has the label {label!r}", mend=mend)
