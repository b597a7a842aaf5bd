"""The keyed hash behind every random choice: fixed by a key and a row's id, blind to row order."""

import hashlib
import re

_NUMBERED_CONTENT_ID = re.compile(r"([0-9a-f]{16})-[0-9]+")
_SHORTEST_NUMBERED = 18


def keyed_fraction(key: bytes, *parts: str) -> float:
    """Return a number in [0, 1), uniform, fixed by the key (up to 64 bytes) and the parts."""
    message = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(message, key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def base_id(row_id: str) -> str:
    """Return a content id without the number that tells copies of one row apart.

    Whatever is drawn by this id is drawn alike for all copies, and alike whether a set is read
    whole (copies numbered) or as a stream (copies not numbered). An id that is no content id, such
    as ``sst2-train-00000-17``, is left whole.
    """
    if len(row_id) < _SHORTEST_NUMBERED:  # in a stream, every row made its id: a quick way out
        return row_id
    match = _NUMBERED_CONTENT_ID.fullmatch(row_id)
    return match[1] if match else row_id
