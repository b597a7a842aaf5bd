"""Scores of label words equal those of the model run on each candidate alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mithridate.errors import InputError
from mithridate.inference.classifier import Classifier, label_trie
from mithridate.inference.scorer import Scorer
from mithridate.inference.trie import LabelTrie
from mithridate.tasks import ClassificationTask, PromptRenderer
from mithridate.tasks.classification import default_label_words

PROMPTS = [
    "a bright film\nOutput: ",
    "x\nOutput: ",
    "the actor and the camera in a dull and clumsy story of the scene with an ending\nOutput: ",
    "stale\nOutput: ",
]


def alone(model, prompt, candidate):
    """Sum a candidate's token log probabilities: one row, no padding, no trie."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *candidate]])).logits[0].float()
    steps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return float(steps[torch.arange(len(candidate)), list(candidate)].double().sum())


def scored(tiny, words):
    tokenizer = tiny.tokenizer
    candidates = tokenizer(list(words), add_special_tokens=False)["input_ids"]
    trie = LabelTrie(candidates, tokenizer.eos_token_id)
    prompts = tokenizer(PROMPTS)["input_ids"]
    return prompts, trie, Scorer(tiny.model, trie, tokenizer.pad_token_id)


WORDS = {
    "single tokens": ["0", "1", "2", "3"],
    "several tokens": ["positive", "negative", "neither of the two", "0"],
    "beginnings of others": ["1", "12", "123", "2", "posi", "positive"],
    "a hundred classes": default_label_words(200),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_scores_equal_each_candidate_run_alone(tiny_shared, words):
    prompts, trie, scorer = scored(tiny_shared, words)
    found = scorer.score(prompts, greedy=True, progress=False).log_probabilities
    chosen = range(0, len(words), max(1, len(words) // 12))
    for row, prompt in enumerate(prompts):
        for index in chosen:
            expected = alone(tiny_shared.model, prompt, trie.candidates[index])
            assert found[row, index] == pytest.approx(expected, abs=1e-4)


def test_an_end_is_appended_only_where_a_candidate_begins_another(tiny_shared):
    eos = tiny_shared.tokenizer.eos_token_id
    _, nested, _ = scored(tiny_shared, WORDS["beginnings of others"])
    _, apart, _ = scored(tiny_shared, WORDS["several tokens"])
    assert all(candidate[-1] == eos for candidate in nested.candidates)
    assert not any(eos in candidate for candidate in apart.candidates)


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_a_batch_of_mixed_lengths_equals_one_by_one(tiny_shared, words):
    prompts, _, scorer = scored(tiny_shared, words)
    together = scorer.score(prompts, greedy=True, progress=False)
    apart = [scorer.score([prompt], greedy=True, progress=False) for prompt in prompts]
    assert together.log_probabilities == pytest.approx(
        np.concatenate([scores.log_probabilities for scores in apart]), abs=1e-5
    )
    assert together.greedy.tolist() == [int(scores.greedy[0]) for scores in apart]


def test_greedy_is_what_generate_gives(tiny_shared):
    tokenizer, model = tiny_shared.tokenizer, tiny_shared.model
    prompts = tokenizer(PROMPTS)["input_ids"]
    generated = [
        model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=3, eos_token_id=None
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    eos = tokenizer.eos_token_id
    distinct = list({tuple(row): None for row in generated})
    candidates = [*distinct[:-1], (eos, eos, eos), (5, 6, 7, 8)]  # the last answer is none of them
    scorer = Scorer(model, LabelTrie(candidates, eos), tokenizer.pad_token_id)
    expected = [
        candidates.index(tuple(row)) if tuple(row) in candidates else -1 for row in generated
    ]
    assert -1 in expected
    assert scorer.score(prompts, greedy=True, progress=False).greedy.tolist() == expected


def test_scores_of_bfloat16_weights_are_not_rounded_to_bfloat16(tiny):
    tiny.model.bfloat16()
    prompts, _, scorer = scored(tiny, ["0", "1"])
    found = scorer.score(prompts, progress=False).log_probabilities
    odds = torch.tensor(found[:, 0] - found[:, 1])
    assert ((odds - odds.bfloat16().double()).abs() > 1e-9).all()


def test_no_prompts_give_no_scores(tiny_shared):
    _, _, scorer = scored(tiny_shared, ["0", "1"])
    assert scorer.score([], progress=False).log_probabilities.shape == (0, 2)


def test_words_that_are_the_same_tokens_or_none_are_refused():
    with pytest.raises(InputError, match="same tokens"):
        LabelTrie([(1, 2), (1, 2)], 0)
    with pytest.raises(InputError, match="none at all"):
        LabelTrie([(1, 2), ()], 0)


def test_default_words_of_up_to_five_classes_take_one_forward_position(tiny_shared):
    renderer = PromptRenderer(tiny_shared.tokenizer, max_length=64)
    for n in (2, 3, 5):
        labels = tuple(f"c{index}" for index in range(n))
        trie = label_trie(ClassificationTask(labels, default_label_words(2 * n)), renderer)
        assert len(trie.nodes) == 1


def test_a_model_that_diverged_gives_no_answer(tiny):
    task = ClassificationTask(("bad", "good"), default_label_words(4))
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight.fill_(float("nan"))
    classifier = Classifier.local(tiny.model, PromptRenderer(tiny.tokenizer, max_length=64), task)
    with pytest.raises(InputError, match="the model's probabilities are no numbers; check its"):
        classifier.predict(["a film"], progress=False)


def test_threads_that_share_a_model_get_the_scores_each_would_get_alone(tiny_shared):
    prompts, _, scorer = scored(tiny_shared, ["0", "1", "23"])
    expected = [scorer.score([prompt], progress=False).log_probabilities for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda prompt: scorer.score([prompt], progress=False), prompts)
            for scores, alone in zip(found, expected, strict=True):
                np.testing.assert_allclose(scores.log_probabilities, alone, atol=1e-5)
