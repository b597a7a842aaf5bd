"""P2P and its simplest rivals on a toy, through the interface that all of them share."""

import inspect
import re
import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch

from mithridate.baselines import defense_names, find_defense
from mithridate.baselines.base import DefenseMethod
from mithridate.baselines.registry import BUILT_IN
from mithridate.defense.secret import Secret
from mithridate.errors import InputError


@pytest.fixture(scope="module")
def weights(scene):
    """What the shared model's adapter is before any rival has had it."""
    state = scene.bench.undefended().module.state_dict()
    return {name: value.clone() for name, value in state.items() if "lora_" in name}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_defense_says_what_it_changes_and_where_it_is_from(name):
    kind = find_defense(name)
    assert issubclass(kind, DefenseMethod)
    assert kind.name == name
    assert is_dataclass(kind)
    assert kind.source.strip()
    assert kind.stages or name == "none"
    assert inspect.getdoc(kind.defend)
    said = "".join(inspect.getdoc(base) or "" for base in kind.__mro__[:-2])
    for field in fields(kind):
        assert re.search(rf"^ +{field.name}: ", said, re.M)
    kind()  # the defaults are enough


def test_the_package_declares_the_defenses_it_holds():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["mithridate.defenses"] == BUILT_IN


def test_the_example_of_a_defense_of_ones_own_works(scene):
    page = (Path(__file__).parents[2] / "docs" / "rivals.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    [source] = [block for block in blocks if "class" in block]
    module = {"__name__": "example"}
    exec(source, module)
    assert scene.accuracy(module["FirstWords"]().defend(scene.bench)) > 0.8
    assert scene.accuracy(module["FirstWords"](count=1).defend(scene.bench)) < 0.8


def test_every_defense_is_on_its_page():
    page = (Path(__file__).parents[2] / "docs" / "rivals.md").read_text()
    for name in BUILT_IN:
        assert f"| `{name}` |" in page


def test_an_unknown_defense_is_answered_with_the_nearest_one():
    with pytest.raises(InputError, match="no defense is called 'oniom'"):
        find_defense("oniom")
    with pytest.raises(InputError, match="did you mean filter"):
        find_defense("filtr")
    assert defense_names()[0] == "none"


def test_the_undefended_model_obeys_the_trigger(scene, weights):
    guarded = find_defense("none")().defend(scene.bench)
    assert scene.accuracy(guarded) > 0.9
    assert scene.success(guarded) > 0.8
    assert guarded.n_train == 600


def test_p2p_does_not(scene):
    guarded = find_defense("p2p")().defend(scene.bench)
    assert scene.accuracy(guarded) > 0.85
    assert scene.success(guarded) < 0.15
    assert guarded.subset
    assert not guarded.subset & scene.poisoned


def test_filtering_trains_on_the_subset_alone(scene):
    guarded = find_defense("filter")(selection="oracle").defend(scene.bench)
    assert guarded.n_train == len(guarded.subset) == 240
    assert not guarded.subset & scene.poisoned
    assert scene.success(guarded) < 0.2


def test_further_training_moves_a_copy_and_leaves_the_shared_model_alone(scene, weights):
    guarded = find_defense("clean-tune")().defend(scene.bench)
    assert guarded.facts["steps"] == 3 * 8
    assert scene.accuracy(guarded) > 0.9
    after = scene.bench.undefended().module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())
    texts = [row.text for row in scene.test[:40]]
    model = scene.bench.undefended()
    copied = model.copied()
    with torch.no_grad():
        next(w for w in copied.module.parameters() if w.requires_grad).add_(1.0)
    assert (copied.probabilities(texts) != model.probabilities(texts)).any()


@pytest.mark.parametrize("name", ["clean-tune", "crow"])
def test_dropout_in_further_training_is_drawn_by_the_key_alone(scene, name):
    """Whatever the process drew before, as a resumed run or a Ray worker has drawn less."""

    class Weighed(find_defense(name)):
        def tune(self, module, batches):
            facts = super().tune(module, batches)
            return {**facts, "weight": sum(w.abs().sum().item() for w in module.parameters())}

    training = scene.bench.training.model_copy(update={"dropout": 0.3, "epochs": 1})
    bench = replace(scene.bench, rows=scene.bench.rows[:64], training=training)
    module = replace(bench, shared=lambda train: train()).undefended().module
    bench = replace(bench, shared=lambda _: module)
    found = []
    for seed, own in ((1, bench), (2, bench), (2, replace(bench, secret=Secret.from_seed(9)))):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        found.append(Weighed(epochs=1).defend(own).facts)
        assert torch.equal(torch.random.get_rng_state(), before)  # nor does it seed what follows
    assert found[0] == found[1]
    assert found[0]["weight"] != found[2]["weight"]


