"""The fused LoRA layer is PEFT's own, in values and in gradients."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from mithridate.inference.lora import fused_lora

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.fixture
def adapted(sizes):
    def make(**settings):
        torch.manual_seed(0)
        base = LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=True))
        plain = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}
        lora = LoraConfig(target_modules="all-linear", **plain | settings)
        return get_peft_model(base, lora)

    return make


def gradients(model):
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    logits.square().mean().backward()
    return logits.detach(), {
        name: value.grad.clone() for name, value in model.named_parameters() if value.requires_grad
    }


def test_values_and_gradients_equal_pefts(adapted):
    model = adapted()
    logits, expected = gradients(model)
    with fused_lora(model) as count:
        fused_logits, found = gradients(model)
    assert count == 14
    assert torch.allclose(logits, fused_logits, atol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().sum() > 0
        assert torch.allclose(gradient, found[name], atol=1e-6), name


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"use_dora": True}])
def test_what_it_cannot_do_is_left_to_peft(adapted, settings):
    with fused_lora(adapted(**settings)) as count:
        assert count == 0


def test_a_block_within_a_block_leaves_the_outer_one_whole(adapted):
    model = adapted()
    with fused_lora(model):
        with fused_lora(model) as inner:
            assert inner == 0
        assert sum("forward" in vars(module) for module in model.modules()) == 14
    assert not any("forward" in vars(module) for module in model.modules())
