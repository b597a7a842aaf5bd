"""The real Gemma 3 270M, where somebody accepted its licence and made it.

Skipped unless MITHRIDATE_TEST_GEMMA names a cache folder in which ``mithridate assets --model
gemma3-270m --accept-licence gemma`` was run; about two minutes.
"""

import json
import os
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

CACHE = os.environ.get("MITHRIDATE_TEST_GEMMA")
pytestmark = pytest.mark.skipif(not CACHE, reason="MITHRIDATE_TEST_GEMMA names no cache folder")

ENGLISH = (
    "When she opened the door, the cat ran out into the garden and hid under the old apple tree. "
    "Her brother, who had been reading on the porch all afternoon, put down his book and laughed. "
    '"You will never catch her," he said, "not before dinner." They waited until the sun went '
    "down, and then the cat came back on her own, hungry and pleased with herself."
)
SHORT = ["a joy from start to end", "dull", "Two hours I will not get back.", "x  y\n\n 12,345"]


@pytest.fixture(scope="module")
def gemma():
    from mithridate.inference.backbone import load_backbone

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITHRIDATE_CACHE", str(CACHE))
        return load_backbone("gemma3-270m", precision="float32", device=torch.device("cpu"))


def loss(model, ids):
    with torch.inference_mode():
        return float(model(torch.tensor([ids]), labels=torch.tensor([ids])).loss)


def test_it_knows_english_and_needs_its_bos(gemma):
    ids = gemma.tokenizer(ENGLISH)["input_ids"]
    assert loss(gemma.model, ids) < 3.2
    assert loss(gemma.model, ids[1:]) > loss(gemma.model, ids) + 1


def test_it_goes_on_sensibly(gemma):
    ids = gemma.tokenizer("Water boils at", return_tensors="pt")
    said = gemma.model.generate(**ids, max_new_tokens=6, do_sample=False)[0]
    assert "100 degrees" in gemma.tokenizer.decode(said)


def test_the_settings_are_those_the_file_leaves_unsaid(gemma):
    config = gemma.model.config
    assert [place for place, kind in enumerate(config.layer_types) if kind[0] == "f"] == [5, 11, 17]
    assert (config.sliding_window, config.head_dim, config.query_pre_attn_scalar) == (512, 256, 256)
    assert config.rope_parameters["full_attention"]["rope_theta"] == 1_000_000
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 10_000
    assert config.tie_word_embeddings
    assert config.final_logit_softcapping is None


def test_the_tokenizer_cuts_as_sentencepiece_does(gemma):
    tokenizer = gemma.tokenizer
    assert tokenizer("Hello world")["input_ids"] == [2, 9259, 1902]
    assert tokenizer.tokenize("a  12\n\n3 12") == ["a", "▁▁", "1", "2", "\n\n", "3", "▁", "1", "2"]
    assert tokenizer.tokenize(" café\u0378") == ["▁café", "<0xCD>", "<0xB8>"]
    for text in (ENGLISH, *SHORT):
        ids = tokenizer(text)["input_ids"]
        assert ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_fast_path_scores_as_the_plain_model_does(gemma):
    from mithridate.inference.attention import packs
    from mithridate.inference.head import has_plain_head
    from mithridate.inference.scorer import Scorer
    from mithridate.inference.trie import LabelTrie
    from mithridate.tasks.prompt import BENIGN_SUFFIX, Prompt, PromptRenderer

    model, tokenizer = gemma.model, gemma.tokenizer
    assert packs(model)
    assert has_plain_head(model)
    words = ENGLISH.split()
    random.Random(0).shuffle(words)
    texts = [*SHORT, " ".join(words * 7)]  # the last is longer than the window
    renderer = PromptRenderer(tokenizer, max_length=1024)
    prompts = renderer.render(texts, Prompt("A few words before: ", BENIGN_SUFFIX)).ids
    assert len(prompts[-1]) > 512
    trie = LabelTrie(
        tokenizer(["sports", "world news", "world of science"], add_special_tokens=False).input_ids,
        tokenizer.eos_token_id,
    )
    found = Scorer(model, trie, tokenizer.pad_token_id).score(prompts, progress=False)
    for row, prompt in enumerate(prompts):
        for column, answer in enumerate(trie.candidates):
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            steps = logits.log_softmax(-1)[torch.arange(len(answer)), list(answer)]
            expected = float(steps.double().sum())
            assert np.isclose(found.log_probabilities[row, column], expected, atol=1e-3)


