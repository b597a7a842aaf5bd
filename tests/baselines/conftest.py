"""A poisoned toy set, a model that knows the toy language, and a workbench to defend it with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mithridate.attacks import BadNets
from mithridate.baselines import Guarded
from mithridate.bench.workbench import LabelBench
from mithridate.data.rows import Row
from mithridate.defense.secret import Secret
from mithridate.tasks import ClassificationTask
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


@pytest.fixture(scope="session")
def scene(pretrained: Path, make_toy_rows: Callable[[int, int], list[Row]]) -> Scene:
    attack = BadNets(target="1", rate=0.1, triggers=("mn",))
    clean, test = make_toy_rows(600, 2), make_toy_rows(200, 3)
    poisoned = attack.poison(clean, ATTACKER)
    kept = []

    def shared(train):
        if not kept:
            kept.append(train())
        return kept[0]

    bench = LabelBench(
        model=str(pretrained),
        rows=poisoned.rows,
        trusted=[row for row in clean if row.id not in poisoned.ids][:60],
        training=RECIPE,
        secret=Secret.from_seed(7),
        clean_ids=frozenset(row.id for row in clean) - poisoned.ids,
        shared=shared,
        precision="float32",
        task=ClassificationTask.of(clean),
    )
    return Scene(bench, poisoned.ids, test, attack.triggered(test, ATTACKER))
