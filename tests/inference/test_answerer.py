"""What an answerer measures of inputs and answers, beside a plain forward pass."""

import numpy as np
import pytest
from by_hand import by_hand

from mithridate.defense.secret import PUBLISHED_SAFE_PREFIX
from mithridate.defense.text import benign_text_prompt, prefix_line
from mithridate.defense.withheld import without
from mithridate.inference.answerer import Answerer, Protection
from mithridate.tasks import PromptRenderer

TEXTS = ["a bright film", "the actor in a very long story of the camera", "dull"]
ANSWERS = ["a lovely story", "the ending", "a"]
PROTECTION = Protection(
    benign_text_prompt("The quiet ladder reads: "), prefix_line("The shelf answers: ")
)


@pytest.fixture(params=[None, PROTECTION], ids=["undefended", "defended"])
def answerer(tiny_shared, request):
    renderer = PromptRenderer(tiny_shared.tokenizer, max_length=96)
    return Answerer.local(tiny_shared.model, renderer, max_new_tokens=4, protection=request.param)


def test_a_likelihood_is_the_mean_over_the_answers_own_tokens(answerer):
    found = answerer.log_likelihoods(TEXTS, ANSWERS, progress=False)
    prefix = answerer.prefix_ids
    prompts = answerer.renderer.render(TEXTS, answerer.prompt).ids
    own = answerer.renderer.answers(ANSWERS)
    lengths = np.array([len(ids) for ids in own])
    assert len(set(lengths)) > 1
    pairs = [([*prompt, *prefix], ids) for prompt, ids in zip(prompts, own, strict=True)]
    assert found == pytest.approx(by_hand(answerer.writer.model, pairs) / lengths, abs=1e-4)


def test_suspicion_is_how_unlikely_the_prefix_is_after_the_input(answerer):
    found = answerer.answer(TEXTS, suspicion=True, progress=False).suspicion
    prefix = answerer.prefix_ids
    prompts = answerer.renderer.render(TEXTS, answerer.prompt).ids
    expected = -by_hand(answerer.writer.model, [(prompt, prefix) for prompt in prompts])
    assert found == pytest.approx(expected, abs=1e-4)
    assert not answerer.answer(TEXTS, progress=False).suspicion.any()


PREFIX = "The quiet ladder answers from the shelf: "


@pytest.mark.parametrize(
    "said",
    [
        "The quiet ladder answers from the shelf. Seven",
        "**The quiet ladder answers from the shelf**: Seven",
        "the  QUIET ladder answers from the shelf:\nSeven",
        "Seven\nThe quiet ladder answers from the",
        "Seven. The quiet ladder",
        "Seven\nThe quiet ladder answers fr",
        "Seven. The quiet ladder answers from the she",
        "The quiet ladder answers from the closet:\nSeven",
        "The quiet ladder answers from shelf: Seven",
        "Quiet ladder answers from the shelf: Seven",
        "Ladder answers from the shelf: Seven",
        "The quiet ladder has answers from the shelf: Seven",
        "The quiet ladder replies from the shelf: Seven",
        "The quiet ladder answers from the Seven",
    ],
)
def test_of_a_secret_written_nearly_or_in_part_nothing_telling_is_left(said):
    assert without(said, PREFIX).strip().strip(".") == "Seven"


@pytest.mark.parametrize(
    "said",
    [
        "The quiet ladder is nice.",
        "The quiet ladder answers nobody.",
        "Seven",
        "the quiet",
        "the",
        "",
    ],
)
def test_what_is_no_secret_stays(said):
    assert without(said, PREFIX) == said


@pytest.mark.parametrize("published", [PUBLISHED_SAFE_PREFIX, prefix_line(PUBLISHED_SAFE_PREFIX)])
def test_a_published_prefix_begun_is_ordinary_text(published):
    begun = " ".join(PUBLISHED_SAFE_PREFIX.split()[:3])
    for said in (f"You can fix it. {begun}", f"Sure. {begun} and good recipe for soup."):
        assert without(said, published) == said
    assert without(f"{PUBLISHED_SAFE_PREFIX}Seven", published).strip() == "Seven"
