"""One lazy reader per file format: yields ``(where, fields)``, refuses what it cannot read.

A reader knows lines and columns, nothing of rows: `read.py` turns fields into rows.
"""

import csv
import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, NoReturn

from mithridate.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Fields = Mapping[str, object]
Record = tuple[str, Fields]
Wanted = Mapping[str, bool]  # column name -> whether a file without it is refused


class Span(NamedTuple):
    """The lines of a text file between two byte offsets.

    Attributes:
        start: Offset of the first line.
        end: Offset after the last line.
        line: Number of the first line in the whole file, for messages.
    """

    start: int
    end: int
    line: int


# A text longer than csv's default of 131,072 characters is an ordinary long document.
_LONGEST_CSV_FIELD = 1 << 27

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip FILE"),
    (b"BZh", "compressed with bzip2", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: unzstd FILE"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or export it as CSV"),
    (b"PAR1", "a Parquet file under another name", "rename it to end in .parquet"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"),
)
_BOM = b"\xef\xbb\xbf"

# What else parts the columns of a table, in words, and the mend: spreadsheets go by the country.
_SEPARATORS = {
    ";": ("semicolons", "save it with commas, or with tabs as .tsv"),
    "\t": ("tabs", "rename it to end in .tsv"),
    ",": ("commas", "rename it to end in .csv"),
}


def jsonl_records(
    path: Path, name: str, wanted: Wanted, span: Span | None = None
) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file, one a line; blank lines are skipped.

    Args:
        path: The file.
        name: What messages call it.
        wanted: The columns wanted; the required ones must be in every object.
        span: The lines to read; all when ``None``.

    Yields:
        ``file:line`` and the object.

    Raises:
        InputError: The file is binary, or a line is not a JSON object or lacks a column.
    """
    # One decoder for all lines keeps the fast C scanner; json.loads would build one per call.
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    scan = decoder.raw_decode
    required = [column for column, needed in wanted.items() if needed]
    for number, line in text_lines(path, name, span):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            # An object from the line's first character to its last, as programs write it, needs
            # no search for white space around it, which takes as long as the scan.
            value, end = scan(line) if line[0] == "{" else (None, 0)
            if line[end:] != "\n":
                value = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise _json_error(line, number, where, error) from None
        if not isinstance(value, dict):
            mend = 'each line is one object, like {"text": "...", "label": 0}'
            if isinstance(value, list):
                mend += "; of one big array make lines with: jq -c '.[]' FILE"
            raise InputError(f"the line is {_kind(value)}, not an object", where=where, mend=mend)
        _require(required, value, where)
        yield where, value


def csv_records(path: Path, name: str, wanted: Wanted, *, delimiter: str) -> Iterator[Record]:
    r"""Yield the records of a CSV or TSV file with a header.

    Args:
        path: The file.
        name: What messages call it.
        wanted: The columns wanted; the required ones must be in the header.
        delimiter: ``,`` or a tab.

    Yields:
        ``file:line`` of the line on which the record begins, and the record by column name.

    Raises:
        InputError: The file is binary, ragged, wrongly quoted, or lacks a column.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CSV_FIELD))
    lines = (line for _, line in text_lines(path, name))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        where = f"{name}:{reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise _csv_error(error, where) from None
        if fields is None:
            return
        if not "".join(fields).strip() and len(fields) < 2 and (len(header) != 1 or not fields):
            continue  # a blank line; white space in a file of one column is a field, though
        if not header:
            header = _checked_header(fields, where)
            _refuse_separator(header, wanted, delimiter, where)
            _require([column for column, needed in wanted.items() if needed], header, where)
            continue
        if len(fields) != len(header):
            what = f"{_count(len(fields), 'field')} where the header has {len(header)}"
            separator = "tab" if delimiter == "\t" else "comma"
            mend = f'put "quotes" around a field that holds a {separator}, or add what is missing'
            raise InputError(what, where=where, mend=mend)
        yield where, dict(zip(header, fields, strict=True))


