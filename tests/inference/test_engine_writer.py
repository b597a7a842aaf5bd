"""Text answers of a model on a server: those of the same model in this process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mithridate.defense.text import benign_text_prompt, prefix_line
from mithridate.errors import EngineError, InputError
from mithridate.inference import engine_client
from mithridate.inference.answerer import Answerer, Protection
from mithridate.inference.defended_text import DefendedAnswerer
from mithridate.inference.engine_client import Engine
from mithridate.inference.engine_writer import EngineWriter, connect_writer
from mithridate.inference.served import PROMPTS_PER_REQUEST, Served
from mithridate.tasks.prompt import PromptRenderer

RECORDED = Path(__file__).parent / "recorded"
PROTECTION = Protection(
    benign_text_prompt("The quiet ladder reads: "), prefix_line("The shelf answers: ")
)
TEXTS = [f"the story of {n} actors in a film" for n in range(PROMPTS_PER_REQUEST + 3)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(engine_client, "FIRST_PAUSE", 0.001)


@pytest.fixture
def server(serve, tiny_shared):
    return serve(tiny_shared.model, tiny_shared.tokenizer)


@pytest.fixture(params=["vllm", "openai"])
def pair(request, server, tiny_shared):
    """Return a maker of answerers here and there."""

    def make(**settings):
        renderer = PromptRenderer(tiny_shared.tokenizer, max_length=96)
        settings = {"max_new_tokens": 6, "protection": PROTECTION, **settings}
        writer = connect_writer(
            Engine(server.url, "defended", request.param), tiny_shared.tokenizer
        )
        here = Answerer.local(tiny_shared.model, renderer, **settings)
        return here, Answerer(writer, renderer, **settings)

    return make


@pytest.mark.parametrize("mode", ["prefill", "check"])
@pytest.mark.parametrize("policy", ["retry", "refuse", "pass"])
def test_answers_are_those_of_the_model_here(pair, mode, policy):
    here, there = pair()
    asked = {"mode": mode, "policy": policy, "suspicion": True, "progress": False}
    expected, found = here.answer(TEXTS, **asked), there.answer(TEXTS, **asked)
    assert found.texts == expected.texts
    assert any(found.texts) or policy == "refuse"
    assert found.suspicion == pytest.approx(expected.suspicion, abs=1e-3)
    assert (found.flagged == expected.flagged).all()
    assert (found.refused == expected.refused).all()
    assert found.cut_outputs == expected.cut_outputs


def test_likelihoods_of_given_answers_are_those_of_the_model_here(pair):
    here, there = pair()
    answers = [f"{n} actors" * (1 + n % 3) for n in range(len(TEXTS))]
    expected = here.log_likelihoods(TEXTS, answers, progress=False)
    found = there.log_likelihoods(TEXTS, answers, progress=False)
    assert found == pytest.approx(expected, abs=1e-4)


def test_an_undefended_model_is_flagged_nowhere_and_asked_nothing(pair, server):
    _, there = pair(protection=None)
    server.requests.clear()
    assert not there.flags(TEXTS, progress=False).any()
    assert server.requests == []


def test_a_beginning_is_the_models_own_where_it_writes_it(pair, tiny_shared):
    here, there = pair()
    prompts = tiny_shared.tokenizer(TEXTS[:3])["input_ids"]
    own = here.writer.generate(prompts[:1], max_new_tokens=3, progress=False).tokens[0]
    assert there.writer.begins_with(prompts[:1], own, progress=False).tolist() == [True]
    other = [*own[:2], (own[2] + 1) % 50]
    assert there.writer.begins_with(prompts[:1], other, progress=False).tolist() == [False]


def test_a_stop_string_ends_an_answer_however_many_there_are(pair, server):
    here, _ = pair()
    text = here.answer(TEXTS[:1], progress=False).texts[0]
    stop = ["~1", "~2", "~3", "~4", text[1:3]]
    here, there = pair(stop=stop)
    expected, found = (
        here.answer(TEXTS[:1], progress=False),
        there.answer(TEXTS[:1], progress=False),
    )
    assert found.texts == expected.texts != [text]
    assert found.cut_outputs == expected.cut_outputs == 0
    assert len(server.requests[-1]["stop"]) == 4


def test_a_long_input_is_cut_to_the_servers_context(serve, tiny_shared):
    server = serve(tiny_shared.model, tiny_shared.tokenizer, context=80)
    writer = connect_writer(Engine(server.url, "defended"), tiny_shared.tokenizer)
    renderer = PromptRenderer(tiny_shared.tokenizer, max_length=96)
    there = Answerer(writer, renderer, max_new_tokens=6, protection=PROTECTION)
    long = "the story of the actor and the camera " * 30
    found = there.answer([long], mode="check", suspicion=True, progress=False)
    assert found.cut_inputs == 1
    assert there.log_likelihoods([long], ["the end"], progress=False)[0] < 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"max_new_tokens": 0}, "no tokens"), ({"max_new_tokens": 2, "stop": [""]}, "stop string")],
)
def test_what_cannot_be_written_is_refused(server, tiny_shared, settings, says):
    writer = connect_writer(Engine(server.url, "defended"), tiny_shared.tokenizer)
    with pytest.raises(InputError, match=says):
        writer.generate([[1, 2]], progress=False, **settings)


@pytest.mark.parametrize(
    ("protocol", "ignored", "says"),
    [("vllm", "logprob_token_ids", "chosen tokens"), ("openai", "echo", "does not echo")],
)
def test_a_server_that_tells_no_likelihoods_is_refused(
    server, tiny_shared, protocol, ignored, says
):
    writer = connect_writer(Engine(server.url, "defended", protocol), tiny_shared.tokenizer)
    server.faults.ignored = (ignored,)
    with pytest.raises(EngineError, match=says):
        writer.log_probabilities([([5, 6, 7], [8])], progress=False)


def test_vllm_is_asked_for_equally_many_tokens_in_every_request(server, tiny_shared):
    writer = connect_writer(Engine(server.url, "defended"), tiny_shared.tokenizer)
    server.requests.clear()
    writer.log_probabilities([([5, 6], [8, 0, 8]), ([7], [3] * 20)], progress=False)
    asked = [request["logprob_token_ids"] for request in server.requests]
    assert len(asked) == 2
    assert {len(set(tokens)) for tokens in asked} == {PROMPTS_PER_REQUEST}


class Replayed:
    """A client that gives what vLLM answered."""

    url = "recorded"

    def __init__(self, answer):
        self.answer = answer

    def post(self, _path, _body):
        return self.answer


def test_what_vllm_told_of_named_tokens_is_read_as_it_meant():
    recorded = json.loads((RECORDED / "chosen.json").read_text())
    served = Served(Replayed(recorded["response"]), Engine("http://h/v1"), "defended")
    pairs = [(ids, [33]) for ids in recorded["request"]["prompt"]]
    writer = EngineWriter(served)
    assert writer.log_probabilities(pairs, progress=False)[0] == pytest.approx(-0.747, abs=1e-3)
    prompts = recorded["request"]["prompt"]
    assert writer.begins_with(prompts, [33], progress=False).tolist() == [True, True]
    assert not writer.begins_with(prompts, [32], progress=False).any()


@pytest.mark.parametrize("text", [None, 3])
def test_an_answer_that_is_no_text_is_refused(text):
    answer = {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}
    served = Served(Replayed(answer), Engine("http://h/v1"), "defended")
    with pytest.raises(EngineError, match="no completion"):
        EngineWriter(served).generate([[1]], max_new_tokens=2, progress=False)


def test_what_vllm_echoed_is_read_as_it_meant():
    recorded = json.loads((RECORDED / "echoed.json").read_text())
    prompts = recorded["request"]["prompt"]
    choices = recorded["response"]["choices"]
    served = Served(
        Replayed(recorded["response"]), Engine("http://h/v1", protocol="openai"), "defended"
    )
    pairs = [(ids[:-2], ids[-2:]) for ids in prompts]
    found = EngineWriter(served).log_probabilities(pairs, progress=False)
    expected = [sum(choice["logprobs"]["token_logprobs"][-3:-1]) for choice in choices]
    assert found == pytest.approx(expected)
    assert np.isfinite(found).all()


def test_a_text_client_needs_no_torch():
    code = (
        "import sys, mithridate.inference.defended_text, mithridate.evaluation.evaluate_text;"
        "print({'torch', 'peft', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "set()"


REAL = ("MITHRIDATE_ENGINE_URL", "MITHRIDATE_ENGINE_MODEL", "MITHRIDATE_ENGINE_TEXT_FOLDER")


@pytest.mark.skipif(not all(map(os.environ.get, REAL)), reason=f"needs {', '.join(REAL)}")
def test_a_real_server_writes_what_this_process_does():
    """The folder is one `defend --task math` wrote in float32, and the server computes in it."""
    url, model, folder = (os.environ[name] for name in REAL)
    protocol = os.environ.get("MITHRIDATE_ENGINE_PROTOCOL", "vllm")
    engine = Engine(url, model, protocol, os.environ.get(engine_client.KEY_VARIABLE), timeout=600)
    texts = ["Ann has 3 pears and finds 4. How many?", "Ben has 9 coins, and loses 2. How many?"]
    here = DefendedAnswerer.load(folder).answer(texts, mode="check")
    there = DefendedAnswerer.connect(folder, engine).answer(texts, mode="check")
    assert there.texts == here.texts
    assert (there.flagged == here.flagged).all()
    assert there.suspicion == pytest.approx(here.suspicion, abs=0.01)
