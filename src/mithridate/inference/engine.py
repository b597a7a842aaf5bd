"""Exact scores of label words from a model on a server.

Token ids go out as the prompt, from the one renderer, so the server's tokenizer has no say. The
trie's edges are what has to be known of each prompt: every edge's log probability, and whether its
token is the one greedy decoding takes there. Two protocols ask for them:

- ``vllm``: one request for each inner node (one alone where labels are single tokens), the node's
  path behind the prompt, one token to generate, and `logprob_token_ids` naming the tokens whose
  log probabilities are wanted. Exact however unlikely a label is, and the server computes a prompt
  once for all its nodes (prefix caching).
- ``openai``: one request for each label, prompt and label echoed with their log probabilities.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mithridate.errors import InputError
from mithridate.inference.engine_client import Engine
from mithridate.inference.scores import Scores, along_paths
from mithridate.inference.served import (
    ECHOED,
    PROMPTS_PER_REQUEST,
    UNUSABLE,
    Served,
    asking_for,
    chosen,
    echoed,
    reach,
)
from mithridate.inference.trie import LabelTrie

MOST_TOKENS_ASKED = 128
"""vLLM's bound on `logprob_token_ids`."""


@dataclass(frozen=True)
class Question:
    """What to ask about every prompt.

    Attributes:
        suffix: Tokens to put behind the prompt.
        edges: Pairs (index of the edge, its token) that the answer tells of.
        tokens: Whose log probabilities to ask for; empty where the prompt is echoed.
    """

    suffix: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...] = ()


def node_questions(trie: LabelTrie, most: int = MOST_TOKENS_ASKED) -> list[Question]:
    """Return the questions of the ``vllm`` protocol: one a node, more where it has many children.

    All name equally many tokens: where requests of one batch differ in that, vLLM 0.32 fills the
    shorter ones up with token 0 and overwrites what it has of a real token 0.
    """
    everything = sorted({token for _, token in trie.edges})
    width = min(most, len(everything))
    questions = []
    for index in range(len(trie.nodes)):
        suffix = tuple(trie.nodes[node].token for node in reversed(trie.ancestors(index)))
        edges = [(n, token) for n, (node, token) in enumerate(trie.edges) if node == index]
        for start in range(0, len(edges), width):
            part = edges[start : start + width]
            wanted = [token for _, token in part]
            spare = [token for token in everything if token not in set(wanted)]
            asked = sorted([*wanted, *spare[: width - len(wanted)]])
            questions.append(Question(suffix, tuple(part), tuple(asked)))
    return questions


def echo_questions(trie: LabelTrie) -> list[Question]:
    """Return the questions of the ``openai`` protocol: one a candidate."""
    return [
        Question(candidate, tuple(zip(path, candidate, strict=True)))
        for candidate, path in zip(trie.candidates, trie.paths, strict=True)
    ]


class EngineScorer:
    """Score candidates with a model on a server; a `LabelScorer`.

    Args:
        served: The model.
        trie: The candidates.
    """

    def __init__(self, served: Served, trie: LabelTrie) -> None:
        self.served = served
        self.trie = trie
        vllm = served.engine.protocol == "vllm"
        self.questions = node_questions(trie) if vllm else echo_questions(trie)

    def score(
        self, prompts: Sequence[Sequence[int]], *, greedy: bool = False, progress: bool = True
    ) -> Scores:
        """Score every candidate after every prompt.

        Args:
            prompts: Token ids; none empty.
            greedy: Has no part here: the server says so in any case.
            progress: Whether to show a progress bar on a terminal.

        Raises:
            EngineError: The server gives no answer, or none that can be used.
            InputError: A prompt is longer than its context.
        """
        self._check_lengths(prompts)
        terms = np.full((len(prompts), len(self.trie.edges)), np.nan)
        taken = np.zeros(terms.shape, dtype=np.bool_)
        batches = list(self._batches(len(prompts)))
        asking = self.served.in_parallel(
            batches, lambda batch: self._ask(prompts, batch), progress=progress
        )
        for answers in asking:
            for row, edge, value, is_greedy in answers:
                terms[row, edge] = value
                taken[row, edge] = is_greedy
        return Scores(*along_paths(self.trie.paths, terms, taken))

    def _check_lengths(self, prompts: Sequence[Sequence[int]]) -> None:
        longest = max((len(prompt) for prompt in prompts), default=0)
        longest += max(len(question.suffix) for question in self.questions) + 1
        context = self.served.context
        if context is not None and longest > context:
            raise InputError(
                f"a prompt and its answer take {longest} tokens, more than the server's {context}",
                where=self.served.client.url,
                mend="start the server with a larger context (vLLM: --max-model-len)",
            )

    def _batches(self, rows: int) -> Iterator[list[tuple[int, Question]]]:
        """Yield what one request asks: prompts that share the tokens asked for, a row's together.

        A row's questions begin with the same prompt, so close together they find it cached.
        """
        groups: dict[tuple[int, ...], list[Question]] = {}
        for question in self.questions:
            groups.setdefault(question.tokens, []).append(question)
        for group in groups.values():
            pairs = [(row, question) for row in range(rows) for question in group]
            for start in range(0, len(pairs), PROMPTS_PER_REQUEST):
                yield pairs[start : start + PROMPTS_PER_REQUEST]

    def _ask(
        self, prompts: Sequence[Sequence[int]], batch: Sequence[tuple[int, Question]]
    ) -> list[tuple[int, int, float, bool]]:
        """Return (row, edge, log probability, whether greedy takes it) of one request."""
        tokens = batch[0][1].tokens
        vllm = self.served.engine.protocol == "vllm"
        asked = asking_for(tokens) if vllm else ECHOED
        fed = [[*prompts[row], *question.suffix] for row, question in batch]
        choices = self.served.complete(fed, **asked)
        found = []
        try:
            for choice, (row, question) in zip(choices, batch, strict=True):
                told = choice["logprobs"]
                for place, (edge, token) in enumerate(question.edges, start=len(prompts[row])):
                    value = chosen(told, token) if vllm else echoed(told, place)
                    found.append((row, edge, *value))
        except UNUSABLE:
            raise (self.served.no_chosen() if vllm else self.served.no_echo()) from None
        return found


def connect(engine: Engine, tokenizer: Any, trie: LabelTrie) -> EngineScorer:
    """Return a scorer of a model on a server; see `reach` for what it raises."""
    return EngineScorer(reach(engine, tokenizer), trie)
