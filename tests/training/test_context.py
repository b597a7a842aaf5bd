"""No sequence is longer than the model's context: inputs are cut, settings and rows refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mithridate.data.rows import Row
from mithridate.defense.text import TextExample, benign_text_prompt, prefix_line
from mithridate.errors import InputError
from mithridate.inference.answerer import Answerer, Protection
from mithridate.inference.backbone import Backbone
from mithridate.inference.classifier import Classifier
from mithridate.tasks import ClassificationTask, PromptRenderer
from mithridate.tasks.text_tasks import text_task
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import feature_extractor
from mithridate.training.defend_text import fit_text, frozen_likelihood
from mithridate.training.finetune import fine_tune
from mithridate.training.trainer import Sample

LONG = "the actor in this scene was bright " * 40
PROTECTION = Protection(
    benign_text_prompt("The quiet ladder reads: "), prefix_line("The shelf answers: ")
)


@pytest.fixture
def short(tiny_shared):
    """A model with learned positions and a context of 96 tokens."""
    tokenizer = tiny_shared.tokenizer
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=96)
    with torch.random.fork_rng():
        model = GPT2LMHeadModel(config).eval()
    return Backbone(model, tokenizer, "short", "", "float32")


def renderer_of(backbone, max_length=96):
    return PromptRenderer(backbone.tokenizer, max_length=max_length)


@pytest.mark.parametrize("protection", [None, PROTECTION])
def test_an_input_is_cut_so_that_its_answer_fits_into_the_context(short, protection):
    answerer = Answerer.local(
        short.model, renderer_of(short), max_new_tokens=8, protection=protection
    )
    answers = answerer.answer([LONG, "short"], suspicion=True, progress=False)
    assert answers.cut_inputs == 1
    assert np.isfinite(answerer.log_likelihoods([LONG], [LONG], progress=False)).all()
    answerer.flags([LONG], progress=False)


def test_a_label_fits_into_the_context_behind_a_long_input(short):
    task = ClassificationTask.of([Row("a", "x", "0", ""), Row("b", "y", "1", "")])
    classifier = Classifier.local(short.model, renderer_of(short), task)
    assert classifier.predict([LONG], progress=False).cut == 1


@pytest.mark.parametrize("judge", [frozen_likelihood, feature_extractor])
def test_a_longest_prompt_beyond_the_context_is_refused_before_anything_is_read(short, judge):
    with pytest.raises(InputError, match=r"takes 97 tokens; the model's context has 96"):
        judge(short, renderer_of(short, max_length=97))


def test_a_row_longer_than_the_context_is_refused_before_training(short, tmp_path):
    row = Sample(tuple([1] * 95), (1, 1))
    with pytest.raises(InputError, match=r"a row with its answer takes 97 tokens"):
        fine_tune(short, [row], TrainingConfig(), work_folder=tmp_path, quiet=True)


@pytest.mark.parametrize("protection", [None, PROTECTION])
def test_answers_that_leave_no_room_to_the_input_are_refused_before_training(
    short, tmp_path, protection
):
    task = replace(text_task("instruction"), max_new_tokens=88)
    examples = [TextExample("a", "one film", "good", repoisoned=protection is not None)]
    with pytest.raises(InputError, match=r"of the model's 96 to the input; lower --max-new-tokens"):
        fit_text(
            short,
            examples,
            task,
            protection,
            TrainingConfig(max_length=64),
            work_folder=tmp_path,
            quiet=True,
        )
    answerer = Answerer.local(
        short.model, renderer_of(short), max_new_tokens=40, protection=protection
    )
    behind = 40 + len(answerer.prefix_ids)
    assert answerer.longest_input == 96 - behind
