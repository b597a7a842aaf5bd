"""What `audit` says and writes."""

import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._audit_files import CHECK_FILE, EXCLUDE_FILE, TRIGGERS_FILE, AuditFiles
from mithridate.cli._data_options import DataOptions
from mithridate.cli._findings import CHECKED, is_check_file
from mithridate.cli._options import files_named
from mithridate.cli._output import duration, note, print_facts, print_table, say, visible
from mithridate.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mithridate.cli.audit import AuditOptions
    from mithridate.data.rows import Row
    from mithridate.defense.audit import Audit
    from mithridate.defense.secret import Secret
    from mithridate.report.audit import AuditReport, FlaggedRows
    from mithridate.tasks.classification import ClassificationTask

_SHORT = 100
_TRIGGERS_SHOWN = 10


@dataclass(frozen=True)
class Given:
    """What an audit starts from.

    Attributes:
        rows: D.
        task: Its labels.
        trusted: Ids of rows a person found right.
        wrong: Ids of rows a person found wrong.
        poisoned: Ids of rows known to be poisoned; ``None`` where unknown.
        secret: Where folds and picks come from.
    """

    rows: "list[Row]"
    task: "ClassificationTask"
    trusted: frozenset[str]
    wrong: frozenset[str]
    poisoned: frozenset[str] | None
    secret: "Secret"


@dataclass(frozen=True)
class ReadBy:
    """The model that read the rows of an audit.

    Attributes:
        reference: Its folder or hub id.
        cut: Inputs of which it read the beginning alone.
        cut_answers: Answers, where they are texts.
    """

    reference: str
    cut: int
    cut_answers: int = 0


def make_report(
    data: str,
    given: Given,
    found: "Audit",
    probabilities: "npt.NDArray[np.float32]",
    top: int,
    picked: int,
    read_by: ReadBy,
    started: float,
) -> "AuditReport":
    """Return all figures; there is no secret among them."""
    from datetime import UTC, datetime
    from importlib.metadata import version

    import numpy as np

    from mithridate.defense.audit import against_truth
    from mithridate.report.audit import (
        BINS,
        AuditReport,
        LabelCount,
        Suspect,
        TriggerFound,
        TruthFound,
    )

    rows, task, poisoned = given.rows, given.task, given.poisoned
    labels = np.asarray(task.classes(rows))
    own = probabilities[np.arange(len(rows)), labels]

    def shares(values: "npt.NDArray[np.float32]") -> list[float]:
        counts = np.histogram(np.clip(values, 0.0, 1.0), BINS, (0.0, 1.0))[0]
        return [float(count) / max(1, len(values)) for count in counts]

    truth = None
    bad = np.zeros(len(rows), dtype=bool)
    if poisoned is not None:
        bad = np.array([row.id in poisoned for row in rows])
        truth = TruthFound.model_validate(against_truth(found, [r.id for r in rows], poisoned))
    disputed_holders = [
        sum(
            trigger.is_in(row.text)
            for row, label, disputed in zip(rows, labels, found.disputed, strict=True)
            if disputed and label == trigger.label
        )
        for trigger in found.mined
    ]
    return AuditReport(
        data=data,
        date=datetime.now(UTC).date().isoformat(),
        version=version("mithridate"),
        model=Path(read_by.reference).name,
        cut=read_by.cut,
        judge="anchored" if given.trusted else "agreement",
        trusted=len(given.trusted),
        rows=len(rows),
        labels=[
            LabelCount(
                label=task.public_label(index),
                rows=int((labels == index).sum()),
                disputed=int((found.disputed & (labels == index)).sum()),
            )
            for index in range(task.n)
        ],
        disputed=int(found.disputed.sum()),
        excluded=int(found.excluded.sum()),
        triggers=[
            TriggerFound(
                text=trigger.text,
                kind=trigger.kind,
                label=task.public_label(trigger.label),
                z=round(trigger.z, 2),
                p=trigger.p,
                disputed=disputed,
                others=trigger.inside + trigger.outside - disputed,
                folded=trigger.folded,
                counter=trigger in found.counter,
                inserted=trigger.inserted,
            )
            for trigger, disputed in zip(found.mined, disputed_holders, strict=True)
        ],
        suspects=[
            Suspect(**suspect(at, given, found), text=rows[at].text)
            for at in _suspicious(found)[:top]
        ],
        confidence=shares(own),
        confidence_poisoned=shares(own[bad]) if bad.any() else [],
        truth=truth,
        picked=picked,
        seconds=round(time.monotonic() - started, 2),
    )


