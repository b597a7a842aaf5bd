"""CA, ASR, floor and untriggered rate of a classifier (DESIGN.md, first table)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mithridate.data.rows import Row
from mithridate.errors import InputError
from mithridate.evaluation.intervals import Certificate, Share, certificate, share
from mithridate.evaluation.margins import Margins, summarize, target_margins
from mithridate.inference.classifier import Classifier, Predictions

Decoding = Literal["closed", "open"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured.

    Attributes:
        decoding: ``closed``: the likeliest label of the model's domain. ``open``: greedy over the
            whole vocabulary; an undecodable answer is wrong, and the target's raw, original label
            counts as a success of the attack.
        clean_accuracy: CA: share of clean rows answered right.
        attack_success_rate: ASR: share of triggered inputs, whose true answer is not the target,
            that give the target; ``None`` without an attack.
        untriggered_rate: The same share on the same inputs without the trigger.
        floor: The same share of the triggered inputs under a model trained without the poison;
            ``None`` where there is no such model.
        margins: How far the triggered inputs lie from the target. ``None`` without an attack, and
            in open decoding, where an answer has more rivals than the labels.
        certificate: The upper bound on the ASR over the distribution of the triggered inputs;
            ``None`` without an attack.
        clean: All predictions on the clean rows.
        triggered: All predictions on the triggered inputs.
        seconds: Wall-clock time.
    """

    decoding: Decoding
    clean_accuracy: Share
    attack_success_rate: Share | None
    untriggered_rate: Share | None
    floor: Share | None
    margins: Margins | None
    certificate: Certificate | None
    clean: Predictions
    triggered: Predictions | None
    seconds: float


def target_rate(predictions: Predictions, target: int, decoding: Decoding) -> Share:
    """Return the share of predictions that give the target; see `Evaluation` for the decodings."""
    hits = _gives(predictions, target, decoding)
    return share(int(hits.sum()), len(hits))


def _gives(predictions: Predictions, target: int, decoding: Decoding) -> npt.NDArray[np.bool_]:
    """Return which predictions give the target."""
    if decoding == "closed":
        return np.asarray(predictions.classes == target)
    return np.asarray((predictions.open_classes == target) | (predictions.open_raw == target))


def accuracy(predictions: Predictions, classes: Sequence[int], decoding: Decoding) -> Share:
    """Return the share of predictions that are the true class."""
    answers = predictions.classes if decoding == "closed" else predictions.open_classes
    return share(int((answers == np.asarray(classes)).sum()), len(classes))


def evaluate(
    classifier: Classifier,
    clean: Sequence[Row],
    triggered: Sequence[Row] = (),
    *,
    target: str | None = None,
    decoding: Decoding = "closed",
    floor: Share | None = None,
    untriggered: Sequence[Row] = (),
    progress: bool = True,
) -> Evaluation:
    """Measure a classifier on clean rows and on an attack's triggered inputs.

    Args:
        classifier: The model, defended or not.
        clean: Test rows with their true labels.
        triggered: Their triggered versions, ids and true labels kept; none of the target class.
        target: The attacker's label; needed with triggered rows.
        decoding: How answers are read.
        floor: The reference model's target rate on these triggered inputs.
        untriggered: The triggered rows as they were before, where ``clean`` does not hold them.
        progress: Whether to show progress bars on a terminal.

    Raises:
        InputError: There is no clean row, a label is unknown, a triggered row has the target
            label, or there is no target.
    """
    started = time.monotonic()
    if not clean:
        raise InputError("there is no clean row to evaluate", mend="give a test set with rows")
    is_open = decoding == "open"

    def answers(rows: Sequence[Row]) -> Predictions:
        texts = [row.text for row in rows]
        return classifier.predict(texts, open_decoding=is_open, progress=progress)

    predictions = answers(clean)
    measured = accuracy(predictions, classifier.task.classes(clean), decoding)
    attacked: Predictions | None = None
    attack_success_rate: Share | None = None
    untriggered_rate: Share | None = None
    margins: Margins | None = None
    bound: Certificate | None = None
    if triggered:
        if target is None:
            raise InputError("triggered rows need a target", mend="name it with --target")
        index = classifier.task.label_index(target)
        _check_triggered(triggered, target)
        classifier.task.classes(triggered)  # a row whose true label is unknown says nothing
        attacked = answers(triggered)
        attack_success_rate = target_rate(attacked, index, decoding)
        untriggered_rate = _untriggered(predictions, clean, triggered, index, decoding)
        if untriggered_rate is None and untriggered:
            untriggered_rate = target_rate(answers(untriggered), index, decoding)
        margins = None if is_open else summarize(target_margins(attacked, index))
        bound = certificate(attack_success_rate.successes, attack_success_rate.n)
    return Evaluation(
        decoding,
        measured,
        attack_success_rate,
        untriggered_rate,
        floor,
        margins,
        bound,
        predictions,
        attacked,
        time.monotonic() - started,
    )


def _check_triggered(triggered: Sequence[Row], target: str) -> None:
    """Refuse triggered rows that would count the model's right answers as the attack's success."""
    for row in triggered:
        if row.answer == target:
            raise InputError(
                "a triggered row's true label is the attack's target",
                where=row.where or row.id,
                mend="leave such rows out: they say nothing of the attack",
            )


def clean_versions(triggered: Sequence[Row], clean: Sequence[Row]) -> list[int] | None:
    """Return where the clean versions of triggered rows stand, found by id.

    ``None`` where one has none, or a row of its id has another answer: ids that a file counts anew
    name other rows.
    """
    place = {row.id: at for at, row in enumerate(clean)}
    chosen = [place[row.id] for row in triggered if row.id in place]
    if len(chosen) < len(triggered):
        return None
    alike = all(clean[at].answer == row.answer for at, row in zip(chosen, triggered, strict=True))
    return chosen if alike else None


def _untriggered(
    predictions: Predictions,
    clean: Sequence[Row],
    triggered: Sequence[Row],
    target: int,
    decoding: Decoding,
) -> Share | None:
    """Return the target rate on the clean versions of the triggered rows, ``None`` without them."""
    chosen = clean_versions(triggered, clean)
    if chosen is None:
        return None
    hits = _gives(predictions, target, decoding)[chosen]
    return share(int(hits.sum()), len(chosen))
