"""What a model's folder holds is data: no pickle is opened, and no code of it runs unasked."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from mithridate.defense.text import TextExample
from mithridate.errors import InputError
from mithridate.inference.backbone import load_backbone
from mithridate.tasks import PromptRenderer
from mithridate.training.samples import tokenize_text

CPU = {"precision": "float32", "device": torch.device("cpu")}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model, to spoil."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def pickle_weights(folder, name):
    """Put a pickle of the same weights in the place of the safetensors file."""
    [weights] = folder.glob("*.safetensors")
    torch.save(load_file(weights), folder / name)
    weights.unlink()


def test_a_model_whose_weights_are_a_pickle_is_refused(folder):
    pickle_weights(folder, "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        load_backbone(folder, **CPU)


LOAD = """
import sys, torch
from mithridate.errors import InputError
from mithridate.inference.backbone import load_backbone
try:
    load_backbone(sys.argv[1], device=torch.device("cpu"), trust_remote_code=sys.argv[2] == "True")
except InputError:
    pass  # what their code is good for is not asked here
"""


@pytest.mark.parametrize("trusted", [False, True])
def test_code_in_a_models_folder_runs_only_where_it_is_trusted(folder, tmp_path, trusted):
    ran = tmp_path / "ran"
    (folder / "theirs.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import LlamaForCausalLM as Theirs, LlamaConfig as TheirConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "theirs.TheirConfig", "AutoModelForCausalLM": "theirs.Theirs"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": code}))
    # In a process of its own: what it registers with transformers stays.
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    words = [sys.executable, "-c", LOAD, str(folder), str(trusted)]
    subprocess.run(words, check=True, timeout=120, env=environment)
    assert ran.exists() == trusted


@pytest.mark.parametrize("left", [(), ("pad_token",)])
def test_a_tokenizer_that_cannot_end_a_text_is_told_before_the_work(folder, left):
    """Without a token to pad with either nothing can be read in batches."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    for name in {"eos_token", "pad_token"} - set(left):
        settings.pop(name)
    path.write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    if not left:
        with pytest.raises(InputError, match="neither a token that ends a text nor one to pad"):
            load_backbone(folder, **CPU)
        return
    renderer = PromptRenderer(load_backbone(folder, **CPU).tokenizer, max_length=64)
    examples = [TextExample("a", "one film", "good", repoisoned=False)]
    with pytest.raises(InputError, match="no token that ends a text, so no answer would ever end"):
        tokenize_text(examples, None, "", renderer)
