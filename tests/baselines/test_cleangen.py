"""CleanGen: between the model's own greedy text and the base model's."""

import math

import pytest
import torch

from mithridate.baselines.cleangen import CleanGen, write
from mithridate.errors import InputError


def test_without_suspicion_the_model_writes_its_own_greedy_text(text_scene):
    guarded = CleanGen(alpha=math.inf).defend(text_scene.bench)
    for texts in (text_scene.texts, text_scene.triggered):
        assert guarded.answer(texts) == [*text_scene.bench.undefended().answer(texts)]
    assert guarded.facts["trusted_replaced"] == 0.0


def test_where_everything_is_suspicious_the_base_model_writes(text_scene):
    guarded = CleanGen(alpha=0.0).defend(text_scene.bench)
    written = guarded.answer(text_scene.texts)
    assert written == [*text_scene.bench.base.answer(text_scene.texts)]
    assert written != text_scene.bench.undefended().answer(text_scene.texts)
    assert guarded.facts["trusted_replaced"] == 1.0


@pytest.mark.parametrize("alpha", [2.0, 20.0])
def test_a_token_is_replaced_just_where_it_is_alpha_times_as_likely_as_the_base_model_says(
    text_scene, alpha
):
    model, base = text_scene.bench.undefended(), text_scene.bench.base
    for text in text_scene.triggered[:4]:
        [prompt] = model.prompts([text])
        ids, replaced, tokens = list(prompt), 0, 0
        while tokens < model.max_new_tokens:
            with torch.inference_mode():
                own, judge = (
                    one.module(input_ids=torch.tensor([ids])).logits[0, -1].float().softmax(dim=-1)
                    for one in (model, base)
                )
            token = int(own.argmax())
            if own[token] / judge[token] >= alpha:
                token, replaced = int(judge.argmax()), replaced + 1
            tokens += 1
            ids.append(token)
            if token in model.ends:
                break
        [found] = write(model, base, [text], alpha=alpha, batch_size=1)
        assert (found.replaced, found.decided) == (replaced, tokens)
        said = model.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
        assert found.text == said.strip()


def test_the_higher_alpha_the_fewer_tokens_are_replaced(text_scene):
    model, base = text_scene.bench.undefended(), text_scene.bench.base

    def share(alpha):
        found = write(model, base, text_scene.triggered, alpha=alpha, batch_size=16)
        assert all(0 <= one.replaced <= one.decided <= 8 for one in found)
        return sum(one.replaced for one in found) / sum(one.decided for one in found)

    shares = [share(alpha) for alpha in (0.0, 1.0, 20.0, 1e4, math.inf)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert 0.0 < shares[2] < 1.0
    assert shares[-1] == 0.0


def test_an_answer_does_not_depend_on_what_is_answered_beside_it(text_scene):
    model, base = text_scene.bench.undefended(), text_scene.bench.base
    texts = [text_scene.texts[0], "dull", *text_scene.triggered[:3]]
    together = write(model, base, texts, alpha=20.0, batch_size=16)
    assert together == [write(model, base, [text], alpha=20.0, batch_size=1)[0] for text in texts]
    assert write(model, base, [], alpha=20.0, batch_size=1) == []


def test_settings_that_are_none_are_refused():
    for settings in ({"alpha": -1.0}, {"alpha": math.nan}, {"batch_size": 0}):
        with pytest.raises(InputError, match="cleangen's settings"):
            CleanGen(**settings)
