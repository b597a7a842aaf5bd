"""How long a matrix will take, and what memory, before anything is run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from mithridate.bench.cells import BenchCell
from mithridate.bench.journal import read_lines
from mithridate.bench.models import LabelModel, TextModel, TrainedModel
from mithridate.bench.pace import Pace, pace
from mithridate.bench.scene import Scene
from mithridate.inference.tokenizer import load_tokenizer
from mithridate.tasks.prompt import PromptRenderer
from mithridate.training.config import TrainingConfig

STEP = 3.0
"""A training step takes as long as so many passes that only read: one forward, two back."""

MODELS = 3
"""Copies of the weights that a cell holds at once: the reference, the base and the trained one."""

SAMPLED = 200
"""Rows whose tokens are counted."""


@dataclass(frozen=True)
class Estimate:
    """What a cell will take.

    Attributes:
        minutes: Of wall-clock time; measured on this matrix's own cells where there are any.
        gigabytes: Of memory at the peak.
        measured: Whether the time is from finished cells.
    """

    minutes: float
    gigabytes: float
    measured: bool


def estimates(cells: Sequence[BenchCell], journal: Path) -> list[Estimate]:
    """Return an estimate for every cell; what cells share counts for the first of them.

    Args:
        cells: The cells.
        journal: Its lines say how long cells of the same model, data and defense took. Models
            that are kept beside it are not trained again.

    Raises:
        InputError: The data or a model's config or tokenizer cannot be read.
    """
    guesses = _Guesses(journal.parent / "kept", _past(journal))
    return [guesses.of(cell) for cell in cells]


_Past = dict[tuple[str, str, str], float]


def _past(journal: Path) -> _Past:
    """Return the mean seconds of finished cells by model, data and defense, and of references."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for line in read_lines(journal):
        train, answer = line.get("train_seconds"), line.get("eval_seconds")
        if train is not None and answer is not None:
            what = line.get("variant") or line["defense"]
            found.setdefault((str(line.get("model")), line["dataset"], what), []).append(
                train + answer
            )
    return {key: fmean(seconds) for key, seconds in found.items()}


@dataclass(frozen=True)
class _Shape:
    """What counts of a data set for the time that it takes.

    Attributes:
        rows: Training rows.
        clean: Clean test inputs.
        triggered: Triggered ones, at most.
        words: Of an input, on average.
        prompt: Tokens of an input in its prompt, on average.
        written: Tokens of an answer that is text, on average; 0 of labels.
    """

    rows: int
    clean: int
    triggered: int
    words: float
    prompt: float
    written: float

    @property
    def tokens(self) -> float:
        """Tokens of a row, on average."""
        return self.prompt + self.written

    def reading(self, speed: Pace) -> float:
        """Return the seconds to answer one input once."""
        return self.prompt * speed.read + self.written * speed.write

    def fitting(self, speed: Pace, training: TrainingConfig) -> float:
        """Return the seconds of training on all rows."""
        return training.epochs * self.rows * STEP * self.tokens * speed.read


@dataclass
class _Guesses:
    """Adds up what cells take, and notes what is trained for several.

    Attributes:
        kept: The folder of the models that cells share.
        past: Seconds of finished cells.
        made: The names of what is trained or measured by now.
        shapes: What was counted of the data.
    """

    kept: Path
    past: _Past
    made: set[str] = field(default_factory=set)
    shapes: dict[tuple[str, str, int], _Shape] = field(default_factory=dict)

    def of(self, cell: BenchCell) -> Estimate:
        """Return a cell's estimate."""
        training = cell.training
        shape = self._shape(cell, training.max_length)
        batch = training.micro_batch_size or training.batch_size
        speed = pace(cell.model, cell.config.precision, batch, max(1, round(shape.prompt)))
        known = self.past.get(self._key(cell, cell.defense.title))
        own = self._own(cell, shape, speed)
        seconds = self._references(cell, shape, speed) + (own if known is None else known)
        memory = MODELS * speed.weights + batch * shape.tokens * speed.activations + 1e9
        return Estimate(seconds / 60, memory / 1e9, known is not None)

    def _own(self, cell: BenchCell, shape: _Shape, speed: Pace) -> float:
        """Return the seconds of a cell without its reference model."""
        cost = cell.defense.method().cost(shape.words)
        inputs = shape.clean + 2 * shape.triggered
        seconds = cost.trains * shape.fitting(speed, cell.training)
        if cost.undefended and self._is_new(f"undefended-{cell.undefended_mark}", "done.json"):
            seconds += shape.fitting(speed, cell.training)
        read = cost.reads * inputs + cost.trusted_reads * min(cell.config.trusted, shape.rows)
        passes = cost.row_reads * shape.rows * shape.tokens * speed.read
        return seconds + passes + read * shape.reading(speed)

    def _references(self, cell: BenchCell, shape: _Shape, speed: Pace) -> float:
        """Return the seconds of a cell's reference model, which several share, and its floor."""
        seconds = 0.0
        if self._is_new(f"reference-{cell.clean_mark}", "done.json"):
            known = self.past.get(self._key(cell, "reference"))
            guess = shape.fitting(speed, cell.shared_training)
            seconds += guess + shape.clean * shape.reading(speed) if known is None else known
        if self._is_new(f"floor-{cell.attack_mark}.json"):
            seconds += shape.triggered * shape.reading(speed)
        return seconds

    def _is_new(self, name: str, file: str = "") -> bool:
        """Whether something shared is not there yet; once asked, it will be."""
        if name in self.made or (self.kept / name / file).exists():
            return False
        self.made.add(name)
        return True

    def _key(self, cell: BenchCell, what: str) -> tuple[str, str, str]:
        return Path(cell.model).name, cell.data.name, what

    def _shape(self, cell: BenchCell, max_length: int) -> _Shape:
        key = (cell.model, cell.data.name, max_length)
        if key not in self.shapes:
            self.shapes[key] = _measured(cell, max_length)
        return self.shapes[key]


def _measured(cell: BenchCell, max_length: int) -> _Shape:
    """Count a data set's rows, and the tokens of some in the prompt they are trained with."""
    scene = Scene(cell)
    renderer = PromptRenderer(load_tokenizer(cell.model), max_length=max_length)
    some = scene.given[:: max(1, len(scene.given) // SAMPLED)][:SAMPLED]
    reader: TrainedModel
    if scene.text_task is None:
        reader = LabelModel(None, renderer, scene.labels)
    else:
        reader = TextModel(None, renderer, scene.text_task)
    samples = reader.samples(some)
    written = fmean(len(sample.answer) for sample in samples) if scene.text_task else 0.0
    test = len(scene.all_test)
    return _Shape(
        rows=len(scene.given),
        clean=min(cell.data.clean, test),
        triggered=min(cell.data.triggered, test),
        words=fmean(len(row.text.split()) for row in some),
        prompt=fmean(len(sample.prompt) for sample in samples),
        written=min(written, reader.max_new_tokens),
    )
