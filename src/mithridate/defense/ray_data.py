"""Re-poisoning on Ray: partitioned Parquet in, partitioned Parquet out, by many machines.

First every file is read once to check its rows and count what S will hold, so that nothing is
written that would have to be written anew; then Ray Data maps blocks of rows to blocks of D*. A
task may run twice, as Ray's do when a machine is lost: it gives the same bytes again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mithridate.data._formats import first_line
from mithridate.data.read import Columns, Part, iter_answers, iter_rows, record_rows
from mithridate.data.remote import is_url, open_filesystem
from mithridate.data.shards import find_shards
from mithridate.data.write import check_target, staged_folder
from mithridate.defense.collisions import SecretHeldError
from mithridate.defense.config import P2PConfig
from mithridate.defense.manifest import stream_manifest
from mithridate.defense.secret import Secret
from mithridate.defense.stream import StreamPlan, Tally, stream_plan, stream_records, tally_rows
from mithridate.defense.stream_files import (
    Reading,
    Streamed,
    check_random,
    check_tally,
    distinct_answers,
    next_draws,
    record_schema,
)
from mithridate.errors import InputError, MithridateError, installing
from mithridate.tasks.classification import ClassificationTask

if TYPE_CHECKING:
    import pyarrow

# D* in the output folder, where no other place is named.
FOLDER = "train"


def repoison_ray(
    sources: Sequence[str],
    output: Path,
    config: P2PConfig,
    secret: Secret,
    *,
    target: str | None = None,
    address: str | None = None,
    reading: Reading | None = None,
    labels: Sequence[str] | None = None,
    words: Sequence[str] | None = None,
    draw: int | None = None,
    max_length: int = 512,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda message: None,
) -> Streamed:
    """Re-poison partitioned Parquet on Ray; D* is that of `repoison_shards`, row by row in order.

    Args:
        sources: Parquet files, folders of them, patterns, or addresses such as s3://bucket/folder.
        output: The folder of `defense.json`, on this machine.
        config: The settings; ``selection`` must be ``random``.
        secret: Where every draw comes from.
        target: Where D* goes, a new or empty folder or address that all machines reach; by default
            a folder in ``output``.
        address: The Ray cluster; a running one or this machine by default.
        reading: How rows are read.
        labels: The label set in class order; found in a pass over the answers when ``None``.
        words: The 2n label words.
        draw: As for `repoison_shards`.
        max_length: Longest prompt in tokens, kept for prediction.
        overwrite: Replace an earlier output of ours.
        announce: Takes a line that says what goes on.

    Raises:
        CollisionError: As `repoison_shards`.
        InputError: A file cannot be read, a row is defective, or something is in the way.
        MithridateError: Ray is not installed, or fails.
    """
    check_random(config)
    shards = _parquet_shards(sources)
    check_target(output, overwrite=overwrite, inputs=shards)
    _check_empty(target)
    columns = (reading or Reading()).columns
    with _cluster(address) as ray, staged_folder(output, overwrite=overwrite) as folder:
        folder.chmod(0o700)
        found: set[str] = set()
        if labels is None:
            for answers in _on_each(ray, partial(_labels_of, columns), shards):
                found = distinct_answers(found | answers, columns.answer)
        if labels is None and not found:
            raise _no_rows(shards)
        task = ClassificationTask.of_labels(found, labels=labels, words=words)
        draws = (draw or 0, draw or 0)
        while True:
            plan = stream_plan(task, config, secret, *draws)
            tally = Tally()
            try:
                for counted in _on_each(ray, partial(_check, plan, columns), shards):
                    tally.add(counted)
                break
            except SecretHeldError as error:
                draws = next_draws(draws, error, fixed=draw is not None)
                announce("The data holds a secret string by chance: starting again with another.")
        if not tally.rows:
            raise _no_rows(shards)
        check_tally(tally, task, config.benign_ratio)
        place = target or str(folder / FOLDER)
        files = _write(ray, shards, place, plan, columns, tally)
        if target is None:
            files = [f"{FOLDER}/{name}" for name in files]
        manifest = stream_manifest(plan, config, secret, tally, max_length=max_length)
        manifest.save(folder)
    return Streamed(manifest, tally, files, sum(draws) - 2 * (draw or 0))


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Give Ray, connected; leave a connection of the caller's as it was."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MithridateError(
            f"the ray backend needs {error.name or 'ray'}, which is not installed",
            mend=installing("ray"),
        ) from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            what = f"no Ray cluster answers ({first_line(error)})"
            mend = "check the address, or leave it out to use this machine"
            raise MithridateError(what, where=address or "ray", mend=mend) from None
    try:
        yield ray
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, MithridateError):
            raise cause from None
        what = f"Ray failed ({first_line(cause or error)})"
        raise MithridateError(what, mend="see the logs of the Ray cluster") from error
    finally:
        if ours:
            ray.shutdown()


def _on_each(ray: Any, function: Callable[[str], Any], shards: list[str]) -> Iterator[Any]:
    """Yield what a function says of every file, in order, errors of ours as they were raised."""
    waiting = [ray.remote(function_on_ray).remote(function, shard) for shard in shards]
    for result in waiting:
        try:
            yield ray.get(result)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MithridateError):
                raise error.cause from None
            raise


def function_on_ray(function: Callable[[str], Any], shard: str) -> Any:
    """Call a function: Ray takes plain functions alone, not partial ones."""
    return function(shard)


def _labels_of(columns: Columns, shard: str) -> set[str]:
    return distinct_answers(iter_answers(Part(shard), columns), columns.answer)


def _check(plan: StreamPlan, columns: Columns, shard: str) -> Tally:
    return tally_rows(iter_rows(Part(shard), columns, require_rows=False), plan)


def _write(
    ray: Any, shards: list[str], target: str, plan: StreamPlan, columns: Columns, tally: Tally
) -> list[str]:
    """Write D* and return the names of its files, in order."""
    import pyarrow.fs

    sources = [open_filesystem(shard) for shard in shards]
    wanted = _columns_to_read(sources, columns)
    filesystem, folder = open_filesystem(target)
    context = ray.data.DataContext.get_current()
    kept = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        rows = ray.data.read_parquet(
            [path for _, path in sources],
            filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(sources[0][0])),
            columns=wanted,
            partitioning=None,
        )
        repoisoned = rows.map_batches(
            partial(repoison_table, plan=plan, columns=columns),
            batch_format="pyarrow",
            batch_size=8192,
        )
        if not is_url(target):  # private from the start, for it holds the benign trigger
            Path(target).mkdir(mode=0o700, parents=True, exist_ok=True)
        repoisoned.write_parquet(
            folder,
            filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)),
        )
        return _check_written(filesystem, folder, tally.written)
    except BaseException:
        with suppress(Exception):  # the first failure is the one to tell
            filesystem.rm(folder, recursive=True)
        raise
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = kept


def repoison_table(table: "pyarrow.Table", plan: StreamPlan, columns: Columns) -> "pyarrow.Table":
    """Return D* of a table of rows that were checked before."""
    import pyarrow

    names = table.column_names
    values = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    records = (("", dict(zip(names, row, strict=True))) for row in values)
    repoisoned = list(stream_records(record_rows(records, columns), plan))
    return pyarrow.Table.from_pylist(repoisoned, schema=record_schema(plan.task))


def _columns_to_read(sources: list[tuple[Any, str]], columns: Columns) -> list[str]:
    """Return the columns that the files hold of those we want; the id may be absent everywhere."""
    import pyarrow.parquet

    id_column = columns.id or "id"
    holds_id = set()
    for filesystem, path in sources:
        with filesystem.open(path, "rb") as file:
            holds_id.add(id_column in pyarrow.parquet.read_schema(file).names)
    if len(holds_id) > 1:
        what = f'some files have a column "{id_column}" and others have none'
        raise InputError(what, mend="give all files ids, or none")
    return [columns.text, columns.answer, *([id_column] if holds_id == {True} else [])]


def _check_written(filesystem: Any, folder: str, expected: int) -> list[str]:
    """Return the files' names if they hold all of D*."""
    import pyarrow.parquet

    # Ray names a file by the number of the write, the same for all, and that of its task.
    paths = sorted(name for name in filesystem.find(folder) if name.endswith(".parquet"))
    rows = 0
    for path in paths:
        with filesystem.open(path, "rb") as file:
            rows += pyarrow.parquet.read_metadata(file).num_rows
    if rows != expected:
        raise MithridateError(
            f"{rows} rows were written where D* has {expected}",
            mend="let nothing change the data meanwhile, and start again",
        )
    return [path.rpartition("/")[2] for path in paths]


def _parquet_shards(sources: Sequence[str]) -> list[str]:
    shards = find_shards(sources)
    for shard in shards:
        if not shard.lower().endswith(".parquet"):
            mend = "convert it, or take the local backend"
            raise InputError("the ray backend reads Parquet alone", where=shard, mend=mend)
    if len({shard.partition("://")[0] if is_url(shard) else "" for shard in shards}) > 1:
        mend = "copy them to one place"
        raise InputError("the ray backend reads from one file system", where=shards[-1], mend=mend)
    # A worker has a folder of its own to start from.
    return [shard if is_url(shard) else str(Path(shard).absolute()) for shard in shards]


def _check_empty(target: str | None) -> None:
    if target is None:
        return
    filesystem, path = open_filesystem(target)
    if filesystem.exists(path) and (filesystem.isfile(path) or filesystem.find(path)):
        raise InputError("something is there already", where=target, mend="name a new folder")


def _no_rows(shards: list[str]) -> InputError:
    what = f"no rows in any of the {len(shards)} files"
    return InputError(what, mend="give at least one row")
