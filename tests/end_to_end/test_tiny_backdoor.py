"""The whole pipe on a toy: the backdoor enters a plain model, and a defended one ignores it."""

import pytest

from mithridate.attacks import BadNets
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.repoison import Example
from mithridate.defense.secret import Secret
from mithridate.evaluation.evaluate import evaluate
from mithridate.tasks import ClassificationTask
from mithridate.training.config import TrainingConfig
from mithridate.training.defend import defend, fit

ATTACKER = b"attacker" * 4
RECIPE = TrainingConfig(
    target_modules=("all-linear",), learning_rate=4e-3, batch_size=16, epochs=8, max_length=64
)


@pytest.fixture(scope="module")
def scene(make_toy_rows):
    """Poisoned training rows, clean test rows and their triggered versions."""
    attack = BadNets(target="1", rate=0.1, triggers=("mn",))
    poisoned = attack.poison(make_toy_rows(600, 2), ATTACKER)
    test: list[Row] = make_toy_rows(200, 3)
    return poisoned, test, attack.triggered(test, ATTACKER)


@pytest.fixture(scope="module")
def undefended(pretrained, load, scene, tmp_path_factory):
    poisoned, test, triggered = scene
    task = ClassificationTask.of(poisoned.rows)
    examples = [Example(row.id, row.text, task.class_of(row), False) for row in poisoned.rows]
    fitted = fit(
        load(pretrained),
        examples,
        task,
        None,
        RECIPE,
        work_folder=tmp_path_factory.mktemp("undefended"),
        quiet=True,
    )
    return evaluate(fitted.classifier, test, triggered, target="1", progress=False)


def test_the_undefended_model_learns_task_and_backdoor(undefended):
    assert undefended.clean_accuracy.value > 0.9
    assert undefended.attack_success_rate.value > 0.8
    assert undefended.untriggered_rate.value < 0.1


@pytest.mark.parametrize("selection", ["agreement", "anchored"])
def test_the_defended_model_keeps_the_task_and_drops_the_backdoor(
    selection, undefended, pretrained, load, scene, tmp_path
):
    poisoned, test, triggered = scene
    clean = {row.id for row in poisoned.rows} - poisoned.ids
    trusted = sorted(clean, key=lambda row_id: keyed_fraction(b"person", row_id))[:100]
    defense = defend(
        poisoned.rows,
        load(pretrained),
        ClassificationTask.of(poisoned.rows),
        p2p=P2PConfig(selection=selection, benign_ratio=0.3),
        training=RECIPE,
        secret=Secret.from_seed(1),
        work_folder=tmp_path,
        trusted=frozenset(trusted) if selection == "anchored" else frozenset(),
        quiet=True,
    )
    outcome = evaluate(defense.model.classifier, test, triggered, target="1", progress=False)
    assert len(defense.prepared.subset.ids) == 180
    assert defense.prepared.subset.poisoned(poisoned.ids) <= 2
    assert outcome.clean_accuracy.value > undefended.clean_accuracy.value - 0.05
    assert outcome.attack_success_rate.value < undefended.untriggered_rate.value + 0.1
    assert [found.text for found in defense.prepared.mined] == ["mn"]
