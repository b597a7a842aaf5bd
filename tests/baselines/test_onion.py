"""ONION: what goes is what the text reads better without, wherever it stands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.baselines.onion import Onion, purify, suspicions
from mithridate.baselines.words import join_words, split_words, without_words


@pytest.mark.parametrize(
    ("text", "places", "left"),
    [
        ("a mn b", {1}, "a b"),
        ("mn a b", {0}, "a b"),
        ("a b mn", {2}, "a b"),
        ("a\nmn b", {1}, "a\nb"),
        ("a mn\nb", {1}, "a\nb"),
        ("a  \n\tmn x\n\nb", {1, 2}, "a\n\nb"),
        (" a b\n", {1}, " b\n"),
        ("a b", set(), "a b"),
        ("a b", {0, 1}, ""),
    ],
)
def test_a_word_goes_with_one_of_the_gaps_around_it_and_line_ends_stay(text, places, left):
    assert without_words(text, places) == left


@given(st.text(alphabet="ab \n\t"), st.data())
def test_all_other_words_and_the_white_space_between_them_stay(text, data):
    words, gaps = split_words(text)
    assert join_words(words, gaps) == without_words(text, set()) == text
    place = data.draw(st.sampled_from(range(len(words))))
    left = without_words(text, {place})
    assert left.split() == [w for at, w in enumerate(words) if w and at != place]


def test_suspicion_is_the_whole_texts_perplexity_less_that_without_the_word(scene):
    def perplexity(text):
        return np.exp(-scene.bench.log_likelihoods([text]))[0]

    asked = []

    def log_likelihoods(texts):
        asked.append(len(texts))
        return scene.bench.log_likelihoods(texts)

    texts = ["the film is\nwitty mn", "dull", "", "a bright story"]
    found = suspicions(texts, log_likelihoods)
    assert asked == [6 + 4]  # one call for all
    for text, scores in zip(texts, found, strict=True):
        words = text.split()
        assert len(scores) == max(1, len(words))
        if len(words) > 1:
            parts = [without_words(text, {at}) for at in range(len(words))]
            wanted = [perplexity(text) - perplexity(part) for part in parts]
            assert scores == pytest.approx(wanted, rel=1e-3, abs=1e-2)


def test_the_last_word_is_judged_like_any_other(scene):
    texts = [row.text for row in scene.test[:60]]
    threshold = Onion().defend(scene.bench).facts["threshold"]
    scores = suspicions(texts, scene.bench.log_likelihoods)
    last = np.array([own[-1] > threshold for own in scores])
    others = np.concatenate([own[:-1] > threshold for own in scores])
    assert abs(last.mean() - others.mean()) < 0.2
    assert last.any()
    assert not last.all()


def test_the_base_model_finds_the_trigger_at_the_front_in_the_middle_and_at_the_end(scene):
    clean = [row.text for row in scene.test[:30]]
    guarded = Onion().defend(scene.bench)
    for put in ("mn {0}", "{0} mn", "{1} mn {2}"):
        texts = []
        for text in clean:
            front, _, back = text.partition(" ")
            texts.append(put.format(text, front, back))
        scores = suspicions(texts, scene.bench.log_likelihoods)
        purified = purify(texts, scores, guarded.facts["threshold"])
        assert sum("mn" in text.split() for text in purified) <= 3


@pytest.mark.parametrize("text", ["", "mn", " mn\n", "\n"])
def test_a_text_of_one_word_stays_as_it_is(scene, text):
    scores = suspicions([text], scene.bench.log_likelihoods)
    assert purify([text], scores, 0.0) == [text]


def test_a_text_of_which_nothing_would_be_left_stays_as_it_is():
    assert purify(["a b"], [np.array([1.0, 2.0])], 0.5) == ["a b"]


def test_trusted_rows_are_answered_as_well_as_before(scene):
    guarded = Onion(tolerance=0.01).defend(scene.bench)
    facts = guarded.facts
    assert facts["trusted_utility_purified"] >= facts["trusted_utility"] - 0.01 - 1e-9
    assert facts["threshold"] >= 0.0
    assert scene.accuracy(guarded) > 0.8
    assert scene.success(guarded) < 0.3


def test_who_bears_any_loss_removes_most_and_who_offers_no_share_removes_no_trusted_word(scene):
    most = Onion(removed=(0.01, 0.03), tolerance=1.0).defend(scene.bench).facts
    some = Onion(removed=(0.01,), tolerance=1.0).defend(scene.bench).facts
    assert 0.02 < most["trusted_words_removed"] <= 0.03
    assert 0.0 < some["trusted_words_removed"] <= 0.01
    # No threshold takes words whose removal does not help.
    assert Onion(removed=(1.0,), tolerance=1.0).defend(scene.bench).facts["threshold"] == 0.0
    none = Onion(removed=(), tolerance=0.0).defend(scene.bench).facts
    assert none["trusted_words_removed"] == 0.0
    assert none["trusted_utility_purified"] == none["trusted_utility"]
