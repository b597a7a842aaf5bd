"""One cell of a matrix, from its data to its line of the journal."""

import json
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mithridate.attacks.base import check_visible
from mithridate.baselines.base import Guarded
from mithridate.bench.cells import BenchCell
from mithridate.bench.check import check_defense
from mithridate.bench.journal import locked, share_fields
from mithridate.bench.scene import Scene
from mithridate.bench.workbench import Bench, LabelBench, TextBench
from mithridate.data.rows import Row
from mithridate.data.write import write_text_atomic
from mithridate.defense.secret import Secret
from mithridate.errors import InputError
from mithridate.evaluation.evaluate_text import check_target_fits, mean_of
from mithridate.evaluation.intervals import Share, share
from mithridate.inference.backbone import best_device, load_backbone, resolve_precision
from mithridate.inference.tokenizer import load_tokenizer
from mithridate.tasks.prompt import ORIGINAL_PROMPT, ORIGINAL_TEXT_PROMPT, PromptRenderer

Line = dict[str, Any]
PACKAGES = ("torch", "transformers", "peft", "accelerate", "scikit-learn", "numpy")
BINS = 20


@dataclass(frozen=True)
class CellRun:
    """A cell being run.

    Attributes:
        cell: The cell.
        kept: Where models lie that cells share.
        command: What is to be typed to run the matrix again.
    """

    cell: BenchCell
    kept: Path
    command: str

    @cached_property
    def scene(self) -> Scene:
        """The data."""
        return Scene(self.cell)

    def line(self) -> Line:
        """Return the cell's line. That of the reference model is kept beside the model.

        Raises:
            InputError: The defense cannot handle the task, the data do not allow the attack, or no
                model could show it.
        """
        method = check_defense(self.cell)
        self._check_attack()
        reference = self._reference()
        self._keep_reference_line(reference)
        floor = self._floor(reference)
        started = time.monotonic()
        bench = self._bench(
            self.scene.poisoned.rows, f"undefended-{self.cell.undefended_mark}", self.cell.training
        )
        guarded = method.defend(bench)
        trained = time.monotonic()
        line = {
            **self._identity(),
            "n_train": guarded.n_train,
            **self._subset(guarded),
            **self._measured(guarded, floor),
            "facts": dict(guarded.facts),
        }
        ended = time.monotonic()
        seconds = {
            "train_seconds": round(trained - started, 1),
            "eval_seconds": round(ended - trained, 1),
        }
        return {**line, **seconds, **self._end()}

    def _check_attack(self) -> None:
        """Refuse an attack that the rows do not allow, or that no model could show.

        One that the tokenizer does not see, say, or whose target is too long to write.
        """
        self.scene.check_attack(self.cell.attack, self.cell.rate)
        scene, tokenizer = self.scene, load_tokenizer(self.cell.model)
        if not scene.triggered:
            what = f"{scene.attack.name} has nothing for any of the test rows"
            raise InputError(what, mend="give rows or rewritten texts that it can use")
        renderer = PromptRenderer(tokenizer, max_length=self.cell.training.max_length)
        prompt = ORIGINAL_PROMPT if scene.text_task is None else ORIGINAL_TEXT_PROMPT
        check_visible(
            scene.attack,
            scene.all_test,
            scene.attacker,
            lambda text: renderer.render([text], prompt).ids[0],
        )
        if scene.text_task is not None:
            check_target_fits(scene.attack.target, renderer, scene.text_task.max_new_tokens)

    def _reference(self) -> Bench:
        """Return a workbench whose undefended model learned from the clean rows alone."""
        name = f"reference-{self.cell.clean_mark}"
        return self._bench(self.scene.clean, name, self.cell.shared_training)

    def _floor(self, reference: Bench) -> Share:
        """Return the reference model's rate on the triggered inputs, measured once."""
        path = self.kept / f"floor-{self.cell.attack_mark}.json"
        if path.exists():
            return Share(**json.loads(path.read_text()))
        answers = reference.undefended().answer([row.text for row in self.scene.triggered])
        floor = self._success(answers, self.scene.triggered)
        write_text_atomic(path, json.dumps(asdict(floor)) + "\n")
        return floor

    def _bench(self, rows: Sequence[Row], name: str, training: Any) -> Bench:
        scene, cell = self.scene, self.cell
        common: dict[str, Any] = {
            "model": cell.model,
            "rows": rows,
            "trusted": scene.trusted,
            "training": training,
            "secret": Secret.from_seed(cell.seed + 1),
            "clean_ids": frozenset(row.id for row in scene.poisoned.rows) - scene.poisoned.ids,
            "shared": lambda train: self._shared(name, train),
            "precision": cell.config.precision,
        }
        if scene.text_task is not None:
            return TextBench(**common, task=scene.text_task)
        return LabelBench(**common, task=scene.labels)

    def _shared(self, name: str, train: Callable[[], Any]) -> Any:
        """Return a model that several cells share: trained by the first, loaded by the others.

        A process that comes while another trains it waits.
        """
        from peft import PeftModel

        folder = self.kept / name
        with locked(self.kept / f"{name}.lock"):
            if not (folder / "done.json").exists():
                beside = self.kept / f"{name}.new"
                shutil.rmtree(beside, ignore_errors=True)
                started = time.monotonic()
                train().save_pretrained(str(beside), safe_serialization=True)
                took = {"train_seconds": round(time.monotonic() - started, 1)}
                write_text_atomic(beside / "done.json", json.dumps(took) + "\n")
                shutil.rmtree(folder, ignore_errors=True)
                beside.replace(folder)
        backbone = load_backbone(self.cell.model, precision=self.cell.config.precision)
        return PeftModel.from_pretrained(backbone.model, str(folder)).eval()

    def _measured(self, guarded: Guarded, floor: Share) -> Line:
        scene = self.scene
        parts = (scene.test, scene.triggered, scene.untriggered)
        clean, triggered, untriggered = (
            guarded.answer([row.text for row in rows]) for rows in parts
        )
        record: Line = {"n_clean": len(clean), "n_triggered": len(triggered)}
        record |= self._quality([answer or "" for answer in clean], scene.test)
        rates = {
            "attack_success_rate": self._success(triggered, scene.triggered),
            "floor": floor,
            "untriggered_rate": self._success(untriggered, scene.untriggered),
            "rejected_clean": _rejected(clean),
            "rejected_triggered": _rejected(triggered),
        }
        for name, measured in rates.items():
            record |= share_fields(name, measured)
        if guarded.probabilities is not None:
            target = scene.labels.label_index(scene.attack.target)
            chances = guarded.probabilities([row.text for row in scene.triggered])[:, target]
            counts, _ = np.histogram(chances, bins=BINS, range=(0.0, 1.0))
            record["target_confidence"] = counts.tolist()
        return record

    def _quality(self, answers: Sequence[str], rows: Sequence[Row]) -> Line:
        """Return CA, or the task's own measure; a rejected input's answer counts as wrong."""
        task = self.scene.text_task
        if task is None:
            right = sum(a == row.answer for a, row in zip(answers, rows, strict=True))
            return share_fields("clean_accuracy", share(right, len(rows)))
        mean = mean_of(task.utilities(answers, [task.target(row) for row in rows]))
        return {
            "utility_metric": task.metric,
            "utility": mean.value,
            "utility_low": mean.low,
            "utility_high": mean.high,
        }

    def _success(self, answers: Sequence[str | None], rows: Sequence[Row]) -> Share:
        """Return the share of answers that are the attack's success; a rejection is none."""
        hits = [
            answer is not None and self.scene.attack.succeeds(answer, row)
            for answer, row in zip(answers, rows, strict=True)
        ]
        return share(sum(hits), len(hits))

    def _subset(self, guarded: Guarded) -> Line:
        subset = guarded.subset
        return {
            "n_subset": None if subset is None else len(subset),
            "n_subset_poisoned": (
                None if subset is None else len(subset & self.scene.poisoned.ids)
            ),
        }

    def _identity(self) -> Line:
        cell = self.cell
        attack = {"package": cell.attack.package, "settings": cell.attack.in_full(cell.data.task)}
        settings = cell.defense.in_full()
        defense = {"package": cell.defense.package, "settings": settings}
        return {
            "suite": "bench",
            "cell": cell.name,
            "config_hash": cell.mark,
            "task": cell.data.task,
            "dataset": cell.data.name,
            "model": Path(cell.model).name,
            "attack": cell.attack.title,
            "target": self.scene.attack.target,
            "poison_rate": cell.rate,
            "defense": cell.defense.title,
            "selection": settings.get("selection"),
            "mode": settings.get("mode"),
            "variant": "",
            "seed": cell.seed,
            "settings": {
                "attack": {**cell.attack.model_dump(mode="json"), **attack},
                "defense": {**cell.defense.model_dump(mode="json"), **defense},
                "training": cell.training.model_dump(mode="json"),
                "trusted": cell.config.trusted,
            },
            "n_poisoned": len(self.scene.poisoned.ids),
            "n_without_rewrite": self.scene.poisoned.without_rewrite,
            "n_trusted": len(self.scene.trusted),
        }

    def _keep_reference_line(self, reference: Bench) -> None:
        """Keep the reference model's line beside it, where no kill can lose it."""
        path = reference_line_path(self.kept, self.cell)
        if not path.exists():
            write_text_atomic(path, json.dumps(self._reference_line(reference)) + "\n")

    def _reference_line(self, reference: Bench) -> Line:
        """Return the line of the model that was trained without the poison: it knows no attack."""
        cell = self.cell
        name = "/".join([cell.data.name, "reference", Path(cell.model).name, str(cell.seed)])
        model = reference.undefended()
        done = self.kept / f"reference-{cell.clean_mark}" / "done.json"
        started = time.monotonic()
        answers = model.answer([row.text for row in self.scene.test])
        ended = time.monotonic()
        return {
            "suite": "bench",
            "cell": name,
            "config_hash": cell.clean_mark,
            "task": cell.data.task,
            "dataset": cell.data.name,
            "model": Path(cell.model).name,
            "attack": "none",
            "target": None,
            "poison_rate": 0.0,
            "defense": "none",
            "selection": None,
            "mode": None,
            "variant": "reference",
            "seed": cell.seed,
            "settings": {"training": cell.shared_training.model_dump(mode="json")},
            "n_train": len(self.scene.clean),
            "n_poisoned": 0,
            "n_clean": len(answers),
            **self._quality(answers, self.scene.test),
            "train_seconds": json.loads(done.read_text()).get("train_seconds"),
            "eval_seconds": round(ended - started, 1),
            **self._end(),
        }

    def _end(self) -> Line:
        """Return how a line came about."""
        device = best_device()
        dtype = resolve_precision(self.cell.config.precision, device)
        return {
            "dtype": str(dtype).removeprefix("torch."),
            "device": "CPU" if device.type == "cpu" else torch.cuda.get_device_name(),
            "threads": torch.get_num_threads(),
            "host": platform.node(),
            "packages": {name: version(name) for name in PACKAGES},
            "command": self.command,
            "version": version("mithridate"),
            "date": datetime.now(UTC).date().isoformat(),
        }


def reference_line_path(kept: Path, cell: BenchCell) -> Path:
    """Return where the line of a cell's reference model is kept."""
    return kept / f"reference-{cell.clean_mark}.json"


def _rejected(answers: Sequence[str | None]) -> Share:
    return share(sum(answer is None for answer in answers), len(answers))
