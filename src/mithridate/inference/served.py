"""A model on a server: found under its name, in this tokenizer's tokens, and asked in parallel."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from tqdm.auto import tqdm

from mithridate.errors import EngineError, InputError
from mithridate.inference.engine_client import Engine, EngineClient

Batch = TypeVar("Batch")
Answer = TypeVar("Answer")

PROMPTS_PER_REQUEST = 16
_NO_VALUE = -9999.0
"""What vLLM writes where it has no log probability."""
_ROUNDING = 1e-3
"""A log probability is not above it; what is, are logits (vLLM: --logprobs-mode raw_logits)."""
_GREEDY = {"repetition_penalty": 1.0, "ignore_eos": True}
"""Said to vLLM, which else takes a penalty from a model's generation_config.json, and by which the
token it generates would not be the likeliest."""
ECHOED: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": 1}
"""The fields by which a server tells the log probabilities of a prompt's own tokens."""
UNUSABLE = (LookupError, TypeError, ValueError, AttributeError)
"""What reading an answer raises that lacks what was asked for."""
_PROBE = "Tokenizers differ: 0123456789, naïve, 東京, tab\t, \n  „quotes“ and <tags>.\nOutput: "


@dataclass(frozen=True)
class Served:
    """A model on a server that was found there.

    Attributes:
        client: The server.
        engine: How to ask it.
        model: The model's name there.
        context: The longest sequence the server takes; ``None`` where it does not say.
    """

    client: EngineClient
    engine: Engine
    model: str
    context: int | None = None

    def complete(self, prompts: Sequence[Sequence[int]], **asked: Any) -> list[dict[str, Any]]:
        """Return what the server makes of prompts of one request, in their order.

        Raises:
            EngineError: It gives no answer, or none for some prompt.
        """
        body = {"model": self.model, "prompt": [list(ids) for ids in prompts], "temperature": 0}
        answer = self.client.post("/completions", body | asked)
        try:
            choices = {choice["index"]: choice for choice in answer["choices"]}
            return [dict(choices[place]) for place in range(len(prompts))]
        except (LookupError, TypeError, ValueError):
            raise no_completion(self.client.url) from None

    def in_parallel(
        self, batches: Sequence[Batch], ask: Callable[[Batch], Answer], *, progress: bool
    ) -> Iterator[Answer]:
        """Yield the answers to requests, in their order, several under way at a time.

        Args:
            batches: What one request asks.
            ask: Makes a request.
            progress: Whether to show a progress bar on a terminal.
        """
        shown = None if progress else True
        bar = tqdm(total=len(batches), desc="Asking", unit="request", disable=shown)
        pool = ThreadPoolExecutor(max_workers=self.engine.concurrency)
        try:
            with bar:
                for answer in pool.map(ask, batches):
                    yield answer
                    bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def no_chosen(self) -> EngineError:
        """Return the error for an answer without the log probabilities of named tokens."""
        return EngineError(
            "the server gives no log probabilities for chosen tokens (logprob_token_ids)",
            where=self.client.url,
            mend="use a newer vLLM, or try --engine openai",
        )

    def no_echo(self) -> EngineError:
        """Return the error for an answer without the prompt's log probabilities."""
        return EngineError(
            "the server does not echo a prompt's log probabilities",
            where=self.client.url,
            mend="use one that does, such as vLLM, or compute here with --engine local",
        )


def reach(engine: Engine, tokenizer: Any) -> Served:
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
    return Served(client, engine, model, context)


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
        raise no_completion(client.url) from None
    if not same:
        raise InputError(
            f"the tokenizer of {model!r} on the server is not this model's",
            where=client.url,
            mend="serve the base model that was fine-tuned, or name it with --model",
        )


def asking_for(tokens: Sequence[int]) -> dict[str, Any]:
    """Return the fields by which vLLM tells the log probabilities of these tokens."""
    return {
        "max_tokens": 1,
        "logprobs": 1,
        "logprob_token_ids": list(tokens),
        "return_tokens_as_token_ids": True,
        **_GREEDY,
    }


def chosen(logprobs: dict[str, Any], token: int) -> tuple[float, bool]:
    """Return a named token's log probability, and whether greedy decoding writes it there.

    Raises:
        ValueError: The server's number is none; `UNUSABLE` has what a wrong shape raises.
    """
    name = f"token_id:{token}"
    value = _log_probability(logprobs["top_logprobs"][0][name])
    return value, bool(logprobs["tokens"][0] == name)


def echoed(logprobs: dict[str, Any], place: int) -> tuple[float, bool]:
    """Return an echoed token's log probability, and whether greedy decoding writes it there.

    Raises:
        ValueError: The server's number is none; `UNUSABLE` has what a wrong shape raises.
    """
    value = _log_probability(logprobs["token_logprobs"][place])
    return value, value >= max(logprobs["top_logprobs"][place].values())


def _log_probability(told: Any) -> float:
    value = float(told)
    if not _NO_VALUE < value < _ROUNDING:
        raise ValueError
    return value


def no_completion(url: str) -> EngineError:
    """Return the error for an answer that is none."""
    return EngineError(
        "the answer is no completion",
        where=url,
        mend="give the URL of an OpenAI-compatible API; it usually ends in /v1",
    )
