"""Options that say what a data set holds, shared by the verbs that read one."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

_DATA = "Data"

Task = Literal["classification", "math", "summarization", "instruction"]
TEXT_COLUMN_HELP = (
    "The column of the input; by default text, of math question, of instruction instruction (with "
    "input), messages or conversations."
)
ANSWER_COLUMN_HELP = (
    "The column of the answer; by default label, of math answer, of summarization summary, of "
    "instruction output."
)


@dataclass(frozen=True)
class DataOptions:
    """Which column holds what, and what the labels are."""

    task: Annotated[
        Task,
        typer.Option(
            help="What the answers are: labels, or text, of math problems, summaries or anything "
            "else an instruction asks for.",
            rich_help_panel=_DATA,
        ),
    ] = "classification"
    text_column: Annotated[
        str | None, typer.Option(help=TEXT_COLUMN_HELP, rich_help_panel=_DATA)
    ] = None
    answer_column: Annotated[
        str | None, typer.Option(help=ANSWER_COLUMN_HELP, rich_help_panel=_DATA)
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option(
            help='The column of the id; by default "id" if there is one, else a hash.',
            rich_help_panel=_DATA,
        ),
    ] = None
    split: Annotated[
        str, typer.Option(help="The split to take of a hub id.", rich_help_panel=_DATA)
    ] = "train"
    labels: Annotated[
        str | None,
        typer.Option(
            help="The label set, in class order, separated by commas; by default as found.",
            rich_help_panel=_DATA,
        ),
    ] = None
    label_words: Annotated[
        str | None,
        typer.Option(
            help="What the model says: a word for each class, then an alternative one for each, "
            "separated by commas.",
            rich_help_panel=_DATA,
        ),
    ] = None
    answer_only: Annotated[
        bool,
        typer.Option(
            "--answer-only",
            help="Math: train on the final number alone, not on the way to it.",
            rich_help_panel=_DATA,
        ),
    ] = False
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Where answers are text: how long one may become (256; summaries 64).",
            rich_help_panel=_DATA,
        ),
    ] = None
