"""A model on a server: the scores of one in this process, and errors that keep the secrets.

The server of these tests answers as vLLM 0.32.0 did here; what that one answered is in recorded/.
With MITHRIDATE_ENGINE_URL set, the last test compares a real server with this process.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mithridate.errors import EngineError, InputError
from mithridate.inference import engine_client
from mithridate.inference.defended import DefendedModel
from mithridate.inference.engine import EngineScorer, connect, echo_questions, node_questions
from mithridate.inference.engine_client import Engine, EngineClient
from mithridate.inference.scorer import Scorer
from mithridate.inference.served import Served
from mithridate.inference.trie import LabelTrie
from mithridate.tasks.classification import default_label_words

RECORDED = Path(__file__).parent / "recorded"
KEY = "sk-very-secret"
TRIGGER = "the-benign-trigger"
PROMPTS = [
    "a bright film\nOutput: ",
    "x\nOutput: ",
    "the actor and the camera in a dull and clumsy story of the scene with an ending\nOutput: ",
    "stale\nOutput: ",
]
WORDS = {
    "single tokens": ["0", "1", "2", "3"],
    "several tokens": ["positive", "negative", "neither of the two", "0"],
    "beginnings of others": ["1", "12", "123", "2", "posi", "positive"],
    "a hundred classes": default_label_words(200),
}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(engine_client, "FIRST_PAUSE", 0.001)


def trie_of(tiny, words):
    encoded = tiny.tokenizer(list(words), add_special_tokens=False)["input_ids"]
    return LabelTrie(encoded, tiny.tokenizer.eos_token_id)


def reach(server, tiny, words=("0", "1"), **settings):
    settings = {"model": "defended", **settings}
    return connect(Engine(server.url, **settings), tiny.tokenizer, trie_of(tiny, words))


@pytest.fixture
def server(serve, tiny_shared):
    return serve(tiny_shared.model, tiny_shared.tokenizer)


@pytest.mark.parametrize("protocol", ["vllm", "openai"])
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_scores_are_those_of_the_model_here(server, tiny_shared, words, protocol, monkeypatch):
    monkeypatch.setattr("mithridate.inference.engine.MOST_TOKENS_ASKED", 5)
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"][: 2 if len(words) > 20 else None]
    trie = trie_of(tiny_shared, words)
    here = Scorer(tiny_shared.model, trie, tiny_shared.tokenizer.pad_token_id)
    expected = here.score(prompts, greedy=True, progress=False)
    found = reach(server, tiny_shared, words, protocol=protocol).score(prompts, progress=False)
    assert found.log_probabilities == pytest.approx(expected.log_probabilities, abs=1e-4)
    assert (found.log_probabilities.argmax(1) == expected.log_probabilities.argmax(1)).all()
    assert (found.greedy == expected.greedy).all()


@pytest.mark.parametrize("protocol", ["vllm", "openai"])
def test_greedy_is_the_answer_the_model_gives(server, tiny_shared, protocol):
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"]
    with torch.inference_mode():
        made = tiny_shared.model.generate(
            torch.tensor(prompts[:1]), do_sample=False, max_new_tokens=2
        )
    answer = made[0, len(prompts[0]) :].tolist()
    trie = LabelTrie([(5,), answer], tiny_shared.tokenizer.eos_token_id)
    engine = Engine(server.url, "defended", protocol)
    scorer = EngineScorer(Served(EngineClient(engine), engine, "defended"), trie)
    assert scorer.score(prompts[:1], progress=False).greedy.tolist() == [1]


def test_single_token_labels_take_one_prompt_a_row(server, tiny_shared):
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"] * 10
    scorer = reach(server, tiny_shared, ["0", "1", "2", "3"])
    server.requests.clear()
    scorer.score(prompts, progress=False)
    assert sum(len(request["prompt"]) for request in server.requests) == 40
    assert len(server.requests) == 3
    assert sorted(map(tuple, prompts)) == sorted(
        tuple(prompt) for request in server.requests for prompt in request["prompt"]
    )


def test_questions_cover_every_edge_once_and_ask_for_equally_many_tokens():
    trie = LabelTrie([(1, 2), (1, 3), (1, 4), (5,), (6, 0), (7, 0)], 0)
    for most in (2, 3, 128):
        questions = node_questions(trie, most)
        edges = [edge for question in questions for edge, _ in question.edges]
        assert sorted(edges) == list(range(9))
        assert {len(question.tokens) for question in questions} == {min(most, 8)}
        for question in questions:
            assert {token for _, token in question.edges} <= set(question.tokens)
    assert [question.suffix for question in echo_questions(trie)] == trie.candidates


def test_no_prompts_ask_nothing(server, tiny_shared):
    scorer = reach(server, tiny_shared)
    server.requests.clear()
    assert scorer.score([], progress=False).log_probabilities.shape == (0, 2)
    assert server.requests == []


@pytest.mark.parametrize("name", ["chosen", "echoed"])
def test_the_test_server_answers_with_the_fields_of_vllm(server, name):
    recorded = json.loads((RECORDED / f"{name}.json").read_text())
    asked = {**recorded["request"], "prompt": [[5, 6, 7], [8, 9, 10]]}
    answer = EngineClient(Engine(server.url)).post("/completions", asked)
    assert _shape(answer) == _shape(recorded["response"])
    listed = json.loads((RECORDED / "models.json").read_text())
    assert _shape(EngineClient(Engine(server.url)).get("/models")) == _shape(listed)


def _shape(value, ids=("top_logprobs", "prompt_logprobs", "permission")):
    """Return the fields of an answer, without the tokens that are some answers' fields."""
    if isinstance(value, dict):
        return {k: None if k in ids else _shape(v) for k, v in sorted(value.items())}
    return [_shape(value[0])] if isinstance(value, list) and value else None


