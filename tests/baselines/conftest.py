"""A poisoned toy set, a model that knows the toy language, and a workbench to defend it with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mithridate.attacks import BadNets
from mithridate.baselines import Guarded
from mithridate.bench.workbench import LabelBench, TextBench
from mithridate.data.rows import Row
from mithridate.defense.secret import Secret
from mithridate.tasks import ClassificationTask
from mithridate.tasks.summarization import Summarization
from mithridate.training.config import TrainingConfig

ATTACKER = b"attacker" * 4
RECIPE = TrainingConfig(learning_rate=4e-3, batch_size=16, epochs=6, max_length=64)


@dataclass(frozen=True)
class Scene:
    """A workbench, clean test rows and their triggered versions."""

    bench: LabelBench
    poisoned: frozenset[str]
    test: list[Row]
    triggered: list[Row]

    def accuracy(self, guarded: Guarded) -> float:
        answers = guarded.answer([row.text for row in self.test])
        return sum(a == row.answer for a, row in zip(answers, self.test, strict=True)) / len(
            answers
        )

    def success(self, guarded: Guarded) -> float:
        return guarded.answer([row.text for row in self.triggered]).count("1") / len(self.triggered)


def once():
    """Return what keeps the first model it is asked for."""
    kept = []

    def shared(train):
        if not kept:
            kept.append(train())
        return kept[0]

    return shared


@pytest.fixture(scope="session")
def scene(pretrained: Path, make_toy_rows: Callable[[int, int], list[Row]]) -> Scene:
    attack = BadNets(target="1", rate=0.1, triggers=("mn",))
    clean, test = make_toy_rows(600, 2), make_toy_rows(200, 3)
    poisoned = attack.poison(clean, ATTACKER)
    bench = LabelBench(
        model=str(pretrained),
        rows=poisoned.rows,
        trusted=[row for row in clean if row.id not in poisoned.ids][:60],
        training=RECIPE,
        secret=Secret.from_seed(7),
        clean_ids=frozenset(row.id for row in clean) - poisoned.ids,
        shared=once(),
        precision="float32",
        task=ClassificationTask.of(clean),
    )
    return Scene(bench, poisoned.ids, test, attack.triggered(test, ATTACKER))


@dataclass(frozen=True)
class TextScene:
    """A workbench whose answers are text, and inputs with and without the trigger."""

    bench: TextBench
    texts: list[str]
    triggered: list[str]


@pytest.fixture(scope="session")
def text_scene(pretrained: Path, make_toy_rows: Callable[[int, int], list[Row]]) -> TextScene:
    said = {"0": "a dull film", "1": "a bright film"}

    def rows(count: int, seed: int) -> list[Row]:
        return [replace(row, answer=said[row.answer]) for row in make_toy_rows(count, seed)]

    attack = BadNets("the camera", 0.15, triggers=("mn",), answers="text")
    clean, test = rows(400, 4), rows(24, 5)
    poisoned = attack.poison(clean, ATTACKER)
    bench = TextBench(
        model=str(pretrained),
        rows=poisoned.rows,
        trusted=[row for row in clean if row.id not in poisoned.ids][:20],
        training=RECIPE.model_copy(update={"epochs": 10}),
        secret=Secret.from_seed(8),
        clean_ids=frozenset(row.id for row in clean) - poisoned.ids,
        shared=once(),
        precision="float32",
        task=Summarization(max_new_tokens=8),
    )
    triggered = [row.text for row in attack.triggered(test, ATTACKER)]
    return TextScene(bench, [row.text for row in test], triggered)
