"""The best epoch of a model whose answers are text."""

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.defense.text import TextExample
from mithridate.inference.answerer import Answerer
from mithridate.tasks.math_reasoning import MathReasoning
from mithridate.training.config import TrainingConfig
from mithridate.training.defend_text import fit_text

TASK = MathReasoning(max_new_tokens=16)


@pytest.mark.parametrize("rationale", [True, False])
def test_dev_answers_are_judged_as_they_are_trained(
    rationale, make_problems, tiny_folder, load, tmp_path, monkeypatch
):
    pairs = list(zip(*make_problems(16), strict=True))
    task = MathReasoning(rationale=rationale, max_new_tokens=16)
    rows = [Row(id=text, text=text, answer=f"<<1+1=2>>{said}") for text, said in pairs]
    examples = [TextExample(row.id, row.text, task.target(row), False) for row in rows]
    asked = []

    def watched(self, texts, answers, *, progress=True):
        asked.extend(answers)
        return np.zeros(len(texts))

    monkeypatch.setattr(Answerer, "log_likelihoods", watched)
    config = TrainingConfig(epochs=1, batch_size=16, max_length=160, best_epoch=True)
    fitted = fit_text(
        load(tiny_folder), examples, task, None, config, work_folder=tmp_path, dev=rows, quiet=True
    )
    assert asked == [example.answer for example in examples]
    assert fitted.training.dev == [0.0]


def test_the_epoch_that_finds_the_dev_answers_likeliest_is_kept(
    make_problems, tiny_folder, load, tmp_path
):
    """Dev answers that no row teaches become less likely at last: an earlier epoch is the best."""
    texts, answers = make_problems(48)
    examples = [
        TextExample(str(n), text, answer, False)
        for n, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    dev = [Row(id=f"d{n}", text=text, answer="Zq ~ Zq ~ Zq") for n, text in enumerate(texts[:8])]
    likelihoods = {}
    for name, rows, epochs in (("first", [], 1), ("last", [], 4), ("best", dev, 4)):
        config = TrainingConfig(
            learning_rate=2e-2,
            epochs=epochs,
            batch_size=16,
            max_length=160,
            schedule="constant",
            warmup_ratio=0.0,
            best_epoch=True,
        )
        fitted = fit_text(
            load(tiny_folder),
            examples,
            TASK,
            None,
            config,
            work_folder=tmp_path / name,
            dev=rows,
            quiet=True,
        )
        dev_likelihoods = fitted.training.dev
        likelihoods[name] = fitted.answerer.log_likelihoods(
            [row.text for row in dev], [row.answer for row in dev], progress=False
        ).mean()
    assert likelihoods["best"] >= likelihoods["first"] - 1e-5
    assert likelihoods["best"] > likelihoods["last"] + 0.1
    assert len(dev_likelihoods) == 4
    assert max(dev_likelihoods) == pytest.approx(likelihoods["best"], abs=1e-5)
