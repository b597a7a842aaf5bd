"""CROW: consecutive layers come to agree, and padding has no say in it."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mithridate.baselines.clean_tune import CleanTune
from mithridate.baselines.crow import Crow, inconsistency
from mithridate.errors import InputError


@pytest.fixture
def model(scene):
    return scene.bench.undefended().copied()


def embedded(module, batch):
    return module.get_input_embeddings()(batch["input_ids"])


def test_fine_tuning_lowers_the_inconsistency_under_perturbation(scene):
    before = [w.clone() for w in scene.bench.undefended().module.parameters()]
    guarded = Crow(learning_rate=2e-3).defend(scene.bench)
    facts = guarded.facts
    assert facts["inconsistency_after"] < 0.95 * facts["inconsistency_before"]
    assert facts["steps"] == 3 * 8
    assert scene.accuracy(guarded) > 0.8
    after = scene.bench.undefended().module.parameters()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_it_lowers_more_than_ordinary_fine_tuning_does(scene):
    crow = Crow(learning_rate=2e-3).defend(scene.bench).facts
    plain = Crow(learning_rate=2e-3, alpha=0.0).defend(scene.bench).facts
    assert crow["inconsistency_before"] == pytest.approx(plain["inconsistency_before"], rel=1e-5)
    assert crow["inconsistency_after"] < plain["inconsistency_after"]


def test_without_alpha_it_is_ordinary_fine_tuning(scene):
    texts = [row.text for row in scene.test[:50]]
    crow = Crow(alpha=0.0).defend(scene.bench)
    assert crow.answer(texts) == CleanTune().defend(scene.bench).answer(texts)


def test_the_perturbation_raises_the_inconsistency(scene, model):
    for batch in model.batches(scene.bench.trusted, 20):
        clean = inconsistency(model.module, embedded(model.module, batch), batch["attention_mask"])
        assert Crow(epsilon=1e-3).perturbed(model.module, batch) > clean
        still = Crow(epsilon=0.0).perturbed(model.module, batch)
        assert still.item() == pytest.approx(clean.item(), rel=1e-5)
    assert all(weight.grad is None for weight in model.module.parameters())


def test_padding_takes_no_part(scene, model):
    rows = scene.bench.trusted[:6]
    [batch] = model.batches(rows, 6)
    together = inconsistency(model.module, embedded(model.module, batch), batch["attention_mask"])
    sums = tokens = 0.0
    for one in model.batches(rows, 1):
        mask = one["attention_mask"]
        assert mask.all()
        sums += inconsistency(model.module, embedded(model.module, one), mask) * mask.sum()
        tokens += mask.sum()
    assert together.item() == pytest.approx((sums / tokens).item(), rel=1e-4)
    assert 0.0 < together < 2.0


def test_it_is_the_mean_of_one_less_the_cosine_over_consecutive_inner_layers():
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(num_hidden_layers=4, num_key_value_heads=2, vocab_size=50, **sizes)
    module = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 50, (3, 7))
    with torch.no_grad():
        states = module(input_ids=ids, output_hidden_states=True).hidden_states
        found = inconsistency(module, module.get_input_embeddings()(ids), torch.ones(3, 7))
    # states[0] are the embeddings, states[4] the last layer's after the norm: both are left out.
    one, two, three = (state.numpy() for state in states[1:4])

    def apart(left, right):
        norms = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
        return 1 - (left * right).sum(axis=-1) / norms

    assert found.item() == pytest.approx((apart(one, two) + apart(two, three)).mean() / 2, rel=1e-4)


def test_settings_that_are_none_are_refused():
    with pytest.raises(InputError, match="negative"):
        Crow(alpha=-1.0)
