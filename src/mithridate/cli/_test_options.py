"""Options that say what a model is tested on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mithridate.cli._attack import ATTACK_HELP, CLASSIFICATION, OPTION_HELP, PARAPHRASES_HELP
from mithridate.cli._data_options import ANSWER_COLUMN_HELP, TEXT_COLUMN_HELP, Task
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.defense.manifest import DefenseManifest

_ATTACK = "Attack"
_GATES = "Gates"
_DATA = "Data"
_TEXT = "Answers that are text"


@dataclass(frozen=True)
class TestColumns:
    """Which column holds what."""

    text_column: Annotated[
        str | None, typer.Option(rich_help_panel=_DATA, help=TEXT_COLUMN_HELP)
    ] = None
    answer_column: Annotated[
        str | None, typer.Option(rich_help_panel=_DATA, help=ANSWER_COLUMN_HELP)
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option(rich_help_panel=_DATA, help='The id\'s; by default "id" if there is one.'),
    ] = None
    split: Annotated[
        str, typer.Option(rich_help_panel=_DATA, help="The split to take of a hub id.")
    ] = "test"


ExpectedTask = Annotated[
    Task | None,
    typer.Option("--task", help="What the model was defended for; its folder says it, too."),
]


def check_task(expected: str | None, manifest: "DefenseManifest", folder: Path) -> None:
    """Refuse a folder of another task than the one that is expected.

    Raises:
        InputError: The task is another.
    """
    if expected is not None and expected != manifest.task:
        raise InputError(
            f"this defense is of {manifest.task}, not of {expected}",
            where=str(folder),
            mend="drop --task, or give the folder of the other model",
        )


@dataclass(frozen=True)
class AttackOptions:
    """Which triggered inputs to try."""

    triggered: Annotated[
        str | None,
        typer.Option(
            help="Rows with the trigger in them, true labels and the ids of the test rows kept.",
            rich_help_panel=_ATTACK,
        ),
    ] = None
    attack: Annotated[
        str | None,
        typer.Option(
            help=f"Put this attack's trigger into the test: {ATTACK_HELP}",
            rich_help_panel=_ATTACK,
            metavar="NAME",
        ),
    ] = None
    attack_option: Annotated[
        list[str] | None,
        typer.Option(help=OPTION_HELP, rich_help_panel=_ATTACK, metavar="NAME=VALUE"),
    ] = None
    paraphrases: Annotated[
        Path | None, typer.Option(help=PARAPHRASES_HELP, rich_help_panel=_ATTACK)
    ] = None
    trigger_words: Annotated[
        str | None,
        typer.Option(
            help="Words for badnets, separated by commas (cf,mn,bb,tq).", rich_help_panel=_ATTACK
        ),
    ] = None
    sentence: Annotated[
        str | None, typer.Option(help="Sentence for addsent.", rich_help_panel=_ATTACK)
    ] = None
    target: Annotated[
        str | None,
        typer.Option(help="The label the attacker wants.", rich_help_panel=_ATTACK),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(
            help="A folder of defend whose data held none of the poison: gives the floor.",
            rich_help_panel=_ATTACK,
        ),
    ] = None
    reference_model: Annotated[
        str | None,
        typer.Option(
            help="With --engine: that model's name on the server. Of texts: the model itself, "
            "where its folder has none.",
            rich_help_panel=_ATTACK,
        ),
    ] = None


@dataclass(frozen=True)
class GateOptions:
    """What must hold, or the exit code is 100."""

    max_asr: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Highest attack success rate, of 1.", rich_help_panel=_GATES
        ),
    ] = None
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Lowest clean accuracy, of 1.", rich_help_panel=_GATES),
    ] = None


@dataclass(frozen=True)
class PrefixOptions:
    """How the safe prefix is used where answers are text."""

    prefix: Annotated[
        Literal["prefill", "check"] | None,
        typer.Option(
            help="prefill: the safe prefix is put at the start of every answer. check: the model "
            "must write it itself; who does not is flagged (prefill).",
            rich_help_panel=_TEXT,
        ),
    ] = None
    policy: Annotated[
        Literal["retry", "refuse", "pass"] | None,
        typer.Option(
            help="What becomes of a flagged input: answered with the prefix prefilled, refused, or "
            "passed as it is, with its flag (retry).",
            rich_help_panel=_TEXT,
        ),
    ] = None

    stop: Annotated[
        list[str] | None,
        typer.Option(
            help="A text that ends an answer and is no part of it, as often as you like.",
            rich_help_panel=_TEXT,
        ),
    ] = None

    @property
    def mode(self) -> Literal["prefill", "check"]:
        """How the safe prefix is used."""
        return self.prefix or "prefill"

    @property
    def on_flag(self) -> Literal["retry", "refuse", "pass"]:
        """What becomes of a flagged input."""
        return self.policy or "retry"


def check_parts(task: str, prefix: PrefixOptions, decoding: str | None = None) -> None:
    """Refuse options that would do nothing.

    Raises:
        InputError: One is of the other kind of task, or of the other use of the safe prefix.
    """
    texts = {"--prefix": prefix.prefix, "--policy": prefix.policy, "--stop": prefix.stop}
    labels = {"--decoding": decoding}
    for name, value in (texts if task == CLASSIFICATION else labels).items():
        if value is not None:
            raise InputError(f"{name} has no part in {task}", mend="drop it")
    if prefix.stop and not all(prefix.stop):
        raise InputError("a stop string is empty", where="--stop", mend="drop it")
    if prefix.policy is not None and prefix.mode != "check":
        what = "--policy is for inputs that are flagged, and only a check flags any"
        raise InputError(what, mend="add --prefix check, or drop it")
