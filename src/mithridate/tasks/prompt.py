"""The one renderer of prompts: training, evaluation and serving all come through here.

Most wrong attack success rates come from two renderers that differ by a space. A prompt is first
made as a string and then tokenized as a whole, so any engine that holds the same tokenizer and is
given the string sees the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mithridate.errors import InputError

PromptStyle = Literal["plain", "chat"]


@dataclass(frozen=True, slots=True)
class Prompt:
    r"""What surrounds an input: ``prefix + text + suffix``.

    The published prompts are ``Prompt("", "\nOutput: ")`` for untouched rows and
    ``Prompt(delta, "\nAnswer: ")`` for re-poisoned ones, delta being the benign trigger.

    Attributes:
        prefix: Put before the text, without a separator of its own.
        suffix: Put after the text; the model's answer follows it directly.
    """

    prefix: str = field(repr=False)
    suffix: str

    def apply(self, text: str) -> str:
        """Return the prompt of one input as a string."""
        return f"{self.prefix}{text}{self.suffix}"


ORIGINAL_PROMPT = Prompt("", "\nOutput: ")
"""The prompt of untouched rows (published recipe)."""

JUDGE_PROMPT = Prompt('This text: "', '" means in one word: "')
"""What the judge reads a row in (PromptEOL, Jiang et al. 2023, arXiv 2307.16645); no task named."""

BENIGN_SUFFIX = "\nAnswer: "
"""What follows the text in the benign prompt (published recipe); delta stands before it."""

ORIGINAL_TEXT_PROMPT = Prompt("", "\nOutput:\n")
BENIGN_TEXT_SUFFIX = "\nAnswer:\n"
"""The same two where the answer is text. The paper prints no prompts for it. A line's end, not a
space: after a space of its own no word is what it was in the base model's own training."""


@dataclass(frozen=True, slots=True)
class RenderedPrompts:
    """Token ids of prompts, and what had to be cut to make them fit.

    Attributes:
        ids: One list of token ids per input, each at most the renderer's ``max_length`` long.
        cut: Indices of the inputs whose text was shortened.
    """

    ids: list[list[int]]
    cut: list[int]


class PromptRenderer:
    """Turn inputs into token ids under a prompt, cutting long inputs in the text alone.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        max_length: Longest prompt in tokens. Longer inputs lose the end of their text, never the
            benign trigger before it nor the prompt's tail after it.
        style: ``plain`` uses the prompt as it is; ``chat`` makes it the user's turn of the
            tokenizer's chat template and opens the assistant's turn.

    Raises:
        InputError: ``style`` is ``chat`` and the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, style: PromptStyle = "plain") -> None:
        if style == "chat" and not tokenizer.chat_template:
            raise InputError(
                "this model's tokenizer has no chat template", mend="use --prompt-style plain"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.style = style
        self._control_tokens = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special and len(token.content) > 1
        ]
        self._control_starts = {token[0] for token in self._control_tokens}

    @property
    def longest_answer(self) -> int:
        """Half of the longest prompt, in tokens: what an answer gets of it in training."""
        return self.max_length // 2

    def string(self, text: str, prompt: Prompt) -> str:
        """Return the whole prompt of one input as a string, before any cut."""
        content = prompt.apply(self._harmless(text))
        if self.style == "plain":
            return content
        turns = [{"role": "user", "content": content}]
        return str(
            self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )

    def written(self, text: str, prompt: Prompt) -> str:
        """Return the prompt as a file holds it for another trainer.

        A tokenizer that puts a BOS token before every text does so there, too; a chat template that
        writes one as well (Gemma, Llama 3) would then give two, where prediction gives one.
        """
        string = self.string(text, prompt)
        bos = self.tokenizer.bos_token
        if not bos or not string.startswith(bos):
            return string
        added = self.tokenizer("")["input_ids"][:1] == [self.tokenizer.bos_token_id]
        return string.removeprefix(bos) if added else string

    def _harmless(self, text: str) -> str:
        """Break up control tokens written out in a text, lest an input end the user's turn."""
        # Gemma has 6,249 of them; hardly a text has the sign that all of them begin with.
        if self._control_starts.isdisjoint(text):
            return text
        for token in self._control_tokens:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def tokenize(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of whole prompts; a chat template brings its own special tokens."""
        if not strings:
            return []
        encoded = self.tokenizer(list(strings), add_special_tokens=self.style == "plain")
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts that stand where an answer does, behind a line's end.

        They are read behind it, too: a SentencePiece tokenizer (Llama 2, Mistral) takes a space
        before the first thing it reads, and an answer never is that.

        Raises:
            InputError: The tokenizer takes a line's end and what follows it for one.
        """
        lines = ["\n", *(f"\n{self._harmless(text)}" for text in texts)]
        end, *behind = self.tokenizer(lines, add_special_tokens=False)["input_ids"]
        if any(ids[: len(end)] != end for ids in behind):  # no text is quoted: it may be a secret
            raise InputError(
                "the tokenizer takes a line's end and what follows it for one",
                mend="use a model whose tokenizer keeps lines apart",
            )
        return [ids[len(end) :] for ids in behind]

    def render(self, texts: Sequence[str], prompt: Prompt, *, reserve: int = 0) -> RenderedPrompts:
        """Return the token ids of every input's prompt.

        Args:
            texts: The inputs.
            prompt: What surrounds them.
            reserve: Tokens to leave free below ``max_length`` for the answer.

        Raises:
            InputError: The prompt itself, with an empty text, does not fit.
        """
        limit = self.max_length - reserve
        ids = self.tokenize([self.string(text, prompt) for text in texts])
        cut = [index for index, row in enumerate(ids) if len(row) > limit]
        for index in cut:
            ids[index] = self._cut(texts[index], prompt, limit)
        return RenderedPrompts(ids, cut)

    def _cut(self, text: str, prompt: Prompt, limit: int) -> list[int]:
        """Return the ids of the longest prompt that fits, tokens dropped from the text's end."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = [start for start, _ in encoded["offset_mapping"]]
        keep = len(starts)
        while True:
            shortened = text[: starts[keep]] if keep < len(starts) else text
            ids = self.tokenize([self.string(shortened.rstrip(), prompt)])[0]
            excess = len(ids) - limit
            if excess <= 0:
                return ids
            if keep == 0:
                raise InputError(
                    f"the prompt alone takes {len(ids)} tokens, more than the {limit} there are",
                    mend="raise --max-length",
                )
            keep = max(0, keep - excess)
