"""The label remap h and its inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.defense.remap import inverse, remap

cases = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, 2 * n - 1), st.just(n)))


@given(cases)
def test_h_gives_an_alternative_label_and_the_inverse_gives_the_class_back(case):
    label, n = case
    assert n <= remap(label, n) < 2 * n
    assert inverse(remap(label, n), n) == label % n


@given(cases)
def test_h_leaves_alternative_labels_as_they_are(case):
    label, n = case
    assert remap(remap(label, n), n) == remap(label, n)


@pytest.mark.parametrize("label", [-1, 4, 100])
def test_labels_outside_are_errors(label):
    with pytest.raises(ValueError, match="outside"):
        remap(label, 2)


@pytest.mark.parametrize("label", [-1, 0, 1, 4])
def test_the_inverse_of_anything_but_an_alternative_label_is_an_error(label):
    with pytest.raises(ValueError, match="no alternative label"):
        inverse(label, 2)
