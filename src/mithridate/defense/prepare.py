"""From D to D*: draw the secrets, judge the rows, choose S, re-poison."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mithridate.data.rows import Row
from mithridate.defense.collisions import draw_prefix, draw_trigger
from mithridate.defense.config import P2PConfig
from mithridate.defense.counter import counter_examples
from mithridate.defense.disputes import judge_rows, mostly
from mithridate.defense.inserted import inserted_triggers
from mithridate.defense.mining import MinedTrigger
from mithridate.defense.repoison import Example, benign_prompt, repoison
from mithridate.defense.secret import Secret
from mithridate.defense.select import (
    Subset,
    check_every_class,
    select_judged,
    select_random,
)
from mithridate.defense.trigger import Trigger
from mithridate.errors import InputError
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import Prompt

FeatureExtractor = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Maps texts to hidden states of the frozen base model, shape (rows, views, dimensions)."""


@dataclass(frozen=True)
class Findings:
    """What is known of D beside its rows, as an audit finds it.

    Attributes:
        excluded: Ids of rows to keep out of S.
        triggers: What to put into counter-trigger copies, whatever the judge finds by itself.
    """

    excluded: frozenset[str] = frozenset()
    triggers: tuple[Trigger, ...] = ()


NOTHING_FOUND = Findings()


@dataclass(frozen=True)
class Prepared:
    """A data set made ready for training.

    Attributes:
        examples: D*, the counter-trigger copies last.
        benign: The benign prompt.
        safe_prefix: p, drawn along with the trigger.
        subset: S.
        mined: What was put in, and what marked the rows the judge disagrees with: n-grams, fronts,
            ends, characters.
        counter_copies: How many of ``examples`` are copies with counter-triggers.
        dropped: Rows of D that are not in D*.
        doubtful: Classes of which the judge disputes more than half: too small or too hard to
            judge, or made up by an attacker.
        redrawn: Secrets that were drawn again because the data held them.
    """

    examples: list[Example]
    benign: Prompt = field(repr=False)
    safe_prefix: str = field(repr=False)
    subset: Subset
    mined: list[MinedTrigger]
    counter_copies: int
    dropped: int
    doubtful: tuple[int, ...]
    redrawn: int


@dataclass(frozen=True)
class Choice:
    """What the judge decided: all of D* that is not drawn from the secret alone.

    Attributes:
        subset: S.
        mined: What was put in, and the n-grams that marked the rows the judge disagrees with.
        dropped: Ids of rows to leave out of D*.
        doubtful: Classes of which the judge disputes more than half.
    """

    subset: Subset
    mined: list[MinedTrigger] = field(default_factory=list)
    dropped: frozenset[str] = frozenset()
    doubtful: tuple[int, ...] = ()


def needs_features(config: P2PConfig) -> bool:
    """Whether the selection looks at the rows through the frozen base model."""
    return config.selection in ("agreement", "anchored")


def prepare(
    rows: Sequence[Row],
    task: ClassificationTask,
    config: P2PConfig,
    secret: Secret,
    *,
    features: FeatureExtractor | None = None,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    findings: Findings = NOTHING_FOUND,
) -> Prepared:
    """Re-poison a data set (Zhao et al. 2025, algorithm 1).

    Args:
        rows: D, ids distinct.
        task: Its labels.
        config: The settings.
        secret: Where every draw comes from.
        features: Reads texts with the frozen base model; needed by ``agreement`` and
            ``anchored``.
        trusted: Ids of rows a person checked; needed by ``anchored``.
        clean_ids: Ids of rows known to hold no poison; ``oracle`` selection, benchmarks only.
        findings: Rows to keep out of S, and triggers to counter.

    Raises:
        CollisionError: The published trigger occurs in the data.
        InputError: Too few rows, unknown ids, a row both trusted and excluded, or a selection lacks
            what it needs.
    """
    if config.trigger == "published":  # refused before the model reads a row
        draw_trigger(list(rows), secret, published=True)
    choice = choose(
        rows,
        task,
        config,
        secret,
        features=features,
        trusted=trusted,
        clean_ids=clean_ids,
        findings=findings,
    )
    return carry_out(choice, rows, task, config, secret, findings.triggers)


