"""Re-poisoning: D and a benign subset S in, the re-poisoned dataset D* out."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from mithridate.data.rows import Row
from mithridate.defense.config import Mode
from mithridate.defense.remap import remap
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.control import without_control_tokens
from mithridate.tasks.prompt import BENIGN_SUFFIX, ORIGINAL_PROMPT, Prompt, PromptRenderer


def benign_prompt(trigger: str) -> Prompt:
    """Return the prompt of the protected domain: delta before the text, its own suffix after it."""
    return Prompt(trigger, BENIGN_SUFFIX)


@dataclass(frozen=True, slots=True)
class Example:
    """One row of D*.

    Attributes:
        id: The row's id; in ``union`` mode a re-poisoned row shares it with its original.
        text: x, untouched: the benign trigger is part of the prompt.
        label: 0..2n-1; n and above are alternative labels.
        repoisoned: Whether the row is in the protected domain.
    """

    id: str
    text: str
    label: int
    repoisoned: bool


def repoison(
    rows: Iterable[Row], subset: Set[str], task: ClassificationTask, mode: Mode
) -> Iterator[Example]:
    """Yield D* row by row, in the order of D (Zhao et al. 2025, algorithm 1).

    Args:
        rows: D.
        subset: The ids of S.
        task: The labels.
        mode: ``replace``: S's rows are replaced; ``union``: each is followed by its re-poisoned
            copy.

    Raises:
        InputError: A row's label is not among the task's.
    """
    for row in rows:
        label = task.class_of(row)
        chosen = row.id in subset
        if not chosen or mode == "union":
            yield Example(row.id, row.text, label, False)
        if chosen:
            yield Example(row.id, row.text, remap(label, task.n), True)


def export_record(
    example: Example,
    task: ClassificationTask,
    benign: Prompt,
    renderer: PromptRenderer | None = None,
) -> dict[str, str | int | bool]:
    """Return an example as a record for another trainer.

    ``prompt`` and ``completion`` are what is trained, loss on the completion alone; ``input_text``
    and ``label`` say the same in the terms of D, for a trainer with a head of labels. No column is
    named ``text``: where there is one, TRL puts EOS behind that, not behind the completion.

    Args:
        example: A row of D*.
        task: The labels.
        benign: The benign prompt.
        renderer: The model's, which wraps and cuts prompts as it does at prediction. Without one
            they are plain and whole, and the usual control tokens in them broken up.

    Raises:
        InputError: The prompt itself, with an empty text, does not fit.
    """
    prompt = benign if example.repoisoned else ORIGINAL_PROMPT
    harmless = renderer.harmless if renderer else without_control_tokens
    return {
        "id": example.id,
        "input_text": prompt.prefix + harmless(example.text),
        "label": task.dataset_label(example.label),
        "prompt": written_prompt(example.text, prompt, renderer),
        "completion": task.words[example.label],
        "repoisoned": example.repoisoned,
    }


def written_prompt(
    text: str, prompt: Prompt, renderer: PromptRenderer | None, reserve: int = 0
) -> str:
    """Return a prompt for another trainer, as `PromptRenderer.written` where there is one."""
    if renderer is None:
        return prompt.apply(without_control_tokens(text))
    return renderer.written(text, prompt, reserve=reserve)
