"""QLoRA: refused with the mend where it cannot be done, recorded where it is."""

import sys
import types

import pytest
import torch

from mithridate.errors import InputError
from mithridate.inference.backbone import load_backbone
from mithridate.inference.quantized import quantization_config

CPU = torch.device("cpu")


def test_without_bitsandbytes_the_mend_is_named(monkeypatch, tiny_folder):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"pip install '\.\[qlora\]'"):
        load_backbone(tiny_folder, device=CPU, quantization="nf4")
    assert quantization_config("none", CPU, torch.float32) == {}


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_hardware_that_cannot_is_refused(monkeypatch, kind):
    class Unable(torch.nn.Module):
        def __init__(self, *sizes, **settings):
            super().__init__()

        def forward(self, fed):
            raise NotImplementedError("no kernel for this device")

    fake = types.ModuleType("bitsandbytes")
    fake.__version__ = "0.0"
    fake.nn = types.SimpleNamespace(Linear4bit=Unable, Linear8bitLt=Unable)
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    with pytest.raises(InputError, match=f"cannot train on {kind} weights on this cpu device"):
        quantization_config(kind, CPU, torch.bfloat16)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_packed_model_trains_and_is_loaded_packed_again(
    kind, tiny_folder, make_toy_rows, tmp_path
):
    pytest.importorskip("bitsandbytes")
    from mithridate.defense.config import P2PConfig
    from mithridate.defense.secret import Secret
    from mithridate.inference.defended import DefendedModel
    from mithridate.tasks import ClassificationTask
    from mithridate.training.config import TrainingConfig
    from mithridate.training.defend import defend, save

    rows = make_toy_rows(60, 1)
    backbone = load_backbone(tiny_folder, precision="float32", device=CPU, quantization=kind)
    done = defend(
        rows,
        backbone,
        ClassificationTask.of(rows),
        p2p=P2PConfig(),
        training=TrainingConfig(epochs=8, gradient_checkpointing=True, max_length=64),
        secret=Secret.from_seed(1),
        work_folder=tmp_path / "work",
        quiet=True,
    )
    (tmp_path / "out").mkdir()
    manifest = save(done, tmp_path / "out")
    assert manifest.model is not None
    assert manifest.model.quantization == kind
    losses = done.fitted.training.losses
    assert losses[-1] < losses[0]
    again = DefendedModel.load(tmp_path / "out", device=CPU)
    texts = [row.text for row in rows[:8]]
    assert again.predict(texts).labels == done.model.predict(texts).labels
    assert DefendedModel.load(tmp_path / "out", device=CPU, quantization="none").labels == [0, 1]


def test_a_prediction_does_not_take_the_gradients_away(tiny_folder):
    pytest.importorskip("bitsandbytes")
    backbone = load_backbone(tiny_folder, precision="bfloat16", device=CPU, quantization="nf4")
    model, ids = backbone.model, torch.tensor([[5, 6, 7]])
    embedded = model.get_input_embeddings()(ids).detach()

    def gradient():
        fed = embedded.clone().requires_grad_()
        model(inputs_embeds=fed).logits.float().square().sum().backward()
        return fed.grad

    before = gradient()
    with torch.inference_mode():
        model(input_ids=ids)
    assert torch.equal(gradient(), before)
    assert before.abs().sum() > 0
