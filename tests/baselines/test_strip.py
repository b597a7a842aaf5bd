"""STRIP: perturbation is fixed by the key, and low entropy is rejected."""

import numpy as np
import pytest

from mithridate.baselines.strip import Mixer, Strip, entropies
from mithridate.errors import InputError

KEY = bytes(32)


def test_a_share_of_the_words_comes_from_one_clean_text_and_white_space_stays():
    mixer = Mixer(["x1 x2 x3", "y1 y2 y3"], KEY, copies=20, share=0.5)
    text = "one  two\nthree four"
    copies = mixer.mixed(text)
    assert len(copies) == 20
    assert len(set(copies)) > 10
    for copy in copies:
        words = copy.split()
        drawn = [word for word in words if word[0] in "xy"]
        assert len(words) == 4
        assert len(drawn) == 2
        assert len({word[0] for word in drawn}) == 1
        assert [c for c in copy if c.isspace()] == [c for c in text if c.isspace()]
    assert mixer.mixed(text) == copies
    assert Mixer(mixer.donors, b"1" * 32, 20, 0.5).mixed(text) != copies


def test_a_share_of_none_leaves_the_text_and_of_all_leaves_none_of_it():
    assert Mixer(["x"], KEY, 2, 0.0).mixed("a b") == ["a b", "a b"]
    assert Mixer(["x"], KEY, 2, 1.0).mixed("a b") == ["x x", "x x"]
    assert Mixer([""], KEY, 1, 1.0).mixed("a b") == ["a b"]


def test_the_entropy_of_a_text_is_that_of_its_own_copies_whatever_stands_beside_it(scene):
    model = scene.bench.undefended()
    texts = [row.text for row in scene.test[:5]]
    mixer = Mixer([row.text for row in scene.bench.trusted], KEY, copies=4, share=0.5)
    found = entropies(model, mixer, texts)
    alone = [entropies(model, mixer, [text])[0] for text in texts]
    assert found == pytest.approx(alone, abs=1e-4)
    likely = model.probabilities(mixer.mixed(texts[0]))
    assert found[0] == pytest.approx(-(likely * np.log(likely)).sum() / 4, abs=1e-4)
    assert np.ptp(found) > 1e-3
    assert entropies(model, mixer, []).shape == (0,)


def test_clean_rows_are_rejected_as_often_as_was_allowed_and_the_rest_answered_as_before(scene):
    guarded = Strip(rejected=0.1).defend(scene.bench)
    assert 0.0 < guarded.facts["trusted_rejected"] <= 0.1
    texts = [row.text for row in scene.test]
    answers = guarded.answer(texts)
    rejected = answers.count(None) / len(answers)
    assert rejected <= 0.3
    plain = scene.bench.undefended().answer(texts)
    assert all(own in (None, other) for own, other in zip(answers, plain, strict=True))
    # What is rejected is what has the lowest entropy.
    trusted = [row.text for row in scene.bench.trusted]
    mixer = Mixer(trusted, scene.bench.key, Strip().copies, Strip().share)
    found = entropies(scene.bench.undefended(), mixer, texts)
    assert [given is None for given in answers] == (found < guarded.facts["threshold"]).tolist()
    everyone = Strip(rejected=0.9).defend(scene.bench).answer(texts)
    assert everyone.count(None) > len(texts) / 2
    assert all(own is None for own, one in zip(everyone, answers, strict=True) if one is None)


def test_fewer_rows_than_one_in_the_share_reject_none_of_themselves(scene):
    facts = Strip(rejected=0.01, copies=2).defend(scene.bench).facts
    assert len(scene.bench.trusted) < 100
    assert facts["trusted_rejected"] == 0.0


@pytest.mark.parametrize("settings", [{"copies": 0}, {"share": 1.5}, {"rejected": 1.0}])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(InputError, match="strip's settings"):
        Strip(**settings)
