"""``mithridate audit``: which rows look poisoned, what marks them, and which to check."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mithridate.cli._audit import (
    Given,
    ReadBy,
    audit_files,
    check_output,
    check_pick,
    make_report,
    next_command,
    show,
)
from mithridate.cli._audit_files import CHECK_FILE, write
from mithridate.cli._data_options import DataOptions
from mithridate.cli._inputs import (
    check_trusted,
    columns_of,
    listed,
    read_secret,
    require_model_extra,
    training_config,
)
from mithridate.cli._known import read_ids, read_trusted
from mithridate.cli._options import (
    Data,
    Json,
    LoadOptions,
    Model,
    Overwrite,
    TrainingOptions,
    spread,
)
from mithridate.cli._output import note, print_json, quiet_libraries
from mithridate.cli._text_audit import audit_text_rows
from mithridate.cli._text_inputs import is_text
from mithridate.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mithridate.data.rows import Row
    from mithridate.defense.audit import Audit

_AUDIT = "Audit"


@dataclass(frozen=True)
class AuditOptions:
    """What is known, and what to show."""

    top: Annotated[
        int,
        typer.Option(min=0, help="How many suspicious rows to show.", rich_help_panel=_AUDIT),
    ] = 20
    pick: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Hand out so many rows worth checking, about 100, as {CHECK_FILE} in the output.",
            rich_help_panel=_AUDIT,
        ),
    ] = None
    trusted: Annotated[
        Path | None,
        typer.Option(
            help="Rows that a person checked; the judge then learns from these alone.",
            rich_help_panel=_AUDIT,
        ),
    ] = None
    poisoned_ids: Annotated[
        Path | None,
        typer.Option(
            help="Where the truth is known: the poisoned rows, a file as for defend's --exclude. "
            "Gives precision and recall, and changes nothing else.",
            rich_help_panel=_AUDIT,
        ),
    ] = None
    secret_file: Annotated[
        Path | None,
        typer.Option(
            help="64 hex digits in a file of mode 0600, for the same folds and picks again.",
            rich_help_panel=_AUDIT,
        ),
    ] = None
    no_model: Annotated[
        bool,
        typer.Option(
            "--no-model",
            help="Where answers are text: look for words that decide them alone, which takes "
            "seconds.",
            rich_help_panel=_AUDIT,
        ),
    ] = False
    prompt_style: Annotated[
        Literal["plain", "chat"],
        typer.Option(help="As for defend.", rich_help_panel=_AUDIT),
    ] = "plain"
    max_length: Annotated[
        int | None,
        typer.Option(help="Longest prompt in tokens (512).", rich_help_panel=_AUDIT),
    ] = None


@spread
def audit(
    data: Data,
    columns: DataOptions,
    options: AuditOptions,
    load: LoadOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write.")
    ] = None,
    model: Model = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Rank rows by how strongly a judge disputes their labels, and find what marks them.

    With --task the answers are text: math, summaries, anything. Rows then rank by words of the
    input that decide the answer, and by how little the input tells of it.

    With --output also a page, report.html, and files for defend: the rows to keep out, the
    suspected triggers, and with --pick the rows that a person should check.
    """
    started = time.monotonic()
    if is_text(columns):
        audit_text_rows(data, columns, options, load, output, model, overwrite=overwrite, json=json)
        return
    if options.no_model:
        raise InputError("--no-model has no part in classification", mend="drop it")
    given = _read(data, columns, options, output, overwrite=overwrite)
    require_model_extra()
    from mithridate.defense.audit import audit as library_audit
    from mithridate.defense.disputes import judge_rows
    from mithridate.defense.inserted import inserted_triggers

    quiet_libraries()
    ids, texts = [row.id for row in given.rows], [row.text for row in given.rows]
    classes = given.task.classes(given.rows)
    features, read_by = _features(texts, model, load, options)
    note("Judging the labels ...")
    inserted = inserted_triggers(
        texts, classes, features, given.task.n, ids, given.secret.derive("inserted")
    )
    places = [at for at, row_id in enumerate(ids) if row_id in given.trusted]
    key = given.secret.derive("folds")
    probabilities = judge_rows(
        ids, texts, classes, features, given.task.n, key, inserted=inserted, trusted=places
    ).probabilities
    note("Looking for what marks the disputed rows ...")
    found = library_audit(ids, texts, classes, probabilities, inserted=inserted, trusted=places)
    picked = _picked(given, found, features, classes, options)
    report = make_report(
        Path(data).name, given, found, probabilities, options.top, len(picked), read_by, started
    )
    command = next_command(
        data,
        columns,
        options,
        model,
        output,
        picked=report.picked,
        excluded=report.excluded,
        counter=any(trigger.counter for trigger in report.triggers),
    )
    if output is not None:
        files = audit_files(given, found, report, command)
        write(output, given, files, picked, columns_of(columns), overwrite=overwrite)
    if json:
        print_json({"folder": str(output) if output else None, **report.model_dump(mode="json")})
    else:
        show(report, output, command)