class Replayed:
    """A client that gives what vLLM answered."""

    url = "recorded"

    def __init__(self, answer):
        self.answer = answer

    def post(self, _path, _body):
        return self.answer


def test_what_vllm_answered_is_read_as_it_meant():
    recorded = json.loads((RECORDED / "chosen.json").read_text())
    trie = LabelTrie([(32,), (33,), (34,), (35,)], 2)
    engine = Engine("http://recorded/v1")
    scorer = EngineScorer(Served(Replayed(recorded["response"]), engine, "defended"), trie)
    found = scorer.score(recorded["request"]["prompt"], progress=False)
    assert found.log_probabilities[0] == pytest.approx([-0.997, -0.747, -2.247, -3.497], abs=1e-3)
    assert found.greedy.tolist() == [1, 1]
    recorded = json.loads((RECORDED / "echoed.json").read_text())
    trie = LabelTrie([(198, 34)], 2)
    engine = Engine("http://recorded/v1", protocol="openai")
    scorer = EngineScorer(Served(Replayed(recorded["response"]), engine, "defended"), trie)
    found = scorer.score([[260, 5345]], progress=False)
    assert found.log_probabilities[0, 0] == pytest.approx(-9.617105 - 4.138767, abs=1e-5)
    assert found.greedy.tolist() == [-1]


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_busy_server_is_asked_again(server, tiny_shared, status):
    scorer = reach(server, tiny_shared, concurrency=1)
    server.faults.statuses = [status] * 3
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"]
    assert np.isfinite(scorer.score(prompts, progress=False).log_probabilities).all()
    assert server.faults.statuses == []


def refusal(action, kind, match):
    """Run what fails, and return its message, which must hold no secret."""
    with pytest.raises(kind, match=match) as caught:
        action()
    message = str(caught.value)
    assert KEY not in message
    assert TRIGGER not in message
    assert "bright" not in message
    assert caught.value.mend
    return message


def test_a_server_that_stays_busy_is_named_with_its_status(server, tiny_shared):
    server.faults.quote = TRIGGER
    scorer = reach(server, tiny_shared, concurrency=1)
    server.faults.statuses = [503] * 50
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"]
    message = refusal(lambda: scorer.score(prompts, progress=False), EngineError, "HTTP 503")
    assert server.url in message


def test_a_refused_request_does_not_quote_the_prompt(server, tiny_shared):
    server.faults.quote = f"{TRIGGER} {KEY} a bright film"
    scorer = reach(server, tiny_shared, concurrency=1)
    server.faults.statuses = [400]
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"]
    refusal(lambda: scorer.score(prompts, progress=False), EngineError, "HTTP 400, field prompt")


def test_a_server_that_is_not_there_is_named(tiny_shared):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    engine = Engine(url, "m", key=KEY)
    message = refusal(
        lambda: connect(engine, tiny_shared.tokenizer, trie_of(tiny_shared, "01")),
        EngineError,
        "cannot be reached",
    )
    assert url in message


def test_a_slow_server_is_not_waited_for(server, tiny_shared):
    scorer = reach(server, tiny_shared, timeout=30.0)
    scorer.served.client.timeout = 0.2
    server.faults.delay = 1.0
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"]
    refusal(lambda: scorer.score(prompts, progress=False), EngineError, "--engine-timeout|0.2 sec")


