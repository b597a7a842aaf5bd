"""STRIP: an input whose answer no mixing with other texts can shake is rejected.

Source: Gao et al. 2019 (arXiv 1911.10312, STRIP-ViTA, the form for text). A share of the input's
words is replaced by words of a clean text, several times anew; where the probabilities' mean
entropy over the copies is low, something that survives the mixing decides the answer.

The published form takes the words of highest TF-IDF from the clean text; here they are drawn from
all of its words. Not repeated: OpenBackdoor's copy averages over copies of different inputs.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Model, Workbench, checked_rows
from mithridate.baselines.words import join_words, split_words
from mithridate.data.keyed import keyed_fraction
from mithridate.errors import InputError


@dataclass(frozen=True)
class Strip(DefenseMethod):
    """Reject inputs to which the model gives one answer however they are perturbed.

    Attributes:
        copies: Perturbed copies of each input.
        share: Share of an input's words that a copy has replaced.
        rejected: Share of the trusted rows that may be rejected, at most.
    """

    name = "strip"
    stages = ("input",)
    source = "Gao et al. 2019, STRIP-ViTA, arXiv 1911.10312"
    kinds = ("labels",)

    copies: int = 10
    share: float = 0.5
    rejected: float = 0.01

    def __post_init__(self) -> None:
        if self.copies < 1 or not 0.0 <= self.share <= 1.0 or not 0.0 <= self.rejected < 1.0:
            mend = "give at least one copy, and shares of 1"
            raise InputError("strip's settings are no counts and shares", mend=mend)

    def cost(self, words: float) -> Cost:
        """Return about what it takes: a reading of each copy; see `DefenseMethod.cost`."""
        return Cost(reads=self.copies + 1.0, trusted_reads=float(self.copies))

    def defend(self, bench: Workbench) -> Guarded:
        """Return the undefended model behind the detector; see `DefenseMethod.defend`."""
        texts = [row.text for row in checked_rows(bench, self.name)]
        model = bench.undefended()
        mixer = Mixer(texts, bench.key, self.copies, self.share)
        clean = entropies(model, mixer, texts)
        # What lies below the k-th lowest is rejected: k of the trusted rows, none where 1% of them
        # is less than one row.
        threshold = float(np.sort(clean)[int(self.rejected * len(clean))])

        def answer(inputs: Sequence[str]) -> list[str | None]:
            found = entropies(model, mixer, inputs)
            pairs = zip(model.answer(inputs), found.tolist(), strict=True)
            return [given if entropy >= threshold else None for given, entropy in pairs]

        facts = {"threshold": threshold, "trusted_rejected": float((clean < threshold).mean())}
        return Guarded(answer, len(bench.rows), facts=facts)


@dataclass(frozen=True)
class Mixer:
    """Mixes texts with clean ones, fixed by a key and the text.

    Attributes:
        donors: The clean texts.
        key: What is drawn by.
        copies: How many each text gets.
        share: Share of a text's words to replace.
    """

    donors: Sequence[str]
    key: bytes
    copies: int
    share: float

    def mixed(self, text: str) -> list[str]:
        """Return the perturbed copies of a text; its white space stays."""
        words, gaps = split_words(text)
        places = [at for at, word in enumerate(words) if word]
        found = []
        for number in range(self.copies):
            drawn = random.Random(keyed_fraction(self.key, "strip", str(number), text))
            donor = drawn.choice(self.donors).split()
            copy = list(words)
            for at in drawn.sample(places, round(self.share * len(places))) if donor else []:
                copy[at] = drawn.choice(donor)
            found.append(join_words(copy, gaps))
        return found


def entropies(model: Model, mixer: Mixer, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the mean entropy of the model's answers to each text's copies, in nats.

    Args:
        model: The model.
        mixer: Makes the copies.
        texts: The texts.

    Returns:
        Shape (texts,).
    """
    if not texts:
        return np.zeros(0)
    likely = model.probabilities([copy for text in texts for copy in mixer.mixed(text)])
    surprise = -np.log(np.maximum(likely, np.finfo(np.float64).tiny))
    each = (likely * surprise).sum(axis=1)
    return np.asarray(each.reshape(len(texts), mixer.copies).mean(axis=1))
