"""The configuration of a matrix: models x data sets x attacks x rates x defenses x seeds."""

import difflib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from mithridate.attacks import registry as attack_registry
from mithridate.attacks.registry import find_attack
from mithridate.attacks.targets import text_target
from mithridate.baselines import registry as defense_registry
from mithridate.baselines.base import DefenseMethod
from mithridate.baselines.registry import find_defense
from mithridate.bench.loader import Loader
from mithridate.bench.settings import checked, in_full, package, settable
from mithridate.data.models import SMOLLM2
from mithridate.data.read import is_hub_id
from mithridate.data.remote import is_url
from mithridate.errors import InputError
from mithridate.inference.backbone import Precision
from mithridate.training.config import TrainingConfig

Task = Literal["classification", "math", "summarization", "instruction"]
Setting = str | int | float | bool | tuple[str | int | float, ...] | None
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Shares = Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...], Field(min_length=1)]

_ATTACKERS = ("target", "rate", "clean_label", "answers")
"""Settings of every attack, which the configuration names in places of their own."""


def _without_dev_rows(training: TrainingConfig) -> TrainingConfig:
    if training.best_epoch:
        raise ValueError("best_epoch is chosen by dev rows, and a matrix has none: leave it out")
    return training


def _changed(training: dict[str, Any]) -> dict[str, Any]:
    _without_dev_rows(TrainingConfig(**training))
    return training


