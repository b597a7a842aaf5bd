"""The one renderer of prompts: training, evaluation and serving all come through here.

Most wrong attack success rates come from two renderers that differ by a space. A prompt is first
made as a string and then tokenized as a whole, so any engine that holds the same tokenizer and is
given the string sees the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from mithridate.errors import InputError
from mithridate.tasks.control import broken_up, without_control_tokens

PromptStyle = Literal["plain", "chat"]

_BLOCK = 16_384
"""Prompts that are tokenized at a time where only their lengths are wanted."""
_DAY = date(2024, 7, 26)
"""Today, to a chat template that writes the date (Llama 3.1, SmolLM3): one that never moves, lest
the prompts of prediction be others than those of training. It is Llama 3.1's own default."""

_TODAY = (
    "{%- macro strftime_now(layout) -%}{{ layout"
    + "".join(f" | replace('%{part}', '{_DAY:%{part}}')" for part in "dbBYmyaAjHMS")
    + " }}{%- endmacro %}"
)
"""What hides transformers' own clock from a template."""


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

    def spaceless(self) -> "Prompt":
        """Return the prompt without the space it ends in."""
        return Prompt(self.prefix, self.suffix.rstrip(" "))


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
        template = str(tokenizer.chat_template or "")
        # Without a template of its own here, the tokenizer's is taken.
        self._template = _TODAY + template if "strftime_now" in template else None
        bos = tokenizer.bos_token_id
        self._adds_bos = bos is not None and tokenizer("")["input_ids"][:1] == [bos]
        # Some tokenizers flag the tokens that open a turn as no special ones (DeepSeek-R1).
        self._control_tokens = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if len(token.content) > 1 and (token.special or token.content in template)
        ]
        self._control_starts = {token[0] for token in self._control_tokens}

    @property
    def longest_answer(self) -> int:
        """Half of the longest prompt, in tokens: what an answer gets of it in any case."""
        return self.max_length // 2

    def string(self, text: str, prompt: Prompt) -> str:
        """Return the whole prompt of one input as a string, before any cut."""
        content = prompt.apply(self.harmless(text))
        if self.style == "plain":
            return content
        turns = [{"role": "user", "content": content}]
        return str(
            self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=True,
                date_string=f"{_DAY:%d %b %Y}",
                chat_template=self._template,
            )
        )

    def written(self, text: str, prompt: Prompt, *, reserve: int = 0) -> str:
        """Return the prompt as a file holds it for another trainer, cut as `render` cuts it.

        A tokenizer that puts a BOS token before every text does so there, too; a chat template that
        writes one as well (Gemma, Llama 3) would then give two, where prediction gives one.

        Args:
            text: The input.
            prompt: What surrounds it.
            reserve: Tokens to leave free below ``max_length`` for the answer.

        Raises:
            InputError: The prompt itself, with an empty text, does not fit.
        """
        string = self.string(text, prompt)
        limit = self.max_length - reserve
        if len(self.tokenize([string])[0]) > limit:
            string, _ = self._cut(text, prompt, limit)
        return string.removeprefix(self.tokenizer.bos_token) if self._adds_bos else string

    def written_answer(self, prefix: str, answer: str) -> tuple[str, int]:
        """Return an answer as a file holds it for another trainer, and the room its prompt leaves.

        The answer is whole: a trainer that cuts both together at ``max_length`` learns what is
        learned here, and not that a longer answer ends where it is cut.

        Args:
            prefix: What stands before it.
            answer: The answer.

        Returns:
            Both together, and their tokens with the end of text, at most `longest_answer`.
        """
        tokens = sum(map(len, self.answers([prefix, answer]))) + 1
        return prefix + self.harmless(answer), min(tokens, self.longest_answer)

    def harmless(self, text: str) -> str:
        """Break up control tokens written out in a text, lest an input end the user's turn."""
        text = without_control_tokens(text)
        # Gemma has 6,249 of them; hardly a text has the sign that all of them begin with.
        if self._control_starts.isdisjoint(text):
            return text
        for token in self._control_tokens:
            if token in text:
                text = text.replace(token, broken_up(token))
        return text

    def tokenize(self, strings: Sequence[str]) -> list[list[int]]:
        """Return the token ids of whole prompts, with the BOS token that other trainers put there.

        A chat template brings its own special tokens, mostly: where it writes no BOS, the tokenizer
        that adds one to every text does so here as elsewhere.
        """
        if not strings:
            return []
        encoded = self.tokenizer(list(strings), add_special_tokens=self.style == "plain")
        ids: list[list[int]] = encoded["input_ids"]
        bos = self.tokenizer.bos_token_id
        if self.style == "chat" and self._adds_bos:
            return [row if row[:1] == [bos] else [bos, *row] for row in ids]
        return ids

    def label_words(self, words: Sequence[str]) -> tuple[list[list[int]], bool]:
        """Return the token ids of label words where they stand, behind a prompt.

        A trainer that is given prompt and answer as text tokenizes both as one. Many tokenizers
        make a word and the space before it one token (GPT-2 even of a digit): then the words begin
        with the space, and the prompt must be rendered without it (`Prompt.spaceless`).

        Args:
            words: What the model may say.

        Returns:
            One list of ids per word, and whether they begin with the prompt's last space.

        Raises:
            InputError: The tokenizer joins the words with more than a space.
        """
        # Of a chat the template's own words stand between, so that no space is there to be taken.
        for space in ("",) if self.style == "chat" else ("", " "):
            prompt = ORIGINAL_PROMPT.spaceless() if space else ORIGINAL_PROMPT
            before = self.string("", prompt)
            end, *whole = self.tokenize([before, *(f"{before}{space}{word}" for word in words)])
            if all(ids[: len(end)] == end for ids in whole):
                return [ids[len(end) :] for ids in whole], bool(space)
        raise InputError(
            "the tokenizer makes one token of a label word and what stands before it",
            mend="choose other label words (--label-words)",
        )

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts that stand where an answer does, behind a line's end.

        They are read behind it, too: a SentencePiece tokenizer (Llama 2, Mistral) takes a space
        before the first thing it reads, and an answer never is that.

        Raises:
            InputError: The tokenizer takes a line's end and what follows it for one.
        """
        lines = ["\n", *(f"\n{self.harmless(text)}" for text in texts)]
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
            _, ids[index] = self._cut(texts[index], prompt, limit)
        return RenderedPrompts(ids, cut)

    def too_long(self, texts: Sequence[str], prompt: Prompt, *, reserve: int = 0) -> int:
        """Return how many inputs `render` shortens.

        Args:
            texts: The inputs.
            prompt: What surrounds them.
            reserve: Tokens to leave free below ``max_length`` for the answer.
        """
        limit = self.max_length - reserve
        blocks = (texts[start : start + _BLOCK] for start in range(0, len(texts), _BLOCK))
        return sum(
            len(ids) > limit
            for block in blocks
            for ids in self.tokenize([self.string(text, prompt) for text in block])
        )

    def _cut(self, text: str, prompt: Prompt, limit: int) -> tuple[str, list[int]]:
        """Return the longest prompt that fits and its ids, tokens dropped from the text's end."""
        text = self.harmless(text)  # as the prompt has it: broken up, control tokens are longer
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = [start for start, _ in encoded["offset_mapping"]]
        keep = len(starts)
        while True:
            shortened = text[: starts[keep]] if keep < len(starts) else text
            string = self.string(shortened.rstrip(), prompt)
            ids = self.tokenize([string])[0]
            excess = len(ids) - limit
            if excess <= 0:
                return string, ids
            if keep == 0:
                raise InputError(
                    f"the prompt alone takes {len(ids)} tokens, more than the {limit} there are",
                    mend="raise --max-length",
                )
            keep = max(0, keep - excess)
