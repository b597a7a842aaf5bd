"""One attack on one data set, and what is left of it under each defense."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mithridate.attacks.base import Attack, Poisoned
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.prepare import FeatureExtractor, Prepared, prepare
from mithridate.defense.repoison import repoison
from mithridate.defense.secret import Secret
from mithridate.evaluation.evaluate import Decoding, Evaluation, evaluate, target_rate
from mithridate.evaluation.intervals import Share
from mithridate.inference.backbone import Backbone, Precision, load_backbone
from mithridate.inference.classifier import Classifier
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import PromptRenderer
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import Defense, Fitted, defend, feature_extractor, fit

Eyes = Callable[..., FeatureExtractor]
"""What makes a feature extractor of a backbone and a renderer, as `feature_extractor` does."""

Arm = Literal["reference", "undefended", "p2p", "subset"]


@dataclass(frozen=True)
class Cell:
    """One way to train.

    Attributes:
        name: What tables call it.
        arm: ``reference`` trains on the data as it was before the attack, and gives the floor;
            ``undefended`` on the poisoned data; ``p2p`` on its D*; ``subset`` on S alone, its
            labels and prompt untouched.
        p2p: Settings of the re-poisoning, for ``p2p`` and ``subset``.
        planted: With oracle selection, how many of S's rows are poisoned ones put there on
            purpose, to learn how many the defense bears.
    """

    name: str
    arm: Arm
    p2p: P2PConfig | None = None
    planted: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: The cell.
        evaluation: CA, ASR and the rest.
        n_train: Rows (or D* rows) trained on.
        n_subset: Size of S; ``None`` without one.
        n_subset_poisoned: Poisoned rows in S.
        train_seconds: Loading, choice of S and training.
        learning_rate: The peak it was trained with.
        classifier: The trained classifier.
        defense: The finished defense of a ``p2p`` cell.
    """

    cell: Cell
    evaluation: Evaluation
    n_train: int
    n_subset: int | None
    n_subset_poisoned: int | None
    train_seconds: float
    learning_rate: float
    classifier: Classifier
    defense: Defense | None


