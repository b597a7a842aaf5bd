"""Training: the loss is the answer's cross entropy, however the batch is cut."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mithridate.errors import InputError
from mithridate.inference import cross_entropy as loss_module
from mithridate.training.config import PAPER, TrainingConfig
from mithridate.training.finetune import RUN_FILE, fine_tune
from mithridate.training.trainer import AnswerCollator, AnswerTrainer, Sample, SampleDataset

LINEAR = ("all-linear",)


def samples_of(count, seed=0):
    """Random prompts of mixed lengths, with answers of one to three tokens."""
    rng = random.Random(seed)

    def tokens(low, high):
        return tuple(rng.randrange(10, 250) for _ in range(rng.randint(low, high)))

    return [Sample(tokens(3, 14), tokens(1, 3)) for _ in range(count)]


def config_of(**changes):
    return TrainingConfig(
        **{"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "warmup_ratio": 0.0}
        | {"target_modules": LINEAR}
        | changes
    )


def lora_of(model):
    weights = model.state_dict().items()
    return {name: value.detach().clone() for name, value in weights if "lora_" in name}


def adapter_of(training):
    return lora_of(training.model)


def hand_loss(model, samples):
    """Mean cross entropy over all answer tokens, each sample alone and unpadded."""
    total, count = 0.0, 0
    for sample in samples:
        ids = torch.tensor([[*sample.prompt, *sample.answer]])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0].float()
        start = len(sample.prompt) - 1
        wanted = torch.tensor(sample.answer)
        total += float(
            functional.cross_entropy(logits[start : start + len(wanted)], wanted, reduction="sum")
        )
        count += len(wanted)
    return total / count


def test_a_batch_predicts_the_answer_and_nothing_else():
    batch = AnswerCollator(pad_token_id=1)(
        [SampleDataset([Sample((5, 6, 7), (8, 9)), Sample((5,), (4,))])[i] for i in range(2)]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 1, 1, 1]]
    assert batch["labels"].tolist() == [8, 9, 4]
    assert batch["places"].tolist() == [[0, 0, 1], [2, 3, 0]]


def test_a_packed_batch_predicts_the_same_from_the_same_tokens():
    samples = [Sample((5, 6, 7), (8, 9), 2), Sample((5, 6, 3), (4,), 2), Sample((2,), (1,))]
    dataset = SampleDataset(samples)
    rows = [dataset[index] for index in range(3)]
    packed = AnswerCollator(pad_token_id=1, packing=True)(rows)
    padded = AnswerCollator(pad_token_id=1)(rows)
    assert packed["input_ids"].tolist() == [[5, 6, 7, 8, 3, 2]]  # 5, 6 once
    assert packed["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0]]
    assert packed["labels"].tolist() == padded["labels"].tolist()
    read = [batch["input_ids"][tuple(batch["places"])].tolist() for batch in (packed, padded)]
    assert read == [[7, 8, 3, 2], [7, 8, 3, 2]]


def test_the_loss_is_the_hand_computed_cross_entropy_of_the_answer(
    tiny, load, tiny_folder, tmp_path
):
    samples = samples_of(8)
    training = fine_tune(
        tiny, samples, config_of(epochs=10), work_folder=tmp_path / "a", quiet=True
    )
    assert len(training.losses) == 1  # the mean of ten steps
    one = fine_tune(
        load(tiny_folder),
        samples,
        config_of(epochs=10, learning_rate=1e-12),
        work_folder=tmp_path / "b",
        quiet=True,
    )
    expected = hand_loss(load(tiny_folder).model, samples)
    assert one.losses[0] == pytest.approx(expected, abs=1e-3)
    assert training.losses[0] < expected


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_accumulated_gradients_make_the_same_step_as_one_batch(
    tiny, load, tiny_folder, tmp_path, micro
):
    samples = samples_of(24, seed=1)
    whole = fine_tune(tiny, samples, config_of(), work_folder=tmp_path / "a", quiet=True)
    cut = fine_tune(
        load(tiny_folder),
        samples,
        config_of(micro_batch_size=micro),
        work_folder=tmp_path / "b",
        quiet=True,
    )
    left, right = adapter_of(whole), adapter_of(cut)
    start = adapter_of(
        fine_tune(
            load(tiny_folder),
            samples,
            config_of(learning_rate=1e-12),
            work_folder=tmp_path / "c",
            quiet=True,
        )
    )
    moved = max(float((left[name] - start[name]).abs().max()) for name in left)
    apart = max(float((left[name] - right[name]).abs().max()) for name in left)
    assert moved > 1e-3
    assert apart < 0.1 * moved


def test_no_tensor_of_positions_by_vocabulary_is_made(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK", 16)
    vocabulary = len(tiny.tokenizer)
    made = Counter()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and vocabulary in out.shape:
                made[tuple(out.shape)] += 1
            return out

    original = AnswerTrainer.training_step

    def watched(self, *args, **kwargs):
        with Watch():
            return original(self, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "training_step", watched)
    fine_tune(tiny, samples_of(16), config_of(), work_folder=tmp_path, quiet=True)
    width = tiny.model.config.hidden_size
    # The head's own weight may be sliced or viewed; nothing else has the vocabulary's size.
    assert set(made) <= {(vocabulary, width), (width, vocabulary)}


def test_the_base_weights_stay_frozen_and_32_rows_are_overfitted(tiny, tmp_path):
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    samples = [Sample(row.prompt, row.answer[:1]) for row in samples_of(32, seed=2)]
    training = fine_tune(
        tiny,
        samples,
        config_of(epochs=60, learning_rate=4e-3, alpha=32),
        work_folder=tmp_path,
        quiet=True,
    )
    # The frozen random head bounds the logits, so the answers are judged, not the loss.
    for sample in samples:
        with torch.inference_mode():
            logits = training.model(input_ids=torch.tensor([sample.prompt])).logits
        assert int(logits[0, -1].argmax()) == sample.answer[0]
    assert not training.model.training
    after = training.model.base_model.model.state_dict()
    for name, value in before.items():
        wrapped = name.replace("_proj.weight", "_proj.base_layer.weight")
        assert torch.equal(after[wrapped if wrapped in after else name], value), name
    assert training.tokens == 60 * sum(len(s.prompt) + len(s.answer) - 1 for s in samples)
    assert all(math.isfinite(loss) for loss in training.losses)


def test_a_resumed_run_reaches_the_weights_of_an_uninterrupted_one(
    tiny, load, tiny_folder, tmp_path, monkeypatch
):
    import shutil

    samples = samples_of(24, seed=3)
    config = config_of(epochs=3, dropout=0.1)
    whole = fine_tune(
        tiny, samples, config, work_folder=tmp_path / "a", checkpoints=True, quiet=True
    )
    (tmp_path / "b").mkdir()
    kept = sorted(path.name for path in (tmp_path / "a").glob("checkpoint-*"))
    assert kept == ["checkpoint-6", "checkpoint-9"]
    shutil.copytree(tmp_path / "a" / "checkpoint-6", tmp_path / "b" / "checkpoint-6")
    shutil.copy(tmp_path / "a" / RUN_FILE, tmp_path / "b")
    steps = []
    step = AnswerTrainer.training_step

    def counted(self, *args, **kwargs):
        steps.append(self.state.global_step)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "training_step", counted)
    resumed = fine_tune(
        load(tiny_folder), samples, config, work_folder=tmp_path / "b", checkpoints=True, quiet=True
    )
    assert steps == [6, 7, 8]  # the two epochs before are not trained anew
    left, right = adapter_of(whole), adapter_of(resumed)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.allclose(value, right[name], atol=1e-6), name


def test_the_epoch_with_the_best_accuracy_on_dev_rows_is_kept(tiny, tmp_path):
    told, adapters = iter([0.2, 0.9, 0.1]), []

    def accuracy(model):
        adapters.append(lora_of(model))
        return next(told)

    config = config_of(epochs=3, best_epoch=True)
    training = fine_tune(
        tiny, samples_of(16), config, work_folder=tmp_path, quality=accuracy, quiet=True
    )
    assert len(adapters) == 3
    kept = adapter_of(training)
    assert all(torch.equal(value, kept[name]) for name, value in adapters[1].items())
    assert any(not torch.equal(value, kept[name]) for name, value in adapters[2].items())


def test_the_paper_preset_is_the_published_recipe():
    published = {
        "rank": 16,
        "alpha": 16,
        "dropout": 0.1,
        "target_modules": ("q_proj", "v_proj"),
        "layers": None,
        "learning_rate": 2e-4,
        "schedule": "linear",
        "warmup_ratio": 0.0,
        "batch_size": 32,
        "epochs": 3,
        "max_length": 128,
        "best_epoch": True,
        "last_stage": False,
    }
    kept = PAPER.model_dump()
    assert {name: kept[name] for name in published} == published


def test_a_checkpoint_of_other_rows_or_settings_is_never_resumed(tiny, load, tiny_folder, tmp_path):
    samples = samples_of(8)
    fine_tune(tiny, samples, config_of(), work_folder=tmp_path, checkpoints=True, quiet=True)
    for other, config in [
        (samples_of(8, seed=9), config_of()),
        (samples, config_of(learning_rate=2e-3)),
    ]:
        with pytest.raises(InputError, match="checkpoint of another run"):
            fine_tune(load(tiny_folder), other, config, work_folder=tmp_path, quiet=True)


def test_gradient_checkpointing_changes_memory_and_not_the_loss(tiny, load, tiny_folder, tmp_path):
    samples = samples_of(16, seed=5)
    runs = [
        fine_tune(
            backbone,
            samples,
            config_of(gradient_checkpointing=recompute),
            work_folder=tmp_path / str(recompute),
            quiet=True,
        )
        for backbone, recompute in ((tiny, False), (load(tiny_folder), True))
    ]
    left, right = (adapter_of(run) for run in runs)
    assert all(torch.allclose(left[name], right[name], atol=1e-5) for name in left)
    assert TrainingConfig().checkpoints_gradients(4096)
    assert not TrainingConfig().checkpoints_gradients(576)


def test_packed_and_padded_batches_train_alike(tiny, load, tiny_folder, tmp_path, monkeypatch):
    prefix = (7, 8, 9)
    samples = [
        Sample((*prefix, *row.prompt), row.answer, 3) if index % 3 == 0 else row
        for index, row in enumerate(samples_of(24))
    ]
    config = config_of(epochs=2)
    packed = fine_tune(tiny, samples, config, work_folder=tmp_path / "a", quiet=True)
    for module in ("training.finetune", "inference.forward"):
        monkeypatch.setattr(f"mithridate.{module}.packs", lambda _model: False)
    padded = fine_tune(load(tiny_folder), samples, config, work_folder=tmp_path / "b", quiet=True)
    assert packed.losses == pytest.approx(padded.losses, abs=1e-4)
    left, right = adapter_of(packed), adapter_of(padded)
    assert all(torch.allclose(left[name], right[name], atol=1e-4) for name in left)


@pytest.mark.parametrize(("asked", "used"), [(5, 4), (3, 2), (64, 8)])
def test_a_micro_batch_that_does_not_divide_the_batch_drops_no_row(
    tiny, tmp_path, monkeypatch, asked, used
):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    sizes = []
    collate = AnswerCollator.__call__

    def counted(self, samples):
        sizes.append(len(samples))
        return collate(self, samples)

    monkeypatch.setattr(AnswerCollator, "__call__", counted)
    config = config_of(micro_batch_size=asked)
    fine_tune(tiny, samples_of(16), config, work_folder=tmp_path, quiet=True)
    assert sizes == [used] * (16 // used)


def test_layers_the_model_does_not_have_are_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="no layers named query_key_value"):
        fine_tune(
            tiny,
            samples_of(8),
            config_of(target_modules=("query_key_value",)),
            work_folder=tmp_path,
            quiet=True,
        )


ALL_LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("modules", "expected"),
    [(("q_proj", "v_proj"), {"q_proj", "v_proj"}), (("all-linear",), ALL_LINEAR)],
)
def test_only_the_chosen_layers_get_an_adapter(tiny, tmp_path, modules, expected):
    config = config_of(layers=(1, 2), target_modules=modules)
    training = fine_tune(tiny, samples_of(8), config, work_folder=tmp_path, quiet=True)
    adapted = {name.split("layers.")[1].split(".")[0] for name in adapter_of(training)}
    assert adapted == {"1"}
    linear = {name.split(".lora_")[0].rpartition(".")[2] for name in adapter_of(training)}
    assert linear == expected


@pytest.mark.parametrize("layers", [(0, 3), (2, 2), (-1, 1)])
def test_a_choice_of_layers_that_are_not_there_is_refused(tiny, tmp_path, layers):
    with pytest.raises(InputError, match="the model has 2"):
        fine_tune(tiny, samples_of(8), config_of(layers=layers), work_folder=tmp_path, quiet=True)


def test_in_a_last_stage_the_repoisoned_rows_come_after_all_others(tiny, tmp_path, monkeypatch):
    samples = [replace(row, repoisoned=at % 3 == 0) for at, row in enumerate(samples_of(24))]
    kept = {(*row.prompt, *row.answer[:-1]): row.repoisoned for row in samples}
    seen = []
    collate = AnswerCollator.__call__

    def watched(self, rows):
        seen.extend(kept[tuple(row["input_ids"])] for row in rows)
        return collate(self, rows)

    monkeypatch.setattr(AnswerCollator, "__call__", watched)
    config = config_of(epochs=2, last_stage=True)
    fine_tune(tiny, samples, config, work_folder=tmp_path, quiet=True)
    assert seen[24:] == [False] * 16 + [True] * 8
    assert seen[:24] != seen[24:]


def test_the_learning_rate_falls_with_the_models_width():
    assert TrainingConfig().learning_rate_for(576) == pytest.approx(1e-3)
    assert TrainingConfig().learning_rate_for(4096) == pytest.approx(2.3e-4, rel=0.02)
    assert TrainingConfig(learning_rate=5e-5).learning_rate_for(4096) == 5e-5


def test_a_model_that_cannot_recompute_activations_is_refused(tiny, tmp_path):
    tiny.model.supports_gradient_checkpointing = False
    config = config_of(gradient_checkpointing=True)
    with pytest.raises(InputError, match="give --no-gradient-checkpointing"):
        fine_tune(tiny, samples_of(8), config, work_folder=tmp_path, quiet=True)


@pytest.mark.parametrize("cut", ["trainer_state.json", "optimizer.pt"])
def test_a_run_goes_on_behind_a_checkpoint_that_a_power_cut_left_empty(
    tiny, load, tiny_folder, tmp_path, cut
):
    samples, config = samples_of(24, seed=3), config_of(epochs=3)
    whole = fine_tune(tiny, samples, config, work_folder=tmp_path, checkpoints=True, quiet=True)
    (tmp_path / "checkpoint-9" / cut).write_bytes(b"")
    resumed = fine_tune(
        load(tiny_folder), samples, config, work_folder=tmp_path, checkpoints=True, quiet=True
    )
    for name, value in adapter_of(whole).items():
        assert torch.allclose(value, adapter_of(resumed)[name], atol=1e-6), name


def test_a_training_that_diverged_is_refused_and_its_loss_not_shown_as_0(tiny, tmp_path):
    with pytest.raises(InputError, match=r"diverged at a learning rate of 1e\+30: its "):
        fine_tune(
            tiny,
            samples_of(24),
            config_of(epochs=4, learning_rate=1e30),
            work_folder=tmp_path,
            quiet=True,
        )
