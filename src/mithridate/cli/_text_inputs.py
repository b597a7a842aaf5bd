"""From options to what the library takes where answers are text: rows, task, settings, secret."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mithridate.cli._data_options import DataOptions
from mithridate.cli._inputs import check_rows, p2p_config, read_secret
from mithridate.cli._known import read_known
from mithridate.cli._options import DefenseOptions, Preset
from mithridate.cli._output import note
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.config import P2PConfig
    from mithridate.defense.prepare import Findings
    from mithridate.defense.secret import Secret
    from mithridate.tasks.text import TextTask


@dataclass(frozen=True)
class TextInputs:
    """What a defense starts from, checked as far as it can be without a model.

    Attributes:
        rows: D, the rows that the task can use.
        skipped: How many it cannot.
        task: The task.
        p2p: The settings of the re-poisoning.
        secret: From ``--secret-file``; ``None`` asks for a new one.
        trusted: Ids of rows a person checked.
        poisoned: Ids of rows known to be poisoned, for the report alone; ``None`` where unknown.
        findings: Rows to keep out of S, and triggers to counter.
    """

    rows: "list[Row]"
    skipped: int
    task: "TextTask"
    p2p: "P2PConfig"
    secret: "Secret | None"
    trusted: frozenset[str]
    poisoned: frozenset[str] | None
    findings: "Findings"


def is_text(options: DataOptions) -> bool:
    """Whether the answers are text; refuses options that are of the other kind of task.

    Raises:
        InputError: An option has no part in the task.
    """
    labels = {"--labels": options.labels, "--label-words": options.label_words}
    texts = {"--answer-only": options.answer_only, "--max-new-tokens": options.max_new_tokens}
    text = options.task != "classification"
    for name, value in (labels if text else texts).items():
        if value:
            what = f"{name} has no part in {options.task}"
            raise InputError(what, mend="drop it, or name another --task")
    if options.answer_only and options.task != "math":
        raise InputError("--answer-only is for --task math", mend="drop it")
    return text


def task_of(options: DataOptions) -> "TextTask":
    """Return the task that the options name, with its settings."""
    from mithridate.tasks.text_tasks import text_task

    task: Any = text_task(options.task)
    if options.answer_only:
        task = replace(task, rationale=False)
    if options.max_new_tokens is not None:
        task = replace(task, max_new_tokens=options.max_new_tokens)
    made: TextTask = task
    return made


def text_columns(
    task: "TextTask", text_column: str | None, answer_column: str | None, id_column: str | None
) -> "Columns":
    """Return the columns the user named, the task's own elsewhere."""
    own = task.columns
    return replace(
        own,
        text=text_column or own.text,
        answer=answer_column or own.answer,
        id=id_column or own.id,
    )


def read_text_rows(data: str, options: DataOptions) -> "tuple[list[Row], int, TextTask, Columns]":
    """Return the rows that can be used, how many cannot, the task and the columns.

    Raises:
        InputError: The source cannot be read, or no row can be used.
    """
    task = task_of(options)
    columns = text_columns(task, options.text_column, options.answer_column, options.id_column)
    rows, skipped = usable_rows(task, task.read(data, columns, options.split))
    return rows, skipped, task, columns


def usable_rows(
    task: "TextTask", rows: "Sequence[Row]", noun: str = "rows"
) -> "tuple[list[Row], int]":
    """Return the rows that a task can use, and how many it cannot; say of the first why.

    Args:
        task: The task.
        rows: All.
        noun: What they are.

    Raises:
        InputError: None can be used.
    """
    kept, skipped = task.usable(rows)
    if skipped:
        first = skipped[0]
        note(
            f"{len(skipped):,} of {len(rows):,} {noun} cannot be used and are left out, the first "
            f"at {first.row.where or first.row.id}: {first.why}."
        )
    return kept, len(skipped)


def read_text_inputs(
    data: str, preset: Preset, options: DataOptions, defense: DefenseOptions
) -> TextInputs:
    """Read and check all that a defense starts from.

    Raises:
        InputError: A file or a setting cannot be used.
    """
    p2p = p2p_config(preset, defense)
    if defense.drop in ("shared", "disputed"):
        raise InputError(
            f"--drop {defense.drop} goes by disputed labels, which text answers have not",
            mend="give marked, for the rows whose answers words decide, or nothing",
        )
    secret = read_secret(defense.secret_file) if defense.secret_file else None
    rows, skipped, task, columns = read_text_rows(data, options)
    check_rows(rows, p2p)
    known = read_known(defense, rows, columns, task=task)
    if p2p.selection == "anchored" and not known.trusted:
        raise InputError(
            "anchored selection needs rows that a person checked",
            mend="name them with --trusted",
        )
    return TextInputs(
        rows, skipped, task, p2p, secret, known.trusted, known.poisoned, known.findings
    )
