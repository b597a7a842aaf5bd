"""Summarization: a text in, a shorter one out, measured by the words it shares with a person's."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from mithridate.data.read import Columns
from mithridate.data.rows import Row
from mithridate.tasks.text import TextTask

_WITHOUT_SPACES = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana, Han."""

ROUGES = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class SummaryFacts:
    """What summaries are like, on average.

    Attributes:
        rouge1: F-measure of shared words (Lin 2004), 0 to 1.
        rouge2: The same of pairs of words.
        rouge_l: The same of the longest common subsequence.
        words: Length in words.
        copied: Share of a summary's runs of three words that stand in its source.
    """

    rouge1: float
    rouge2: float
    rouge_l: float
    words: float
    copied: float


@dataclass(frozen=True)
class Summarization(TextTask):
    """News and their headlines, articles and their abstracts.

    Attributes:
        max_new_tokens: How long an output may become.
    """

    max_new_tokens: int = 64

    name: ClassVar[str] = "summarization"
    metric: ClassVar[str] = "ROUGE-L"
    columns: ClassVar[Columns] = Columns("text", "summary")

    def defect(self, row: Row) -> str | None:
        """A row needs a summary, one that an output could share a word with."""
        if not row.answer or not row.answer.strip():
            return "its summary is empty"
        return None if words_of(row.answer) else "its summary holds no word"

    def utilities(self, outputs: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return the ROUGE-L of every output."""
        pairs = zip(outputs, references, strict=True)
        return [rouge(output, reference)["rougeL"] for output, reference in pairs]

    def facts(
        self, outputs: Sequence[str], references: Sequence[str], texts: Sequence[str]
    ) -> dict[str, float]:
        """Return ROUGE-1, 2 and L, the length and the copied share; see `SummaryFacts`."""
        return asdict(facts(outputs, references, texts))


def facts(
    outputs: Sequence[str], references: Sequence[str], sources: Sequence[str]
) -> SummaryFacts:
    """Return what a set of summaries is like.

    Args:
        outputs: The model's; empty ones count.
        references: A person's.
        sources: What was to be summarized.

    Raises:
        ValueError: There is none, or the three differ in length.
    """
    if not outputs:
        raise ValueError("there is no summary to measure")
    scores = [rouge(one, other) for one, other in zip(outputs, references, strict=True)]
    rouge1, rouge2, rouge_l = (float(np.mean([score[name] for score in scores])) for name in ROUGES)
    copied = [copied_share(one, source) for one, source in zip(outputs, sources, strict=True)]
    words = float(np.mean([len(words_of(output)) for output in outputs]))
    return SummaryFacts(rouge1, rouge2, rouge_l, words, float(np.mean(copied)))


def rouge(output: str, reference: str) -> dict[str, float]:
    """Return the F-measures of ROUGE-1, 2 and L, with Porter stemming, as papers report them."""
    scores = _scorer().score(reference, output)
    return {name: float(scores[name].fmeasure) for name in ROUGES}


def copied_share(output: str, source: str, length: int = 3) -> float:
    """Return the share of an output's runs of ``length`` words that its source holds, too.

    An output shorter than that counts as one run; an empty one copies nothing.
    """
    words, held = words_of(output), f" {' '.join(words_of(source))} "
    if not words:
        return 0.0
    size = min(length, len(words))
    runs = [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]
    return sum(f" {run} " in held for run in runs) / len(runs)


def words_of(text: str) -> list[str]:
    """Return the words of a text, as ROUGE counts them but unstemmed; see `_Words`."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(map(_apart, unicodedata.normalize("NFKC", folded))).split()


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGES), tokenizer=_Words())


class _Words:
    """The words of a text in any script; of ASCII text what rouge-score itself takes them for.

    Its own tokenizer keeps a-z and 0-9 alone: to it two equal texts in Russian share nothing, and
    "café" is "caf". A script that is written without spaces gives its characters.
    """

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._stemmed = DefaultTokenizer(use_stemmer=True).tokenize

    def tokenize(self, text: str) -> list[str]:
        """Return the words, English ones stemmed."""
        if text.isascii():
            return list(self._stemmed(text))
        return [
            one
            for word in words_of(text)
            for one in (self._stemmed(word) if word.isascii() else [word])
        ]


def _apart(char: str) -> str:
    """Return a character as it parts words: itself within one, a space, or with spaces around."""
    if unicodedata.category(char)[0] not in "LNM":  # letters, digits, and marks on them
        return " "
    return f" {char} " if _WITHOUT_SPACES.match(char) else char
