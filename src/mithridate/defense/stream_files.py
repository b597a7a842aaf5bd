"""Re-poisoning files of any size: shards in, as many shards out, in bounded memory."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mithridate.data._workers import in_processes
from mithridate.data.read import Columns, Part, iter_answers, iter_rows, no_rows
from mithridate.data.rows import Row
from mithridate.data.shards import find_shards, split_lines
from mithridate.data.write import check_target, empty_folder, explained, staged_folder
from mithridate.defense.collisions import ATTEMPTS, SecretHeldError, out_of_draws
from mithridate.defense.config import P2PConfig
from mithridate.defense.manifest import DefenseManifest, stream_manifest
from mithridate.defense.secret import Secret
from mithridate.defense.select import check_every_class, wanted_rows
from mithridate.defense.stream import StreamPlan, Tally, stream_lines, stream_plan, stream_records
from mithridate.errors import CollisionError, InputError
from mithridate.tasks.classification import ClassificationTask, UnknownLabelError

if TYPE_CHECKING:
    import pyarrow

FileFormat = Literal["jsonl", "parquet"]
Draws = tuple[int, int]
AnyDataset = Any  # datasets.Dataset or datasets.IterableDataset, a library not imported here
AnyPart = Part | AnyDataset

# A column of free text has as many values as rows; a label set of this size is a mistake.
MOST_LABELS = 10_000
_WRITE_BUFFER = 1 << 20
_ROW_GROUP = 8192
_SAMPLED_PARTS = 64
_SAMPLED_ROWS = 1000


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    Attributes:
        columns: Which column holds what.
        split: The split to take of a hub id.
    """

    columns: Columns = field(default_factory=Columns)
    split: str = "train"


@dataclass(frozen=True)
class Streamed:
    """What a run over shards came to.

    Attributes:
        manifest: As written to `defense.json`.
        tally: What the shards held.
        files: Names of the files of D*, in order; end to end they are D*.
        redrawn: Secrets that were drawn again because the data held them.
    """

    manifest: DefenseManifest = field(repr=False)
    tally: Tally
    files: list[str]
    redrawn: int


class _Task(NamedTuple):
    """One piece of work: what to read, which file to write, and which file that is a piece of."""

    part: AnyPart
    target: str
    whole: Path


def repoison_shards(
    sources: Sequence[str] | AnyDataset,
    output: Path,
    config: P2PConfig,
    secret: Secret,
    *,
    reading: Reading | None = None,
    labels: Sequence[str] | None = None,
    words: Sequence[str] | None = None,
    draw: int | None = None,
    workers: int | None = None,
    file_format: FileFormat = "jsonl",
    max_length: int = 512,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda message: None,
) -> Streamed:
    """Re-poison a data set of any size into a folder, shard by shard, with one `defense.json`.

    Random selection alone: what it costs is in `mithridate.defense.select`. The folder appears
    whole or not at all.

    Args:
        sources: What `mithridate.data.shards.find_shards` takes, or a data set of `datasets`.
        output: The folder.
        config: The settings; ``selection`` must be ``random``.
        secret: Where every draw comes from.
        reading: How rows are read.
        labels: The label set in class order; as found when ``None``, which can cost a second pass.
        words: The 2n label words.
        draw: Which draw of the secret strings to take, where other machines re-poison other shards
            and must take the same; a collision is then an error. ``None`` draws again by itself.
        workers: Processes; by default as many as cores.
        file_format: Of the shards written.
        max_length: Longest prompt in tokens, kept for prediction.
        overwrite: Replace an earlier output of ours.
        announce: Takes a line that says what goes on.

    Raises:
        CollisionError: The data holds the published trigger, the given draw, or every draw.
        InputError: A shard cannot be read, a row is defective, S lacks a class, or the output is
            in the way.
        MithridateError: A worker process was killed.
    """
    check_random(config)
    whole = hasattr(sources, "with_format")
    shards = [] if whole else find_shards(sources)
    check_target(output, overwrite=overwrite, inputs=shards)
    parts = [[sources]] if whole else _parts(shards, split=file_format == "jsonl")
    run = _Run(parts, reading or Reading(), file_format, workers or available_cores())
    draws = (draw or 0, draw or 0)
    # Nearly always the first rows of every part show all labels, which saves a pass over the data.
    guessed = labels is None and words is None
    found = set() if labels is not None else run.some_labels() if guessed else run.all_labels()
    with staged_folder(output, overwrite=overwrite) as folder:
        folder.chmod(0o700)
        while True:
            if guessed and len(found) < 2:
                found, guessed = run.all_labels(), False
            task = ClassificationTask.of_labels(found, labels=labels, words=words)
            plan = stream_plan(task, config, secret, *draws)
            try:
                files, tally = run.write(folder, plan)
                break
            except UnknownLabelError:
                if not guessed:
                    raise
                announce("Labels turned up late: starting again with all of them (see --labels).")
                found, guessed = run.all_labels(), False
            except SecretHeldError as error:
                draws = next_draws(draws, error, fixed=draw is not None)
                announce("The data holds a secret string by chance: starting again with another.")
            empty_folder(folder)
        if not tally.rows:
            raise run.no_rows()
        check_tally(tally, task, config.benign_ratio)
        manifest = stream_manifest(plan, config, secret, tally, max_length=max_length)
        manifest.save(folder)
    return Streamed(manifest, tally, files, sum(draws) - 2 * (draw or 0))


