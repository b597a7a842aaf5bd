"""A packed batch gives every row what it would get alone, and so do its gradients."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from mithridate.inference.attention import packed, packs
from mithridate.inference.batching import begun_batches, packed_batch, padded_batch, shared_prefix
from mithridate.inference.packing import pack, pack_begun
from mithridate.inference.trie import Branch


@pytest.fixture(scope="module")
def llama(sizes):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**sizes)).eval()


def alone(model, row):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([row])).logits[0]


def together(model, batch):
    with torch.inference_mode(), packed(model):
        return model(**batch.inputs, use_cache=False).logits[batch.rows, batch.columns]


def rows_of(seed, lengths, common=()):
    rng = random.Random(seed)
    return [[*common, *(rng.randrange(64) for _ in range(length))] for length in lengths]


@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=6),
    st.integers(0, 5),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_every_row_gets_what_it_gets_alone(llama, lengths, common, has):
    prefix = [9, 8, 7, 6, 5][:common]
    rows = [
        row[common:] if not has[place] else row
        for place, row in enumerate(rows_of(1, lengths, prefix))
    ]
    batch = packed_batch(rows, [common if has[place] else 0 for place in range(len(rows))])
    found = together(llama, batch)
    for row, logits in zip(rows, found, strict=True):
        assert torch.allclose(logits, alone(llama, row)[-1], atol=1e-4)


def test_a_shared_prefix_is_laid_down_once_and_a_lone_one_not_apart():
    rows = rows_of(2, [3, 4, 5], [1, 2, 3]) + rows_of(3, [2], [4, 4])
    batch = pack(rows, [3, 3, 3, 2])
    assert batch.input_ids.shape[1] == 3 + 3 + 4 + 5 + 4
    assert [segment.prefix for segment in batch.segments] == [-1, 0, 0, 0, -1]


def test_a_row_goes_on_from_the_middle_of_another(llama):
    text = rows_of(8, [30])[0]
    rows = [text, text[:20] + text[21:], rows_of(9, [25])[0], text[:9] + text[10:], text[:28]]
    [(order, begun)] = begun_batches(rows, 0, 1000)
    assert order == [0, 1, 2, 3, 4]
    assert begun == [(-1, 0), (0, 20), (-1, 0), (0, 8), (0, 24)]
    batch = pack_begun(rows, begun)
    assert batch.input_ids.shape[1] == 30 + 9 + 25 + 21 + 4
    with torch.inference_mode(), packed(llama):
        logits = llama(**batch.inputs(), use_cache=False).logits[0]
    for at, row in enumerate(rows):
        assert torch.allclose(logits[batch.places(at)], alone(llama, row), atol=1e-4)


def test_a_batch_of_rows_that_begin_alike_holds_what_it_may_and_every_row_once():
    text = rows_of(10, [60])[0]
    rows = [text, *(text[:at] + text[at + 1 :] for at in range(60)), *rows_of(11, [200, 3])]
    batches = list(begun_batches(rows, 0, 100))
    assert sorted(at for order, _ in batches for at in order) == list(range(len(rows)))
    assert batches[0][0] == [61]  # too long for any batch, and so alone
    for order, begun in batches[1:]:
        assert begun[0] == (-1, 0)
        assert pack_begun([rows[at] for at in order], begun).input_ids.numel() <= 100


def test_gradients_equal_those_of_padded_rows(llama):
    rows = rows_of(4, [3, 40, 5], [1, 2, 3]) + rows_of(5, [2, 7])
    labels = torch.tensor([5, 6, 7, 8, 9])
    found = []
    for batch, way in (
        (packed_batch(rows, [3, 3, 3, 0, 0]), packed(llama)),
        (padded_batch(rows, 0), torch.enable_grad()),
    ):
        llama.zero_grad()
        with way:
            logits = llama(**batch.inputs, use_cache=False).logits[batch.rows, batch.columns]
        torch.nn.functional.cross_entropy(logits, labels).backward()
        found.append({name: value.grad.clone() for name, value in llama.named_parameters()})
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name


def test_branches_see_their_row_and_their_ancestors_alone(llama):
    rows = rows_of(6, [3, 20, 6], [1, 2])
    branches = [Branch(10, 1, (0,)), Branch(11, 2, (0, 1)), Branch(12, 1, (2,))]
    for batch, way in (
        (packed_batch(rows, [2, 2, 2], branches), packed(llama)),
        (padded_batch(rows, 0, branches), torch.enable_grad()),
    ):
        with torch.inference_mode(), way:
            logits = llama(**batch.inputs, use_cache=False).logits
        for place, row in enumerate(rows):
            for branch, path in enumerate(([10], [10, 11], [12])):
                found = logits[batch.rows[place], batch.branches[place, branch]]
                assert torch.allclose(found, alone(llama, [*row, *path])[-1], atol=1e-4)


def test_a_sliding_window_hides_what_lies_beyond_it(sizes):
    torch.manual_seed(1)
    model = MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)).eval()
    rows = rows_of(7, [30, 4, 12], [1, 2, 3])
    assert packs(model)
    for row, logits in zip(rows, together(model, packed_batch(rows, [3, 3, 3])), strict=True):
        assert torch.allclose(logits, alone(model, row)[-1], atol=1e-4)


@pytest.fixture(scope="module")
def gemma(sizes):
    """A Gemma 3: scaled embedding tied to the head, norms of q and k, window in every other layer.

    Its layers differ in the base of their rotary positions, too.
    """
    torch.manual_seed(3)
    kinds = ["sliding_attention", "full_attention"]
    settings = {"head_dim": 16, "sliding_window": 8, "layer_types": kinds}
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **settings)).eval()


def test_layers_with_and_without_a_window_pack_alike(gemma):
    rows = rows_of(8, [30, 4, 12, 9], [1, 2, 3])
    assert packs(gemma)
    found = together(gemma, packed_batch(rows, [3, 3, 3, 3]))
    for row, logits in zip(rows, found, strict=True):
        assert torch.allclose(logits, alone(gemma, row)[-1], atol=1e-4)


def test_the_window_binds_training_too(gemma):
    rows = rows_of(9, [30, 4, 12], [1, 2, 3])
    labels = torch.tensor([5, 6, 7])
    found = []
    for batch, way in (
        (packed_batch(rows, [3, 3, 3]), packed(gemma)),
        (padded_batch(rows, 0), torch.enable_grad()),
    ):
        gemma.zero_grad()
        with way:
            logits = gemma(**batch.inputs, use_cache=False).logits[batch.rows, batch.columns]
        torch.nn.functional.cross_entropy(logits, labels).backward()
        found.append({name: value.grad.clone() for name, value in gemma.named_parameters()})
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_branches_do_not_see_beyond_a_window_either(family, gemma, sizes):
    torch.manual_seed(1)
    mistral = MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)).eval()
    model = {"gemma": gemma, "mistral": mistral}[family]
    rows = rows_of(10, [20, 3, 6], [1, 2])
    branches = [Branch(10, 1, (0,)), Branch(11, 2, (0, 1)), Branch(12, 1, (2,))]
    for batch, way in (
        (packed_batch(rows, [2, 2, 2], branches), packed(model)),
        (padded_batch(rows, 0, branches, config=model.config), torch.enable_grad()),
    ):
        with torch.inference_mode(), way:
            logits = model(**batch.inputs_on("cpu"), use_cache=False).logits
        for place, row in enumerate(rows):
            for branch, path in enumerate(([10], [10, 11], [12])):
                found = logits[batch.rows[place], batch.branches[place, branch]]
                assert torch.allclose(found, alone(model, [*row, *path])[-1], atol=1e-4)


def test_a_model_that_packed_batches_would_change_is_found_out(sizes):
    torch.manual_seed(2)
    assert packs(LlamaForCausalLM(LlamaConfig(**sizes)))
    leaky = LlamaForCausalLM(LlamaConfig(**sizes))
    # Positions that a packed batch does not restart stand for whatever mixes rows otherwise.
    rotary = leaky.model.rotary_emb.forward
    leaky.model.rotary_emb.forward = lambda states, position_ids: rotary(
        states, torch.arange(states.shape[1])[None]
    )
    leaky.model.norm.forward = lambda states: states.cumsum(1)
    assert not packs(leaky)
    dropping = LlamaForCausalLM(LlamaConfig(**sizes, attention_dropout=0.1))
    assert not packs(dropping)


def test_the_attention_of_the_model_is_put_back(llama):
    before = llama.config._attn_implementation
    with packed(llama):
        assert llama.config._attn_implementation != before
    assert llama.config._attn_implementation == before


def test_the_shared_prefix_leaves_every_row_a_token_of_its_own():
    assert shared_prefix([[1, 2, 3], [1, 2, 4]]) == 2
    assert shared_prefix([[1, 2], [1, 2]]) == 1
    assert shared_prefix([[1], [1, 2]]) == 0
    assert shared_prefix([[5, 1], [6, 1]]) == 0
    assert shared_prefix([[1, 2, 3]]) == 0