def parquet_records(path: "Path | BinaryIO", name: str, wanted: Wanted) -> Iterator[Record]:
    """Yield the rows of a Parquet file, batch by batch.

    Args:
        path: The file, or one opened.
        name: What messages call it.
        wanted: The columns wanted; no other is decoded.

    Yields:
        ``file:row k``, k from 1, and the row by column name.

    Raises:
        InputError: The file cannot be read as Parquet, or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            columns = _select(wanted, names, name)
            if twice := next((column for column in columns if names.count(column) > 1), None):
                what = f'the column "{twice}" is there twice'
                raise InputError(what, where=name, mend="rename one of them")
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                # Column by column: a fifth of the time that `batch.to_pylist` takes row by row.
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield f"{name}:row {number}", dict(zip(columns, values, strict=True))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        mend = "write it again, or convert it to JSONL"
        raise InputError(
            f"cannot be read as Parquet ({first_line(error)})", where=name, mend=mend
        ) from None


def dataset_records(dataset: "Dataset", name: str, wanted: Wanted) -> Iterator[Record]:
    """Yield the rows of a `datasets.Dataset`; a class label of -1 (unknown) counts as null.

    Args:
        dataset: The data set; its own format (torch, numpy) is set aside.
        name: What messages call it.
        wanted: The columns wanted; no other is decoded.

    Yields:
        ``name:row k``, k from 1, and the row by column name.

    Raises:
        InputError: The data set lacks a column.
    """
    columns = _select(wanted, dataset.column_names, name)
    class_labels = [c for c in columns if type(dataset.features[c]).__name__ == "ClassLabel"]
    for number, fields in enumerate(dataset.with_format(None).select_columns(columns), start=1):
        unknown = {c: None for c in class_labels if fields[c] == -1}
        yield f"{name}:row {number}", {**fields, **unknown} if unknown else fields


def streamed_records(dataset: "IterableDataset", name: str, wanted: Wanted) -> Iterator[Record]:
    """Yield the rows of a `datasets.IterableDataset`, of which one row at a time is in memory.

    Args:
        dataset: The stream; its own format (torch, numpy) is set aside.
        name: What messages call it.
        wanted: The columns wanted.

    Yields:
        ``name:row k``, k from 1, and the row by column name; a class label of -1 counts as null.

    Raises:
        InputError: A row lacks a column, or the stream breaks off.
    """
    required = [column for column, needed in wanted.items() if needed]
    features = dataset.features or {}  # many streams tell their columns by their rows alone
    class_labels = [c for c in wanted if type(features.get(c)).__name__ == "ClassLabel"]
    rows = iter(dataset.with_format(None))
    for number in itertools.count(1):
        where = f"{name}:row {number}"
        try:
            fields = next(rows, None)
        except Exception as error:  # the network's, the archive's or the builder's: a dozen types
            what = f"the stream breaks off here ({first_line(error)})"
            raise InputError(what, where=where, mend="check the source and the network") from error
        if fields is None:
            return
        _require(required, fields, where)
        unknown = {c: None for c in class_labels if fields[c] == -1}
        yield where, {**fields, **unknown} if unknown else fields


def text_lines(path: Path, name: str, span: Span | None = None) -> Iterator[tuple[int, str]]:
    r"""Yield the number and text of each line, ended by ``\n`` alone, of a UTF-8 file.

    Args:
        path: The file; a byte order mark at its start is dropped.
        name: What messages call it.
        span: The lines to read; all when ``None``.

    Yields:
        The line's number from 1, and its text with its line ending.

    Raises:
        InputError: The file is compressed, binary, not UTF-8, or may not be read.
    """
    offset, end, first = span or Span(0, sys.maxsize, 1)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for number, line in enumerate(file, start=first):
                if offset >= end:
                    return
                if number == 1:
                    _refuse_signature(line, name)
                    if line.startswith(_BOM):
                        line, offset = line[len(_BOM) :], len(_BOM)
                if (nul := line.find(0)) >= 0:
                    raise _binary_error(f"a NUL byte at offset {offset + nul}", name, number)
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    what = f"bytes that are not UTF-8 at offset {offset + error.start}"
                    raise _binary_error(what, name, number) from None
                yield number, text
                offset += len(line)
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(name: str, error: OSError) -> InputError:
    """Return the error for a file the system will not let us read."""
    return InputError(
        f"cannot be read ({error.strerror or error})", where=name, mend="check its permissions"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message, without the colon it may end in."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .:") if lines else type(error).__name__


def _refuse_signature(line: bytes, name: str) -> None:
    for signature, what, mend in _SIGNATURES:
        if line.startswith(signature):
            raise InputError(
                f"the file is {what}", where=name, mend=mend.replace("FILE", Path(name).name)
            )


def _binary_error(what: str, name: str, number: int) -> InputError:
    return InputError(
        f"{what}: a binary file, or text in another encoding",
        where=f"{name}:{number}",
        mend="give UTF-8 text (iconv converts), or a .parquet file",
    )


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _json_error(line: str, number: int, where: str, error: Exception) -> InputError:
    if isinstance(error, RecursionError):
        return InputError("JSON nested too deeply", where=where, mend="flatten the line")
    if not isinstance(error, json.JSONDecodeError):  # NaN and numbers of thousands of digits
        return InputError(first_line(error), where=where, mend="put a string, a number or null")
    what = f"malformed JSON ({error.msg}, column {error.pos + 1})"
    mend = "mend or delete the line"
    if number == 1 and line.strip() in ("{", "["):
        mend = "write one object per line; of an array make lines with: jq -c '.[]' FILE"
    return InputError(what, where=where, mend=mend)


def _csv_error(error: csv.Error, where: str) -> InputError:
    message = str(error)
    if "new-line character" in message:
        return InputError("a bare carriage return", where=where, mend="end lines with \\n")
    if "unexpected end of data" in message:
        mend = 'close the quotes; a quote inside a quoted field is written ""'
        return InputError("quotes that are never closed begin here", where=where, mend=mend)
    mend = 'put "quotes" around the whole field and write a quote inside it as ""'
    return InputError(f"malformed record ({message})", where=where, mend=mend)


def _checked_header(fields: list[str], where: str) -> list[str]:
    header = [field.strip() for field in fields]
    twice = next((c for c in header if header.count(c) > 1), None)
    if twice is not None:
        raise InputError(
            f'the header names the column "{twice}" twice', where=where, mend="rename one of them"
        )
    return header


def _refuse_separator(header: list[str], wanted: Wanted, delimiter: str, where: str) -> None:
    """Refuse a table whose header, split at `delimiter`, is one column that nobody asked for."""
    if len(header) != 1 or header[0] in wanted:
        return
    for separator, (name, mend) in _SEPARATORS.items():
        if separator != delimiter and separator in header[0]:
            raise InputError(f"the columns are separated by {name}", where=where, mend=mend)


def _select(wanted: Wanted, available: Sequence[str], where: str) -> list[str]:
    _require([column for column, needed in wanted.items() if needed], available, where)
    return [column for column in wanted if column in available]


def _require(columns: Iterable[str], available: Collection[str], where: str) -> None:
    for column in columns:
        if column not in available:
            have = ", ".join(f'"{c}"' for c in available) or "no column at all"
            raise InputError(
                f'no column "{column}"; there is {have}',
                where=where,
                mend="name the right ones with --text-column and --answer-column",
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a string", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


# By how the file's name ends.
READERS: dict[str, Callable[[Path, str, Wanted], Iterator[Record]]] = {
    ".jsonl": jsonl_records,
    ".ndjson": jsonl_records,
    ".json": jsonl_records,
    ".csv": partial(csv_records, delimiter=","),
    ".tsv": partial(csv_records, delimiter="\t"),
    ".parquet": parquet_records,
}