def check_random(config: P2PConfig) -> None:
    """Refuse a selection that needs the whole set at once.

    Raises:
        InputError: The selection is not random.
    """
    if config.selection != "random":
        raise InputError(
            f"{config.selection} selection judges the whole set at once, which a stream never sees",
            mend="re-poison the set in memory, or take --selection random, which lets poisoned "
            "rows into S and protects far less",
        )


def check_tally(tally: Tally, task: ClassificationTask, benign_ratio: float) -> None:
    """Refuse what cannot be trained on, as `mithridate.defense.prepare` does in memory.

    Raises:
        InputError: Too few rows, rows of one class alone, or a class that S lacks.
    """
    wanted_rows(tally.rows, benign_ratio)
    if len(tally.classes) == 1:
        only = task.labels[next(iter(tally.classes))]
        raise InputError(
            f"all {tally.rows} rows belong to one class, {only!r}",
            mend="a classifier needs rows of at least two classes",
        )
    size = sum(tally.chosen.values())
    check_every_class(tally.classes.keys(), tally.chosen.keys(), size, task)


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shard_name(place: int, count: int, file_format: FileFormat) -> str:
    """Return the name of a file of D*: train.jsonl, or train-00003-of-00008.jsonl."""
    return f"train.{file_format}" if count == 1 else f"train-{place:05}-of-{count:05}.{file_format}"


def distinct_answers(answers: Iterable[str], column: str) -> set[str]:
    """Return the distinct answers.

    Raises:
        InputError: There are so many that they cannot be labels.
    """
    found: set[str] = set()
    for answer in answers:
        found.add(answer)
        if len(found) > MOST_LABELS:
            raise InputError(
                f'more than {MOST_LABELS:,} distinct answers in column "{column}"',
                mend="these are no labels; name the right column with --answer-column",
            )
    return found


def _parts(shards: Sequence[str], *, split: bool) -> list[list[AnyPart]]:
    """Return the parts of every shard."""
    return [[*split_lines(shard)] if split else [Part(shard)] for shard in shards]


def next_draws(draws: Draws, error: SecretHeldError, *, fixed: bool) -> Draws:
    """Return which draws of trigger and prefix to try after a collision.

    Raises:
        CollisionError: The draw was fixed by the user, or there were too many.
    """
    name = "benign trigger" if error.trigger else "safe prefix"
    if fixed:
        raise CollisionError(
            f"the data holds draw {draws[0]} of the {name}",
            mend=f"re-poison every shard, on every machine, with --draw {draws[0] + 1}",
        ) from None
    following = (draws[0] + error.trigger, draws[1] + (not error.trigger))
    if max(following) >= ATTEMPTS:
        raise out_of_draws(name) from None
    return following


