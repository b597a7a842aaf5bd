"""``mithridate predict``: labels for texts, from a defended model."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mithridate.cli._data_options import TEXT_COLUMN_HELP
from mithridate.cli._engine import EngineOptions, check_engine, open_model
from mithridate.cli._options import Json, LoadOptions, Model, OverwriteFile, spread
from mithridate.cli._output import note, print_json, print_table, quiet_libraries, say
from mithridate.cli._test_options import ExpectedTask, PrefixOptions, check_parts, check_task
from mithridate.cli._text_evaluate import (
    answer_records,
    load_answerer,
    show_answers,
)
from mithridate.cli._text_inputs import text_columns
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.data.rows import Row
    from mithridate.defense.manifest import DefenseManifest
    from mithridate.inference.classifier import Predictions

SHOWN = 60


@spread
def predict(
    folder: Annotated[Path, typer.Argument(help="What defend or repoison wrote.")],
    load: LoadOptions,
    engine: EngineOptions,
    prefix: PrefixOptions,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    input: Annotated[
        str | None,
        typer.Option(help="A file of rows, or - for the lines of standard input."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A JSONL file to write.")
    ] = None,
    task: ExpectedTask = None,
    model: Model = None,
    text_column: Annotated[str | None, typer.Option(help=TEXT_COLUMN_HELP)] = None,
    overwrite: OverwriteFile = False,
    json: Json = False,
) -> None:
    """Classify or answer texts with a defended model.

    Suspicion is the share of the labels' probability that goes, under the defense's prompt, to
    those it should not answer with, or of texts how unlikely it begins with the safe prefix: high
    where a text tries to pull it out of the protected domain.
    """
    from mithridate.data.write import check_file
    from mithridate.defense.manifest import DefenseManifest

    if output is not None:
        check_file(output, overwrite=overwrite, inputs=[] if input in (None, "-") else [input])
    # Wrong folders are named before torch takes its seconds.
    manifest = DefenseManifest.load(folder)
    check_task(task, manifest, folder)
    check_parts(manifest.task, prefix)
    rows = _rows(texts or [], input, text_column, manifest)
    if manifest.task != "classification":
        _answer(folder, rows, prefix, load, engine, model, input, output, json=json)
        return
    check_engine(engine, load)
    quiet_libraries()
    defended = open_model(folder, model, load, engine)
    predictions = defended.predict([row.text for row in rows], progress=True)
    if predictions.cut:
        note(f"{predictions.cut} inputs were cut to {defended.manifest.max_length} tokens")
    records = _records(rows, predictions, defended.labels, with_ids=input not in (None, "-"))
    if output is not None:
        from mithridate.data.write import write_jsonl

        write_jsonl(output, records)
    if json:
        print_json({"predictions": records, "cut": predictions.cut})
    elif output is not None:
        say(f"{len(records)} predictions written to {output}")
    else:
        _show(records, defended.labels)


def _answer(
    folder: Path,
    rows: "list[Row]",
    prefix: PrefixOptions,
    load: LoadOptions,
    engine: EngineOptions,
    model: str | None,
    source: str | None,
    output: Path | None,
    *,
    json: bool,
) -> None:
    """Answer texts, and print or write the answers."""
    defended = load_answerer(folder, model, load, engine, prefix.stop)
    answers = defended.answer(
        [row.text for row in rows], mode=prefix.mode, policy=prefix.on_flag, progress=True
    )
    if answers.cut_inputs:
        most = defended.answerer.longest_input
        note(f"{answers.cut_inputs} inputs were cut to {most} tokens")
    if answers.cut_outputs:
        most = defended.answerer.max_new_tokens
        note(
            f"{answers.cut_outputs} answers were ended at {most} tokens, as set when it was "
            "defended (defend --max-new-tokens)"
        )
    records = answer_records(rows, answers, with_ids=source not in (None, "-"))
    if output is not None:
        from mithridate.data.write import write_jsonl

        write_jsonl(output, records)
    if json:
        print_json(
            {"answers": records, "cut": answers.cut_inputs, "cut_answers": answers.cut_outputs}
        )
    elif output is not None:
        say(f"{len(records)} answers written to {output}")
    else:
        show_answers(records)


def _rows(
    texts: Sequence[str], source: str | None, text_column: str | None, manifest: "DefenseManifest"
) -> "list[Row]":
    """Return what to classify, from exactly one place."""
    from mithridate.data.read import Columns, read_rows
    from mithridate.data.rows import Row, content_id

    if bool(texts) == (source is not None):
        what = "texts come both from --input and as arguments" if texts else "there is no text"
        raise InputError(what, mend="give texts as arguments, or a file with --input")
    if source is not None and source != "-":
        if manifest.task != "classification":
            task = manifest.text_task()
            named = text_columns(task, text_column, None, None)
            return task.read(source, named, require_answer=False)
        return read_rows(source, Columns(text=text_column or "text"), require_answer=False)
    if source == "-":
        try:
            lines = [line.rstrip("\r\n") for line in sys.stdin]
            lines[:1] = [line.removeprefix("\ufeff") for line in lines[:1]]
            texts = [line for line in lines if line.strip()]
            "".join(texts).encode()  # under LC_ALL=C no byte is refused when it is read
        except UnicodeError:
            raise InputError(
                "the input is not UTF-8 text", where="standard input", mend="give lines of text"
            ) from None
        if not texts:
            raise InputError("there is no text", where="standard input", mend="give lines of text")
        if blank := len(lines) - len(texts):
            note(f"{blank:,} of {len(lines):,} lines are blank and are passed over.")
    if not all(text.strip() for text in texts):
        raise InputError("a text is empty", mend="leave it out")
    return [Row(content_id(text, None), text) for text in texts]


def _records(
    rows: "Sequence[Row]", predictions: "Predictions", labels: list[int | str], *, with_ids: bool
) -> list[dict[str, Any]]:
    """Return one record per input; probabilities are over the user's labels alone."""
    return [
        ({"id": row.id} if with_ids else {})
        | {
            "text": row.text,
            "label": predictions.labels[index],
            "probabilities": {
                str(label): float(value)
                for label, value in zip(labels, predictions.probabilities[index], strict=True)
            },
            "suspicion": float(predictions.suspicion[index]),
        }
        for index, row in enumerate(rows)
    ]


def _show(records: list[dict[str, Any]], labels: list[int | str]) -> None:
    shown = labels if len(labels) <= 6 else []  # a hundred columns help nobody: --json has them
    print_table(
        "Predictions",
        ("label", "probability", *(f"p({label})" for label in shown), "suspicion", "text"),
        [
            (
                str(record["label"]),
                f"{max(record['probabilities'].values()):.3f}",
                *(f"{record['probabilities'][str(label)]:.3f}" for label in shown),
                f"{record['suspicion']:.3f}",
                record["text"] if len(record["text"]) <= SHOWN else record["text"][:SHOWN] + "…",
            )
            for record in records
        ],
    )