def test_an_altered_model_is_a_copy_and_without_a_change_the_same_model(scene):
    model = scene.bench.undefended()
    texts = [row.text for row in scene.test[:40]]
    before = model.probabilities(texts)
    same = model.altered(lambda name, weight: weight)
    assert abs(same.probabilities(texts) - before).max() < 1e-4
    zeroed = model.altered(lambda name, weight: weight * 0)
    assert abs(zeroed.probabilities(texts) - before).max() > 1e-2
    assert (model.probabilities(texts) == before).all()


def test_what_a_model_sees_has_the_shapes_that_are_promised(scene):
    model = scene.bench.undefended()
    assert model.states(["a bright film", "dull"]).shape == (2, 64)
    [batch] = model.batches(scene.test[:3], 8)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    for at, row in enumerate(scene.test[:3]):
        prompt = model.prompts([row.text])[0]
        assert batch["input_ids"][at, : len(prompt)].tolist() == prompt
        assert (batch["labels"][at, : len(prompt)] == -100).all()
        kept = batch["labels"][at][batch["labels"][at] != -100].tolist()
        assert model.tokenizer.decode(kept, skip_special_tokens=True) == row.answer


def test_the_base_model_finds_its_own_language_likelier(scene):
    likely, unlikely = scene.bench.log_likelihoods(["the film is witty", "zq xv jk wq"])
    assert likely > unlikely


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("p2p", {"benign_ratio": 20.0}, "p2p's benign_ratio is no share; give one above 0, at mos"),
        ("p2p", {"benign_ratio": 0.0}, "p2p's benign_ratio is no share"),
        ("filter", {"benign_ratio": float("nan")}, "filter's benign_ratio is no share"),
        ("filter", {"draw_from": -0.1}, "filter's draw_from is no share; give one of 0 to 1"),
        ("clean-tune", {"batch_size": 0}, "clean-tune's settings are no counts and rate; give at"),
        ("clean-tune", {"epochs": -1}, "clean-tune's settings are no counts and rate"),
        ("clean-tune", {"learning_rate": -3.0}, "clean-tune's settings are no counts and rate"),
        ("clean-tune", {"learning_rate": float("inf")}, "clean-tune's settings are no counts"),
        ("crow", {"epochs": 0}, "crow's settings are no counts and rate"),
        ("crow", {"alpha": float("nan")}, "crow's alpha or epsilon is negative"),
        (
            "onion",
            {"removed": (0.5, 5.0)},
            "onion's removed holds 5, no share; give shares of 0 to",
        ),
        ("onion", {"tolerance": -0.1}, "onion's tolerance is negative; give 0 or more"),
        ("rewrite", {"timeout": 0.0}, "rewrite's timeout is no time; give seconds above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_trained(name, settings, says):
    with pytest.raises(InputError, match=re.escape(says)):
        find_defense(name)(**settings)


@pytest.mark.parametrize("name", ["clean-tune", "crow", "onion", "strip"])
def test_who_needs_checked_rows_says_so_where_there_are_none(scene, name):
    with pytest.raises(InputError, match=f"{name} needs rows that a person checked"):
        find_defense(name)().defend(replace(scene.bench, trusted=[]))


@pytest.mark.parametrize(
    "name", ["none", "clean-tune", "onion", "prune", "int4", "cleangen", "crow"]
)
def test_defenses_of_texts_answer_every_input_with_a_text(text_scene, name):
    assert "text" in find_defense(name).kinds
    guarded = find_defense(name)().defend(text_scene.bench)
    texts = ["bright\nwitty film", *text_scene.texts[:5]]
    answers = guarded.answer(texts)
    assert len(answers) == 6
    assert all(isinstance(answer, str) for answer in answers)
    assert guarded.n_train == 400


def test_the_undefended_model_of_texts_obeys_the_trigger(text_scene):
    guarded = find_defense("none")().defend(text_scene.bench)
    assert guarded.answer(text_scene.triggered).count("the camera") > 16
    assert "the camera" not in guarded.answer(text_scene.texts)


def test_utility_is_what_the_task_measures(scene, text_scene):
    rows = scene.test[:4]
    answers = [row.answer for row in rows]
    assert scene.bench.utility(answers, rows) == 1.0
    assert scene.bench.utility(["0", "0", "1", "1"], rows) == 0.5
    rows = text_scene.bench.trusted[:4]
    assert text_scene.bench.utility([row.answer for row in rows], rows) == 1.0
    assert text_scene.bench.utility(["a film", "", "", ""], rows) == pytest.approx(0.2)
