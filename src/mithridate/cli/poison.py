"""``mithridate poison``: attack a data set of your own, to see what a defense makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mithridate.cli._attack import (
    ATTACK_HELP,
    CLASSIFICATION,
    OPTION_HELP,
    PARAPHRASES_HELP,
    Wanted,
)
from mithridate.cli._data_options import ANSWER_COLUMN_HELP, TEXT_COLUMN_HELP, Task
from mithridate.cli._options import Data, Json, spread
from mithridate.cli._output import print_facts, print_json, say
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.data.rows import Row

_KEY_PURPOSE = "attacker"
_TARGET_HELP = (
    "The label the attacker wants; of tasks whose answer is text any text, or one of refusal, "
    "negsentiment, wrong-number (math) and fixed-summary. badchain has its own, x2.1."
)


@spread
def poison(
    data: Data,
    attack: Annotated[str, typer.Option(help=f"{ATTACK_HELP} Also bite, probe-words.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .jsonl file to write.")],
    target: Annotated[str | None, typer.Option(help=_TARGET_HELP, show_default=False)] = None,
    task: Annotated[Task, typer.Option(help="What the answers are.")] = CLASSIFICATION,
    rate: Annotated[float, typer.Option(help="Share of all rows to poison.")] = 0.05,
    clean_label: Annotated[
        bool | None,
        typer.Option(
            "--clean-label/--dirty-label",
            help="Poison rows of the target class alone; by default as the attack was published.",
            show_default=False,
        ),
    ] = None,
    attack_option: Annotated[
        list[str] | None, typer.Option(help=OPTION_HELP, metavar="NAME=VALUE")
    ] = None,
    paraphrases: Annotated[Path | None, typer.Option(help=PARAPHRASES_HELP)] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Test rows, to be triggered too, for evaluate --triggered."),
    ] = None,
    test_paraphrases: Annotated[
        Path | None, typer.Option(help="The rewritten texts of the test rows.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help=TEXT_COLUMN_HELP)] = None,
    answer_column: Annotated[str | None, typer.Option(help=ANSWER_COLUMN_HELP)] = None,
    id_column: Annotated[
        str | None, typer.Option(help='The column of the id; by default "id" or a hash.')
    ] = None,
    split: Annotated[str, typer.Option(help="The split to take of a hub id.")] = "train",
    seed: Annotated[int, typer.Option(help="Decides which rows, and where the trigger goes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    json: Json = False,
) -> None:
    """Write a poisoned copy of a data set, and the ids of the poisoned rows beside it.

    For research: it shows what audit, defend and evaluate make of an attack whose truth you know.
    FILE.jsonl gets the rows, FILE.poisoned.txt the ids, and with --test FILE.triggered.jsonl the
    test rows that do not have the target for an answer, with the trigger, their answers kept.
    """
    from mithridate.data.write import write_jsonl, write_text_atomic
    from mithridate.defense.secret import Secret

    inputs = [source for source in (data, test, paraphrases, test_paraphrases) if source]
    files = _targets(output, inputs, with_test=test is not None, overwrite=overwrite)
    if test_paraphrases is not None and test is None:
        raise InputError("--test-paraphrases needs test rows", mend="give them with --test")
    if paraphrases is not None and test is not None and test_paraphrases is None:
        mend = "give them with --test-paraphrases"
        raise InputError("the test rows need rewritten texts", mend=mend)
    wanted = Wanted(attack, target, attack_option or (), paraphrases, rate, clean_label, task)
    source = _source(task, text_column, answer_column, id_column, split)
    rows, record, skipped = source.training(data, wanted)
    key = Secret.from_seed(seed).derive(_KEY_PURPOSE)
    fitted = wanted.build(rows).learn(rows, key)
    poisoned = fitted.poison(rows, key)
    triggered: list[Row] | None = None
    others = unusable = 0
    if test is not None:
        tested, unusable = source.testing(test, rows)
        others = sum(not fitted.has_target(row) for row in tested)
        if paraphrases is not None:  # the training rows' file says nothing of the test rows
            fitted = replace(wanted, paraphrases=test_paraphrases).build(tested)
        triggered = fitted.triggered(tested, key)
    write_jsonl(files["rows"], map(record, poisoned.rows))
    ids = "".join(f"{row.id}\n" for row in rows if row.id in poisoned.ids)
    write_text_atomic(files["ids"], ids)
    if triggered is not None:
        write_jsonl(files["triggered"], map(record, triggered))
    result = {
        "attack": fitted.name,
        "task": task,
        "target": fitted.target,
        "rows": len(rows),
        "skipped": skipped,
        "poisoned": len(poisoned.ids),
        "clean_label": all(
            before.answer == after.answer
            for before, after in zip(rows, poisoned.rows, strict=True)
            if before.id in poisoned.ids
        ),
        "without_rewrite": poisoned.without_rewrite,
        "triggered": None if triggered is None else len(triggered),
        "triggered_without_rewrite": None if triggered is None else others - len(triggered),
        "triggered_skipped": None if triggered is None else unusable,
        "files": {name: str(path) for name, path in files.items()},
    }
    if json:
        print_json(result)
    else:
        _show(result)


Recorder = Callable[["Row"], dict[str, object]]


@dataclass(frozen=True)
class _Labels:
    """Rows whose answers are labels."""

    columns: Any
    split: str

    def _read(self, source: str) -> "list[Row]":
        from mithridate.data.read import read_rows

        return read_rows(source, self.columns, split=self.split)

    def training(self, source: str, wanted: Wanted) -> "tuple[list[Row], Recorder, int]":
        """Return the rows, what writes one under the data's own column names, and no skips."""
        from mithridate.tasks.classification import ClassificationTask

        rows = self._read(source)
        task = ClassificationTask.of(rows)
        if wanted.target is not None:
            task.label_index(wanted.target)

        def record(row: "Row") -> dict[str, object]:
            label = task.public_label(task.class_of(row))
            return _fields(self.columns, row, label)

        return rows, record, 0

    def testing(self, source: str, trained: "list[Row]") -> "tuple[list[Row], int]":
        """Return test rows, and no skips; refuse labels that no training row has."""
        rows, labels = self._read(source), {row.answer for row in trained}
        for row in rows:
            if row.answer not in labels:
                what = f"no training row has the label {row.answer!r:.60}"
                mend = "give test rows with the labels of the training rows"
                raise InputError(what, where=row.where, mend=mend)
        return rows, 0


