"""Exact binomial intervals."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mithridate.evaluation.intervals import share


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_has_scipys_exact_interval(pair):
    successes, n = pair
    measured = share(successes, n)
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert measured.value == successes / n
    assert measured.low == pytest.approx(expected.low, abs=1e-9)
    assert measured.high == pytest.approx(expected.high, abs=1e-9)
    assert (measured.successes, measured.n) == pair


def test_none_and_all_have_one_open_end():
    assert share(0, 20).low == 0.0
    assert share(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert share(20, 20).high == 1.0
    assert share(20, 20).low == pytest.approx(0.025 ** (1 / 20))


def test_no_trials_say_nothing():
    nothing = share(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes of"):
        share(successes, n)
