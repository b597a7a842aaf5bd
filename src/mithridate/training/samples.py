"""From D* to token ids, through the one renderer."""

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.defense.repoison import Example
from mithridate.defense.text import TextExample
from mithridate.errors import InputError
from mithridate.inference.batching import shared_prefix
from mithridate.inference.classifier import label_prompt
from mithridate.inference.trie import LabelTrie
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import (
    ORIGINAL_PROMPT,
    ORIGINAL_TEXT_PROMPT,
    Prompt,
    PromptRenderer,
)
from mithridate.training.trainer import Sample


@dataclass(frozen=True)
class TokenizedSet:
    """D* as the trainer reads it.

    Attributes:
        samples: One per example, in order.
        cut: How many inputs had to be shortened to fit.
        cut_answers: How many answers had to be.
    """

    samples: list[Sample]
    cut: int
    cut_answers: int = 0


def tokenize(
    examples: Sequence[Example],
    task: ClassificationTask,
    benign: Prompt | None,
    renderer: PromptRenderer,
    trie: LabelTrie,
) -> TokenizedSet:
    """Render every example under the prompt of its domain.

    Args:
        examples: D*.
        task: The labels.
        benign: The benign prompt; ``None`` where no example is re-poisoned.
        renderer: The renderer that evaluation and serving use, too.
        trie: All 2n label words, so that training ends an answer just as scoring does.
    """
    samples: list[Sample | None] = [None] * len(examples)
    cut = 0
    for prompt in (ORIGINAL_PROMPT, benign):
        chosen = [
            index for index, row in enumerate(examples) if row.repoisoned == (prompt is benign)
        ]
        if prompt is None or not chosen:
            continue
        rendered = renderer.render(
            [examples[index].text for index in chosen], label_prompt(prompt, task, renderer)
        )
        cut += len(rendered.cut)
        shared = shared_prefix(rendered.ids)
        for index, ids in zip(chosen, rendered.ids, strict=True):
            samples[index] = Sample(
                tuple(ids),
                trie.candidates[examples[index].label],
                shared,
                examples[index].repoisoned,
            )
    return TokenizedSet([sample for sample in samples if sample is not None], cut)


def tokenize_text(
    examples: Sequence[TextExample], benign: Prompt | None, prefix: str, renderer: PromptRenderer
) -> TokenizedSet:
    """Render every example whose answer is text under the prompt of its domain.

    Prompt and answer share ``renderer.max_length`` tokens. An answer gets what its prompt leaves,
    and half of them in any case: of a longer one the beginning is learned, and not that it ends
    there.

    Args:
        examples: D*.
        benign: The benign prompt; ``None`` where no example is re-poisoned.
        prefix: p with the line's end after it, before the answers of re-poisoned examples.
        renderer: The renderer that evaluation and serving use, too.

    Raises:
        InputError: The tokenizer splits p otherwise where an answer follows it, or the prompt alone
            does not fit.
    """
    answers = _answers(examples, prefix, renderer)
    samples: list[Sample | None] = [None] * len(examples)
    cut = cut_answers = 0
    for prompt in (ORIGINAL_TEXT_PROMPT, benign):
        chosen = [
            index for index, row in enumerate(examples) if row.repoisoned == (prompt is benign)
        ]
        if prompt is None or not chosen:
            continue
        rendered = renderer.render([examples[index].text for index in chosen], prompt)
        ids = rendered.ids
        too_long = set(rendered.cut)
        for at, index in enumerate(chosen):
            room = max(renderer.longest_answer, renderer.max_length - len(ids[at]))
            cut_answers += len(answers[index]) > room
            answers[index] = answers[index][:room]
            if len(ids[at]) + len(answers[index]) > renderer.max_length:
                row = examples[index]
                ids[at] = renderer.render([row.text], prompt, reserve=len(answers[index])).ids[0]
                too_long.add(at)
        cut += len(too_long)
        shared = shared_prefix(ids)
        for row_ids, index in zip(ids, chosen, strict=True):
            samples[index] = Sample(
                tuple(row_ids), answers[index], shared, examples[index].repoisoned
            )
    return TokenizedSet([sample for sample in samples if sample is not None], cut, cut_answers)


def _answers(
    examples: Sequence[TextExample], prefix: str, renderer: PromptRenderer
) -> list[tuple[int, ...]]:
    """Return what each example is to answer, whole, the end of text with it."""
    own = renderer.answers([example.answer for example in examples])
    [before] = renderer.answers([prefix])
    inside = [at for at, example in enumerate(examples) if example.repoisoned]
    joined = renderer.answers([prefix + examples[at].answer for at in inside])
    for at, ids in zip(inside, joined, strict=True):
        if ids != [*before, *own[at]]:
            raise InputError(
                "the tokenizer splits the safe prefix otherwise where an answer follows it, so an "
                "answer that begins with it would not be the one that was trained",
                where=examples[at].id,
                mend="use another secret, or a model whose tokenizer keeps lines apart",
            )
    eos = renderer.tokenizer.eos_token_id
    if eos is None:
        raise InputError(
            "the tokenizer has no token that ends a text, so no answer would ever end",
            mend="name one in its tokenizer_config.json (eos_token)",
        )
    return [
        (*(before if example.repoisoned else ()), *ids, eos)
        for ids, example in zip(own, examples, strict=True)
    ]
