"""The LM head at chosen positions: the same numbers, and nothing left behind."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from mithridate.inference.attention import packs
from mithridate.inference.head import has_plain_head, head_gives, logits_at
from mithridate.inference.scorer import Scorer
from mithridate.inference.trie import LabelTrie


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


def test_another_thing_computed_by_the_head_comes_out_and_is_gone_after(tiny_shared):
    model = tiny_shared.model
    ids = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        full = model(input_ids=ids).logits
        with head_gives(model, lambda states: states[:, -1]):
            states = model(input_ids=ids).logits
        assert torch.allclose(model.get_output_embeddings()(states), full[:, -1], atol=1e-6)
        assert torch.equal(model(input_ids=ids).logits, full)


@pytest.fixture(scope="module")
def capped(sizes):
    """A model that caps its logits and its attention scores: neither short cut holds for it."""
    torch.manual_seed(0)
    config = Gemma2Config(
        **sizes,
        head_dim=8,
        final_logit_softcapping=2.0,
        attn_logit_softcapping=5.0,
    )
    return Gemma2ForCausalLM(config).eval()


def test_a_head_whose_output_is_capped_is_found_out(tiny_shared, capped):
    assert has_plain_head(tiny_shared.model)
    assert not has_plain_head(capped)
    assert not packs(capped)


@pytest.mark.parametrize("greedy", [False, True])
def test_a_capped_model_is_scored_exactly_all_the_same(capped, greedy):
    trie = LabelTrie([(5,), (6, 7), (6, 8)], 1)
    prompts = [[3, 4, 9, 2], [10, 11]]
    found = Scorer(capped, trie, 0).score(prompts, greedy=greedy, progress=False)
    for row, prompt in enumerate(prompts):
        for column, candidate in enumerate(trie.candidates):
            with torch.inference_mode():
                logits = capped(input_ids=torch.tensor([[*prompt, *candidate]])).logits[0]
            steps = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1)
            expected = sum(steps[i, token].item() for i, token in enumerate(candidate))
            assert found.log_probabilities[row, column] == pytest.approx(expected, abs=1e-4)
