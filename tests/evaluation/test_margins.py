"""Margins, their bootstrap intervals, and the certificate on the ASR."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from mithridate.data.rows import Row
from mithridate.evaluation.evaluate import evaluate, target_rate
from mithridate.evaluation.intervals import certificate, share
from mithridate.evaluation.margins import summarize, target_margins
from mithridate.inference.classifier import Classifier
from mithridate.inference.scores import Scores
from mithridate.tasks import ClassificationTask, PromptRenderer
from mithridate.tasks.prompt import Prompt

WORDS = ("0", "1", "2", "3", "4", "5")
finite = st.floats(-2000, 0)
score_rows = st.lists(st.tuples(*[finite] * 6), min_size=1, max_size=12)
margin_lists = st.lists(st.floats(-50, 50), min_size=1, max_size=60)


class GivenScores:
    """A scorer that hands out scores made by hand; all after it is the real classifier."""

    def __init__(self, values, greedy=None):
        self.values = np.array(values, dtype=np.float64)
        self.greedy = greedy

    def score(self, prompts, *, greedy=False, progress=True):
        return Scores(self.values, np.array(self.greedy) if greedy else None)


def predicted(values, tokenizer, *, defended, greedy=None):
    task = ClassificationTask(("a", "b", "c"), WORDS)
    benign = Prompt("Said today: ", "\nAnswer: ") if defended else None
    renderer = PromptRenderer(tokenizer, max_length=64)
    classifier = Classifier(GivenScores(values, greedy), renderer, task, benign)
    texts = [f"film {i}" for i in range(len(values))]
    return classifier.predict(texts, open_decoding=greedy is not None, progress=False)


def test_suspicion_is_the_share_of_the_words_outside_the_protected_domain(tiny_shared):
    rows = [(0.5, 0.125, 0.125, 0.125, 0.0625, 0.0625), (0.01, 0.01, 0.02, 0.5, 0.4, 0.06)]
    found = predicted(np.log(rows), tiny_shared.tokenizer, defended=True)
    assert found.suspicion == pytest.approx([0.75, 0.04])
    assert not predicted(np.log(rows), tiny_shared.tokenizer, defended=False).suspicion.any()


def test_open_decoding_tells_an_answer_of_the_domain_from_one_outside_it(tiny_shared):
    rows, greedy = np.zeros((4, 6)), [3, 1, 5, -1]
    found = predicted(rows, tiny_shared.tokenizer, defended=True, greedy=greedy)
    assert found.open_classes.tolist() == [0, -1, 2, -1]
    assert found.open_raw.tolist() == [-1, 1, -1, -1]
    plain = predicted(rows, tiny_shared.tokenizer, defended=False, greedy=greedy)
    assert plain.open_classes.tolist() == plain.open_raw.tolist() == [-1, 1, -1, -1]


@pytest.mark.parametrize("defended", [False, True])
@settings(max_examples=60, deadline=None)
@given(rows=score_rows, target=st.integers(0, 2))
def test_a_margin_is_negative_just_where_the_answer_is_the_target(
    tiny_shared, defended, rows, target
):
    found = predicted(rows, tiny_shared.tokenizer, defended=defended)
    margins = target_margins(found, target)
    decided = margins != 0
    assert ((margins < 0) == (found.classes == target))[decided].all()
    summary = summarize(margins)
    assert summary.not_positive >= target_rate(found, target, "closed").successes
    assert not summary.holds or target_rate(found, target, "closed").successes == 0


def test_margins_are_of_the_domain_the_model_is_read_in(tiny_shared):
    rows = [(-1.0, -2.0, -4.0, -9.0, -3.0, -5.0)]
    for defended, expected in ((False, 1.0), (True, -2.0)):
        found = predicted(rows, tiny_shared.tokenizer, defended=defended)
        assert target_margins(found, 1) == pytest.approx([expected])


def test_margins_outlive_probabilities_that_underflow(tiny_shared):
    rows = [(0.0, -1500.0, -1600.0, 0.0, 0.0, 0.0), (-1500.0, 0.0, -1600.0, 0.0, 0.0, 0.0)]
    found = predicted(rows, tiny_shared.tokenizer, defended=False)
    assert found.probabilities.min() == 0.0
    assert target_margins(found, 1) == pytest.approx([1500.0, -1500.0])
    assert target_margins(found, 2) == pytest.approx([1600.0, 1600.0])


def test_a_tie_counts_against_the_boundary(tiny_shared):
    rows = [(-1.0, -1.0, -3.0, 0.0, 0.0, 0.0), (-1.0, -5.0, -3.0, 0.0, 0.0, 0.0)]
    summary = summarize(target_margins(predicted(rows, tiny_shared.tokenizer, defended=False), 1))
    assert not summary.holds
    assert summary.not_positive == 1


def test_the_logarithms_are_those_of_the_probabilities(tiny_shared):
    task = ClassificationTask(("a", "b", "c"), WORDS)
    renderer = PromptRenderer(tiny_shared.tokenizer, max_length=64)
    classifier = Classifier.local(tiny_shared.model, renderer, task)
    found = classifier.predict(["a dull film", "a lovely film"], progress=False)
    assert np.exp(found.log_probabilities) == pytest.approx(found.probabilities, rel=1e-12)
    assert classifier.predict([], progress=False).log_probabilities.shape == (0, 3)


@settings(max_examples=80, deadline=None)
@given(margin_lists, st.randoms(use_true_random=False))
def test_the_summary_does_not_see_the_order_of_the_rows(margins, random):
    shuffled = list(margins)
    random.shuffle(shuffled)
    assert summarize(shuffled) == summarize(margins)


@settings(max_examples=80, deadline=None)
@given(margin_lists)
def test_every_statistic_is_a_margin_inside_its_interval(margins):
    summary = summarize(margins)
    assert summary.minimum.value == min(margins)
    assert summary.holds == (min(margins) > 0)
    rising = [summary.minimum, summary.first_percentile, *summary.quantiles]
    for quantile in [*rising, summary.median]:
        assert {quantile.value, quantile.low, quantile.high} <= set(margins)
        assert quantile.low <= quantile.value <= quantile.high
        at_most = sum(margin <= quantile.value for margin in margins) / len(margins)
        assert at_most >= quantile.share - 1e-9
    assert [quantile.value for quantile in rising] == sorted(quantile.value for quantile in rising)


@settings(max_examples=40, deadline=None)
@given(margin_lists, st.floats(0.1, 5))
def test_a_shift_of_all_margins_shifts_every_statistic(margins, shift):
    before, after = summarize(margins), summarize([margin + shift for margin in margins])
    for one, other in zip(before.quantiles, after.quantiles, strict=True):
        assert other.value == one.value + shift
        assert (other.low, other.high) == (one.low + shift, one.high + shift)


@pytest.mark.parametrize("n", [17, 200, 900])
def test_intervals_are_those_of_a_bootstrap_with_many_resamples(n):
    draw = np.random.default_rng(7)
    margins = np.sort(draw.normal(3.0, 2.0, n))
    summary = summarize(margins)
    found = [summary.minimum, summary.first_percentile, summary.median, *summary.quantiles]
    resamples = np.sort(draw.integers(0, n, (4000, n)), axis=1)
    for quantile in found:
        drawn = resamples[:, max(1, math.ceil(quantile.share * n - 1e-9)) - 1]
        for end, chance in ((quantile.low, 0.025), (quantile.high, 0.975)):
            place = int(np.searchsorted(margins, end))
            # The end is the quantile of the resamples, within what 4,000 of them leave open.
            assert (drawn <= place).mean() >= chance - 0.012
            assert (drawn < place).mean() <= chance + 0.012


def test_the_bootstrap_of_a_minimum_never_reaches_below_it():
    draw = np.random.default_rng(3)
    margins = draw.normal(3.0, 1.0, 300)
    summary = summarize(margins)
    assert summary.minimum.low == margins.min()
    assert summary.below_minimum == certificate(0, 300).bound


def test_the_share_below_the_smallest_margin_is_bounded_as_often_as_promised():
    draw = np.random.default_rng(11)
    n, tries = 150, 4000
    smallest = draw.normal(size=(tries, n)).min(axis=1)
    bound = summarize(np.zeros(n)).below_minimum
    kept = float(np.mean(norm.cdf(smallest) <= bound))
    assert kept == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("margins", [[], [float("nan")], [1.0, float("nan")]])
def test_missing_margins_are_refused(margins):
    with pytest.raises(ValueError, match="missing"):
        summarize(margins)


@pytest.mark.parametrize("n", [1, 2, 59, 192, 912, 100_000])
def test_none_of_n_is_about_three_over_n(n):
    bound = certificate(0, n).bound
    assert bound == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-9)
    if n > 50:
        assert bound == pytest.approx(3 / n, rel=0.03)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 3000).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_more_successes_and_fewer_trials_raise_the_bound(pair):
    successes, n = pair
    bound = certificate(successes, n).bound
    assert successes / n < bound <= certificate(successes + 1, n).bound
    assert certificate(successes, n + 1).bound < bound
    assert certificate(successes, n, confidence=0.99).bound > bound
    assert certificate(successes, n, confidence=0.975).bound == pytest.approx(
        share(successes, n).high
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.floats(0.0005, 0.9995))
def test_the_bound_holds_in_at_least_95_of_100_draws(n, rate):
    kept = sum(
        float(binom.pmf(successes, n, rate))
        for successes in range(n + 1)
        if certificate(successes, n).bound >= rate
    )
    assert kept >= 0.95 - 1e-9


def test_the_statement_is_a_sentence_that_stays_true():
    assert certificate(0, 912).statement == (
        "ASR is below 0.33% with 95% confidence on inputs drawn like these"
    )
    assert certificate(7, 7).statement == "no bound on the ASR: every input tried gave the target"
    assert certificate(0, 0).statement == "no bound on the ASR: no input was tried"
    assert "with 99% confidence" in certificate(3, 50, confidence=0.99).statement


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_percentage_told_is_never_below_the_bound(pair):
    found = certificate(*pair)
    assume(found.successes < found.n)
    told = float(found.statement.split("below ")[1].split("%")[0]) / 100
    assert found.bound <= told + 1e-11
    assert told - found.bound < 1.01e-4


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (0, 5, 1.0), (0, 5, 0.0)]
)
def test_impossible_certificates_are_refused(successes, n, confidence):
    with pytest.raises(ValueError, match=r"successes of|confidence"):
        certificate(successes, n, confidence=confidence)


@pytest.fixture
def classifier(tiny_shared):
    task = ClassificationTask(("a", "b", "c"), WORDS)
    return Classifier.local(
        tiny_shared.model, PromptRenderer(tiny_shared.tokenizer, max_length=64), task
    )


def rows(count=30):
    return [Row(f"r{i}", f"film {i} was {'abc'[i % 3]}", "abc"[i % 3]) for i in range(count)]


def test_an_evaluation_holds_margins_that_agree_with_its_rate(classifier):
    triggered = [Row(row.id, f"mn {row.text}", row.answer) for row in rows() if row.answer != "b"]
    found = evaluate(classifier, rows(), triggered, target="b", progress=False)
    assert found.margins.n == found.certificate.n == len(triggered)
    assert found.margins.not_positive == found.attack_success_rate.successes
    assert found.margins == summarize(target_margins(found.triggered, 1))
    assert found.certificate == certificate(found.attack_success_rate.successes, len(triggered))


def test_open_decoding_has_a_certificate_and_no_margins(classifier):
    triggered = [Row("r0", "mn film 0 was a", "a")]
    found = evaluate(classifier, rows(), triggered, target="b", decoding="open", progress=False)
    assert found.margins is None
    assert found.certificate.n == 1


def test_without_an_attack_there_are_neither(classifier):
    found = evaluate(classifier, rows(), progress=False)
    assert found.margins is None
    assert found.certificate is None