@dataclass(frozen=True)
class Experiment:
    """The fixed part: data, attack, model and training settings.

    Attributes:
        model: A folder or hub id.
        train: Clean training rows.
        test: Clean test rows.
        attack: What poisons them.
        training: Settings, the same for all cells.
        seed: Of the attacker's and the defender's draws.
        decoding: How answers are read.
        precision: The dtype to train and evaluate in.
        trusted: Ids of rows of the poisoned set that a person checked, for anchored selection.
        test_triggered: Rows to trigger for the test, where they are others than ``test``.
        eyes: Makes the judge's feature extractor; the product's own unless a benchmark keeps what
            it read before.
    """

    model: str
    train: Sequence[Row]
    test: Sequence[Row]
    attack: Attack
    training: TrainingConfig
    seed: int = 0
    decoding: Decoding = "closed"
    precision: Precision = "auto"
    trusted: frozenset[str] = frozenset()
    test_triggered: Sequence[Row] | None = None
    eyes: Eyes = feature_extractor

    @cached_property
    def task(self) -> ClassificationTask:
        """The labels."""
        return ClassificationTask.of([*self.train, *self.test])

    @cached_property
    def attack_key(self) -> bytes:
        """The attacker's key, unrelated to the defender's."""
        return Secret.from_seed(self.seed).derive("attacker")

    @cached_property
    def fitted_attack(self) -> Attack:
        """The attack with what it reads off the clean training rows."""
        return self.attack.learn(self.train, self.attack_key)

    @cached_property
    def poisoned(self) -> Poisoned:
        """The poisoned training set."""
        return self.fitted_attack.poison(self.train, self.attack_key)

    @cached_property
    def triggered(self) -> list[Row]:
        """The triggered test inputs."""
        return self.fitted_attack.triggered(self._to_trigger, self.attack_key)

    @property
    def untriggered(self) -> list[Row]:
        """The same inputs as they were before the trigger."""
        ids = {row.id for row in self.triggered}
        return [row for row in self._to_trigger if row.id in ids]

    @property
    def _to_trigger(self) -> Sequence[Row]:
        return self.test if self.test_triggered is None else self.test_triggered

    def run(self, cell: Cell, *, floor: Share | None = None, quiet: bool = False) -> Outcome:
        """Train and evaluate one cell.

        Args:
            cell: What to train.
            floor: The reference cell's target rate on the triggered inputs.
            quiet: Show no progress.
        """
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mithridate-") as folder:
            work = Path(folder)
            if cell.arm == "p2p":
                trained = self._defend(cell, work, quiet)
            else:
                trained = self._train_plainly(cell, work, quiet)
        fitted, n_train, prepared, defense = trained
        train_seconds = time.monotonic() - started
        evaluation = evaluate(
            fitted.classifier,
            self.test,
            self.triggered,
            target=self.attack.target,
            decoding=self.decoding,
            floor=floor,
            untriggered=self.untriggered,
            progress=not quiet,
        )
        subset = prepared.subset if prepared else None
        return Outcome(
            cell,
            evaluation,
            n_train,
            len(subset.ids) if subset else None,
            subset.poisoned(self.poisoned.ids) if subset else None,
            train_seconds,
            self.training.learning_rate_for(_width(fitted.training.model)),
            fitted.classifier,
            defense,
        )

    def floor_of(self, reference: Outcome) -> Share:
        """Return the floor that a reference cell measured."""
        triggered = reference.evaluation.triggered
        if triggered is None:
            raise ValueError("the reference cell saw no triggered inputs")
        return target_rate(triggered, self.task.label_index(self.attack.target), self.decoding)

    def _defend(
        self, cell: Cell, work: Path, quiet: bool
    ) -> tuple[Fitted, int, Prepared | None, Defense | None]:
        """Train a P2P cell."""
        backbone = load_backbone(self.model, precision=self.precision)
        defense = defend(
            self.poisoned.rows,
            backbone,
            self.task,
            p2p=cell.p2p or P2PConfig(),
            training=self.training,
            secret=Secret.from_seed(self.seed + 1),
            work_folder=work,
            trusted=self._trusted(cell),
            clean_ids=self._clean_ids(cell),
            features=self._features(backbone, quiet),
            quiet=quiet,
        )
        prepared = defense.prepared
        return defense.fitted, len(prepared.examples), prepared, defense

    def _train_plainly(
        self, cell: Cell, work: Path, quiet: bool
    ) -> tuple[Fitted, int, Prepared | None, Defense | None]:
        """Train without re-poisoning: on all rows, before or after the attack, or on S alone."""
        backbone = load_backbone(self.model, precision=self.precision)
        rows = list(self.train) if cell.arm == "reference" else self.poisoned.rows
        prepared = None
        if cell.arm == "subset":
            prepared = prepare(
                rows,
                self.task,
                cell.p2p or P2PConfig(),
                Secret.from_seed(self.seed + 1),
                features=self._features(backbone, quiet),
                trusted=self._trusted(cell),
                clean_ids=self._clean_ids(cell),
            )
            rows = [row for row in rows if row.id in prepared.subset.ids]
        examples = list(repoison(rows, frozenset(), self.task, "replace"))
        fitted = fit(
            backbone, examples, self.task, None, self.training, work_folder=work, quiet=quiet
        )
        return fitted, len(examples), prepared, None

    def _features(self, backbone: Backbone, quiet: bool) -> FeatureExtractor:
        """Return the judge's eyes."""
        renderer = PromptRenderer(backbone.tokenizer, max_length=self.training.max_length)
        return self.eyes(backbone, renderer, quiet=quiet)

    def _trusted(self, cell: Cell) -> frozenset[str]:
        """Return the trusted rows, to anchored selection alone."""
        anchored = cell.p2p is not None and cell.p2p.selection == "anchored"
        return self.trusted if anchored else frozenset()

    def _clean_ids(self, cell: Cell) -> frozenset[str] | None:
        """Return the ids of the clean rows, to oracle selection alone.

        With planted rows: as many ids as S is to have, so that the draw must take them all.
        """
        if cell.p2p is None or cell.p2p.selection != "oracle":
            return None
        poisoned = self.poisoned.ids
        clean = frozenset(row.id for row in self.train) - poisoned
        if not cell.planted:
            return clean
        if cell.planted > len(poisoned):
            raise ValueError(f"{cell.planted} rows to plant among {len(poisoned)} poisoned ones")
        key = Secret.from_seed(self.seed).derive("planted")
        wanted = round(cell.p2p.benign_ratio * len(self.train))

        def first(ids: frozenset[str], count: int) -> list[str]:
            return sorted(ids, key=lambda row_id: (keyed_fraction(key, row_id), row_id))[:count]

        return frozenset([*first(poisoned, cell.planted), *first(clean, wanted - cell.planted)])


def _width(model: Any) -> int:
    """Return a model's hidden size."""
    return int(model.config.get_text_config().hidden_size)
