"""An adapter answers with all of its weights, or is refused."""

import json
import shutil

import pytest
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from mithridate.errors import InputError
from mithridate.inference.adapter import adapter_config, with_adapter_of


@pytest.fixture
def adapter(tiny, tmp_path):
    """The folder of an adapter of the tiny model, to spoil."""
    model = get_peft_model(tiny.model, LoraConfig(target_modules=["q_proj", "v_proj"]))
    model.save_pretrained(str(tmp_path / "adapter"))
    model.unload()
    return tmp_path / "adapter"


def test_an_adapter_that_fits_is_loaded(tiny, adapter):
    loaded = with_adapter_of(tiny.model, adapter)
    assert sum("lora_A" in name for name, _ in loaded.named_parameters()) == 4


@pytest.mark.parametrize("renamed", ["layers.0", "layers"])
def test_one_whose_weights_are_named_for_another_class_of_model_is_refused(tiny, adapter, renamed):
    """As those trained on a multimodal class: PEFT only warns, and the base model would answer."""
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    moved = {
        name.replace(f".{renamed}.", f".language_model.{renamed}."): weights[name]
        for name in weights
    }
    assert moved.keys() != weights.keys()
    save_file(moved, path)
    with pytest.raises(InputError, match="no weights for some of the layers"):
        with_adapter_of(tiny.model, adapter)


def spoil_weights(folder):
    (folder / "adapter_model.safetensors").write_bytes(b"spoilt")


def spoil_settings(folder):
    (folder / "adapter_config.json").write_text("{")


def change(**changed):
    def spoil(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return spoil


SPOILT = {
    "weights that are none": spoil_weights,
    "settings that are no JSON": spoil_settings,
    "another rank": change(r=3),
    "layers that are not there": change(target_modules=["no_such"]),
    "an unknown kind": change(peft_type="NO_SUCH"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_one_that_is_broken_or_does_not_fit_is_one_line(tiny, adapter, spoil):
    spoil(adapter)
    with pytest.raises(InputError, match="adapter cannot be loaded") as caught:
        with_adapter_of(tiny.model, adapter)
    assert caught.value.where == str(adapter)
    assert "\n" not in str(caught.value)


def test_settings_that_are_not_there_are_one_line(adapter):
    shutil.rmtree(adapter)
    with pytest.raises(InputError, match="adapter cannot be loaded"):
        adapter_config(adapter)


def test_prompt_tuning_is_refused(tiny, tmp_path):
    """Its virtual tokens move all positions, so that others would be read, silently."""
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(tiny.model, settings).save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="prompt or prefix tuning"):
        with_adapter_of(tiny.model, tmp_path)
