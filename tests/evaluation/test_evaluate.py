"""CA, ASR, floor and untriggered rate, on predictions made by hand and on a real model."""

from dataclasses import replace

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.errors import InputError
from mithridate.evaluation.evaluate import accuracy, evaluate, target_rate
from mithridate.evaluation.intervals import share
from mithridate.inference.classifier import Classifier, Predictions
from mithridate.tasks import ClassificationTask, PromptRenderer


def predictions(classes, *, open_classes=None, open_raw=None, n=3):
    count = len(classes)
    return Predictions(
        labels=[str(index) for index in classes],
        classes=np.array(classes),
        probabilities=np.full((count, n), 1 / n),
        log_probabilities=np.full((count, n), -np.log(n)),
        suspicion=np.zeros(count),
        open_classes=np.array(classes if open_classes is None else open_classes),
        open_raw=np.full(count, -1) if open_raw is None else np.array(open_raw),
        cut=0,
    )


def test_with_three_classes_the_success_rate_is_not_one_minus_accuracy():
    wrong_but_not_target = predictions([2, 2, 1, 0])
    truth = [0, 0, 0, 0]
    assert accuracy(wrong_but_not_target, truth, "closed").value == 0.25
    assert target_rate(wrong_but_not_target, 1, "closed").value == 0.25


def test_open_decoding_counts_an_undecodable_answer_as_wrong_and_as_no_success():
    answers = predictions([0, 1, 1], open_classes=[0, -1, -1])
    assert accuracy(answers, [0, 1, 1], "closed").value == 1.0
    assert accuracy(answers, [0, 1, 1], "open").successes == 1
    assert accuracy(answers, [0, 1, 1], "open").n == 3
    assert target_rate(answers, 1, "open").successes == 0


def test_open_decoding_counts_the_raw_target_label_as_a_success_and_never_as_right():
    answers = predictions([0, 0, 0], open_classes=[-1, -1, 1], open_raw=[1, 0, -1])
    assert target_rate(answers, 1, "open").successes == 2
    assert accuracy(answers, [1, 0, 1], "open").successes == 1
    assert target_rate(answers, 1, "closed").successes == 0


@pytest.fixture
def classifier(tiny_shared):
    task = ClassificationTask(("a", "b", "c"), ("0", "1", "2", "3", "4", "5"))
    return Classifier.local(
        tiny_shared.model, PromptRenderer(tiny_shared.tokenizer, max_length=64), task
    )


def clean_rows(count=30):
    return [Row(f"r{i}", f"film {i} was {'abc'[i % 3]}", "abc"[i % 3]) for i in range(count)]


@pytest.mark.parametrize("decoding", ["closed", "open"])
def test_rates_are_over_triggered_rows_and_their_own_clean_versions(classifier, decoding):
    clean = clean_rows()
    triggered = [Row(r.id, f"mn {r.text}", r.answer) for r in clean if r.answer != "b"][::-1][:13]
    floor = share(2, 13)
    outcome = evaluate(
        classifier, clean, triggered, target="b", decoding=decoding, floor=floor, progress=False
    )
    hot = classifier.predict([row.text for row in triggered], progress=False)
    by_id = {row.id: row.text for row in clean}
    cold = classifier.predict([by_id[row.id] for row in triggered], progress=False)
    assert outcome.attack_success_rate == target_rate(hot, 1, decoding)
    assert outcome.untriggered_rate == target_rate(cold, 1, decoding)
    assert outcome.attack_success_rate.n == outcome.untriggered_rate.n == 13
    assert outcome.clean_accuracy.n == 30
    assert outcome.floor is floor
    assert outcome.decoding == decoding


def test_without_an_attack_there_is_no_rate(classifier):
    outcome = evaluate(classifier, clean_rows(), progress=False)
    assert outcome.attack_success_rate is None
    assert outcome.untriggered_rate is None
    assert outcome.triggered is None


def test_triggered_rows_that_say_nothing_of_the_attack_are_refused(classifier):
    clean = clean_rows()
    own = [Row("r1", "mn film", "b", "test.jsonl:2")]
    with pytest.raises(InputError, match=r"test\.jsonl:2: a triggered row's true label"):
        evaluate(classifier, clean, own, target="b", progress=False)
    with pytest.raises(InputError, match="need a target"):
        evaluate(classifier, clean, [Row("r0", "mn", "a")], progress=False)
    with pytest.raises(InputError, match="no label 'z'"):
        evaluate(classifier, clean, [Row("r0", "mn", "a")], target="z", progress=False)
    with pytest.raises(InputError, match="no clean row"):
        evaluate(classifier, [], progress=False)


@pytest.mark.parametrize("answer", [None, "zzz"])
def test_a_triggered_row_without_a_known_true_label_is_refused(classifier, answer):
    with pytest.raises(InputError, match="label"):
        evaluate(classifier, clean_rows(), [Row("r0", "mn", answer)], target="b", progress=False)


def test_clean_versions_may_be_given_beside_the_clean_rows(classifier):
    before = [Row(f"o{index}", text, "a") for index, text in enumerate(["ab cd", "ef", "mn op"])]
    triggered = [Row(row.id, f"mn {row.text}", "a") for row in before]
    outcome = evaluate(
        classifier, clean_rows(), triggered, target="b", untriggered=before, progress=False
    )
    cold = classifier.predict([row.text for row in before], progress=False)
    assert outcome.untriggered_rate == target_rate(cold, 1, "closed")


def test_rows_that_were_counted_anew_are_no_clean_versions(classifier):
    """A file of triggered rows whose ids start at 0 again names rows of the target by them."""
    chosen = [row for row in clean_rows() if row.answer != "b"]
    triggered = [
        replace(row, id=clean_rows()[at].id, text=f"mn {row.text}") for at, row in enumerate(chosen)
    ]
    outcome = evaluate(classifier, clean_rows(), triggered, target="b", progress=False)
    assert outcome.untriggered_rate is None


def test_without_clean_versions_there_is_no_untriggered_rate(classifier):
    outcome = evaluate(
        classifier, clean_rows(), [Row("elsewhere", "mn", "a")], target="b", progress=False
    )
    assert outcome.attack_success_rate.n == 1
    assert outcome.untriggered_rate is None