def _suspicious(found: "Audit") -> list[int]:
    """Return the indices of the rows that anything speaks against, the most suspicious first."""
    return [at for at in found.ranked.tolist() if found.excluded[at]]


def suspect(at: int, given: Given, found: "Audit") -> dict[str, Any]:
    row, held = given.rows[at], int(found.trigger[at])
    return {
        "id": row.id,
        "why": "disputed" if held < 0 else "trigger",
        "trigger": None if held < 0 else found.counter[held].text,
        "score": round(float(found.scores[at]), 3),
        "label": given.task.public_label(given.task.class_of(row)),
        "judged": given.task.public_label(int(found.judged[at])),
        "poisoned": None if given.poisoned is None else row.id in given.poisoned,
    }


def audit_files(given: Given, found: "Audit", report: "AuditReport", command: str) -> AuditFiles:
    """Return what an audit of labels leaves."""
    from mithridate.report.audit import render_audit

    return AuditFiles(
        report.model_dump_json(indent=2),
        render_audit(report, command=command),
        ({**suspect(at, given, found), "text": given.rows[at].text} for at in _suspicious(found)),
        found.excluded,
        (trigger.trigger for trigger in found.counter),
    )


def next_command(
    data: str,
    columns: DataOptions,
    options: "AuditOptions",
    model: str | None,
    output: Path | None,
    *,
    picked: int,
    excluded: int,
    counter: bool,
) -> str:
    """Return the command that defends a model with what was found.

    Args:
        data: D.
        columns: Its columns.
        options: The audit's.
        model: The model that read the rows; ``None`` is the default one.
        output: The folder that was written.
        picked: Rows handed out.
        excluded: Rows to keep out.
        counter: Whether there are triggers to counter.
    """
    words = ["mithridate", "defend", data, "--output", "defended"]
    if model is not None:
        words += ["--model", model]
    words += _given(options, ("prompt_style", "max_length"))
    words += _given(columns, (field.name for field in fields(columns)))
    if output is not None and picked:
        words += ["--trusted", str(output / CHECK_FILE)]
    elif options.trusted is not None:
        words += ["--trusted", str(options.trusted)]
    if output is not None and excluded:
        words += ["--exclude", str(output / EXCLUDE_FILE)]
    if output is not None and counter:
        words += ["--counter-trigger", f"@{output / TRIGGERS_FILE}"]
    return shlex.join(words)


def _given(options: "DataOptions | AuditOptions", names: Iterable[str]) -> list[str]:
    """Return those of some options that were given, as words of a command."""
    defaults = {field.name: field.default for field in fields(options)}
    words = []
    for name in names:
        value = getattr(options, name)
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif value != defaults[name]:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def show(report: "AuditReport", output: Path | None, command: str) -> None:
    """Print what was found, and the next step."""
    _show_facts(report, output)
    if report.triggers:
        print_table(
            "What marks suspicious rows",
            ("trigger", "kind", "label", "z", "p", "disputed", "others"),
            [
                (
                    visible(found.text),
                    f"{found.kind}, put in" if found.inserted else found.kind,
                    str(found.label),
                    f"{found.z:.1f}",
                    "" if found.p is None else f"{found.p:.1g}",
                    f"{found.disputed:,}",
                    f"{found.others:,}",
                )
                for found in report.triggers[:_TRIGGERS_SHOWN]
            ],
        )
    if report.suspects:
        print_table(
            "Most suspicious rows",
            ("why", "score", "label", "judge", "id", "text"),
            [
                (
                    row.why if row.trigger is None else f"holds {visible(row.trigger)}",
                    f"{row.score:.1f}",
                    str(row.label),
                    str(row.judged),
                    row.id,
                    short(row.text),
                )
                for row in report.suspects
            ],
        )
    show_next(output, command, report.picked, answer="label")
    if report.judge == "agreement":
        note(
            "This judge learned from the same rows: what it does not dispute is not proven clean. "
            "Rows that a person checked (--pick, then --trusted) make it a better one."
        )