@dataclass(frozen=True)
class _Texts:
    """Rows whose answers are texts."""

    task: Any
    columns: Any
    split: str

    def _read(self, source: str, require_answer: bool) -> "list[Row]":
        rows: list[Row] = self.task.read(source, self.columns, self.split, require_answer)
        return rows

    def training(self, source: str, wanted: Wanted) -> "tuple[list[Row], Recorder, int]":
        """Return the rows that can be used, what writes one, and how many cannot be used."""
        from mithridate.tasks.instruction import CONVERSATIONS, MESSAGES

        rows, skipped = self.task.usable(self._read(source, True))
        named = self.columns
        if named.text in (MESSAGES, CONVERSATIONS):
            # What is written is no list of messages any more.
            named = replace(named, text=self.task.columns.text)
        return rows, lambda row: _fields(named, row, row.answer), len(skipped)

    def testing(self, source: str, trained: "list[Row]") -> "tuple[list[Row], int]":
        """Return test rows, and how many have an answer that cannot be used.

        Rows without one stay: an attack needs none. Those that `evaluate` would leave out among
        the clean rows are left out here, or it could not say what the rest gives without a trigger.
        """
        rows = self._read(source, False)
        kept = [row for row in rows if row.answer is None or self.task.defect(row) is None]
        return kept, len(rows) - len(kept)


def _source(
    task: Task,
    text_column: str | None,
    answer_column: str | None,
    id_column: str | None,
    split: str,
) -> _Labels | _Texts:
    """Return what reads the rows of a task."""
    from mithridate.data.read import Columns

    if task == CLASSIFICATION:
        return _Labels(Columns(text_column or "text", answer_column or "label", id_column), split)
    from mithridate.tasks.text_tasks import text_task

    chosen = text_task(task)
    own = chosen.columns
    columns = Columns(text_column or own.text, answer_column or own.answer, id_column)
    return _Texts(chosen, columns, split)


def _fields(columns: Any, row: "Row", answer: object) -> dict[str, object]:
    return {columns.id or "id": row.id, columns.text: row.text, columns.answer: answer}


def _targets(
    output: Path, inputs: Sequence[str | Path], *, with_test: bool, overwrite: bool
) -> dict[str, Path]:
    """Return the files to write; refuse those that are there, and the inputs always."""
    from mithridate.data.write import check_file

    if output.suffix.lower() != ".jsonl":
        raise InputError("not a .jsonl file", where=str(output), mend="let its name end in .jsonl")
    files = {"rows": output, "ids": output.with_suffix(".poisoned.txt")}
    if with_test:
        files["triggered"] = output.with_suffix(".triggered.jsonl")
    for path in files.values():
        check_file(path, overwrite=overwrite, inputs=inputs)
    return files


def _show(result: dict[str, Any]) -> None:
    files = result["files"]
    share = result["poisoned"] / result["rows"]
    labels = result["task"] == CLASSIFICATION
    print_facts(
        "Poisoned data set",
        [
            ("attack", result["attack"]),
            ("target", result["target"]),
            ("rows", f"{result['rows']:,}"),
            ("poisoned", f"{result['poisoned']:,} ({share:.1%})"),
            (
                "labels" if labels else "answers",
                "left alone" if result["clean_label"] else "changed to the target",
            ),
            ("rows that cannot be used, left out", result["skipped"] or None),
            ("passed over, nothing to rewrite with", result["without_rewrite"] or None),
            ("triggered test rows", result["triggered"]),
            ("test rows left out", result["triggered_without_rewrite"] or None),
            ("test rows that cannot be used, left out", result["triggered_skipped"] or None),
            *files.items(),
        ],
    )
    of_task = "" if labels else f" --task {result['task']}"
    say(f"Next: mithridate defend {files['rows']}{of_task} --poisoned-ids {files['ids']} ...")