def choose(
    rows: Sequence[Row],
    task: ClassificationTask,
    config: P2PConfig,
    secret: Secret,
    *,
    features: FeatureExtractor | None = None,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    findings: Findings = NOTHING_FOUND,
) -> Choice:
    """Judge the rows and choose S; see `prepare` for arguments and errors."""
    ids = [row.id for row in rows]
    classes = task.classes(rows)
    check_excluded(ids, findings.excluded, trusted)
    mined: list[MinedTrigger] = []
    dropped: frozenset[str] = frozenset()
    doubtful: tuple[int, ...] = ()
    if needs_features(config):
        texts = [row.text for row in rows]
        states, judged_by = _before_judging(texts, ids, classes, task, config, features, trusted)
        inserted: list[MinedTrigger] = []
        if config.inserted_triggers:
            key = secret.derive("inserted")
            inserted = inserted_triggers(texts, classes, states, task.n, ids, key)
        key = secret.derive("folds")
        found = judge_rows(
            ids, texts, classes, states, task.n, key, inserted=inserted, trusted=judged_by
        )
        mined = found.mined
        outside = frozenset(ids[at] for at in np.flatnonzero(found.marked))
        subset = select_judged(
            ids,
            classes,
            found.probabilities,
            config.benign_ratio,
            selection=config.selection,
            trusted=judged_by,
            excluded=findings.excluded | outside,
            resemblance=found.resemblance,
            draw_from=config.draw_from,
            key=secret.derive("subset"),
        )
        out = found.suspects(texts, classes, config.drop)
        out[judged_by] = False
        dropped = frozenset(ids[at] for at in np.flatnonzero(out)) - subset.ids
        doubtful = mostly(classes, ~found.agrees)
    elif config.selection == "oracle":
        known = None if clean_ids is None else clean_ids - findings.excluded
        subset = choose_oracle(ids, config, secret, known)
    else:
        key = secret.derive("subset")
        subset = select_random(ids, config.benign_ratio, key, excluded=findings.excluded)
    inside = {label for row_id, label in zip(ids, classes, strict=True) if row_id in subset.ids}
    check_every_class(set(classes), inside, len(subset.ids), task)
    return Choice(subset, mined, dropped, doubtful)


def carry_out(
    choice: Choice,
    rows: Sequence[Row],
    task: ClassificationTask,
    config: P2PConfig,
    secret: Secret,
    given: Sequence[Trigger] = (),
) -> Prepared:
    """Draw the secrets and make D* of a choice: the same D* wherever the choice was made.

    Raises:
        CollisionError: The published trigger occurs in the data.
    """
    published = config.trigger == "published"
    trigger, redrawn = draw_trigger(list(rows), secret, published=published)
    prefix, redrawn_prefix = draw_prefix(list(rows), secret, published=published)
    kept = [row for row in rows if row.id not in choice.dropped]
    examples = list(repoison(kept, choice.subset.ids, task, config.mode))
    mined = [found.trigger for found in choice.mined] if config.counter_triggers else []
    copies = counter_examples(
        [example for example in examples if example.repoisoned],
        # A trigger that was given and is mined as well counts once.
        list(dict.fromkeys([*given, *mined])),
        secret.derive("counter-triggers"),
    )
    return Prepared(
        [*examples, *copies],
        benign_prompt(trigger),
        prefix,
        choice.subset,
        choice.mined,
        len(copies),
        len(choice.dropped),
        choice.doubtful,
        redrawn + redrawn_prefix,
    )


def check_excluded(ids: Sequence[str], excluded: Set[str], trusted: Set[str]) -> None:
    """Refuse exclusions that name no row of D, or a row that is trusted.

    Raises:
        InputError: They do.
    """
    unknown = sorted(excluded - set(ids)) if excluded else []
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(
            f"the excluded row {unknown[0]!r}{more} is not in the data set",
            mend="use the ids of the data set's own rows",
        )
    both = sorted(excluded & trusted)
    if both:
        more = f" and {len(both) - 1} more are" if len(both) > 1 else " is"
        raise InputError(
            f"the row {both[0]!r}{more} both trusted and to be kept out of the benign subset",
            mend="take it out of one of the two files",
        )


def _before_judging(
    texts: Sequence[str],
    ids: list[str],
    classes: list[int],
    task: ClassificationTask,
    config: P2PConfig,
    features: FeatureExtractor | None,
    trusted: Set[str],
) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Return what the base model makes of the rows, and the places of those to judge by."""
    if features is None:
        raise InputError(
            f"{config.selection} selection reads the rows with a model", mend="name one (--model)"
        )
    anchored = config.selection == "anchored"
    places = _trusted_places(ids, classes, task, trusted) if anchored else []
    return features(texts), places


def _trusted_places(
    ids: list[str], classes: list[int], task: ClassificationTask, trusted: Set[str]
) -> list[int]:
    """Return where the trusted rows stand in D."""
    if not trusted:
        raise InputError(
            "anchored selection needs rows that a person checked",
            mend="name them with --trusted, about a hundred of all classes",
        )
    unknown = sorted(trusted - set(ids))
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(
            f"the trusted row {unknown[0]!r}{more} is not in the data set",
            mend="use the ids of the data set's own rows",
        )
    places = [index for index, row_id in enumerate(ids) if row_id in trusted]
    missing = sorted(set(classes) - {classes[index] for index in places})
    if missing:
        raise InputError(
            f"no trusted row has the label {task.labels[missing[0]]!r}",
            mend="check some rows of every class",
        )
    return places


def choose_oracle(
    ids: list[str], config: P2PConfig, secret: Secret, clean_ids: Set[str] | None
) -> Subset:
    """Choose S at random among rows known to be clean, as the published code does."""
    if clean_ids is None:
        raise InputError(
            "oracle selection needs to be told which rows are clean",
            mend="it exists for benchmarks; use anchored or agreement",
        )
    clean = [row_id for row_id in ids if row_id in clean_ids]
    if not clean:
        raise InputError("no row of the data set is known to be clean", mend="check the ids")
    wanted = round(config.benign_ratio * len(ids))
    drawn = select_random(clean, min(1.0, wanted / len(clean)), secret.derive("subset"))
    return Subset(drawn.ids, "oracle", wanted)
