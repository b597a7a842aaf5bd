"""Re-poisoning as a stream: each row's fate rests on its own content and the key, on nothing else.

So any split of a data set into shards, in any order, on any number of machines, gives every row
the same bytes. That leaves one way to choose S, by the keyed hash (random selection): a judge
would have to see the whole set. A stream cannot number the copies of one row either, so copies
share an id, and all of them or none enter S.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring as json_string
from typing import NoReturn

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row, row_fingerprint
from mithridate.defense.collisions import SecretHeldError, fold
from mithridate.defense.config import Mode, P2PConfig
from mithridate.defense.remap import remap
from mithridate.defense.repoison import Example, benign_prompt, export_record
from mithridate.defense.secret import PUBLISHED_SAFE_PREFIX, PUBLISHED_TRIGGER, Secret
from mithridate.errors import CollisionError
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.control import without_control_tokens
from mithridate.tasks.prompt import ORIGINAL_PROMPT


@dataclass(frozen=True)
class StreamPlan:
    """All that decides what becomes of a row; the same plan on every machine gives one D*.

    Attributes:
        task: The labels, which must be known before the first row is read.
        benign_ratio: rho, the chance of a row to enter S.
        mode: ``replace`` or ``union``, see `mithridate.defense.repoison.repoison`.
        trigger: delta. Secret.
        prefix: p, drawn along. Secret.
        subset_key: The key of the choice of S. Secret.
        published: Whether the trigger is the paper's, which cannot be drawn again.
    """

    task: ClassificationTask
    benign_ratio: float
    mode: Mode
    trigger: str = field(repr=False)
    prefix: str = field(repr=False)
    subset_key: bytes = field(repr=False)
    published: bool = False


@dataclass
class Tally:
    """What a stream held, counted as it went by; the tallies of shards add up to the whole set's.

    Attributes:
        rows: N.
        written: Rows of D*.
        classes: Rows of each class.
        chosen: Rows of S of each class.
        fingerprint: The sum of `mithridate.data.rows.row_fingerprint`.
    """

    rows: int = 0
    written: int = 0
    classes: dict[int, int] = field(default_factory=dict)
    chosen: dict[int, int] = field(default_factory=dict)
    fingerprint: int = 0

    def add(self, other: "Tally") -> None:
        """Add the tally of another shard."""
        self.rows += other.rows
        self.written += other.written
        self.fingerprint = (self.fingerprint + other.fingerprint) % 2**256
        for mine, theirs in ((self.classes, other.classes), (self.chosen, other.chosen)):
            for label, count in theirs.items():
                mine[label] = mine.get(label, 0) + count


def stream_plan(
    task: ClassificationTask,
    config: P2PConfig,
    secret: Secret,
    trigger_draw: int = 0,
    prefix_draw: int = 0,
) -> StreamPlan:
    """Draw a plan from a secret.

    Args:
        task: The labels.
        config: The settings; the selection counts as random.
        secret: Where every draw comes from.
        trigger_draw: Which draw of the trigger to take; rises when the data held the last one.
        prefix_draw: Which draw of the safe prefix to take.
    """
    published = config.trigger == "published"
    return StreamPlan(
        task,
        config.benign_ratio,
        config.mode,
        PUBLISHED_TRIGGER if published else secret.benign_trigger(trigger_draw),
        PUBLISHED_SAFE_PREFIX if published else secret.safe_prefix(prefix_draw),
        secret.derive("subset"),
        published,
    )


def stream_records(
    rows: Iterable[Row], plan: StreamPlan, tally: Tally | None = None
) -> Iterator[dict[str, str | int | bool]]:
    """Yield D* record by record, as `mithridate.defense.repoison.export_record` makes them.

    Args:
        rows: D or any shard of it.
        plan: What decides the rows' fates.
        tally: Where to add what went by, once all of it has.

    Raises:
        CollisionError: A row holds the trigger or the safe prefix.
        InputError: A row has no label; `UnknownLabelError`: or one that is not the task's.
    """
    benign = benign_prompt(plan.trigger)
    for row, label, chosen in _decide(rows, plan, tally):
        if not chosen or plan.mode == "union":
            yield export_record(Example(row.id, row.text, label, False), plan.task, benign)
        if chosen:
            alternative = remap(label, plan.task.n)
            yield export_record(Example(row.id, row.text, alternative, True), plan.task, benign)


def stream_lines(
    rows: Iterable[Row], plan: StreamPlan, tally: Tally | None = None
) -> Iterator[bytes]:
    """Yield D* as JSON lines, byte for byte those of `stream_records` written as JSONL, but faster.

    Every record is a template of its label and domain, so it is filled in rather than built and
    encoded; JSON escapes characters one by one, so the prompt is the escaped text between escaped
    ends.

    Args:
        rows: As for `stream_records`.
        plan: As for `stream_records`.
        tally: As for `stream_records`.

    Raises:
        CollisionError: A row holds the trigger or the safe prefix.
        InputError: A row has no label; `UnknownLabelError`: or one that is not the task's.
    """
    n = plan.task.n
    original = [_template(plan, label, False) for label in range(n)]
    benign = [_template(plan, remap(label, n), True) for label in range(n)]
    union = plan.mode == "union"
    for row, label, chosen in _decide(rows, plan, tally):
        row_id = json_string(row.id)
        text = json_string(without_control_tokens(row.text))[1:-1]
        if not chosen or union:
            yield original[label](row_id, text)
        if chosen:
            yield benign[label](row_id, text)


def tally_rows(rows: Iterable[Row], plan: StreamPlan) -> Tally:
    """Return the tally of a stream, its rows checked, without making D*.

    Raises:
        CollisionError: As `stream_records`.
        InputError: As `stream_records`.
    """
    tally = Tally()
    for _ in _decide(rows, plan, tally):
        pass
    return tally


def _decide(
    rows: Iterable[Row], plan: StreamPlan, tally: Tally | None
) -> Iterator[tuple[Row, int, bool]]:
    """Yield each row, checked, with its class and whether it enters S; add all up at the end."""
    labels = {name: label for label, name in enumerate(plan.task.labels)}
    refuse_held = _detector(plan)
    for name in plan.task.labels:
        refuse_held(name)
    key, ratio = plan.subset_key, plan.benign_ratio
    classes, chosen_classes = [0] * plan.task.n, [0] * plan.task.n
    fingerprint = 0
    for row in rows:
        label = labels.get(row.answer)  # type: ignore[arg-type]  # None is in no task
        if label is None:
            label = plan.task.class_of(row)  # which says what is wrong with it
        refuse_held(row.text, row)
        chosen = keyed_fraction(key, base_id(row.id)) < ratio
        classes[label] += 1
        chosen_classes[label] += chosen
        fingerprint += row_fingerprint(row)
        yield row, label, chosen
    if tally is not None:
        total, inside = sum(classes), sum(chosen_classes)
        written = total + inside if plan.mode == "union" else total
        tally.add(Tally(total, written, _nonzero(classes), _nonzero(chosen_classes), fingerprint))


def _nonzero(counts: list[int]) -> dict[int, int]:
    return {label: count for label, count in enumerate(counts) if count}


def _detector(plan: StreamPlan) -> Callable[..., None]:
    """Return what raises where a text holds a secret string, quick where it does not."""
    trigger, prefix = fold(plan.trigger), fold(plan.prefix)
    # A text that holds the whole string holds its longest word: one quick search rules most out.
    trigger_word, prefix_word = (max(held.split(), key=len) for held in (trigger, prefix))

    def refuse_held(text: str, row: Row | None = None) -> None:
        text = text.casefold()
        if trigger_word in text and trigger in fold(text):
            _refuse(row, plan, trigger=True)
        if prefix_word in text and prefix in fold(text):
            _refuse(row, plan, trigger=False)

    return refuse_held


def _refuse(row: Row | None, plan: StreamPlan, *, trigger: bool) -> NoReturn:
    name = "benign trigger" if trigger else "safe prefix"
    if plan.published:
        raise CollisionError(
            f"the published {name} already occurs in {'a label' if row is None else 'this row'}",
            where="" if row is None else row.where or row.id,
            mend="use secret strings (--trigger secret), or change the data",
        )
    # Not where: the place of a drawn secret in the data would tell a reader of logs what it is.
    error = SecretHeldError(
        f"a row holds this draw of the {name}", mend="take the next draw, on every machine alike"
    )
    error.trigger = trigger
    raise error


def _template(plan: StreamPlan, label: int, repoisoned: bool) -> Callable[[str, str], bytes]:
    """Return what makes a line of D* of an id and a text, both escaped, the id quoted."""
    prompt = benign_prompt(plan.trigger) if repoisoned else ORIGINAL_PROMPT
    name = plan.task.dataset_label(label)
    prefix, suffix = json_string(prompt.prefix)[1:-1], json_string(prompt.suffix)[1:-1]
    shown = name if isinstance(name, int) else json_string(name)
    between = f'", "label": {shown}, "prompt": "{prefix}'
    tail = (
        f'{suffix}", "completion": {json_string(plan.task.words[label])}, '
        f'"repoisoned": {"true" if repoisoned else "false"}}}\n'
    )

    def fill(row_id: str, text: str) -> bytes:
        return f'{{"id": {row_id}, "input_text": "{prefix}{text}{between}{text}{tail}'.encode()

    return fill
