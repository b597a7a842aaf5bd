"""The LM head at chosen positions: the same numbers, and nothing left behind."""

import pytest
import torch

from mithridate.inference.head import logits_at


def test_logits_equal_the_full_ones_at_their_positions(tiny_shared):
    model = tiny_shared.model
    ids = torch.arange(4 * 9).reshape(4, 9) % 250
    rows, columns = torch.tensor([0, 0, 3, 2, 0]), torch.tensor([8, 1, 0, 5, 8])
    with torch.inference_mode():
        full = model(input_ids=ids).logits
        with logits_at(model, rows, columns):
            some = model(input_ids=ids).logits
        after = model(input_ids=ids).logits
    assert some.shape == (5, full.shape[-1])
    assert torch.allclose(some, full[rows, columns], atol=1e-6)
    assert torch.equal(after, full)


def test_the_hook_is_gone_even_after_an_error(tiny_shared):
    head = tiny_shared.model.get_output_embeddings()
    index = torch.tensor([0])

    def fail():
        with logits_at(tiny_shared.model, index, index):
            assert len(head._forward_pre_hooks) == 1
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert not head._forward_pre_hooks