@dataclass(frozen=True)
class _Run:
    """A data set in parts, and how it is read and written.

    Attributes:
        shards: The parts of each shard.
        reading: How rows are read.
        file_format: Of the shards written.
        workers: Processes.
    """

    shards: list[list[AnyPart]]
    reading: Reading
    file_format: FileFormat
    workers: int

    def some_labels(self) -> set[str]:
        """Return the labels among the first rows of parts all over the data set."""
        parts = [part for shard in self.shards for part in shard]
        sampled = parts[:: -(-len(parts) // _SAMPLED_PARTS)]
        columns, split = self.reading.columns, self.reading.split
        # Whole rows, not answers alone: a wrong text column shows here, before any work.
        rows = (
            row
            for part in sampled
            for row in islice(
                iter_rows(part, columns, split=split, require_rows=False), _SAMPLED_ROWS
            )
        )
        return distinct_answers((str(row.answer) for row in rows), columns.answer)

    def all_labels(self) -> set[str]:
        """Return all labels, by a pass over the answers."""
        found: set[str] = set()
        parts = [part for shard in self.shards for part in shard]
        for answers in in_processes(partial(_labels_of, self.reading), parts, self.workers):
            found = distinct_answers(found | answers, self.reading.columns.answer)
        if not found:
            raise self.no_rows()
        return found

    def no_rows(self) -> InputError:
        """Return the error for a data set without rows."""
        if len(self.shards) == 1:
            return no_rows(self.shards[0][0])
        what = f"no rows in any of the {len(self.shards)} shards"
        return InputError(what, mend="give at least one row")

    def write(self, folder: Path, plan: StreamPlan) -> tuple[list[str], Tally]:
        """Write the shards of D*; the parts of one shard are joined in their order."""
        count = len(self.shards)
        files = [shard_name(place, count, self.file_format) for place in range(count)]
        tasks = [
            _Task(part, str(folder / (f".{name}.{number}" if number else name)), folder / name)
            for name, parts in zip(files, self.shards, strict=True)
            for number, part in enumerate(parts)
        ]
        work = partial(_write_part, plan, self.reading, self.file_format)
        tally = Tally()
        for task, counted in zip(tasks, in_processes(work, tasks, self.workers), strict=True):
            tally.add(counted)
            if task.target != str(task.whole):
                with explained(task.target):
                    _append(Path(task.target), task.whole)
        return files, tally


def _labels_of(reading: Reading, part: AnyPart) -> set[str]:
    answers = iter_answers(part, reading.columns, split=reading.split)
    return distinct_answers(answers, reading.columns.answer)


def _write_part(plan: StreamPlan, reading: Reading, file_format: FileFormat, task: _Task) -> Tally:
    tally = Tally()
    rows = iter_rows(task.part, reading.columns, split=reading.split, require_rows=False)
    # Its prompts hold the benign trigger, so the file is as private as the manifest.
    descriptor = os.open(task.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=_WRITE_BUFFER) as file:
        if file_format == "jsonl":
            file.writelines(stream_lines(rows, plan, tally))
        else:
            _write_parquet(file, rows, plan, tally)
    return tally


def _write_parquet(file: object, rows: Iterator[Row], plan: StreamPlan, tally: Tally) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = record_schema(plan.task)
    records = stream_records(rows, plan, tally)
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(records, _ROW_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def record_schema(task: ClassificationTask) -> "pyarrow.Schema":
    """Return the columns of D* in Parquet."""
    import pyarrow

    label = pyarrow.int64() if isinstance(task.dataset_label(0), int) else pyarrow.string()
    types = {
        "id": pyarrow.string(),
        "input_text": pyarrow.string(),
        "label": label,
        "prompt": pyarrow.string(),
        "completion": pyarrow.string(),
        "repoisoned": pyarrow.bool_(),
    }
    return pyarrow.schema(list(types.items()))


def _append(piece: Path, whole: Path) -> None:
    """Move the bytes of a file to the end of another."""
    with piece.open("rb") as source, whole.open("ab") as target:
        shutil.copyfileobj(source, target, _WRITE_BUFFER)
    piece.unlink()
