"""The manifest: whole, private, and silent about its secrets."""

import json
import stat

import pytest

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.manifest import (
    DefenseManifest,
    ModelFacts,
    SubsetFacts,
    dataset_fingerprint,
)
from mithridate.defense.secret import Secret
from mithridate.errors import ManifestError

SECRET = Secret.from_seed(8)
ROWS = [Row("a", "one", "x"), Row("b", "two", "y"), Row("c", "three", None)]


@pytest.fixture
def manifest():
    return DefenseManifest(
        version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        labels=("x", "y"),
        words=("0", "1", "2", "3"),
        benign_trigger=SECRET.benign_trigger(),
        safe_prefix=SECRET.safe_prefix(),
        secret_key=SECRET.key.hex(),
        config=P2PConfig(selection="anchored", benign_ratio=0.3),
        dataset=dataset_fingerprint(ROWS),
        subset=SubsetFacts(selection="anchored", rows=1, wanted=1, disagreeing=0),
        model=ModelFacts(reference="m", fingerprint="f", precision="float32"),
    )


def leaks(text):
    secrets = (SECRET.benign_trigger().strip(" :"), SECRET.safe_prefix().strip(" :"))
    return [secret for secret in (*secrets, SECRET.key.hex()) if secret in text]


def test_a_manifest_reads_back_as_it_was_written(manifest, tmp_path):
    path = manifest.save(tmp_path)
    assert path == tmp_path / "defense.json"
    assert DefenseManifest.load(path) == DefenseManifest.load(tmp_path) == manifest
    assert manifest.classification_task().labels == ("x", "y")
    assert manifest.benign_prompt().prefix == SECRET.benign_trigger()


def test_only_its_owner_may_read_it_even_after_an_open_one_is_replaced(manifest, tmp_path):
    (tmp_path / "defense.json").write_text("{}")
    (tmp_path / "defense.json").chmod(0o644)
    path = manifest.save(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_never_prints_its_secrets(manifest):
    assert leaks(repr(manifest) + str(manifest) + f"{manifest}") == []


def refused(path):
    with pytest.raises(ManifestError) as caught:
        DefenseManifest.load(path)
    error = caught.value
    assert leaks(f"{error}{error!r}") == []
    assert str(path) in str(error)
    assert "\n" not in str(error)
    return str(error)


def test_a_missing_manifest_is_named(tmp_path):
    assert "no defense manifest" in refused(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_schema_version_is_refused(manifest, tmp_path, version):
    content = json.loads(manifest.model_dump_json())
    content["schema_version"] = version
    (tmp_path / "defense.json").write_text(json.dumps(content))
    assert "schema version" in refused(tmp_path)


@pytest.mark.parametrize(
    "damage", ["cut", "binary", "a list", "extra", "missing", "wrong type", "short key", "mode"]
)
def test_a_malformed_manifest_is_refused_without_being_quoted(manifest, tmp_path, damage):
    text = manifest.model_dump_json(indent=2)
    content = json.loads(text)
    path = tmp_path / "defense.json"
    match damage:
        case "cut":
            path.write_text(text[:-20])
        case "binary":
            path.write_bytes(b"\xff\xfe\x00" + text.encode())
        case "a list":
            path.write_text(json.dumps([content]))
        case "extra":
            path.write_text(json.dumps(content | {"surplus": content["benign_trigger"]}))
        case "missing":
            del content["labels"]
            path.write_text(json.dumps(content))
        case "wrong type":
            path.write_text(json.dumps(content | {"benign_trigger": [content["secret_key"]]}))
        case "short key":
            path.write_text(json.dumps(content | {"secret_key": content["secret_key"][:-1]}))
        case "mode":
            path.write_text(json.dumps(content | {"config": {"mode": "elsewhere"}}))
    refused(path)


def test_the_fingerprint_is_blind_to_order_and_sees_every_content():
    straight = dataset_fingerprint(ROWS)
    assert dataset_fingerprint(ROWS[::-1]) == straight
    assert dataset_fingerprint([Row("a", "one", "x", "f:1"), *ROWS[1:]]) == straight
    assert straight.rows == 3
    others = [
        ROWS[:2],
        [*ROWS, ROWS[0]],
        [Row("z", "one", "x"), *ROWS[1:]],
        [Row("a", "One", "x"), *ROWS[1:]],
        [Row("a", "one", "y"), *ROWS[1:]],
        [Row("a", "one", None), *ROWS[1:]],
    ]
    assert len({dataset_fingerprint(rows).fingerprint for rows in [ROWS, *others]}) == 7
