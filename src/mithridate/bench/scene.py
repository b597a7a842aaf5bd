"""A cell's data: training rows after the attack, test rows before and after it, trusted rows."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mithridate.attacks.base import Attack, Poisoned
from mithridate.attacks.paraphrases import AlignedParaphrases
from mithridate.attacks.registry import find_attack
from mithridate.bench.cells import BenchCell
from mithridate.bench.config import AttackConfig
from mithridate.bench.settings import settable
from mithridate.data.keyed import keyed_fraction
from mithridate.data.read import Columns, read_rows
from mithridate.data.rows import Row
from mithridate.defense.secret import Secret
from mithridate.errors import InputError
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.text import TextTask
from mithridate.tasks.text_tasks import text_task

NAME_DATA_SETS = "name the data sets it is for with `datasets`"
"""What mends an attack or a defense that the answers of a data set do not suit."""


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
        """The training rows that are used, before the attack."""
        return self._all_given[: self.cell.data.rows]

    @cached_property
    def _all_given(self) -> list[Row]:
        """The training rows of the file."""
        return self._read(self.cell.data.train)

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
        return self._unlearned(self.cell.attack, self.cell.rate).learn(self.given, self.attacker)

    def check_attack(self, attack: AttackConfig, rate: float) -> None:
        """Refuse an attack that these rows do not allow, as far as can be told without its work.

        Args:
            attack: The cell's own, or that of another cell of the same data set.
            rate: The share of the training rows to poison.

        Raises:
            InputError: It is for another task, lacks a setting, wants a label that there is not,
                its paraphrases do not belong to the rows, the rate rounds to no row, or all test
                rows have the target.
        """
        only, task = find_attack(attack.name).only_task, self.cell.data.task
        if only not in (None, task):
            what = f"the attack {attack.title} is for the task {only}, not {task}"
            raise InputError(what, mend=NAME_DATA_SETS)
        made = self._unlearned(attack, rate)
        if self.text_task is None:
            self.labels.label_index(made.target)
        if not self.cell.data.poisoned:
            made.quota(self.given)
        if all(made.has_target(row) for row in self.all_test):
            what = f"all test rows have the target {made.target!r:.60}: none can be triggered"
            raise InputError(what, mend="add rows with other answers, or name another target")

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

    def _unlearned(self, config: AttackConfig, rate: float) -> Attack:
        """Return an attack that has read no training rows."""
        kind = find_attack(config.name)
        settings = {**config.in_full(self.cell.data.task), "rate": rate}
        files = {} if config.paraphrases is None else {"paraphrases": config.paraphrases}
        given = {*settings, *files}
        if lacking := [name for name in kind.required() if name not in given]:
            what = f"the attack {config.title} needs {' and '.join(lacking)}"
            nameable = {"target", "paraphrases", *settable(kind)}
            if unnameable := [name for name in lacking if name not in nameable]:
                what = f"{what}, and no file can hold {' and '.join(unnameable)}"
                raise InputError(what, mend="use it from Python (docs/attacks.md)")
            raise InputError(what, mend="name it in the file (docs/attacks.md)")
        if config.paraphrases is not None:
            if "paraphrases" not in {field.name for field in fields(kind)}:
                mend = "drop them, or name synbkd or stylebkd"
                raise InputError(f"paraphrases have no part in {config.title}", mend=mend)
            settings["paraphrases"] = self._paraphrases(config.paraphrases, settings["target"])
        return kind(**settings)

    def _paraphrases(self, files: tuple[Path, Path], target: str) -> AlignedParaphrases:
        train = AlignedParaphrases.read(files[0], self._all_given)
        return train | AlignedParaphrases.read_triggered(files[1], self.all_test, target)

    def _read(self, source: str) -> list[Row]:
        data, task = self.cell.data, self.text_task
        own = task.columns if task else Columns()
        columns = replace(
            own, text=data.text_column or own.text, answer=data.answer_column or own.answer
        )
        try:
            if task is None:
                return read_rows(source, columns)
            return task.usable(task.read(source, columns))[0]
        except InputError as error:  # options are what other verbs name columns with
            mend = error.mend
            for key in ("text_column", "answer_column"):
                mend = mend.replace(f"--{key.replace('_', '-')}", key)
            raise InputError(error.what, where=error.where, mend=mend) from error
