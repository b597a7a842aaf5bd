"""ONION: words that the text reads better without are taken out of the input.

Source: Qi et al. 2021 (arXiv 2011.10369), https://github.com/thunlp/ONION. A word's suspicion is
the perplexity of the text less that of the text without the word; words above a threshold go. The
published language model is GPT-2; here it is the frozen base model.

Two faults of public copies are not repeated: the last word is a word like any other, and the
whole text's perplexity is that of the whole text. Nor does a text lose its line ends.

The threshold is chosen on the rows that a person checked, as the paper tunes it on held-out clean
rows: the one that removes most, as long as the undefended model stays as good on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Workbench, checked_rows
from mithridate.baselines.words import split_words, without_words
from mithridate.errors import InputError

LogLikelihoods = Callable[[Sequence[str]], npt.NDArray[np.float64]]

# Shares that are equal but for rounding must not count as a loss.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Onion(DefenseMethod):
    """Take words out of the input whose removal lowers its perplexity by much.

    Attributes:
        removed: Shares of the trusted rows' words that a candidate threshold removes at most, and
            none whose removal does not lower the perplexity. The last candidate removes none.
        tolerance: How much worse the undefended model may be on the trusted rows without the
            removed words: accuracy, or the task's own measure of texts; 0.01 is one point.
    """

    name = "onion"
    stages = ("input",)
    source = "Qi et al. 2021, ONION, arXiv 2011.10369"

    removed: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if strange := [share for share in self.removed if not 0.0 <= share <= 1.0]:
            what = f"onion's removed holds {strange[0]:g}, no share"
            raise InputError(what, mend="give shares of 0 to 1")
        if not self.tolerance >= 0.0:
            raise InputError("onion's tolerance is negative", mend="give 0 or more")

    def cost(self, words: float) -> Cost:
        """Return about what it takes: a reading without each word; see `DefenseMethod.cost`."""
        return Cost(reads=words + 2, trusted_reads=words + 3 + len(self.removed))

    def defend(self, bench: Workbench) -> Guarded:
        """Return the undefended model behind the purifier; see `DefenseMethod.defend`."""
        rows = checked_rows(bench, self.name)
        model = bench.undefended()
        texts = [row.text for row in rows]
        scores = suspicions(texts, bench.log_likelihoods)
        words = np.concatenate([np.zeros(0), *scores])
        good = bench.utility(model.answer(texts), rows)
        for threshold in self.candidates(words):
            purified = bench.utility(model.answer(purify(texts, scores, threshold)), rows)
            if purified >= good - self.tolerance - _ROUNDING:
                break
        facts = {
            "threshold": threshold,
            "trusted_words_removed": float((words > threshold).mean()) if len(words) else 0.0,
            "trusted_utility": good,
            "trusted_utility_purified": purified,
        }

        def answer(inputs: Sequence[str]) -> list[str | None]:
            found = suspicions(inputs, bench.log_likelihoods)
            return [*model.answer(purify(inputs, found, threshold))]

        return Guarded(answer, len(bench.rows), facts=facts)

    def candidates(self, words: npt.NDArray[np.float64]) -> list[float]:
        """Return the thresholds to try, first the one that removes most words.

        Args:
            words: The suspicions of the trusted rows' words, shape (words,).
        """
        if not len(words):
            return [0.0]
        shares = [*sorted(self.removed, reverse=True), 0.0]
        cuts = [float(np.quantile(words, 1 - share, method="higher")) for share in shares]
        return [max(0.0, cut) for cut in cuts]


def suspicions(
    texts: Sequence[str], log_likelihoods: LogLikelihoods
) -> list[npt.NDArray[np.float64]]:
    """Return how far the perplexity falls without each word (f_i = p_0 - p_i, section 3).

    Args:
        texts: The texts.
        log_likelihoods: Returns log p of texts, in nats per token; asked once for all.

    Returns:
        One array for each text, as many values as `split_words` gives words. That of an empty word,
        or of a text's only one, which cannot go, is 0.
    """
    variants: list[str] = []
    places: list[list[int]] = []
    for text in texts:
        own = [at for at, word in enumerate(split_words(text)[0]) if word]
        places.append(own if len(own) > 1 else [])
        if places[-1]:
            variants += [text, *(without_words(text, {at}) for at in own)]
    perplexities = iter(np.exp(-log_likelihoods(variants)).tolist())
    found = []
    for text, own in zip(texts, places, strict=True):
        scores = np.zeros(len(split_words(text)[0]))
        whole = next(perplexities) if own else 0.0
        for at in own:
            scores[at] = whole - next(perplexities)
        found.append(scores)
    return found


def purify(
    texts: Sequence[str], scores: Sequence[npt.NDArray[np.float64]], threshold: float
) -> list[str]:
    """Return texts without the words above a threshold that is 0 or more.

    A text of which nothing would be left stays as it is.
    """
    purified = []
    for text, own in zip(texts, scores, strict=True):
        left = without_words(text, set(np.flatnonzero(own > threshold).tolist()))
        purified.append(left if left.strip() else text)
    return purified
