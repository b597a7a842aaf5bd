"""Parquet on object stores and other file systems that fsspec knows: s3://, gs://, file:// ..."""

from collections.abc import Iterator
from typing import Any

from mithridate.data._formats import Record, Wanted, first_line, parquet_records
from mithridate.errors import InputError, MithridateError

# What fsspec raises where the package of a file system is missing names that package in words only.
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}


def is_url(source: str) -> bool:
    """Whether a source is an address, ``protocol://path``."""
    return "://" in source


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of an address, or of a local path, and the path in it.

    Raises:
        InputError: fsspec does not know the protocol.
        MithridateError: The package for it is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol, error.name or "its fsspec package")
        what = f"{protocol}:// needs {package}, which is not installed"
        raise MithridateError(what, where=url, mend=f"pip install {package}") from None
    except ValueError as error:
        mend = "check the address, such as s3://bucket/folder"
        raise InputError(f"no such protocol ({first_line(error)})", where=url, mend=mend) from None
    return filesystem, str(path)


def find_parquet(url: str) -> list[str]:
    """Return the addresses of the Parquet files that an address names: one file, or a folder's.

    Raises:
        InputError: There is none, or the store cannot be reached.
    """
    filesystem, path = open_filesystem(url)
    try:
        files = filesystem.glob(path) if "*" in path else filesystem.find(path)
    except Exception as error:  # every store has errors of its own
        raise _unreachable(url, error) from error
    files = [name for name in files if name.lower().endswith(".parquet")]
    if not files:
        mend = "check the address; at addresses Parquet alone is read"
        raise InputError("no .parquet file here", where=url, mend=mend)
    return [str(filesystem.unstrip_protocol(name)) for name in files]


def url_records(url: str, wanted: Wanted) -> Iterator[Record]:
    """Yield the rows of a Parquet file at an address; see `parquet_records`.

    Raises:
        InputError: It cannot be reached or read, or lacks a column.
    """
    if not url.lower().endswith(".parquet"):
        mend = "name a .parquet file, or fetch the file first"
        raise InputError("at an address Parquet alone is read", where=url, mend=mend)
    filesystem, path = open_filesystem(url)
    try:
        file = filesystem.open(path, "rb")
    except Exception as error:
        raise _unreachable(url, error) from error
    with file:
        yield from parquet_records(file, url, wanted)


def _unreachable(url: str, error: Exception) -> InputError:
    what = f"cannot be reached ({first_line(error)})"
    return InputError(what, where=url, mend="check the address, the network and your rights there")
