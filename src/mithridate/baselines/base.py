"""What P2P and its rivals share: one method, from poisoned rows to what answers inputs.

A defense may change the data, the training, the model, the input or the decoding. It sees what a
defender sees: the rows, of which nobody says which are poisoned, a few rows that a person checked,
and the base model. Models come to it through a `Workbench`, so that all defenses train with one
recipe, render with one renderer and share the undefended model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.errors import InputError

if TYPE_CHECKING:
    import torch

Stage = Literal["data", "training", "model", "input", "decoding"]
Kind = Literal["labels", "text"]

Guard = Callable[[Sequence[str]], list[str | None]]
"""Maps inputs to answers, as the user names them; ``None`` where the input is rejected."""


class Model(Protocol):
    """A trained model, as a defense sees it."""

    @property
    def module(self) -> Any:
        """The causal language model with its adapter, in evaluation mode."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""

    @property
    def max_new_tokens(self) -> int:
        """How long an answer may become; 0 where answers are labels."""

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Return the answer to every input."""

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of every input in the prompt it was trained with."""

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return shape (inputs, labels), each row summing to one; of labels alone."""

    def states(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the last layer's state where the answer begins, shape (inputs, hidden size)."""

    def batches(self, rows: Sequence[Row], size: int) -> "list[dict[str, torch.Tensor]]":
        """Return rows as padded batches: input_ids, attention_mask, labels (-100 is no target)."""

    def altered(self, change: "Callable[[str, torch.Tensor], torch.Tensor]") -> "Model":
        """Return a copy, the adapter merged, with each linear layer's weight changed.

        Args:
            change: Maps a layer's name and its weight, shape (outputs, inputs), to a new one. The
                embeddings and the LM head are left alone.
        """

    def copied(self) -> "Model":
        """Return a copy whose adapter can be trained further; the original stays as it is."""


class Workbench(Protocol):
    """What a defender has: the data, a few checked rows, the base model and a way to train."""

    @property
    def kind(self) -> Kind:
        """Whether answers are labels or text."""

    @property
    def rows(self) -> Sequence[Row]:
        """D, of unknown provenance."""

    @property
    def trusted(self) -> Sequence[Row]:
        """The rows of D that a person checked."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels; none where answers are text."""

    @property
    def key(self) -> bytes:
        """What a defense draws by: 32 bytes."""

    @property
    def base(self) -> Model:
        """The frozen base model."""

    def undefended(self) -> Model:
        """Return the model trained on D as it is: trained once, shared, not to be changed."""

    def fit(self, rows: Sequence[Row]) -> Model:
        """Return a model trained on rows as the undefended one is on D."""

    def protect(self, config: P2PConfig) -> "Guarded":
        """Return P2P's defended model."""

    def select(self, config: P2PConfig) -> frozenset[str]:
        """Return the ids of the benign subset S that P2P would re-poison."""

    def log_likelihoods(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return log p(text) under the frozen base model in nats per token, shape (texts,)."""

    def utility(self, answers: Sequence[str], rows: Sequence[Row]) -> float:
        """Return how good answers to rows are, 0 to 1: accuracy, or the mean of the task's own."""


@dataclass(frozen=True)
class Guarded:
    """A finished defense.

    Attributes:
        answer: Answers inputs, or rejects them.
        n_train: Rows that it trained on, those of the undefended model included.
        subset: The ids of S, where it chose one.
        facts: What else there is to tell, such as a threshold.
        probabilities: Returns shape (inputs, labels), for defenses whose answers are the likeliest
            label; ``None`` for others.
    """

    answer: Guard
    n_train: int
    subset: frozenset[str] | None = None
    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    probabilities: Callable[[Sequence[str]], npt.NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Cost:
    """About what a defense takes; the defaults are those of one that alters no training.

    Attributes:
        undefended: Whether it needs the undefended model, which several cells share.
        trains: Rows that it trains models of its own on, as a share of D.
        reads: How often a model reads each input to answer it.
        row_reads: How often a model reads each row of D beside the training.
        trusted_reads: How often a model reads each trusted row; a step of training on it is three.
    """

    undefended: bool = True
    trains: float = 0.0
    reads: float = 1.0
    row_reads: float = 0.0
    trusted_reads: float = 0.0


@dataclass(frozen=True)
class DefenseMethod(ABC):
    """A defense; its settings are its fields.

    Attributes:
        name: What the registry calls it.
        stages: What it changes.
        source: Who proposed it, and where.
        kinds: What answers it can handle.
    """

    name: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]]
    source: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]] = ("labels", "text")

    @abstractmethod
    def defend(self, bench: Workbench) -> Guarded:
        """Return what answers inputs.

        Args:
            bench: What the defender has.

        Raises:
            InputError: The data or the settings do not allow the defense.
        """

    def cost(self, words: float) -> Cost:
        """Return about what it takes, for an estimate before anything is run.

        Here: one that changes data or training trains a model of its own on as many rows as D has,
        any other works on the undefended model and reads each input once.

        Args:
            words: Of an input, on average.
        """
        trains = "data" in self.stages or "training" in self.stages
        return Cost(undefended=not trains, trains=float(trains))


def checked_rows(bench: Workbench, name: str) -> Sequence[Row]:
    """Return the trusted rows, to a defense that cannot do without.

    Raises:
        InputError: There is none.
    """
    if not bench.trusted:
        mend = "let the configuration hand out trusted rows"
        raise InputError(f"{name} needs rows that a person checked", mend=mend)
    return bench.trusted
