"""What `defend` says of whether the model has learned its protected domain."""

import json

import numpy as np
import pytest

from mithridate.cli._learned import ASKED, Learned, ask
from mithridate.defense.text import TextExample


def examples(count):
    """As many rows of S, and as many others."""
    return [
        TextExample(str(at), f"{at} {'in' if inside else 'out'}", "yes", inside)
        for at in range(count)
        for inside in (True, False)
    ]


@pytest.mark.parametrize("count", [1, ASKED, ASKED + 1, 1000])
def test_rows_of_s_alone_are_asked_and_not_all_of_many(count, capsys):
    asked = []

    def leaves(texts):
        asked.extend(texts)
        return np.zeros(len(texts), dtype=bool)

    learned = ask(examples(count), leaves)
    assert learned == Learned(len(asked), len(asked))
    assert len(set(asked)) == len(asked) <= ASKED
    assert all(text.endswith(" in") for text in asked)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("outside", "warns"), [(3, False), (4, True), (32, True)])
def test_a_model_that_leaves_more_than_a_tenth_outside_is_warned_of(outside, warns, capsys):
    learned = ask(examples(ASKED), lambda texts: np.arange(len(texts)) < outside)
    assert learned == Learned(ASKED, ASKED - outside)
    assert ("The defense does not hold yet" in capsys.readouterr().err) is warns


def test_without_rows_of_s_nothing_is_asked():
    assert ask([example for example in examples(9) if not example.repoisoned], len) is None


@pytest.mark.parametrize("task", ["classification", "math"])
def test_a_model_that_was_hardly_trained_is_asked_and_what_it_says_is_written_down(
    task, cli, make_toy_rows, make_problems, tiny_folder, tmp_path
):
    data, output = tmp_path / "d.jsonl", tmp_path / "out"
    if task == "classification":
        rows = [{"text": row.text, "label": row.answer} for row in make_toy_rows(40, 1)]
    else:
        problems = zip(*make_problems(40), strict=True)
        rows = [{"question": text, "answer": answer} for text, answer in problems]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--task", task, "--model", tiny_folder, "--selection", "random", "--epochs", "1")
    result = cli("defend", data, "-o", output, *words, "--learning-rate", "1e-9")
    assert result.exit_code == 0, result.stderr
    learned = Learned(**json.loads((output / "metrics.json").read_text())["learned"])
    assert learned.asked == 16
    said = " ".join(result.stderr.split())
    # By chance an untrained model may prefer the safe labels; it begins with no prefix by chance.
    assert ("The defense does not hold yet" in said) is (learned.inside < 14.4)
    assert task == "classification" or learned.inside == 0
    assert str(learned) in " ".join(result.stdout.split())
