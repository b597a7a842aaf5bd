"""The cells of a matrix, and what identifies each."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mithridate.bench.config import AttackConfig, DataConfig, DefenseConfig, MatrixConfig
from mithridate.errors import InputError
from mithridate.training.config import TrainingConfig


@dataclass(frozen=True)
class BenchCell:
    """One line of the journal to be.

    Attributes:
        model: A folder, hub id or name.
        data: The data set.
        attack: The attack.
        rate: Share of the training rows that is poisoned.
        defense: The defense.
        seed: Of all draws.
        config: The matrix.
    """

    model: str
    data: DataConfig
    attack: AttackConfig
    rate: float
    defense: DefenseConfig
    seed: int
    config: MatrixConfig

    @property
    def name(self) -> str:
        """What tells the cell from the others of its matrix."""
        attack = f"{self.attack.title}@{self.rate:g}"
        model = Path(self.model).name
        return "/".join([self.data.name, attack, self.defense.title, model, str(self.seed)])

    @property
    def training(self) -> TrainingConfig:
        """The settings of its fine-tuning."""
        return self._training(self.defense.training)

    @property
    def shared_training(self) -> TrainingConfig:
        """Those of the models that several cells share: the undefended and the clean-trained."""
        return self._training({})

    @property
    def clean_mark(self) -> str:
        """A hash of all that the model trained on the clean rows depends on."""
        return _hash(self._clean())

    @property
    def undefended_mark(self) -> str:
        """A hash of all that the undefended model depends on."""
        return _hash({**self._attacked(), "training": self.training.model_dump(mode="json")})

    @property
    def attack_mark(self) -> str:
        """A hash of all that the data after the attack, and so the floor, depend on."""
        return _hash(self._attacked())

    @cached_property
    def mark(self) -> str:
        """A hash of all that the cell's figures depend on."""
        defense = {
            "name": self.defense.name,
            "package": self.defense.package,
            "settings": self.defense.in_full(),
            "training": self.training.model_dump(mode="json"),
        }
        trusted = self.config.trusted
        return _hash({**self._attacked(), "defense": defense, "trusted": trusted})

    def _training(self, changed: dict[str, Any]) -> TrainingConfig:
        usual = self.config.training.model_dump()
        return TrainingConfig(**{**usual, **self.data.training, **changed, "seed": self.seed})

    def _clean(self) -> dict[str, Any]:
        beside = {"name", "train", "test", "training"}
        data = self.data.model_dump(mode="json", exclude=beside)
        return {
            "version": version("mithridate"),
            "model": self.model,
            "data": {**data, "rows_of": [contents(self.data.train), contents(self.data.test)]},
            "already_poisoned_by": self._attack() if self.data.poisoned else None,
            "training": self.shared_training.model_dump(mode="json"),
            "precision": self.config.precision,
        }

    def _attack(self) -> dict[str, Any]:
        return {
            "name": self.attack.name,
            "package": self.attack.package,
            "settings": self.attack.in_full(self.data.task),
            "rewrites": [contents(str(path)) for path in self.attack.paraphrases or ()],
        }

    def _attacked(self) -> dict[str, Any]:
        return {**self._clean(), "attack": self._attack(), "rate": self.rate}


def matrix_cells(config: MatrixConfig) -> list[BenchCell]:
    """Return all cells, those that share a model side by side.

    Raises:
        InputError: There is none, or two of them differ in name alone.
    """
    cells = [
        BenchCell(model, data, attack, rate, defense, seed, config)
        for model in config.models
        for seed in config.seeds
        for data in config.datasets
        for attack in config.attacks
        if attack.datasets is None or data.name in attack.datasets
        for rate in (attack.rates or config.rates)
        for defense in config.defenses
        if defense.datasets is None or data.name in defense.datasets
    ]
    if not cells:
        mend = "let an attack and a defense share a data set"
        raise InputError("the matrix has no cell", mend=mend)
    first: dict[str, BenchCell] = {}
    for cell in cells:
        if (other := first.setdefault(cell.mark, cell)) is not cell:
            what = f"the cells {other.name} and {cell.name} differ in name alone"
            if cell.name == other.name:
                what = f"the cell {cell.name} stands twice"
            raise InputError(what, mend="take one out, or change a setting of it")
    return cells


def wanted_names(names: Iterable[str], only: str) -> set[str]:
    """Return the names of the cells that ``--only`` takes, which lists parts of names: a,b.

    A part takes each cell whose name holds it; all are taken without any. A whole name takes that
    cell alone, where ``sst2/badnets@0.05/oracle`` would take ``.../oracle/planted-5`` along.
    """
    known = set(names)
    parts = [part for part in only.split(",") if part]
    if not parts:
        return known
    return {
        name
        for name in known
        if any(name == part if part in known else part in name for part in parts)
    }


@cache
def contents(source: str) -> str:
    """Return what identifies a source of rows: a hash of a file's bytes wherever it lies; an id."""
    path = Path(source)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else source


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
