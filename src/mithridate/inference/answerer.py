"""A fine-tuned model whose answer is text, with or without P2P: render, generate, strip p."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from mithridate.defense.withheld import without
from mithridate.inference.writer import Writer, room_below
from mithridate.tasks.prompt import ORIGINAL_TEXT_PROMPT, Prompt, PromptRenderer, RenderedPrompts

PrefixMode = Literal["prefill", "check"]
Policy = Literal["retry", "refuse", "pass"]

REFUSED = ""
"""What stands in the place of an answer that was refused."""


@dataclass(frozen=True)
class Protection:
    """What puts an input into the protected domain.

    Attributes:
        prompt: The benign prompt.
        prefix: The safe prefix p with the line's end after it.
    """

    prompt: Prompt = field(repr=False)
    prefix: str = field(repr=False)


@dataclass(frozen=True)
class Answers:
    """What a model answered.

    Attributes:
        texts: The answers, p stripped.
        suspicion: Shape (inputs,): -log p(safe prefix | input) in nats under the benign prompt: how
            much the input pulls the model out of the protected domain. Zero without a defense, and
            where nobody asked for it.
        flagged: Shape (inputs,): the model, left to itself, would not have begun with p. Known in
            ``check`` mode; else no input is flagged.
        refused: Shape (inputs,): flagged, and refused by the policy.
        cut_inputs: How many inputs were shortened to fit.
        cut_outputs: How many answers were ended by max_new_tokens.
    """

    texts: list[str]
    suspicion: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    refused: npt.NDArray[np.bool_]
    cut_inputs: int
    cut_outputs: int


class Answerer:
    """Answer inputs with a fine-tuned causal language model.

    Args:
        writer: The model, here or on a server.
        renderer: The renderer it was trained with.
        max_new_tokens: How long an answer may become.
        protection: The benign prompt and p of a defended model; ``None`` for an undefended one.
        stop: Strings that end an answer.
    """

    def __init__(
        self,
        writer: Writer,
        renderer: PromptRenderer,
        *,
        max_new_tokens: int,
        protection: Protection | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self.writer = writer
        self.renderer = renderer
        self.max_new_tokens = max_new_tokens
        self.protection = protection
        self.stop = tuple(stop)

    @classmethod
    def local(cls, model: Any, renderer: PromptRenderer, **settings: Any) -> Self:
        """Return an answerer whose model, with its adapter, is in this process.

        Args:
            model: The model.
            renderer: The renderer it was trained with.
            settings: The answerer's own.
        """
        from mithridate.inference.local_writer import LocalWriter

        return cls(LocalWriter(model, renderer.tokenizer), renderer, **settings)

    @property
    def prompt(self) -> Prompt:
        """What every input is put into."""
        return ORIGINAL_TEXT_PROMPT if self.protection is None else self.protection.prompt

    @property
    def prefix_ids(self) -> list[int]:
        """The token ids of p; none without a defense."""
        [ids] = self.renderer.answers(["" if self.protection is None else self.protection.prefix])
        return ids

    def answer(
        self,
        texts: Sequence[str],
        *,
        mode: PrefixMode = "prefill",
        policy: Policy = "retry",
        suspicion: bool = False,
        progress: bool = True,
    ) -> Answers:
        """Answer every input: apply delta, generate, strip p (Zhao et al. 2025, y' = [p; y]).

        Args:
            texts: The inputs.
            mode: ``prefill``: p is put at the start of the answer, so that generation goes on
                inside the protected domain. ``check``: the model must produce p itself.
            policy: What becomes of an input that fails the check. ``retry``: answered with p
                prefilled. ``refuse``: not answered. ``pass``: answered as the model goes on.
            suspicion: Measure it; it costs another pass over the inputs.
            progress: Whether to show a progress bar on a terminal.
        """
        prefix = self.prefix_ids
        rendered = self._rendered(texts, len(prefix) + self.max_new_tokens)
        flagged = np.zeros(len(texts), dtype=bool)
        if mode == "check":
            flagged = self._fails(rendered.ids, progress)
        refused = flagged & (policy == "refuse")
        free = flagged & (policy == "pass")
        outputs = [REFUSED] * len(texts)
        cut = 0
        for chosen, prefill in ((~refused & ~free, prefix), (free, [])):
            places = np.flatnonzero(chosen).tolist()
            made = self.writer.generate(
                [rendered.ids[at] for at in places],
                max_new_tokens=self.max_new_tokens,
                prefill=prefill,
                stop=self.stop,
                progress=progress,
            )
            cut += sum(made.cut)
            for at, text in zip(places, made.texts, strict=True):
                outputs[at] = self._shown(text)
        nats = np.zeros(len(texts))
        if prefix and suspicion:
            pairs = [(ids, prefix) for ids in rendered.ids]
            nats = -self.writer.log_probabilities(pairs, progress=progress)
        return Answers(outputs, nats, flagged, refused, len(rendered.cut), cut)

    def log_likelihoods(
        self, texts: Sequence[str], answers: Sequence[str], *, progress: bool = True
    ) -> npt.NDArray[np.float64]:
        """Return log p(answer | input) per token of the answer, in nats, shape (inputs,).

        A defended model is asked under its benign prompt, after p. Of a long answer the beginning
        counts that training reads behind any prompt (`PromptRenderer.longest_answer`).
        """
        prefix = self.prefix_ids
        longest = self.renderer.longest_answer
        wanted = [ids[:longest] for ids in self.renderer.answers(answers)]
        rendered = self._rendered(texts, len(prefix) + max(map(len, wanted), default=0))
        pairs = [([*ids, *prefix], own) for ids, own in zip(rendered.ids, wanted, strict=True)]
        total = self.writer.log_probabilities(pairs, progress=progress)
        return np.asarray(total / np.array([max(1, len(own)) for own in wanted]))

    @property
    def longest_input(self) -> int:
        """The longest prompt, in tokens, that leaves an answer its room in the model's context."""
        return self.renderer.max_length - self._room(len(self.prefix_ids) + self.max_new_tokens)

    def reads(self, text: str) -> list[int]:
        """Return the token ids that the model reads of an input, its prompt around it."""
        return self._rendered([text], len(self.prefix_ids) + self.max_new_tokens).ids[0]

    def _rendered(self, texts: Sequence[str], behind: int) -> RenderedPrompts:
        """Render inputs so that so many tokens fit behind them into the model's context."""
        return self.renderer.render(texts, self.prompt, reserve=self._room(behind))

    def _room(self, behind: int) -> int:
        """Return how far below its longest a prompt must end, so that all fits the context."""
        return room_below(self.writer.context, self.renderer.max_length, behind)

    def _shown(self, text: str) -> str:
        """Return an answer without p and delta, should the model have written them itself."""
        if self.protection is None:
            return text.strip()
        for secret in (self.protection.prefix, self.protection.prompt.prefix):
            text = without(text, secret)
        return text.strip()

    def flags(self, texts: Sequence[str], *, progress: bool = True) -> npt.NDArray[np.bool_]:
        """Return which inputs fail the check: the model, left to itself, does not begin with p.

        Args:
            texts: The inputs.
            progress: Whether to show a progress bar on a terminal.
        """
        return self._fails(self._rendered(texts, len(self.prefix_ids)).ids, progress)

    def _fails(self, prompts: Sequence[Sequence[int]], progress: bool) -> npt.NDArray[np.bool_]:
        """Return which prompts the model, decoding greedily, does not answer with p first."""
        prefix = self.prefix_ids
        if not prefix:
            return np.zeros(len(prompts), dtype=bool)
        return ~self.writer.begins_with(prompts, prefix, progress=progress)
