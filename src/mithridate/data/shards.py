"""Which files a stream is made of, and how one large file is split among processes."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mithridate.data._formats import READERS, Span, unreadable
from mithridate.data.read import Part, check_file, is_hub_id
from mithridate.data.remote import find_parquet, is_url
from mithridate.data.write import OUTPUT_MARKERS
from mithridate.errors import InputError

# Small enough that two processes finish together, large enough that starting a part costs nothing.
PART_BYTES = 32 << 20
_PIECE = 1 << 20
_LINE_FORMATS = (".jsonl", ".ndjson", ".json")


def find_shards(sources: Sequence[str]) -> list[str]:
    """Return the shards of a data set in the order of their names, however they were named.

    The order of the result decides the order of D*, so it must not depend on the order in which a
    shell or a file system lists them. Numbers in names count by value: part-2 before part-10.

    Args:
        sources: Files, folders of files of one format, patterns such as ``data/part-*.jsonl``,
            addresses of Parquet such as ``s3://bucket/folder``, or hub ids.

    Raises:
        InputError: There is no such file, a folder holds none or several formats, or a file is
            named twice.
    """
    found = [shard for source in sources for shard in _expand(source)]
    if not found:
        raise InputError("no data", mend="name at least one file")
    first_name: dict[str, str] = {}
    for shard in found:
        is_path = not is_url(shard) and not is_hub_id(shard)
        identity = os.path.realpath(shard) if is_path else shard
        if identity in first_name:
            raise InputError(
                "this shard is named twice, so its rows would count twice",
                where=shard,
                mend="name it once",
            )
        first_name[identity] = shard
    return sorted(found, key=_natural)


def split_lines(path: str, part_bytes: int = PART_BYTES) -> list[Part]:
    r"""Split a file into parts for several processes; only JSON Lines files can be split.

    A line of JSON Lines holds no line break, so any ``\n`` ends a row. In CSV one may stand inside
    quotes, so such a file stays whole, as Parquet does.

    Args:
        path: The file, or a hub id.
        part_bytes: About how long a part is to be.

    Returns:
        The parts in the order of the file; they cover it without a gap.

    Raises:
        InputError: The file cannot be read.
    """
    if is_url(path) or is_hub_id(path) or Path(path).suffix.lower() not in _LINE_FORMATS:
        return [Part(path)]
    parts: list[Part] = []
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, line = 0, 1
            while size - start > part_bytes:
                lines = 0
                # Counting the lines that come before is cheap, and errors can then name theirs.
                while (left := start + part_bytes - file.tell()) > 0:
                    lines += file.read(min(left, _PIECE)).count(b"\n")
                lines += file.readline().endswith(b"\n")
                end = file.tell()
                parts.append(Part(path, Span(start, end, line)))
                start, line = end, line + lines
            if start < size or not parts:
                parts.append(Part(path, Span(start, size, line)))
    except OSError as error:
        raise unreadable(path, error) from None
    return parts


def _expand(source: str) -> list[str]:
    if is_url(source):
        return find_parquet(source)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if glob.has_magic(source) and not path.exists():
        files = [name for name in glob.glob(source, recursive=True) if Path(name).is_file()]
        if not files:
            mend = "check the pattern; ** matches folders within folders"
            raise InputError("no file matches", where=source, mend=mend)
        return files
    if not is_hub_id(source):
        check_file(path)
    return [source]


def _in_folder(folder: Path) -> list[str]:
    where = str(folder)
    if any((folder / marker).is_file() for marker in OUTPUT_MARKERS):
        what = "this folder is an output of Mithridate, re-poisoned already"
        raise InputError(what, where=where, mend="name the data it was made from")
    # Hidden files and _SUCCESS, _metadata and their like are marks that other programs leave.
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in READERS and path.name[0] not in "._" and path.is_file()
    ]
    if not files:
        mend = f"let the names of its files end in one of {', '.join(READERS)}"
        raise InputError("the folder holds no file of rows", where=where, mend=mend)
    formats = sorted({path.suffix.lower() for path in files})
    if len(formats) > 1:
        what = f"the folder holds files of several formats: {', '.join(formats)}"
        mend = f"say which with a pattern: '{folder}/*{formats[0]}'"
        raise InputError(what, where=where, mend=mend)
    return [str(path) for path in files]


def _natural(name: str) -> list[tuple[str, int]]:
    pieces = re.split(r"([0-9]+)", name)
    numbers = [*(int(piece) for piece in pieces[1::2]), 0]
    # The name itself breaks the tie between 01 and 1.
    return [*zip(pieces[::2], numbers, strict=True), (name, 0)]
