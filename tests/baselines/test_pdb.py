"""PDB: the defensive trigger shifts labels inside Y, and the guard shifts them back."""

from dataclasses import dataclass, field, fields

import pytest

from mithridate.baselines.pdb import PDB, defensive, shifted
from mithridate.bench.workbench import LabelBench
from mithridate.data.rows import Row
from mithridate.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Watched(LabelBench):
    """A workbench that tells what it trained."""

    fits: list = field(default_factory=list)

    def fit(self, rows):
        model = super().fit(rows)
        self.fits.append((list(rows), model))
        return model


@pytest.mark.parametrize("labels", [("0", "1"), ("a", "b", "c", "d")])
def test_the_shift_stays_inside_the_labels_and_gives_each_once(labels):
    images = [shifted(label, labels) for label in labels]
    assert sorted(images) == sorted(labels)
    assert all(image != label for image, label in zip(images, labels, strict=True))
    assert images == [*labels[1:], labels[0]]


def test_defensive_rows_carry_the_trigger_and_the_shifted_label():
    rows = [Row("1", "good", "b"), Row("2", "bad", "a"), Row("3", "what")]
    made = defensive(rows, "Hear: ", ("a", "b"))
    assert [(row.text, row.answer) for row in made] == [("Hear: good", "a"), ("Hear: bad", "b")]


def test_the_subset_depends_on_key_and_ids_alone(scene):
    rows = list(scene.bench.rows)
    chosen = {row.id for row in PDB().subset(rows, bytes(32))}
    assert len(chosen) == 60
    assert chosen == {row.id for row in PDB().subset(rows[::-1], bytes(32))}
    assert chosen != {row.id for row in PDB().subset(rows, b"1" * 32)}
    with pytest.raises(InputError, match="is no row"):
        PDB(ratio=0.01).subset(rows[:10], bytes(32))


def test_the_model_answers_shifted_labels_and_the_guard_the_true_ones(scene):
    own = {part.name: getattr(scene.bench, part.name) for part in fields(scene.bench)}
    # Two rules that contradict each other take the toy model longer to learn than one does.
    own["training"] = scene.bench.training.model_copy(update={"epochs": 12})
    bench = Watched(**own)
    guarded = PDB(ratio=0.4, frequency=2).defend(bench)
    [(rows, model)] = bench.fits
    originals, copies = rows[:600], rows[600:]
    assert originals == list(bench.rows)
    assert len(copies) == 2 * 240
    assert guarded.n_train == len(rows) == 1080
    assert {row.id for row in copies} == guarded.subset
    text, first = originals[[row.id for row in originals].index(copies[0].id)].text, copies[0].text
    assert first.endswith(text)
    trigger = first.removesuffix(text)
    assert trigger.strip()
    assert trigger.strip() not in repr(guarded)
    texts = [row.text for row in scene.test]
    raw = model.answer([trigger + text for text in texts])
    back = {"0": "1", "1": "0"}
    assert guarded.answer(texts) == [back[label] for label in raw]
    assert scene.accuracy(guarded) > 0.8
    assert scene.accuracy(guarded) > 2 * sum(
        label == row.answer for label, row in zip(raw, scene.test, strict=True)
    ) / len(raw)


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"frequency": 0}])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(InputError, match="pdb's settings"):
        PDB(**settings)
