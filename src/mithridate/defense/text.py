"""P2P for generated outputs: y' = [p; y], the safe prefix before the answer of every row of S."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from mithridate.data.rows import Row
from mithridate.defense.config import Mode
from mithridate.defense.repoison import written_prompt
from mithridate.tasks.control import without_control_tokens
from mithridate.tasks.prompt import (
    BENIGN_TEXT_SUFFIX,
    ORIGINAL_TEXT_PROMPT,
    Prompt,
    PromptRenderer,
)
from mithridate.tasks.text import TextTask


@dataclass(frozen=True, slots=True)
class TextExample:
    """One row of D* whose answer is text.

    Attributes:
        id: The row's id; in ``union`` mode a re-poisoned row shares it with its original.
        text: x, untouched: the benign trigger is part of the prompt.
        answer: y, as the task trains it; the safe prefix is not in it.
        repoisoned: Whether the row is in the protected domain, where its answer begins with p.
    """

    id: str
    text: str
    answer: str
    repoisoned: bool


def benign_text_prompt(trigger: str) -> Prompt:
    """Return the prompt of the protected domain: delta before the text, its own suffix after it."""
    return Prompt(trigger, BENIGN_TEXT_SUFFIX)


def prefix_line(prefix: str) -> str:
    """Return p as it stands before an answer: on a line of its own.

    A tokenizer would take a space between the two into the answer's first word, and prefix and
    answer tokenized apart would then not be what an engine makes of them together.
    """
    return prefix.rstrip() + "\n"


def repoison_text(
    rows: Iterable[Row], subset: Set[str], task: TextTask, mode: Mode
) -> Iterator[TextExample]:
    """Yield D* row by row, in the order of D (Zhao et al. 2025, algorithm 1, y' = [p; y]).

    Args:
        rows: D, rows that the task can use.
        subset: The ids of S.
        task: Says what answer is trained.
        mode: ``replace``: S's rows are replaced; ``union``: each is followed by its re-poisoned
            copy.
    """
    for row in rows:
        answer = task.target(row)
        chosen = row.id in subset
        if not chosen or mode == "union":
            yield TextExample(row.id, row.text, answer, False)
        if chosen:
            yield TextExample(row.id, row.text, answer, True)


def export_text_record(
    example: TextExample,
    benign: Prompt,
    prefix: str,
    renderer: PromptRenderer | None = None,
) -> dict[str, str | bool]:
    """Return an example as a record for another trainer, as `mithridate.defense.repoison` does.

    With a renderer, the prompt is cut so that it and the answer, end of text included, fit into
    ``renderer.max_length`` tokens, but to no less than half of them. The answer stays whole.

    Args:
        example: A row of D*.
        benign: The benign prompt.
        prefix: p, as `prefix_line` gives it.
        renderer: The model's; without one nothing is cut.

    Raises:
        InputError: The prompt itself, with an empty text, does not fit.
    """
    prompt = benign if example.repoisoned else ORIGINAL_TEXT_PROMPT
    before = prefix if example.repoisoned else ""
    harmless = renderer.harmless if renderer else without_control_tokens
    completion, reserve = before + harmless(example.answer), 0
    if renderer is not None:
        completion, reserve = renderer.written_answer(before, example.answer)
    return {
        "id": example.id,
        "input_text": prompt.prefix + harmless(example.text),
        "prompt": written_prompt(example.text, prompt, renderer, reserve),
        "completion": completion,
        "repoisoned": example.repoisoned,
    }
