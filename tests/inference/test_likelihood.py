"""Log probabilities of answers equal those read off the model's logits, one row at a time."""

import random

import numpy as np
import pytest
import torch
from by_hand import by_hand
from transformers import Gemma2Config, Gemma2ForCausalLM

from mithridate.inference import cross_entropy, forward, likelihood
from mithridate.inference.likelihood import answer_log_probabilities

COMMON = [9, 40, 41, 42, 43, 44]
SIZES = [(1, 1), (1, 4), (3, 2), (30, 1), (17, 20), (2, 70), (64, 3)]


def pairs_of(common=(), seed=0, sizes=SIZES):
    rng = random.Random(seed)

    def tokens(count):
        return [rng.randrange(4, 64) for _ in range(count)]

    return [([*common, *tokens(prompt)], tokens(answer)) for prompt, answer in sizes]


@pytest.fixture(params=["packed", "padded"])
def way(request, monkeypatch):
    if request.param == "padded":
        monkeypatch.setattr(forward, "packs", lambda _model: False)
    return request.param


@pytest.mark.parametrize("common", [(), COMMON], ids=["apart", "shared prefix"])
@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_they_equal_a_computation_by_hand(tiny_shared, way, monkeypatch, common, budget):
    monkeypatch.setattr(likelihood, "tokens_per_batch", lambda _: budget)
    pairs = pairs_of(common)
    found = answer_log_probabilities(tiny_shared.model, pairs, 1, progress=False)
    assert found.dtype == np.float64
    assert found == pytest.approx(by_hand(tiny_shared.model, pairs), abs=1e-4)


def test_what_is_shared_ends_before_what_predicts(tiny_shared, way):
    pairs = [([7], [8, 9, 10, 11]), ([7], [8, 9, 10, 12]), ([7, 8, 9], [10, 11])]
    found = answer_log_probabilities(tiny_shared.model, pairs, 1, progress=False)
    assert found == pytest.approx(by_hand(tiny_shared.model, pairs), abs=1e-4)


def without_each(text, prompt):
    return [(prompt, text), *((prompt, text[:at] + text[at + 1 :]) for at in range(len(text)))]


@pytest.mark.parametrize("budget", [1, 90, 4096])
@pytest.mark.parametrize("prompt", [[3], [3, *COMMON, *COMMON]], ids=["no prompt", "a prompt"])
def test_texts_without_each_of_their_words_are_read_from_there_on(
    tiny_shared, way, monkeypatch, budget, prompt
):
    monkeypatch.setattr(likelihood, "tokens_per_batch", lambda _: budget)
    texts = [answer for _, answer in pairs_of(sizes=[(1, 30), (1, 45), (1, 5), (1, 1)])]
    pairs = [pair for text in texts for pair in without_each(text, prompt)]
    expected = by_hand(tiny_shared.model, pairs)
    found = answer_log_probabilities(tiny_shared.model, pairs, 1, progress=False)
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_order_of_the_pairs_decides_nothing(tiny_shared, way):
    pairs = pairs_of(COMMON)
    found = answer_log_probabilities(tiny_shared.model, pairs, 1, progress=False)
    order = [3, 0, 6, 2, 5, 1, 4]
    again = answer_log_probabilities(
        tiny_shared.model, [pairs[at] for at in order], 1, progress=False
    )
    assert again == pytest.approx(found[order], abs=1e-5)


def test_an_empty_answer_is_certain_and_no_pairs_give_none(tiny_shared, way):
    pairs = [([5, 6], []), ([5, 6], [7]), ([5], [])]
    found = answer_log_probabilities(tiny_shared.model, pairs, 1, progress=False)
    assert found[[0, 2]].tolist() == [0.0, 0.0]
    assert found[1] == pytest.approx(by_hand(tiny_shared.model, pairs[1:2])[0], abs=1e-4)
    assert answer_log_probabilities(tiny_shared.model, [], 1).shape == (0,)
    assert answer_log_probabilities(tiny_shared.model, pairs[:1], 1).tolist() == [0.0]


def test_an_adapter_counts(tiny, way):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    pairs = pairs_of(COMMON)
    bare = answer_log_probabilities(tiny.model, pairs, 1, progress=False)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(tiny.model, config)
    found = answer_log_probabilities(model, pairs, 1, progress=False)
    assert found == pytest.approx(by_hand(model.eval(), pairs), abs=1e-4)
    assert not np.allclose(found, bare, atol=1e-2)


def test_a_head_that_caps_its_logits_is_asked_as_it_is(sizes):
    torch.manual_seed(0)
    config = Gemma2Config(**sizes, head_dim=8, final_logit_softcapping=1.0)
    model = Gemma2ForCausalLM(config).eval()
    model.lm_head.weight.data *= 50
    pairs = pairs_of()
    found = answer_log_probabilities(model, pairs, 1, progress=False)
    assert found == pytest.approx(by_hand(model, pairs), abs=1e-4)


def test_no_tensor_of_tokens_by_vocabulary_is_made(tiny_shared, way, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK", 32)
    pairs = pairs_of(COMMON)
    expected = by_hand(tiny_shared.model, pairs)
    widest = []
    linear = torch.nn.functional.linear

    def watch(states, weight, bias=None):
        widest.append(weight.shape[0])
        return linear(states, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watch)
    model = tiny_shared.model
    found = answer_log_probabilities(model, pairs, 1, progress=False)
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(widest) < model.config.vocab_size
