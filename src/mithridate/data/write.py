"""Files and folders that appear whole or not at all: written beside, then renamed into place."""

import errno
import glob
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mithridate.errors import InputError, MithridateError

# A folder that holds one of these is an output of ours, which --overwrite may replace.
OUTPUT_MARKERS = ("defense.json", "mithridate.json", "audit.json")

# What a shell opened, by its number or name: /dev/fd/63, /dev/stdout.
_DESCRIPTORS = (("dev", "fd"), ("dev", "stdout"), ("dev", "stderr"), ("proc", "self"))

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MENDS = {
    errno.EACCES: "check the permissions of the folder, or write elsewhere",
    errno.EPERM: "check the permissions of the folder, or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EEXIST: "check the path: a part of it is a file",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_jsonl(path: str | Path, records: Iterable[Mapping[str, object]]) -> int:
    """Write one JSON object per line, streaming.

    Args:
        path: The target; it is replaced only when all is written.
        records: What to write; consumed one by one.

    Returns:
        The number of records.

    Raises:
        InputError: The target cannot be written, or the disk is full.
    """
    count = 0
    with _replacing(Path(path), 0o644) as file:
        for record in records:
            file.write(_json_line(record))
            count += 1
    return count


def write_text_atomic(path: str | Path, text: str, mode: int = 0o644) -> None:
    """Write a text file that is never seen half-written, nor with wider permissions than `mode`.

    Args:
        path: The target.
        text: Its content, written as UTF-8.
        mode: Permissions, narrowed by the umask; they hold from the first moment.

    Raises:
        InputError: The target cannot be written, or the disk is full.
    """
    with _replacing(Path(path), mode) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def staged_folder(
    target: str | Path, *, resume: bool = False, overwrite: bool = False
) -> Iterator[Path]:
    """Give a folder to fill, and rename it to `target` when the block ends well.

    The folder is ``.{name}.partial`` beside the target, locked against a second process. The
    block should leave one of `OUTPUT_MARKERS` in it: only such a folder can be overwritten later.

    Args:
        target: Where the folder goes; a new place, or an empty folder.
        resume: Keep what the block wrote when it fails, and start from what an earlier run kept.
        overwrite: Replace an earlier output of ours at the target.

    Yields:
        The folder to fill.

    Raises:
        InputError: The target is taken, in use or not writable, or the disk is full.
    """
    shown = str(target)
    place = Path(os.path.realpath(target))
    check_target(target, overwrite=overwrite)
    partial = place.with_name(f".{place.name}.partial")
    with ExitStack() as lock:
        with explained(shown):
            place.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir(exist_ok=True)
            _lock_folder(partial, shown, lock)
            if not resume:
                empty_folder(partial)
        try:
            with disk_full_explained(shown):
                yield partial
            with explained(shown):
                _sync_tree(partial)
                check_target(target, overwrite=overwrite)  # much may have happened meanwhile
                _rename_into_place(partial, place)
        except BaseException:
            if not resume:
                shutil.rmtree(partial, ignore_errors=True)
            raise


def check_target(
    target: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()
) -> None:
    """Refuse an output folder that holds something of the user's; call it before long work.

    Args:
        target: The output folder.
        overwrite: Whether an earlier output of ours may be replaced.
        inputs: What the same command reads, which is never replaced: files, folders, patterns; hub
            ids among them are none.

    Raises:
        InputError: The target is or lies in a file, holds something else, an input, or an output
            without `overwrite`.
    """
    place = Path(target)
    where = str(target)
    with explained(where):
        if not os.path.lexists(place):
            _check_parents(place, where)
            return
        if not place.is_dir():
            raise InputError("a file is in the way", where=where, mend="name a new folder")
        if not any(place.iterdir()):
            return
    if not any((place / marker).is_file() for marker in OUTPUT_MARKERS):
        what = "the folder holds something that Mithridate did not write"
        raise InputError(what, where=where, mend="name a new folder")
    if not overwrite:
        what = "the folder holds an earlier output"
        raise InputError(what, where=where, mend="name a new folder or give --overwrite")
    here = os.path.realpath(place)
    if any(os.path.commonpath([here, source]) == here for source in _real_paths(inputs)):
        what = "the same command reads what is in this folder"
        raise InputError(what, where=where, mend="name a new folder")


def check_file(
    target: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path] = ()
) -> None:
    """Refuse an output file that holds something of the user's; call it before long work.

    Args:
        target: The output file; a device or a pipe is written to as it is.
        overwrite: Whether a file that is there may be replaced, whatever it holds.
        inputs: Files the same command reads, which are never replaced; hub ids among them are none.

    Raises:
        InputError: The target is a folder, in no folder, an input, or there without `overwrite`.
    """
    place = Path(target)
    where = str(target)
    with explained(where):
        if place.is_dir():
            raise InputError("a folder is in the way", where=where, mend="name a file")
        _check_parents(place, where)
        if not place.parent.exists():
            what = f"there is no folder {place.parent}"
            raise InputError(what, where=where, mend="make the folder first")
        if os.path.realpath(place) in {os.path.realpath(source) for source in inputs}:
            what = "the same command reads this file"
            raise InputError(what, where=where, mend="name another file")
        if place.is_file() and not _is_written_to(place) and not overwrite:
            mend = "name a new file or give --overwrite"
            raise InputError("the file is there already", where=where, mend=mend)


