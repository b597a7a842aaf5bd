"""Pooled hidden states: of the real tokens, of the layer asked for, and of no layer above."""

import numpy as np
import pytest
import torch

from mithridate.inference import features as features_module
from mithridate.inference.features import decoder_layers, pooled_states

ROWS = [[5, 6, 7, 8, 9, 10, 11], [12], [200, 201, 202], [7] * 30, [13, 14]]


@pytest.mark.parametrize("tokens", [4096, 40, 1])
def test_states_equal_the_models_own_hidden_states_in_the_rows_order(
    tiny_shared, monkeypatch, tokens
):
    monkeypatch.setattr(features_module, "tokens_per_batch", lambda _device: tokens)
    found = pooled_states(tiny_shared.model, ROWS, layer=1, progress=False)
    for row, pooled in zip(ROWS, found, strict=True):
        with torch.inference_mode():
            states = tiny_shared.model(
                input_ids=torch.tensor([row]), output_hidden_states=True
            ).hidden_states[1]
        assert pooled == pytest.approx(states[0].mean(0).numpy(), abs=1e-5)
    assert found.dtype == np.float32


def test_the_layers_above_are_never_run_and_no_hook_stays(tiny_shared):
    layers = decoder_layers(tiny_shared.model)
    runs = [0, 0]
    hooks = [len(layer._forward_hooks) for layer in layers]

    def count(place):
        def hook(*_):
            runs[place] += 1

        return hook

    handles = [layer.register_forward_pre_hook(count(i)) for i, layer in enumerate(layers)]
    try:
        pooled_states(tiny_shared.model, ROWS, layer=1, progress=False)
    finally:
        for handle in handles:
            handle.remove()
    assert runs[0] >= 1
    assert runs[1] == 0
    assert [len(layer._forward_hooks) for layer in layers] == hooks


def test_no_layer_named_means_the_middle_one(tiny_shared):
    middle = pooled_states(tiny_shared.model, ROWS, progress=False)
    assert (middle == pooled_states(tiny_shared.model, ROWS, layer=1, progress=False)).all()


def test_no_rows_give_no_states(tiny_shared):
    assert len(pooled_states(tiny_shared.model, [], progress=False)) == 0