def _read(
    data: str, columns: DataOptions, options: AuditOptions, output: Path | None, *, overwrite: bool
) -> Given:
    """Read and check all input."""
    from mithridate.data.read import read_rows
    from mithridate.defense.secret import Secret
    from mithridate.tasks.classification import ClassificationTask

    check_output(data, options, output, overwrite=overwrite)
    secret = read_secret(options.secret_file) if options.secret_file else Secret.new()
    read_columns = columns_of(columns)
    rows = read_rows(data, read_columns, split=columns.split)
    task = ClassificationTask.of(
        rows, labels=listed(columns.labels), words=listed(columns.label_words)
    )
    trusted, wrong = read_trusted(options.trusted, rows, read_columns, labels=task.labels)
    if options.trusted is not None:
        check_trusted(rows, task, trusted)
    known = options.poisoned_ids
    poisoned = None if known is None else read_ids(known, rows, read_columns, labels=task.labels)
    check_pick(options.pick, len(rows), len(trusted | wrong))
    return Given(rows, task, trusted, wrong, poisoned, secret)


def _features(
    texts: list[str], model: str | None, load: LoadOptions, options: AuditOptions
) -> "tuple[npt.NDArray[np.float32], ReadBy]":
    """Return the rows' hidden states, and whose they are."""
    from mithridate.data.assets import default_model_folder
    from mithridate.inference.backbone import load_backbone
    from mithridate.tasks.prompt import JUDGE_PROMPT, PromptRenderer
    from mithridate.training.defend import feature_extractor

    backbone = load_backbone(
        model or default_model_folder(note),
        precision=load.precision or "auto",
        trust_remote_code=load.trust_remote_code,
    )
    length = training_config("default", TrainingOptions(), options.max_length).max_length
    renderer = PromptRenderer(backbone.tokenizer, max_length=length, style=options.prompt_style)
    cut = PromptRenderer(backbone.tokenizer, max_length=length).too_long(texts, JUDGE_PROMPT)
    return feature_extractor(backbone, renderer)(texts), ReadBy(backbone.reference, cut)


def _picked(
    given: Given,
    found: "Audit",
    features: "npt.NDArray[np.float32]",
    classes: list[int],
    options: AuditOptions,
) -> "list[Row]":
    """Return the rows to hand out, in an order that says nothing of what the judge thinks."""
    from mithridate.defense.pick import pick

    if options.pick is None:
        return []
    # What the search found has its marks, not its labels, against it, and who checks reads labels.
    marked = {row.id for row, at in zip(given.rows, found.trigger, strict=True) if at >= 0}
    chosen = pick(
        [row.id for row in given.rows],
        [row.text for row in given.rows],
        classes,
        found.scores,
        features,
        options.pick,
        given.secret.derive("pick"),
        skip=given.trusted | given.wrong | marked,
    )
    if len(chosen) < options.pick:
        left = "the others are copies, were checked, or hold what was found"
        note(f"{len(chosen):,} rows picked: {left}.")
    return [given.rows[at] for at in sorted(chosen)]