def _is_written_to(path: Path) -> bool:
    """Whether a path is a device or a pipe, or what a shell put behind one: nothing to rename."""
    if not os.path.exists(path):
        return False
    return path.parts[1:3] in _DESCRIPTORS or not stat.S_ISREG(os.stat(path).st_mode)


def _real_paths(inputs: Iterable[str | Path]) -> Iterator[str]:
    """Yield where sources really lie, patterns expanded."""
    for source in map(str, inputs):
        found = [source] if os.path.exists(source) else glob.iglob(source, recursive=True)
        yield from map(os.path.realpath, found)


def _check_parents(place: Path, where: str) -> None:
    """Refuse a path that leads through a file."""
    nearest = next((parent for parent in place.parents if os.path.lexists(parent)), None)
    if nearest is not None and not nearest.is_dir():
        raise InputError(f"{nearest} is no folder", where=where, mend="check the path")


@contextmanager
def _replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block ends well."""
    shown = str(path)
    place = Path(os.path.realpath(path))  # through a symbolic link, as open() would write
    with explained(shown):
        if place.is_dir():
            raise InputError("a folder is in the way", where=shown, mend="name a file")
        if _is_written_to(path):
            # Not by its real name: that of a pipe behind /dev/stdout is none.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as device:
                yield device
            return
        partial = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with disk_full_explained(shown), os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with explained(shown):
            os.replace(partial, place)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn an `OSError` of our own file handling into one line for the user."""
    try:
        with disk_full_explained(where):
            yield
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        if error.errno in _MENDS:
            raise InputError(what, where=where, mend=_MENDS[error.errno]) from error
        raise MithridateError(what, where=where, mend="check the disk") from error


@contextmanager
def disk_full_explained(where: str) -> Iterator[None]:
    """Turn a full disk alone into one line; any other error of the caller's block is its own."""
    try:
        yield
    except Exception as error:
        # safetensors and torch raise types of their own, which carry the system's words alone.
        wrapped = not isinstance(error, OSError | MithridateError) and (
            os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error)
        )
        if wrapped or (isinstance(error, OSError) and error.errno in _DISK_FULL):
            mend = "free some space or write elsewhere"
            raise InputError("no space left on the disk", where=where, mend=mend) from error
        raise


def _json_line(record: Mapping[str, object]) -> bytes:
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair: JSON can escape it, UTF-8 cannot hold it
        line = json.dumps(record, allow_nan=False).encode("ascii")
    return line + b"\n"


def _rename_into_place(partial: Path, place: Path) -> None:
    """Rename in one step, or in two where an earlier output must first go aside."""
    aside = None
    if place.is_dir():
        aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}.old")
        os.rename(place, aside)
    try:
        os.rename(partial, place)
    except OSError:
        if aside is not None:
            os.rename(aside, place)
        raise
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _lock_folder(folder: Path, where: str, held: ExitStack) -> None:
    """Hold the folder for this process; the system lets go of it when the process ends."""
    if sys.platform == "win32":
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mend = "wait for it, or name another folder"
        raise InputError("another run is writing this folder", where=where, mend=mend) from None


def empty_folder(folder: Path) -> None:
    """Remove all that a folder holds, and keep the folder; links are removed, not followed."""
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _sync_tree(folder: Path) -> None:
    """Flush every file to the disk, lest a power cut leave the new name on empty files."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