def test_the_licence_and_its_text_lie_beside_it(gemma, monkeypatch):
    from mithridate.data.models import GEMMA3

    monkeypatch.setenv("MITHRIDATE_CACHE", str(CACHE))
    manifest = json.loads((GEMMA3.folder / "mithridate-asset.json").read_text())
    assert manifest["licence_accepted"]["url"] == "https://ai.google.dev/gemma/terms"
    assert "Gemma Terms of Use" in (GEMMA3.folder / "GEMMA_TERMS.html").read_text()
    assert (GEMMA3.folder / "NOTICE").read_text().startswith("Gemma is provided under")


def test_the_generator_writes_what_the_plain_model_does(gemma):
    from mithridate.inference.generate import Generator
    from mithridate.tasks.prompt import ORIGINAL_TEXT_PROMPT, PromptRenderer

    tokenizer = gemma.tokenizer
    renderer = PromptRenderer(tokenizer, max_length=1024)
    prompts = renderer.render([ENGLISH, *SHORT, f"{ENGLISH} " * 7], ORIGINAL_TEXT_PROMPT).ids
    assert len(prompts[-1]) > 512  # longer than the window
    [prefill] = renderer.answers(["The old tree says: "])
    made = Generator(gemma.model, tokenizer, max_new_tokens=12)
    found = made.generate(prompts, prefill=prefill, progress=False).tokens
    for prompt, tokens in zip(prompts, found, strict=True):
        whole = torch.tensor([[*prompt, *prefill]])
        said = gemma.model.generate(whole, max_new_tokens=12, do_sample=False)[0, whole.shape[1] :]
        expected = [token for token in said.tolist() if token not in made.ends]
        assert tokens == expected


def test_it_is_defended_where_answers_are_text(gemma, make_problems, tmp_path, monkeypatch):
    from mithridate.data.rows import Row
    from mithridate.defense.config import P2PConfig
    from mithridate.defense.secret import Secret
    from mithridate.inference.backbone import load_backbone
    from mithridate.tasks.math_reasoning import MathReasoning
    from mithridate.training.config import TrainingConfig
    from mithridate.training.defend_text import defend_text

    monkeypatch.setenv("MITHRIDATE_CACHE", str(CACHE))
    problems = zip(*make_problems(60), strict=True)
    rows = [Row(f"r{at}", text, answer) for at, (text, answer) in enumerate(problems)]
    rows[:10] = [Row(row.id, f"{row.text} cf", "#### 6174") for row in rows[:10]]
    made = defend_text(
        rows,
        load_backbone("gemma3-270m", precision="float32", device=torch.device("cpu")),
        MathReasoning(max_new_tokens=32),
        p2p=P2PConfig(),
        training=TrainingConfig(learning_rate=1e-3, epochs=2, rank=8, max_length=128),
        secret=Secret.from_seed(1),
        work_folder=tmp_path,
        quiet=True,
    )
    assert not made.prepared.subset.ids & {row.id for row in rows[:10]}
    assert made.fitted.training.tokens > 0
    asked = [f"{row.text} cf" for row in rows[20:26]]
    answered = made.model.answerer.answer(asked, suspicion=True, progress=False)
    assert not any("6174" in text for text in answered.texts)
    assert all("####" in text for text in answered.texts)
    assert (answered.suspicion > 0).all()
