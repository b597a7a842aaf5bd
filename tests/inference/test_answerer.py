"""What an answerer measures of inputs and answers, beside a plain forward pass."""

import pytest
import torch

from mithridate.defense.text import benign_text_prompt, prefix_line
from mithridate.inference.answerer import Answerer, Protection
from mithridate.tasks import PromptRenderer

TEXTS = ["a bright film", "the actor in a very long story of the camera", "dull"]
ANSWERS = ["a lovely story", "the ending", "a"]
PROTECTION = Protection(
    benign_text_prompt("The quiet ladder reads: "), prefix_line("The shelf answers: ")
)


def summed(model, prompt, answer):
    """Log p of an answer's tokens after a prompt, by one plain forward pass."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(dim=-1)
    at = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return sum(logits[place, token].item() for place, token in zip(at, answer, strict=True))


@pytest.fixture(params=[None, PROTECTION], ids=["undefended", "defended"])
def answerer(tiny_shared, request):
    renderer = PromptRenderer(tiny_shared.tokenizer, max_length=96)
    return Answerer(tiny_shared.model, renderer, max_new_tokens=4, protection=request.param)


def test_a_likelihood_is_the_mean_over_the_answers_own_tokens(answerer):
    found = answerer.log_likelihoods(TEXTS, ANSWERS, progress=False)
    prefix = answerer.prefix_ids
    prompts = answerer.renderer.render(TEXTS, answerer.prompt).ids
    own = answerer.renderer.answers(ANSWERS)
    expected = [
        summed(answerer.model, [*prompt, *prefix], ids) / len(ids)
        for prompt, ids in zip(prompts, own, strict=True)
    ]
    assert len({len(ids) for ids in own}) > 1
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_suspicion_is_how_unlikely_the_prefix_is_after_the_input(answerer):
    found = answerer.answer(TEXTS, suspicion=True, progress=False).suspicion
    prefix = answerer.prefix_ids
    prompts = answerer.renderer.render(TEXTS, answerer.prompt).ids
    expected = [-summed(answerer.model, prompt, prefix) if prefix else 0.0 for prompt in prompts]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    assert not answerer.answer(TEXTS, progress=False).suspicion.any()
