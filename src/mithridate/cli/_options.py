"""Options that several verbs share, in groups, and the decorator that spreads a group out.

Every option that belongs to a preset defaults to ``None``: what is given overrides the preset.
"""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

_DEFENSE = "Defense"
_TRAINING = "Training"
_MODEL = "Model"
_STREAM = "Data of any size"

Preset = Literal["default", "paper"]
Precision = Literal["auto", "bfloat16", "float32"]

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier output of Mithridate's.")
]
OverwriteFile = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file, whatever it holds.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]
Data = Annotated[
    str,
    typer.Argument(
        help="The fine-tuning set: a .jsonl, .csv, .tsv or .parquet file, or a hub id.",
        metavar="DATA",
        show_default=False,
    ),
]
Shards = Annotated[
    list[str],
    typer.Argument(
        help="The fine-tuning set: a .jsonl, .csv, .tsv or .parquet file, or a hub id; with "
        "--stream also several, folders of shards, or patterns in quotes.",
        metavar="DATA...",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The base model: a folder, a hub id, or the name of one that assets fetched.",
        rich_help_panel=_MODEL,
    ),
]
PresetOption = Annotated[
    Preset,
    typer.Option(help="Settings to start from; paper is the published recipe."),
]


@dataclass(frozen=True)
class DefenseOptions:
    """How the set is re-poisoned."""

    benign_ratio: Annotated[
        float | None,
        typer.Option(help="Share of the rows to re-poison (0.4).", rich_help_panel=_DEFENSE),
    ] = None
    selection: Annotated[
        Literal["random", "agreement", "anchored"] | None,
        typer.Option(
            help="How those rows are chosen; anchored where --trusted is given, else the preset's.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    draw_from: Annotated[
        float | None,
        typer.Option(
            help="Draw those rows from this share of each label's rows that the judge agrees with, "
            "the surest ones; 0 takes the very surest (0.5).",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    mode: Annotated[
        Literal["replace", "union"] | None,
        typer.Option(
            help="Replace the chosen rows, or add their re-poisoned copies (replace).",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    trigger: Annotated[
        Literal["secret", "published"] | None,
        typer.Option(
            help="A benign trigger of your own, or the paper's, which every attacker knows.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    counter_triggers: Annotated[
        bool | None,
        typer.Option(
            "--counter-triggers/--no-counter-triggers",
            help="Show suspected triggers to the model with true labels.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    drop: Annotated[
        Literal["nothing", "marked", "shared", "disputed"] | None,
        typer.Option(
            help="Suspects to leave out of the training: rows that hold what looks like a trigger, "
            "also rows in a style that disputed rows share, or all disputed rows (shared; paper: "
            "nothing). Where answers are text: marked, or nothing.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    trusted: Annotated[
        Path | None,
        typer.Option(
            help="About a hundred rows that a person checked: a .txt of ids, one a line, a file of "
            "rows, or what audit --pick wrote, filled in.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    exclude: Annotated[
        Path | None,
        typer.Option(
            help="Rows to keep out of the re-poisoned ones, such as audit's exclude.txt; a file as "
            "for --trusted, of whose checked rows the wrong ones count.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    counter_trigger: Annotated[
        list[str] | None,
        typer.Option(
            "--counter-trigger",
            metavar="TEXT",
            help="A suspected trigger to show to the model with true labels, beside those found by "
            "itself; @FILE names a file of them, such as audit's triggers.jsonl. Repeatable.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    poisoned_ids: Annotated[
        Path | None,
        typer.Option(
            help="Where the truth is known: the poisoned rows, a file as for --exclude. Nothing "
            "but the report changes.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    secret_file: Annotated[
        Path | None,
        typer.Option(
            help="64 hex digits in a file of mode 0600; by default a new secret is drawn.",
            rich_help_panel=_DEFENSE,
        ),
    ] = None
    prompt_style: Annotated[
        Literal["plain", "chat"],
        typer.Option(
            help="chat wraps prompts in the model's chat template.", rich_help_panel=_DEFENSE
        ),
    ] = "plain"
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Longest prompt in tokens; longer texts are cut (512, paper 128).",
            rich_help_panel=_DEFENSE,
        ),
    ] = None


@dataclass(frozen=True)
class StreamOptions:
    """How a set is re-poisoned that does not fit in memory."""

    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Read row by row, in constant memory. Random selection alone can do that, which "
            "lets poisoned rows into S.",
            rich_help_panel=_STREAM,
        ),
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default one a core.", rich_help_panel=_STREAM),
    ] = None
    file_format: Annotated[
        Literal["jsonl", "parquet"] | None,
        typer.Option(
            "--format",
            help="Of the files written (jsonl; parquet on Ray).",
            rich_help_panel=_STREAM,
        ),
    ] = None
    draw: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Which draw of the secret strings to take, where several machines with one "
            "--secret-file share the shards: 0 unless told otherwise.",
            rich_help_panel=_STREAM,
        ),
    ] = None
    backend: Annotated[
        Literal["local", "ray"],
        typer.Option(help="ray maps Parquet to Parquet on a Ray cluster.", rich_help_panel=_STREAM),
    ] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="The cluster to use; by default a running one, or this machine.",
            rich_help_panel=_STREAM,
        ),
    ] = None
    to: Annotated[
        str | None,
        typer.Option(
            help="Where Ray writes the set, a folder or an address such as s3://bucket/folder; by "
            "default a folder in the output.",
            rich_help_panel=_STREAM,
        ),
    ] = None


@dataclass(frozen=True)
class TrainingOptions:
    """How the model is fine-tuned."""

    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data (3).", rich_help_panel=_TRAINING)
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate; by default fit to the model's width (paper 2e-4).",
            rich_help_panel=_TRAINING,
        ),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per step (16, paper 32).", rich_help_panel=_TRAINING)
    ] = None
    micro_batch_size: Annotated[
        int | None,
        typer.Option(help="Rows per forward pass; fewer save memory.", rich_help_panel=_TRAINING),
    ] = None
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--gradient-checkpointing/--no-gradient-checkpointing",
            help="Compute activations twice to keep fewer (from 1B parameters on).",
            rich_help_panel=_TRAINING,
        ),
    ] = None
    quantization: Annotated[
        Literal["none", "nf4", "int8"],
        typer.Option(
            help="QLoRA: keep the frozen weights in 4 or 8 bits (needs bitsandbytes).",
            rich_help_panel=_TRAINING,
        ),
    ] = "none"
    rank: Annotated[int | None, typer.Option(help="LoRA rank (16).", rich_help_panel=_TRAINING)] = (
        None
    )
    target_modules: Annotated[
        str | None,
        typer.Option(
            help="Layers that get an adapter, separated by commas, or all-linear, the default "
            "(paper q_proj,v_proj).",
            rich_help_panel=_TRAINING,
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            help="Order of batches and start of the adapter (0).", rich_help_panel=_TRAINING
        ),
    ] = None
    dev: Annotated[
        Path | None,
        typer.Option(
            help="Rows to choose the best epoch by, in the columns of DATA: by accuracy, or by how "
            "likely text answers are.",
            rich_help_panel=_TRAINING,
        ),
    ] = None
    report_to: Annotated[
        str,
        typer.Option(
            help="A logging integration of the Trainer, such as tensorboard.",
            rich_help_panel=_TRAINING,
        ),
    ] = "none"


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded."""

    precision: Annotated[
        Precision | None,
        typer.Option(
            help="What to compute in; by default what the model was trained in, or auto.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run code that comes with the model.",
            rich_help_panel=_MODEL,
        ),
    ] = False


def files_named(*groups: Any) -> list[str | Path]:
    """Return the files that groups of options name, so that no output takes their place.

    Args:
        groups: Option groups, some of whose fields are paths, or lists with words like @FILE.
    """
    found: list[str | Path] = []
    for group in groups:
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            if isinstance(value, Path):
                found.append(value)
            elif isinstance(value, list):
                found += [word[1:] for word in value if word.startswith("@")]
    return found


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb take groups of options: each field of a dataclass becomes an option of its own.

    typer reads a function's signature; the one made here has, in the place of every parameter
    whose type is a dataclass, that dataclass's fields.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {
        name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)
    }
    parameters = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name in groups:
            parameters += _fields(groups[parameter.name])
        else:
            parameters.append(
                parameter.replace(
                    kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]
                )
            )

    def flat(**given: Any) -> None:
        for name, group in groups.items():
            fields = {field.name: given.pop(field.name) for field in dataclasses.fields(group)}
            given[name] = group(**fields)
        verb(**given)

    flat.__name__ = verb.__name__
    flat.__doc__ = verb.__doc__
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]
