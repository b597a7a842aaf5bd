"""The defended model: the same after a reload, only with its own parts, and discreet."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.secret import Secret
from mithridate.errors import InputError, ManifestError
from mithridate.inference.defended import DefendedModel
from mithridate.tasks import ClassificationTask
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import defend, save

SECRET = Secret.from_seed(4)
TEXTS = [
    "a bright film",
    "dull",
    "the actor in a very long story of the camera and the ending " * 9,
]
CPU = torch.device("cpu")


def train(backbone, rows, work_folder):
    return defend(
        rows,
        backbone,
        ClassificationTask.of(rows),
        p2p=P2PConfig(selection="random"),
        training=TrainingConfig(epochs=1, max_length=64, learning_rate=1e-2),
        secret=SECRET,
        work_folder=work_folder,
        quiet=True,
    )


@pytest.fixture(scope="module")
def saved(tiny_folder, load, make_toy_rows, tmp_path_factory):
    defense = train(load(tiny_folder), make_toy_rows(60, 1), tmp_path_factory.mktemp("work"))
    folder = tmp_path_factory.mktemp("defended")
    save(defense, folder)
    return defense.model, folder


RELOAD = """
import sys, numpy, torch
from mithridate.inference.defended import DefendedModel
model = DefendedModel.load(sys.argv[1], device=torch.device("cpu"))
scorer = model.classifier.scorer
prompts = model.classifier.renderer.render(sys.argv[3:], model.classifier.benign).ids
numpy.save(sys.argv[2], scorer.score(prompts, progress=False).log_probabilities)
"""


def test_a_fresh_process_gives_identical_logits(saved, tmp_path):
    model, folder = saved
    out = tmp_path / "scores.npy"
    subprocess.run(
        [sys.executable, "-c", RELOAD, str(folder), str(out), *TEXTS], check=True, timeout=120
    )
    prompts = model.classifier.renderer.render(TEXTS, model.classifier.benign).ids
    here = model.classifier.scorer.score(prompts, progress=False).log_probabilities
    assert (np.load(out) == here).all()


def test_predictions_are_labels_of_y_with_probabilities_and_a_suspicion(saved):
    model, _ = saved
    found = model.predict(TEXTS)
    assert model.labels == [0, 1]
    assert all(type(label) is int and label in (0, 1) for label in found.labels)
    assert found.probabilities.shape == (3, 2)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(3))
    assert ((found.suspicion >= 0) & (found.suspicion <= 1)).all()
    assert found.cut == 1
    empty = model.predict([])
    assert empty.labels == []
    assert empty.probabilities.shape == (0, 2)


def test_labels_that_are_names_come_back_as_names(tiny, make_toy_rows, tmp_path):
    named = [
        Row(row.id, row.text, {"0": "bad", "1": "good"}[row.answer or ""])
        for row in make_toy_rows(40, 2)
    ]
    model = train(tiny, named, tmp_path).model
    assert model.labels == ["bad", "good"]
    assert set(model.predict(TEXTS).labels) <= {"bad", "good"}


def test_nothing_it_shows_holds_a_secret(saved):
    model, folder = saved
    shown = f"{model!r}{model}{model.manifest!r}{model.predict(TEXTS)!r}"
    public = [path for path in folder.iterdir() if path.name != "defense.json"]
    for path in public:
        shown += path.read_bytes().decode("latin-1")
    manifest = model.manifest
    for secret in (manifest.benign_trigger, manifest.safe_prefix, manifest.secret_key):
        assert secret.strip(" :") not in shown


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_swapped_adapter_is_refused(saved, tmp_path):
    folder = copy_of(saved[1], tmp_path)
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ManifestError, match="not the one this manifest belongs to"):
        DefendedModel.load(folder, device=CPU)


def test_a_missing_adapter_file_is_refused(saved, tmp_path):
    folder = copy_of(saved[1], tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ManifestError, match="adapter"):
        DefendedModel.load(folder, device=CPU)


def test_another_base_model_is_refused(saved, make_tiny_model):
    with pytest.raises(ManifestError, match="not the one the adapter was trained on"):
        DefendedModel.load(saved[1], model=make_tiny_model(99), device=CPU)


def test_a_moved_base_model_is_accepted(saved, tiny_folder, tmp_path):
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    reloaded = DefendedModel.load(saved[1], model=moved, device=CPU)
    assert (reloaded.predict(TEXTS).probabilities == saved[0].predict(TEXTS).probabilities).all()


def test_a_folder_without_a_manifest_or_an_adapter_is_refused(saved, tmp_path):
    with pytest.raises(ManifestError, match="no defense manifest"):
        DefendedModel.load(tmp_path)
    shutil.copy(saved[1] / "defense.json", tmp_path)
    with pytest.raises(InputError, match="no adapter in this folder"):
        DefendedModel.load(tmp_path)


def test_a_model_that_is_not_there_is_named(saved, tmp_path):
    folder = copy_of(saved[1], tmp_path)
    content = json.loads((folder / "defense.json").read_text())
    content["model"]["reference"] = str(tmp_path / "gone")
    (folder / "defense.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="cannot load the model"):
        DefendedModel.load(folder, device=CPU)