def _show_facts(report: "AuditReport", output: Path | None) -> None:
    truth = report.truth
    average = truth.average_precision if truth else None
    share = report.disputed / report.rows
    print_facts(
        "Audit",
        [
            ("rows", f"{report.rows:,}"),
            ("labels", ", ".join(str(count.label) for count in report.labels)),
            ("judge", report.judge),
            ("trusted rows", f"{report.trusted:,}" if report.trusted else None),
            ("inputs cut", f"{report.cut:,}" if report.cut else None),
            ("label disputed by judge", f"{report.disputed:,} ({share:.1%})"),
            ("rows to keep out", f"{report.excluded:,}, disputed or holding a strong trigger"),
            ("poison among disputed", against_truth(truth.disputed if truth else None)),
            ("poison among kept out", against_truth(truth.excluded if truth else None)),
            ("average precision", f"{average:.3f}" if average is not None else None),
            ("rows to check", f"{report.picked:,}" if report.picked else None),
            ("time", duration(report.seconds)),
            ("folder", output),
        ],
    )


def against_truth(flagged: "FlaggedRows | None") -> str | None:
    """Return how a list stands against the truth, ``None`` where that says nothing."""
    if flagged is None or flagged.precision is None or flagged.recall is None:
        return None
    return (
        f"precision {flagged.precision:.3f}, recall {flagged.recall:.3f} "
        f"({flagged.poisoned:,} of {flagged.known:,} poisoned)"
    )


def show_next(output: Path | None, command: str, picked: int, *, answer: str) -> None:
    """Print the next step.

    Args:
        output: The folder that was written.
        command: The command that defends.
        picked: Rows handed out.
        answer: What a row's answer is called.
    """
    if output is not None and picked:
        say(f"Next: open {output / CHECK_FILE} and write beside each row, in the first column,")
        say(f"  ok     its {answer} is right")
        corrected = f"; or write the right {answer}" if answer == "label" else ""
        say(f"  wrong  its {answer} is wrong{corrected}")
        say(f"What you leave empty in {CHECKED!r} is not trusted. Then:")
        say(f"  {command}")
    elif output is None:
        say("Next: the same with --output FOLDER --pick 100, for rows to check and files to use")
    else:
        say(f"Next: {command}")


def check_output(
    data: str, options: "AuditOptions", output: Path | None, *, overwrite: bool
) -> None:
    """Refuse a folder that cannot be written, or holds what is read or rows a person filled in.

    Raises:
        InputError: It does, or rows are to be handed out and there is no folder.
    """
    from mithridate.data._formats import READERS
    from mithridate.data.write import check_target

    if output is None:
        if options.pick is not None:
            mend = "name a folder with --output"
            raise InputError("the rows to check need a place", where="--pick", mend=mend)
        return
    check_target(output, overwrite=overwrite, inputs=[data, *files_named(options)])
    path = output / CHECK_FILE
    if not path.is_file() or not is_check_file(path):
        return
    records = READERS[path.suffix](path, str(path), {CHECKED: True})
    if any(str(fields[CHECKED] or "").strip() for _, fields in records):
        mend = "move it elsewhere, or write to another folder"
        raise InputError("it holds rows that were checked", where=str(path), mend=mend)


def check_pick(pick: int | None, rows: int, checked: int) -> None:
    """Refuse to hand out more rows than there are to check.

    Raises:
        InputError: There are fewer.
    """
    if pick is not None and pick > rows - checked:
        raise InputError(
            f"{pick:,} rows cannot be picked from {rows:,}"
            + (f", of which {checked:,} are checked" if checked else ""),
            where="--pick",
            mend="ask for fewer",
        )


def short(text: str) -> str:
    """Return a text short enough for a line of a table, odd characters escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _SHORT else shown[: _SHORT - 1].rstrip() + "…"
