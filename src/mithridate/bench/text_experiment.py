"""One attack on one data set whose answers are text, and what is left of it under each defense."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mithridate.attacks.base import Poisoned
from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.prepare_text import PreparedText
from mithridate.defense.secret import Secret
from mithridate.defense.text import TextExample
from mithridate.evaluation.evaluate_text import TextEvaluation, evaluate_text
from mithridate.evaluation.hits import Rule, success_rate
from mithridate.evaluation.intervals import Share
from mithridate.inference.answerer import Answerer
from mithridate.inference.backbone import Precision, load_backbone
from mithridate.tasks.text import TextTask
from mithridate.training.config import TrainingConfig
from mithridate.training.defend_text import defend_text, fit_text

Arm = Literal["reference", "undefended", "p2p"]


@dataclass(frozen=True)
class TextOutcome:
    """What came of a way to train.

    Attributes:
        model: The trained model.
        answerer: The same, ready to answer.
        evaluation: Utility, ASR and the rest.
        flagged_clean: Clean inputs to which the model, left to itself, does not begin with p;
            ``None`` without a defense.
        flagged_triggered: Triggered ones.
        refused_rate: The ASR if flagged inputs were refused.
        n_train: Rows (or D* rows) trained on.
        cut: Training inputs that were too long.
        cut_answers: Training answers that were.
        prepared: What became of the rows of a ``p2p`` arm.
        train_seconds: Loading, choice of S and training.
    """

    model: Any
    answerer: Answerer
    evaluation: TextEvaluation
    flagged_clean: int | None
    flagged_triggered: int | None
    refused_rate: Share | None
    n_train: int
    cut: int
    cut_answers: int
    prepared: PreparedText | None
    train_seconds: float


@dataclass(frozen=True)
class TextExperiment:
    """The fixed part: data, attack, model and training settings.

    Attributes:
        model: A folder or hub id.
        task: What the rows are for.
        clean: The training rows before the attack, or those it left alone.
        poisoned: The training rows after it.
        test: Clean test rows.
        triggered: The attack's test inputs, ids and true answers kept.
        rule: What counts as the attack's success.
        training: Settings, the same for all arms.
        seed: Of the defender's draws.
        precision: The dtype to train and evaluate in.
    """

    model: str
    task: TextTask
    clean: Sequence[Row]
    poisoned: Poisoned
    test: Sequence[Row]
    triggered: Sequence[Row]
    rule: Rule
    training: TrainingConfig
    seed: int = 0
    precision: Precision = "auto"

    def run(
        self,
        arm: Arm,
        p2p: P2PConfig | None = None,
        *,
        floor: Share | None = None,
        quiet: bool = False,
    ) -> TextOutcome:
        """Train and evaluate one arm.

        Args:
            arm: ``reference`` trains on the clean rows and gives the floor; ``undefended`` on the
                poisoned ones; ``p2p`` on their D*.
            p2p: Settings of the re-poisoning.
            floor: The reference model's rate on the triggered inputs.
            quiet: Show no progress.
        """
        started = time.monotonic()
        backbone = load_backbone(self.model, precision=self.precision)
        prepared: PreparedText | None = None
        with tempfile.TemporaryDirectory(prefix="mithridate-") as folder:
            if arm == "p2p":
                defense = defend_text(
                    self.poisoned.rows,
                    backbone,
                    self.task,
                    p2p=p2p or P2PConfig(),
                    training=self.training,
                    secret=Secret.from_seed(self.seed + 1),
                    work_folder=Path(folder),
                    clean_ids=frozenset(row.id for row in self.poisoned.rows) - self.poisoned.ids,
                    quiet=quiet,
                )
                fitted, prepared = defense.fitted, defense.prepared
                n_train = len(prepared.examples)
            else:
                rows = self.clean if arm == "reference" else self.poisoned.rows
                examples = [
                    TextExample(row.id, row.text, self.task.target(row), False) for row in rows
                ]
                fitted = fit_text(
                    backbone,
                    examples,
                    self.task,
                    None,
                    self.training,
                    work_folder=Path(folder),
                    quiet=quiet,
                )
                n_train = len(examples)
        train_seconds = time.monotonic() - started
        evaluation = evaluate_text(
            fitted.answerer,
            self.task,
            self.test,
            self.triggered,
            rule=self.rule,
            floor=floor,
            progress=not quiet,
        )
        clean_flags: int | None = None
        triggered_flags: int | None = None
        refused: Share | None = None
        if arm == "p2p" and evaluation.triggered is not None:
            flags = fitted.answerer.flags([row.text for row in self.triggered], progress=not quiet)
            clean_flags = int(
                fitted.answerer.flags([row.text for row in self.test], progress=not quiet).sum()
            )
            triggered_flags = int(flags.sum())
            kept = zip(evaluation.triggered.texts, flags.tolist(), strict=True)
            texts = ["" if flagged else text for text, flagged in kept]
            refused = success_rate(self.rule, texts, self.triggered)
        return TextOutcome(
            fitted.training.model,
            fitted.answerer,
            evaluation,
            clean_flags,
            triggered_flags,
            refused,
            n_train,
            fitted.cut,
            fitted.cut_answers,
            prepared,
            train_seconds,
        )

    def floor_of(self, reference: Answerer, *, quiet: bool = False) -> Share:
        """Return a reference model's rate on the triggered inputs."""
        texts = [row.text for row in self.triggered]
        answers = reference.answer(texts, progress=not quiet)
        return success_rate(self.rule, answers.texts, self.triggered)
