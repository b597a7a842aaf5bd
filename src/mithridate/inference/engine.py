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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mithridate.errors import EngineError, InputError
from mithridate.inference.engine_client import Engine, EngineClient
from mithridate.inference.scores import Scores, along_paths
from mithridate.inference.trie import LabelTrie

PROMPTS_PER_REQUEST = 16
MOST_TOKENS_ASKED = 128
"""vLLM's bound on `logprob_token_ids`."""
_NO_VALUE = -9999.0
"""What vLLM writes where it has no log probability."""
_ROUNDING = 1e-3
"""A log probability is not above it; what is, are logits (vLLM: --logprobs-mode raw_logits)."""
_GREEDY = {"repetition_penalty": 1.0, "ignore_eos": True}
"""Said to vLLM, which else takes a penalty from a model's generation_config.json, and by which the
token it generates would not be the likeliest."""
_PROBE = "Tokenizers differ: 0123456789, naïve, 東京, tab\t, \n  „quotes“ and <tags>.\nOutput: "


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
        client: The server.
        engine: How to ask it.
        model: The model's name there.
        trie: The candidates.
        context: The longest sequence the server takes; ``None`` where it does not say.
    """

    def __init__(
        self,
        client: EngineClient,
        engine: Engine,
        model: str,
        trie: LabelTrie,
        context: int | None = None,
    ) -> None:
        self.client = client
        self.engine = engine
        self.model = model
        self.trie = trie
        self.context = context
        vllm = engine.protocol == "vllm"
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
        bar = tqdm(
            total=len(batches), desc="Asking", unit="request", disable=None if progress else True
        )
        pool = ThreadPoolExecutor(max_workers=self.engine.concurrency)
        try:
            with bar:
                for answers in pool.map(lambda batch: self._ask(prompts, batch), batches):
                    for row, edge, value, is_greedy in answers:
                        terms[row, edge] = value
                        taken[row, edge] = is_greedy
                    bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return Scores(*along_paths(self.trie.paths, terms, taken))

    def _check_lengths(self, prompts: Sequence[Sequence[int]]) -> None:
        longest = max((len(prompt) for prompt in prompts), default=0)
        longest += max(len(question.suffix) for question in self.questions) + 1
        if self.context is not None and longest > self.context:
            raise InputError(
                f"a prompt and its answer take {longest} tokens, more than the server's "
                f"{self.context}",
                where=self.client.url,
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
        asked: dict[str, Any] = {"logprobs": 1, "echo": not tokens}
        if tokens:
            asked |= {"logprob_token_ids": tokens, "return_tokens_as_token_ids": True, **_GREEDY}
        read = _read_chosen if tokens else _read_echoed
        answer = self.client.post(
            "/completions",
            {
                "model": self.model,
                "prompt": [[*prompts[row], *question.suffix] for row, question in batch],
                "max_tokens": 1,
                "temperature": 0,
                **asked,
            },
        )
        found = []
        try:
            choices = {choice["index"]: choice["logprobs"] for choice in answer["choices"]}
            for place, (row, question) in enumerate(batch):
                for edge, value, greedy in read(choices[place], question, len(prompts[row])):
                    if not _NO_VALUE < value < _ROUNDING:
                        raise ValueError
                    found.append((row, edge, value, greedy))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self._unusable() from None
        return found

    def _unusable(self) -> EngineError:
        """Return the error for an answer that lacks what was asked for."""
        if self.engine.protocol == "vllm":
            return EngineError(
                "the server gives no log probabilities for chosen tokens (logprob_token_ids)",
                where=self.client.url,
                mend="use a newer vLLM, or try --engine openai",
            )
        return EngineError(
            "the server does not echo a prompt's log probabilities",
            where=self.client.url,
            mend="use one that does, such as vLLM, or score here with --engine local",
        )


def _read_chosen(
    logprobs: dict[str, Any], question: Question, _length: int
) -> Iterator[tuple[int, float, bool]]:
    """Yield edges, their log probabilities and whether greedy takes them, of a generated token."""
    generated = logprobs["tokens"][0]
    given = logprobs["top_logprobs"][0]
    for edge, token in question.edges:
        name = f"token_id:{token}"
        yield edge, float(given[name]), generated == name


def _read_echoed(
    logprobs: dict[str, Any], question: Question, length: int
) -> Iterator[tuple[int, float, bool]]:
    """Yield the same of a candidate's tokens behind an echoed prompt of ``length`` tokens."""
    for place, (edge, _token) in enumerate(question.edges, start=length):
        value = float(logprobs["token_logprobs"][place])
        best = max(logprobs["top_logprobs"][place].values())
        yield edge, value, value >= best


def connect(engine: Engine, tokenizer: Any, trie: LabelTrie) -> EngineScorer:
    """Reach a server and check that it serves the model asked for, in this tokenizer's tokens.

    Raises:
        EngineError: It cannot be reached or is no OpenAI-compatible server.
        InputError: It serves no such model, or one with another tokenizer.
    """
    client = EngineClient(engine)
    cards = _cards(client)
    model = _choose(engine.model, list(cards), client.url)
    _check_tokenizer(client, model, tokenizer)
    # vLLM says it of the base model alone, not of its adapters.
    lengths = [card.get("max_model_len") for card in (cards[model], *cards.values())]
    context = next((length for length in lengths if isinstance(length, int)), None)
    return EngineScorer(client, engine, model, trie, context)


def _cards(client: EngineClient) -> dict[str, dict[str, Any]]:
    """Return what the server says of each model it serves."""
    try:
        return {card["id"]: card for card in client.get("/models")["data"]}
    except (LookupError, TypeError):
        raise EngineError(
            "the server does not list its models",
            where=client.url,
            mend="give the URL of an OpenAI-compatible API; it usually ends in /v1",
        ) from None


def _choose(name: str | None, served: list[str], url: str) -> str:
    """Return the model to ask for."""
    listed = ", ".join(served[:10]) or "none"
    if name is None and len(served) == 1:
        return served[0]
    if name is None:
        what, mend = "the server serves several models", f"name one with --engine-model: {listed}"
        raise InputError(what, where=url, mend=mend)
    if name not in served:
        nearest = get_close_matches(name, served, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        what = f"the server serves no model {name!r}"
        raise InputError(what, where=url, mend=f"{hint}it serves: {listed}")
    return name


def _check_tokenizer(client: EngineClient, model: str, tokenizer: Any) -> None:
    """Compare how both sides tokenize a fixed text that holds no secret.

    Servers that do not return token ids are asked for their number alone.
    """
    body = {"model": model, "prompt": _PROBE, "max_tokens": 1, "temperature": 0}
    answer = client.post("/completions", {**body, "return_token_ids": True})
    expected = tokenizer(_PROBE)["input_ids"]
    same = True
    try:
        ids = answer["choices"][0].get("prompt_token_ids")
        if ids is not None:
            same = list(ids) == list(expected)
        elif answer.get("usage"):
            same = answer["usage"]["prompt_tokens"] == len(expected)
    except (LookupError, TypeError, AttributeError):
        raise EngineError(
            "the answer is no completion",
            where=client.url,
            mend="give the URL of an OpenAI-compatible API; it usually ends in /v1",
        ) from None
    if not same:
        raise InputError(
            f"the tokenizer of {model!r} on the server is not this model's",
            where=client.url,
            mend="serve the base model that was fine-tuned, or name it with --model",
        )