_Changes = Annotated[dict[str, Any], AfterValidator(_changed)]
"""Some of `TrainingConfig`'s settings by name."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Strict):
    """A data set.

    Attributes:
        name: What tables call it.
        train: A file or hub id of the training rows.
        test: One of the test rows.
        task: What the rows are for.
        rows: Training rows at most, the first ones.
        clean: Clean test rows at most, drawn by a key.
        triggered: Test rows to trigger at most, drawn by a key.
        poisoned: The training rows hold the attack's poison already, as published sets do.
        text_column: Where the input stands; the task's own column if none.
        answer_column: Where the answer stands.
        max_new_tokens: How long an answer may become, where it is text.
        answer_only: Of math, train on the final number alone.
        training: What every training on it changes of the matrix's own.
    """

    name: str
    train: str
    test: str
    task: Task = "classification"
    rows: int | None = Field(default=None, ge=10)
    clean: int = Field(default=450, ge=1)
    triggered: int = Field(default=450, ge=1)
    poisoned: bool = False
    text_column: str | None = None
    answer_column: str | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    answer_only: bool = False
    training: _Changes = Field(default_factory=dict)


class AttackConfig(_Strict):
    """An attack; its name alone will do where its defaults serve.

    Attributes:
        name: A name of the registry (`mithridate.attacks`).
        label: What tables call it; its name if none.
        target: The label or text it wants; of texts also a shipped target's name.
        rates: Shares to poison, in the place of the matrix's own.
        clean_label: Whether labels are left alone; the attack's own default if none.
        paraphrases: Files of rewritten texts, of training and of test rows, for attacks that
            rewrite.
        datasets: The data sets it is run on; all if none.
        settings: Its own settings by name.
    """

    name: str
    label: str = ""
    target: str | None = None
    rates: Shares | None = None
    clean_label: bool | None = None
    paraphrases: tuple[Path, Path] | None = None
    datasets: Names | None = None
    settings: dict[str, Setting] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> "AttackConfig":
        kind = find_attack(self.name)
        own = {name for name in settable(kind) if name not in _ATTACKERS}
        checked(kind, self.settings, own)
        return self

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name

    @property
    def package(self) -> str | None:
        """The package that brings it, and its version; ``None`` where it is ours."""
        return package(attack_registry.GROUP, self.name, attack_registry.BUILT_IN)

    def in_full(self, task: Task) -> dict[str, Any]:
        """Return all settings that it has for a task, defaults included, but rate and files.

        Args:
            task: What the rows are for.

        Raises:
            InputError: The target is none for the task.
        """
        kind = find_attack(self.name)
        given = checked(kind, self.settings, set(self.settings))
        if self.clean_label is not None:
            given["clean_label"] = self.clean_label
        if self.target is not None:
            labels = task == "classification"
            given["target"] = self.target if labels else text_target(self.target, task)
        if task != "classification":
            given["answers"] = "text"
        found = in_full(kind, given)
        del found["rate"]  # the cell's
        return found


class DefenseConfig(_Strict):
    """A defense; its name alone will do where its defaults serve.

    Attributes:
        name: A name of the registry (`mithridate.baselines`).
        label: What tables call it; its name if none.
        datasets: The data sets it is run on; all if none.
        training: What its training changes of the matrix's own, for all its cells.
        settings: Its own settings by name.
    """

    name: str
    label: str = ""
    datasets: Names | None = None
    training: _Changes = Field(default_factory=dict)
    settings: dict[str, Setting] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> "DefenseConfig":
        self.method()
        return self

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name

    @property
    def package(self) -> str | None:
        """The package that brings it, and its version; ``None`` where it is ours."""
        return package(defense_registry.GROUP, self.name, defense_registry.BUILT_IN)

    def method(self) -> DefenseMethod:
        """Return the defense with its settings."""
        return find_defense(self.name)(**self.in_full())

    def in_full(self) -> dict[str, Any]:
        """Return all settings that it has, defaults included."""
        kind = find_defense(self.name)
        return in_full(kind, checked(kind, self.settings, set(settable(kind))))


def _named(value: Any) -> Any:
    """Take a name alone for the whole."""
    return {"name": value} if isinstance(value, str) else value


class MatrixConfig(_Strict):
    """A matrix of cells.

    Attributes:
        models: Folders, hub ids or names of base models.
        datasets: The data sets.
        attacks: The attacks.
        rates: Shares of the training rows to poison.
        defenses: The defenses; ``none`` trains undefended.
        seeds: Of all draws, of the attacker's as of the defender's.
        training: The settings of every fine-tuning (`TrainingConfig`); its seed is the cell's.
        trusted: Rows that a person checked, the classes in turn.
        precision: The dtype to train and evaluate in.
    """

    guide: ClassVar[str] = "docs/bench.md"

    models: Names = (SMOLLM2.name,)
    datasets: tuple[DataConfig, ...] = Field(min_length=1)
    attacks: tuple[Annotated[AttackConfig, BeforeValidator(_named)], ...] = Field(min_length=1)
    rates: Shares = (0.05,)
    defenses: tuple[Annotated[DefenseConfig, BeforeValidator(_named)], ...] = Field(
        default=(DefenseConfig(name="none"), DefenseConfig(name="p2p")), min_length=1
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    training: Annotated[TrainingConfig, AfterValidator(_without_dev_rows)] = TrainingConfig()
    trusted: int = Field(default=100, ge=0)
    precision: Precision = "auto"

    @model_validator(mode="after")
    def _distinct(self) -> "MatrixConfig":
        names = {data.name for data in self.datasets}
        label = "give one a label"
        for noun, titles, mend in (
            ("models", [Path(model).name for model in self.models], "rename a folder"),
            ("data sets", [data.name for data in self.datasets], "rename one"),
            ("attacks", [attack.title for attack in self.attacks], label),
            ("defenses", [defense.title for defense in self.defenses], label),
        ):
            if twice := sorted({title for title in titles if titles.count(title) > 1}):
                raise ValueError(f"two {noun} are called {twice[0]!r}: {mend}")
        parts: list[AttackConfig | DefenseConfig] = [*self.attacks, *self.defenses]
        for part in parts:
            if strange := sorted(set(part.datasets or ()) - names):
                raise ValueError(f"{part.title} names the data set {strange[0]!r}: there is none")
        return self


Config = TypeVar("Config", bound=MatrixConfig)


def read_config(path: Path) -> MatrixConfig:
    """Read a matrix; paths in it are relative to its own folder.

    Raises:
        InputError: It cannot be read, has an unknown key, or names what there is not.
    """
    return read_as(MatrixConfig, path)


def read_as(kind: type[Config], path: Path) -> Config:
    """Read a configuration of a kind; see `read_config`."""
    try:
        found = yaml.load(path.read_text("utf-8-sig"), Loader)
    except OSError as error:
        what = f"the file cannot be read ({error.strerror})"
        raise InputError(what, where=str(path), mend="check the path") from None
    except UnicodeDecodeError:
        raise InputError("the file is not UTF-8 text", where=str(path), mend="save it so") from None
    except ValueError as error:  # a value that looks like a date and is none, 2026-02-30
        what = f"a value cannot be read ({error})"
        raise InputError(what, where=str(path), mend="put it in quotes") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or "the file is no YAML"
        mend = getattr(error, "note", None) or "correct it, or write it as JSON"
        raise InputError(what, where=where, mend=mend) from None
    if not isinstance(found, Mapping):
        mend = f"write keys such as datasets, attacks and defenses ({kind.guide})"
        raise InputError("the file holds no configuration", where=str(path), mend=mend)
    try:
        config = kind.model_validate(found)
    except ValidationError as error:
        what, mend = _first(error, kind)
        raise InputError(what, where=str(path), mend=mend) from None
    except InputError as error:  # of an attack or a defense that there is not
        where = f"{path}: {error.where}" if error.where else str(path)
        raise InputError(error.what, where=where, mend=error.mend) from None
    return _resolved(config, path.parent)


def check_files(config: MatrixConfig, path: Path) -> None:
    """Refuse a matrix whose data are not all there, before hours are spent on the others.

    Args:
        config: The matrix.
        path: Its file.

    Raises:
        InputError: A file of rows or paraphrases does not exist. Hub ids are not looked up.
    """
    files = [
        (f"datasets.{data.name}.{noun}", source)
        for data in config.datasets
        for noun, source in (("train", data.train), ("test", data.test))
        if not (is_hub_id(source) or is_url(source))
    ]
    files += [
        (f"attacks.{attack.title}.paraphrases", str(source))
        for attack in config.attacks
        for source in attack.paraphrases or ()
    ]
    for key, source in files:
        if not Path(source).is_file():
            what = f"{key}: there is no file {source}"
            raise InputError(what, where=str(path), mend="paths are relative to this file's folder")


def _first(error: ValidationError, kind: type[MatrixConfig]) -> tuple[str, str]:
    """Return the first fault in words, and its mend; an unknown key goes before all others."""
    faults = error.errors()  # the key that it was to be may be missing, too
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part) for part in fault["loc"] if part != "function-before[_named()]")
    message = fault["msg"].removeprefix("Value error, ")
    value = fault["input"]
    if fault["type"] == "tuple_type" and value is not None:
        return f"{place}: the value is no list", "put it into brackets: [ ]"
    if fault["type"] == "string_type" and isinstance(value, int | float | date):
        return f"{place}: {value!s:.60} is no text", "put it in quotes"
    if fault["type"] != "extra_forbidden":
        return f"{place}: {message}" if place else message, f"see {kind.guide} for what it may hold"
    model: Any = kind
    for part in fault["loc"][:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        if part == "training":  # a part of it may stand as a dictionary
            model = TrainingConfig
        elif field is not None:
            model = _inner(field.annotation)
    known = list(getattr(model, "model_fields", {}))
    near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
    mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{place}: there is no such key", mend


def _inner(annotation: Any) -> Any:
    """Return the model inside tuple[Annotated[Model, ...], ...] or the model itself."""
    while get_args(annotation):
        annotation = get_args(annotation)[0]
    return annotation


def _resolved(config: Config, folder: Path) -> Config:
    """Make the paths of a configuration's files absolute; hub ids and names stay."""

    def found(value: str) -> str:
        near = folder / value
        return str(near.resolve()) if near.exists() else value

    def rewritten(attack: AttackConfig) -> AttackConfig:
        if attack.paraphrases is None:
            return attack
        train, test = (folder / path for path in attack.paraphrases)
        return attack.model_copy(update={"paraphrases": (train.resolve(), test.resolve())})

    return config.model_copy(
        update={
            "models": tuple(found(model) for model in config.models),
            "datasets": tuple(
                data.model_copy(update={"train": found(data.train), "test": found(data.test)})
                for data in config.datasets
            ),
            "attacks": tuple(rewritten(attack) for attack in config.attacks),
        }
    )
