"""A cell's data: training rows after the attack, test rows before and after it, trusted rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mithridate.attacks.base import Attack, Poisoned
from mithridate.attacks.paraphrases import AlignedParaphrases
from mithridate.attacks.registry import find_attack
from mithridate.bench.cells import BenchCell
from mithridate.data.keyed import keyed_fraction
from mithridate.data.read import Columns, read_rows
from mithridate.data.rows import Row
from mithridate.defense.secret import Secret
from mithridate.errors import InputError
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.text import TextTask
from mithridate.tasks.text_tasks import text_task


@dataclass(frozen=True)
class Scene:
    """What a cell trains and tests on.

    Attributes:
        cell: The cell.
    """

    cell: BenchCell

    @cached_property
    def text_task(self) -> TextTask | None:
        """The task where answers are text."""
        data = self.cell.data
        if data.task == "classification":
            return None
        task: Any = text_task(data.task)
        if data.max_new_tokens is not None:
            task = replace(task, max_new_tokens=data.max_new_tokens)
        if data.answer_only:
            task = replace(task, rationale=False)
        made: TextTask = task
        return made

    @cached_property
    def labels(self) -> ClassificationTask:
        """The labels, where answers are labels."""
        return ClassificationTask.of([*self.given, *self.all_test])

    @cached_property
    def given(self) -> list[Row]:
        """The training rows of the file."""
        return self._read(self.cell.data.train)[: self.cell.data.rows]

    @cached_property
    def all_test(self) -> list[Row]:
        """The test rows of the file."""
        return self._read(self.cell.data.test)

    @property
    def attacker(self) -> bytes:
        """The attacker's key, unrelated to the defender's."""
        return self.secret.derive("attacker")

    @property
    def secret(self) -> Secret:
        """Where the cell's own draws come from."""
        return Secret.from_seed(self.cell.seed)

    @cached_property
    def attack(self) -> Attack:
        """The attack, with what it reads off the training rows."""
        config = self.cell.attack
        kind = find_attack(config.name)
        settings = {**config.in_full(self.cell.data.task), "rate": self.cell.rate}
        if config.paraphrases is not None:
            settings["paraphrases"] = self._paraphrases(settings.get("target"))
        try:
            made = kind(**settings)
        except TypeError as error:
            what = f"the attack {config.title!r} lacks a setting ({error})"
            raise InputError(what, mend="name its target and settings in the file") from None
        return made.learn(self.given, self.attacker)

    @cached_property
    def poisoned(self) -> Poisoned:
        """The training rows after the attack."""
        if not self.cell.data.poisoned:
            return self.attack.poison(self.given, self.attacker)
        rows = self.given
        return Poisoned(rows, frozenset(row.id for row in rows if self.attack.has_target(row)))

    @cached_property
    def clean(self) -> list[Row]:
        """The training rows without the poison: all, or those that a published set left alone."""
        if not self.cell.data.poisoned:
            return self.given
        return [row for row in self.given if row.id not in self.poisoned.ids]

    @cached_property
    def test(self) -> list[Row]:
        """The clean test rows that are used."""
        return self._drawn(self.all_test, self.cell.data.clean, "clean")

    @cached_property
    def triggered(self) -> list[Row]:
        """The attack's test inputs, true answers kept."""
        able = self.attack.triggered(self.all_test, self.attacker)
        return self._drawn(able, self.cell.data.triggered, "triggered")

    @cached_property
    def untriggered(self) -> list[Row]:
        """The same rows without the trigger."""
        by_id = {row.id: row for row in self.all_test}
        return [by_id[row.id] for row in self.triggered]

    @cached_property
    def trusted(self) -> list[Row]:
        """Rows a person checked, who recognizes poison: the classes in turn."""
        by_class: dict[str | None, list[Row]] = {}
        key = self.secret.derive("matrix")
        for row in sorted(self.poisoned.rows, key=lambda row: keyed_fraction(key, row.id)):
            if row.id not in self.poisoned.ids:
                label = None if self.text_task else row.answer
                by_class.setdefault(label, []).append(row)
        chosen: list[Row] = []
        while len(chosen) < self.cell.config.trusted and any(by_class.values()):
            chosen += [rows.pop(0) for rows in by_class.values() if rows]
        return chosen[: self.cell.config.trusted]

    def _drawn(self, rows: Sequence[Row], count: int, purpose: str) -> list[Row]:
        """Return some of the rows, in their order."""
        key = self.secret.derive("matrix")
        ranked = sorted(rows, key=lambda row: (keyed_fraction(key, purpose, row.id), row.id))
        chosen = {row.id for row in ranked[:count]}
        return [row for row in rows if row.id in chosen]

    def _paraphrases(self, target: str | None) -> AlignedParaphrases:
        files = self.cell.attack.paraphrases
        if files is None or target is None:
            mend = "name the label it wants with target"
            raise InputError(f"the attack {self.cell.attack.title!r} needs a target", mend=mend)
        whole = self._read(self.cell.data.train)
        train = AlignedParaphrases.read(files[0], whole)
        return train | AlignedParaphrases.read_triggered(files[1], self.all_test, target)

    def _read(self, source: str) -> list[Row]:
        data, task = self.cell.data, self.text_task
        own = task.columns if task else Columns()
        columns = replace(
            own, text=data.text_column or own.text, answer=data.answer_column or own.answer
        )
        if task is None:
            return read_rows(source, columns)
        return task.usable(task.read(source, columns))[0]
