"""The fused RMSNorm is transformers' own, in values and in gradients."""

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from mithridate.inference.norm import ALIKE, fused_norms


def norms(model):
    return [module for module in model.modules() if "RMSNorm" in type(module).__name__]


def llama(sizes, dtype=torch.float32):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes)).to(dtype).requires_grad_(False)
    for layer in norms(model):
        layer.weight.uniform_(0.5, 2.0)
    return model


def through(layer, states, gradient):
    states = states.clone().requires_grad_(True)
    out = layer(states)
    (found,) = torch.autograd.grad(out, states, gradient)
    return out.detach(), found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_equal_transformers(sizes, dtype):
    model = llama(sizes, dtype)
    layer = model.model.norm
    states, gradient = (torch.randn(2, 7, sizes["hidden_size"]).to(dtype) for _ in range(2))
    out, found = through(layer, 3 * states, gradient)
    with fused_norms(model) as count:
        fused_out, fused_found = through(layer, 3 * states, gradient)
    assert count == 5
    close = {"rtol": ALIKE[dtype], "atol": ALIKE[dtype]}
    assert torch.allclose(out, fused_out, **close)
    assert torch.allclose(found, fused_found, **close)
    assert found.abs().max() > 0.05


def test_a_whole_model_says_the_same(sizes):
    model = llama(sizes)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    expected = model(input_ids=ids).logits
    with fused_norms(model):
        assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-5)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_layer_that_scales_otherwise_or_is_trained_keeps_its_own_way(sizes):
    gemma = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, head_dim=8)).requires_grad_(False)
    for layer in norms(gemma):
        layer.weight.fill_(0.5)
    with fused_norms(gemma) as count:
        assert count == 0
    with fused_norms(llama(sizes).requires_grad_(True)) as count:
        assert count == 0


def test_a_block_within_a_block_leaves_the_outer_one_whole(sizes):
    model = llama(sizes)
    with fused_norms(model):
        with fused_norms(model) as inner:
            assert inner == 0
        assert sum("forward" in vars(module) for module in model.modules()) == 5