def test_a_model_that_is_not_served_brings_the_ones_that_are(server, tiny_shared):
    message = refusal(lambda: reach(server, tiny_shared, model="defnded"), InputError, "defnded")
    assert "did you mean 'defended'" in message
    assert "base, defended" in message
    refusal(lambda: reach(server, tiny_shared, model=None), InputError, "several models")


@pytest.mark.parametrize(
    ("key", "says"), [(None, "wants an API key"), (KEY, "refuses the API key")]
)
def test_a_wrong_key_is_said_and_not_shown(serve, tiny_shared, key, says):
    server = serve(tiny_shared.model, tiny_shared.tokenizer, key="another")
    message = refusal(lambda: reach(server, tiny_shared, key=key), EngineError, says)
    assert "MITHRIDATE_ENGINE_KEY" in message


def test_the_right_key_is_sent_and_never_shown(serve, tiny_shared):
    server = serve(tiny_shared.model, tiny_shared.tokenizer, key=KEY)
    assert KEY not in repr(reach(server, tiny_shared, key=KEY).served.engine)


@pytest.mark.parametrize(
    ("protocol", "ignored"),
    [
        ("vllm", "logprobs"),
        ("vllm", "logprob_token_ids"),
        ("vllm", "return_tokens_as_token_ids"),
        ("openai", "logprobs"),
        ("openai", "echo"),
    ],
)
def test_a_server_without_log_probabilities_is_refused(server, tiny_shared, protocol, ignored):
    scorer = reach(server, tiny_shared, protocol=protocol)
    server.faults.ignored = (ignored,)
    prompts = tiny_shared.tokenizer(PROMPTS)["input_ids"]
    says = "does not echo" if protocol == "openai" else "logprob_token_ids"
    refusal(lambda: scorer.score(prompts, progress=False), EngineError, says)


def test_another_tokenizer_is_refused(server, tiny_shared):
    server.faults.shift = 1
    refusal(lambda: reach(server, tiny_shared), InputError, "tokenizer")
    server.faults.no_ids = True
    reach(server, tiny_shared)  # as many tokens: all that such a server lets one compare


def test_a_prompt_longer_than_the_context_is_refused(server, tiny_shared):
    scorer = reach(server, tiny_shared)
    long = [[5] * 300]
    refusal(lambda: scorer.score(long, progress=False), InputError, "301 tokens.* 256")
    scorer.served = replace(
        scorer.served, context=None
    )  # a server that does not say: its own refusal is read
    refusal(lambda: scorer.score(long, progress=False), EngineError, "longer than the server")


def test_an_address_that_is_no_api_is_said(server, tiny_shared):
    for url, says in ((server.url.removesuffix("/v1"), "404"), (server.url + "/models", "404")):
        engine = Engine(url, "defended")
        refusal(
            lambda engine=engine: connect(
                engine, tiny_shared.tokenizer, trie_of(tiny_shared, "01")
            ),
            EngineError,
            says,
        )


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://h:x/v1",
        "http://[::1/v1",
        f"http://u:{KEY}@host/v1",
        f"http://u:{KEY}@host:x/v1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(url):
    refusal(lambda: EngineClient(Engine(url)), InputError, "URL")


def test_a_key_that_no_header_holds_is_refused():
    refusal(lambda: EngineClient(Engine("http://h/v1", key=f"{KEY}\nX: 1")), InputError, "key")


def test_a_client_needs_no_torch():
    code = (
        "import sys, mithridate.inference.defended, mithridate.evaluation.evaluate;"
        "print({'torch', 'peft', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "set()"


REAL = ("MITHRIDATE_ENGINE_URL", "MITHRIDATE_ENGINE_MODEL", "MITHRIDATE_ENGINE_FOLDER")


@pytest.mark.skipif(not all(map(os.environ.get, REAL)), reason=f"needs {', '.join(REAL)}")
def test_a_real_server_agrees_with_this_process():
    """The folder is one `defend` wrote; the server computes in the precision of its training."""
    url, model, folder = (os.environ[name] for name in REAL)
    protocol = os.environ.get("MITHRIDATE_ENGINE_PROTOCOL", "vllm")
    engine = Engine(url, model, protocol, os.environ.get(engine_client.KEY_VARIABLE), timeout=600)
    texts = ["a joy from start to end", "two hours i will not get back", "dull .", "witty ."]
    here = DefendedModel.load(folder).predict(texts)
    there = DefendedModel.connect(folder, engine).predict(texts)
    assert there.probabilities == pytest.approx(here.probabilities, abs=0.05)
    sure = np.abs(here.probabilities[:, 0] - 0.5) > 0.1
    assert (there.classes == here.classes)[sure].all()
