"""Pruning and INT4: what becomes of weights, exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from mithridate.baselines import find_defense
from mithridate.baselines.int4 import Int4, rounded
from mithridate.baselines.prune import Prune, pruned
from mithridate.bench.models import LabelModel
from mithridate.errors import InputError


def drawn(outputs, inputs, seed=0):
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_the_share_of_pruned_weights_is_exact_and_they_are_the_smallest(outputs, inputs, share):
    weight = drawn(outputs, inputs)
    left = pruned(weight, share)
    gone = left == 0
    assert int(gone.sum()) == round(share * weight.numel())
    assert torch.equal(left[~gone], weight[~gone])
    if gone.any() and not gone.all():
        assert weight[gone].abs().max() <= weight[~gone].abs().min()


def test_weights_of_one_size_are_pruned_to_the_share_as_well():
    assert int((pruned(torch.ones(4, 5), 0.35) == 0).sum()) == 7


@given(st.integers(1, 4), st.integers(1, 50), st.integers(1, 20))
def test_a_group_has_16_levels_at_most_and_no_error_is_above_half_a_step(outputs, inputs, group):
    weight = drawn(outputs, inputs)
    found = rounded(weight, group)
    assert found.shape == weight.shape
    for start in range(0, inputs, group):
        before, after = (part[:, start : start + group] for part in (weight, found))
        for own, new in zip(before, after, strict=True):
            assert len(new.unique()) <= 16
            step = (own.max() - own.min()) / 15
            assert (own - new).abs().max() <= step / 2 + 1e-6
            assert new.min() == own.min()
            assert new.max() == pytest.approx(own.max().item(), abs=1e-6)


def test_groups_of_equal_or_few_weights_stay_as_they_are():
    assert torch.equal(rounded(torch.full((2, 8), 0.3), 4), torch.full((2, 8), 0.3))
    assert torch.allclose(rounded(drawn(3, 10), 2), drawn(3, 10), atol=1e-6)
    halves = drawn(3, 10).bfloat16()
    assert rounded(halves, 4).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["prune", "int4"])
def test_every_layer_of_the_merged_model_is_changed_and_the_shared_one_is_not(scene, name):
    texts = [row.text for row in scene.test[:50]]
    model = scene.bench.undefended()
    before = model.probabilities(texts)
    change = {
        "prune": lambda _, weight: pruned(weight, 0.35),
        "int4": lambda _, weight: rounded(weight, 16),
    }[name]
    merged = model.altered(lambda _, weight: weight).module.state_dict()
    altered = model.altered(change).module.state_dict()
    for key, weight in altered.items():
        if key.endswith("proj.weight"):
            assert torch.equal(weight, change(key, merged[key]))
        else:
            assert torch.equal(weight, merged[key])
    settings = {"prune": {"share": 0.35}, "int4": {"group": 16}}[name]
    guarded = find_defense(name)(**settings).defend(scene.bench)
    assert guarded.answer(texts) == model.altered(change).answer(texts)
    assert (model.probabilities(texts) == before).all()


@pytest.mark.parametrize(
    "change", [lambda weight: pruned(weight, 0.35), lambda weight: rounded(weight, 16)]
)
def test_layers_that_keep_their_weights_transposed_are_changed_as_linear_ones_are(change):
    """As those of GPT-2 do."""
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)
    layers = ["c_attn", "c_fc"]
    adapter = LoraConfig(r=2, target_modules=layers, init_lora_weights=False, fan_in_fan_out=True)
    module = get_peft_model(GPT2LMHeadModel(config), adapter).eval()
    model = LabelModel(module, renderer=None, task=None)
    merged = model.altered(lambda _, weight: weight).module.state_dict()
    shapes = {}

    def noted(name, weight):
        shapes[name] = tuple(weight.shape)
        return change(weight)

    altered = model.altered(noted).module.state_dict()
    assert len(shapes) == 2 * 4
    assert (shapes["0.attn.c_attn"], shapes["0.mlp.c_fc"]) == ((96, 32), (128, 32))
    for key, weight in altered.items():
        of_layer = key.rpartition(".")[0].removeprefix("transformer.h.") in shapes
        if of_layer and key.endswith(".weight"):
            assert torch.equal(weight, change(merged[key].T).T)
            assert not torch.equal(weight, merged[key])
        else:
            assert torch.equal(weight, merged[key])


class Strange(torch.nn.Module):
    """A model whose layers hold no linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.config = GPT2Config(n_layer=2)
        self.layers = torch.nn.ModuleList([torch.nn.LayerNorm(4), torch.nn.LayerNorm(4)])


def test_a_model_of_which_no_weight_would_be_changed_is_refused():
    model = LabelModel(Strange(), renderer=None, task=None)
    with pytest.raises(InputError, match="no linear layer of a Strange is known"):
        model.altered(lambda _, weight: weight * 0)


def test_what_changes_nothing_answers_as_before(scene):
    texts = [row.text for row in scene.test]
    assert Prune(share=0.0).defend(scene.bench).answer(texts) == [
        *scene.bench.undefended().answer(texts)
    ]


def test_settings_that_are_none_are_refused():
    with pytest.raises(InputError, match="no share of the weights"):
        Prune(share=1.2)
    with pytest.raises(InputError, match="no weights"):
        Int4(group=0)
