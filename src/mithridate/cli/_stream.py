"""``mithridate repoison --stream``: data of any size, shard by shard or on Ray."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.cli._data_options import DataOptions
from mithridate.cli._inputs import columns_of, listed, p2p_config, read_secret
from mithridate.cli._options import DefenseOptions, Preset, StreamOptions
from mithridate.cli._output import note, print_facts, say
from mithridate.errors import InputError

if TYPE_CHECKING:
    from mithridate.defense.stream_files import Streamed


def check_no_stream(data: list[str], options: StreamOptions, *, text: bool = False) -> None:
    """Refuse what only a stream can do, where none was asked for.

    Raises:
        InputError: Several sources, or an option of streams.
    """
    if len(data) > 1:
        what = "several sources can only be read as a stream"
        mend = "add --stream --selection random, or join them into one file"
        if text:
            what, mend = "one source alone is read with --task", "join them into one file"
        raise InputError(what, where=data[1], mend=mend)
    for option in fields(options):
        if getattr(options, option.name) != option.default:
            flag = "format" if option.name == "file_format" else option.name.replace("_", "-")
            mend = "add --stream, or drop the option"
            raise InputError("this has a part in streams alone", where=f"--{flag}", mend=mend)


def run_stream(
    data: list[str],
    output: Path,
    preset: Preset,
    columns: DataOptions,
    defense: DefenseOptions,
    options: StreamOptions,
    max_length: int,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Re-poison a stream and return what was done, without a secret in it.

    Raises:
        InputError: An option or the data cannot be used.
        MithridateError: A worker died, or Ray is not installed.
    """
    from mithridate.defense.secret import Secret
    from mithridate.defense.stream_files import Reading, check_random, repoison_shards

    p2p = p2p_config(preset, defense)
    check_random(p2p)
    _check_options(defense, options)
    secret = read_secret(defense.secret_file) if defense.secret_file else Secret.new()
    shared: dict[str, Any] = {
        "reading": Reading(columns_of(columns), columns.split),
        "labels": listed(columns.labels),
        "words": listed(columns.label_words),
        "draw": options.draw,
        "max_length": max_length,
        "overwrite": overwrite,
        "announce": note,
    }
    if options.backend == "ray":
        from mithridate.defense.ray_data import repoison_ray

        address = options.ray_address
        streamed = repoison_ray(
            data, output, p2p, secret, target=options.to, address=address, **shared
        )
    else:
        streamed = repoison_shards(
            data,
            output,
            p2p,
            secret,
            workers=options.workers,
            file_format=options.file_format or "jsonl",
            **shared,
        )
    return _summary(streamed, output)


def show_stream(result: dict[str, Any]) -> None:
    """Print what was done, and the next step."""
    files = result["files"]
    print_facts(
        "Re-poisoned data set",
        [
            ("rows", f"{result['rows']:,}"),
            ("labels", ", ".join(str(label) for label in result["labels"])),
            ("selection", f"{result['selection']}: poisoned rows enter S in proportion"),
            ("re-poisoned", f"{result['repoisoned']:,} of {result['wanted']:,} wanted"),
            ("secrets drawn again", result["redrawn"] or None),
            ("rows written", f"{result['written']:,}"),
            ("files", files[0] if len(files) == 1 else f"{len(files)}, {files[0]} and so on"),
            ("folder", result["folder"]),
        ],
    )
    say("Next: train on prompt and completion of these files, then")
    say(f"  mithridate predict {result['folder']} --model YOUR_MODEL 'some text'")
    note("Keep the files to yourself: they hold the defense's secrets.")


def _check_options(defense: DefenseOptions, options: StreamOptions) -> None:
    if defense.poisoned_ids is not None:
        mend = "drop it, or re-poison without --stream"
        raise InputError("a stream does not count these", where="--poisoned-ids", mend=mend)
    for flag, given in (
        ("--exclude", defense.exclude),
        ("--counter-trigger", defense.counter_trigger),
    ):
        if given:
            mend = "drop it, or re-poison without --stream"
            raise InputError("a stream takes nothing from an audit", where=flag, mend=mend)
    if defense.prompt_style == "chat":
        mend = "take plain prompts, or re-poison without --stream"
        raise InputError("a stream writes plain prompts", where="--prompt-style", mend=mend)
    if options.draw is not None and defense.secret_file is None:
        mend = "name the same --secret-file on every machine"
        raise InputError("a draw belongs to a shared secret", where="--draw", mend=mend)
    on_ray = options.backend == "ray"
    misplaced = {
        "--workers": on_ray and options.workers is not None,
        "--format": on_ray and options.file_format == "jsonl",
        "--ray-address": not on_ray and options.ray_address is not None,
        "--to": not on_ray and options.to is not None,
    }
    for flag, wrong in misplaced.items():
        if wrong:
            what = f"this has no part in the {options.backend} backend"
            raise InputError(what, where=flag, mend="drop it, or name the other --backend")


def _summary(streamed: "Streamed", folder: Path) -> dict[str, Any]:
    """Return the same names as for a set in memory, and the files."""
    manifest, tally = streamed.manifest, streamed.tally
    task = manifest.classification_task()
    return {
        "folder": str(folder),
        "files": streamed.files,
        "rows": tally.rows,
        "labels": [task.public_label(index) for index in range(task.n)],
        "selection": manifest.subset.selection,
        "mode": manifest.config.mode,
        "benign_ratio": manifest.config.benign_ratio,
        "trigger": manifest.config.trigger,
        "wanted": manifest.subset.wanted,
        "repoisoned": manifest.subset.rows,
        "written": tally.written,
        "redrawn": streamed.redrawn,
    }
