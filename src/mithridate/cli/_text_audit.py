"""``audit`` where answers are text."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._audit import (
    ReadBy,
    against_truth,
    check_output,
    check_pick,
    next_command,
    short,
    show_next,
)
from mithridate.cli._audit_files import AuditFiles, write
from mithridate.cli._data_options import DataOptions
from mithridate.cli._inputs import (
    read_secret,
    require_model_extra,
    require_statistics,
    training_config,
)
from mithridate.cli._known import read_ids, read_trusted
from mithridate.cli._options import LoadOptions, TrainingOptions
from mithridate.cli._output import (
    duration,
    note,
    print_facts,
    print_json,
    print_table,
    quiet_libraries,
    visible,
)
from mithridate.cli._text_inputs import read_text_rows
from mithridate.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mithridate.cli.audit import AuditOptions
    from mithridate.data.read import Columns
    from mithridate.data.rows import Row
    from mithridate.defense.audit_text import TextAudit
    from mithridate.defense.secret import Secret
    from mithridate.report.audit_text import TextAuditReport, TextSuspect
    from mithridate.tasks.text import TextTask

_ASSOCIATIONS = 20
_ASSOCIATIONS_SHOWN = 10


@dataclass(frozen=True)
class TextGiven:
    """What an audit starts from.

    Attributes:
        rows: D, the rows that the task can use.
        answers: What each is trained to answer.
        skipped: Rows it cannot use.
        task: The task.
        columns: Which column holds what.
        trusted: Ids of rows a person found right.
        wrong: Ids of rows a person found wrong.
        poisoned: Ids of rows known to be poisoned; ``None`` where unknown.
        secret: Where draws come from.
    """

    rows: "list[Row]"
    answers: list[str]
    skipped: int
    task: "TextTask"
    columns: "Columns"
    trusted: frozenset[str]
    wrong: frozenset[str]
    poisoned: frozenset[str] | None
    secret: "Secret"


def audit_text_rows(
    data: str,
    columns: DataOptions,
    options: "AuditOptions",
    load: LoadOptions,
    output: Path | None,
    model: str | None,
    *,
    overwrite: bool,
    json: bool,
) -> None:
    """Audit rows whose answers are text; fill the folder and print what was found."""
    started = time.monotonic()
    given = _read(data, columns, options, output, model, overwrite=overwrite)
    (require_statistics if options.no_model else require_model_extra)()
    from mithridate.defense.audit_text import audit_texts, pick_texts, suspected

    ids, texts = [row.id for row in given.rows], [row.text for row in given.rows]
    note("Looking for words that decide answers ...")
    marks = suspected(texts, given.answers, ids, given.secret, given.trusted)
    told, read_by = None, None
    if not options.no_model:
        told, read_by = _information(given, model, load, options)
    key = given.secret.derive("pick")
    found = audit_texts(ids, marks, told, key, trusted=given.trusted)
    picked: list[Row] = []
    if options.pick is not None:
        checked = given.trusted | given.wrong
        chosen = pick_texts(found, ids, texts, given.answers, options.pick, key, skip=checked)
        if len(chosen) < options.pick:
            note(
                f"{len(chosen):,} rows picked: the others are kept out as it is, copies of these, "
                "or checked."
            )
        picked = [given.rows[at] for at in sorted(chosen)]
    report = _report(Path(data).name, given, found, options.top, len(picked), read_by, started)
    command = next_command(
        data,
        columns,
        options,
        model,
        output,
        picked=len(picked),
        excluded=report.excluded,
        counter=bool(marks.triggers),
    )
    if output is not None:
        _write(output, given, found, report, picked, command, overwrite=overwrite)
    if json:
        print_json({"folder": str(output) if output else None, **report.model_dump(mode="json")})
    else:
        _show(report, output, command)


def _read(
    data: str,
    columns: DataOptions,
    options: "AuditOptions",
    output: Path | None,
    model: str | None,
    *,
    overwrite: bool,
) -> TextGiven:
    """Read and check all input."""
    from mithridate.defense.secret import Secret

    if options.no_model and model is not None:
        raise InputError("--no-model reads no row with --model", mend="drop one of the two")
    check_output(data, options, output, overwrite=overwrite)
    secret = read_secret(options.secret_file) if options.secret_file else Secret.new()
    rows, skipped, task, named = read_text_rows(data, columns)
    trusted, wrong = read_trusted(options.trusted, rows, named, task=task)
    known = options.poisoned_ids
    poisoned = None if known is None else read_ids(known, rows, named, task=task)
    check_pick(options.pick, len(rows), len(trusted | wrong))
    answers = [task.target(row) for row in rows]
    return TextGiven(rows, answers, skipped, task, named, trusted, wrong, poisoned, secret)


def _information(
    given: TextGiven, model: str | None, load: LoadOptions, options: "AuditOptions"
) -> "tuple[npt.NDArray[np.float64], ReadBy]":
    """Return how much inputs tell of their answers, and to which model."""
    from mithridate.data.assets import default_model_folder
    from mithridate.defense.prepare_text import information
    from mithridate.inference.backbone import load_backbone
    from mithridate.tasks.prompt import ORIGINAL_TEXT_PROMPT, PromptRenderer
    from mithridate.training.defend_text import frozen_likelihood

    quiet_libraries()
    backbone = load_backbone(
        model or default_model_folder(note),
        precision=load.precision or "auto",
        trust_remote_code=load.trust_remote_code,
    )
    length = training_config("default", TrainingOptions(), options.max_length).max_length
    renderer = PromptRenderer(backbone.tokenizer, max_length=length, style=options.prompt_style)
    texts, half = [row.text for row in given.rows], renderer.longest_answer
    read_by = ReadBy(
        backbone.reference,
        renderer.too_long(texts, ORIGINAL_TEXT_PROMPT, reserve=half),
        sum(len(ids) > half for ids in renderer.answers(given.answers)),
    )
    note("Reading the answers after their own inputs and after others ...")
    told = information(
        texts,
        given.answers,
        [row.id for row in given.rows],
        frozen_likelihood(backbone, renderer),
        given.secret.derive("partners"),
    )
    return told, read_by


def _report(
    data: str,
    given: TextGiven,
    found: "TextAudit",
    top: int,
    picked: int,
    read_by: "ReadBy | None",
    started: float,
) -> "TextAuditReport":
    """Return all figures; there is no secret among them."""
    from datetime import UTC, datetime
    from importlib.metadata import version

    import numpy as np

    from mithridate.defense.association import FIT_ROWS
    from mithridate.defense.audit_text import against_truth as judged
    from mithridate.report.audit_text import (
        TextAuditReport,
        TextSuspect,
        TextTruthFound,
        grouped,
        spread_of,
    )

    rows, marks, told = given.rows, found.suspected, found.information
    truth = None
    bad = np.zeros(len(rows), dtype=bool)
    if given.poisoned is not None:
        bad = np.array([row.id in given.poisoned for row in rows])
        truth = TextTruthFound.model_validate(judged(found, [r.id for r in rows], given.poisoned))
    return TextAuditReport(
        task=given.task.name,
        data=data,
        date=datetime.now(UTC).date().isoformat(),
        version=version("mithridate"),
        model=None if read_by is None else Path(read_by.reference).name,
        cut=0 if read_by is None else read_by.cut,
        cut_answers=0 if read_by is None else read_by.cut_answers,
        trusted=len(given.trusted),
        rows=len(rows),
        skipped=given.skipped,
        searched=min(len(rows), FIT_ROWS),
        associated=int(marks.associated.sum()),
        holding=int((marks.trigger >= 0).sum()),
        excluded=int(marks.excluded.sum()),
        uninformed=None if told is None else int(found.uninformed.sum()),
        associations=grouped(marks.found, marks.triggers)[:_ASSOCIATIONS],
        suspects=[
            TextSuspect.model_validate(_suspect(at, given, found))
            for at in found.ranked[:top].tolist()
            # Without a model there is no order among rows that nothing speaks against.
            if told is not None or marks.excluded[at]
        ],
        information=None if told is None else spread_of(told, bad),
        truth=truth,
        picked=picked,
        seconds=round(time.monotonic() - started, 2),
    )


def _suspect(at: int, given: TextGiven, found: "TextAudit") -> dict[str, Any]:
    row, marks = given.rows[at], found.suspected
    association, trigger = int(marks.association[at]), int(marks.trigger[at])
    why, words, decides = "information" if found.uninformed[at] else "none", None, None
    if association >= 0:
        why, one = "association", marks.found[association]
        words, decides = one.text, one.answer
    elif trigger >= 0:
        why, words = "trigger", marks.triggers[trigger].text
    told = found.information
    return {
        "id": row.id,
        "why": why,
        "trigger": words,
        "decides": decides,
        "information": None if told is None else round(float(told[at]), 3),
        "poisoned": None if given.poisoned is None else row.id in given.poisoned,
        "text": row.text,
        "answer": given.answers[at],
    }


def _suspects(given: TextGiven, found: "TextAudit") -> Iterator[dict[str, Any]]:
    """Yield the rows that anything speaks against, the most suspicious first."""
    suspicious = found.suspected.excluded | found.uninformed
    for at in found.ranked.tolist():
        if suspicious[at]:
            yield _suspect(at, given, found)


def _write(
    output: Path,
    given: TextGiven,
    found: "TextAudit",
    report: "TextAuditReport",
    picked: "list[Row]",
    command: str,
    *,
    overwrite: bool,
) -> None:
    """Fill the folder."""
    from mithridate.report.audit_text import render_text_audit

    marks = found.suspected
    files = AuditFiles(
        report.model_dump_json(indent=2),
        render_text_audit(report, command=command),
        _suspects(given, found),
        marks.excluded,
        marks.triggers,
    )
    write(output, given, files, picked, given.columns, overwrite=overwrite)


def _show(report: "TextAuditReport", output: Path | None, command: str) -> None:
    """Print what was found, and the next step."""
    _show_facts(report, output)
    if report.associations:
        print_table(
            "What decides answers; 0 stands for any number",
            ("input", "kind", "answer", "both", "rows", "elsewhere", "p below"),
            [
                (
                    visible(one.text),
                    one.kind,
                    short(one.answer),
                    f"{one.together:,}",
                    f"{one.holders:,}",
                    f"{one.elsewhere:.1%}",
                    one.at_most,
                )
                for one in report.associations[:_ASSOCIATIONS_SHOWN]
            ],
        )
    if report.suspects:
        print_table(
            "Most suspicious rows",
            ("why", "information", "id", "text", "answer"),
            [
                (
                    _why(row),
                    "" if row.information is None else f"{row.information:.2f}",
                    row.id,
                    short(row.text),
                    short(row.answer),
                )
                for row in report.suspects
            ],
        )
    show_next(output, command, report.picked, answer="answer")
    note(
        "What is not kept out is not proven clean: an attacker who varies trigger or target from "
        "row to row leaves less to see."
    )


def _why(row: "TextSuspect") -> str:
    """Say what speaks against a row."""
    if row.trigger is None:
        return "tells nothing" if row.why == "information" else ""
    return f"{'decided by' if row.why == 'association' else 'holds'} {visible(row.trigger)}"


def _show_facts(report: "TextAuditReport", output: Path | None) -> None:
    truth, share = report.truth, report.excluded / report.rows
    average = truth.average_precision if truth else None
    print_facts(
        "Audit",
        [
            ("task", report.task),
            ("rows", f"{report.rows:,}"),
            ("rows that cannot be used", f"{report.skipped:,}" if report.skipped else None),
            (
                "rows searched",
                f"{report.searched:,}, then looked up in all"
                if report.searched < report.rows
                else None,
            ),
            ("model", report.model or "none"),
            ("trusted rows", f"{report.trusted:,}" if report.trusted else None),
            ("inputs cut", f"{report.cut:,}" if report.cut else None),
            ("answers cut", f"{report.cut_answers:,}" if report.cut_answers else None),
            ("answers that words decide", f"{report.associated:,}"),
            (
                "rows to keep out",
                f"{report.excluded:,} ({share:.1%}), such, or holding a suspected trigger",
            ),
            (
                "inputs that tell nothing",
                None if report.uninformed is None else f"{report.uninformed:,}",
            ),
            ("poison among decided", against_truth(truth.associated if truth else None)),
            ("poison among kept out", against_truth(truth.excluded if truth else None)),
            ("average precision", f"{average:.3f}" if average is not None else None),
            ("rows to check", f"{report.picked:,}" if report.picked else None),
            ("time", duration(report.seconds)),
            ("folder", output),
        ],
    )
