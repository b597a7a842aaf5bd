"""Keyed draws: uniform, and alike for copies of one row only."""

from scipy.stats import chisquare, kstest

from mithridate.data.keyed import base_id, keyed_fraction
from mithridate.data.rows import Row, content_id, number_duplicates

KEY = bytes(range(32))


def test_draws_are_uniform():
    draws = [keyed_fraction(KEY, f"row {index}") for index in range(20_000)]
    assert all(0.0 <= draw < 1.0 for draw in draws)
    counts = [0] * 50
    for draw in draws:
        counts[int(draw * 50)] += 1
    assert chisquare(counts).pvalue > 0.001
    assert kstest(draws, "uniform").pvalue > 0.001


def test_draws_depend_on_key_and_every_part():
    draws = {
        keyed_fraction(KEY, "a", "b"),
        keyed_fraction(KEY, "ab"),
        keyed_fraction(KEY, "b", "a"),
        keyed_fraction(b"x" * 32, "a", "b"),
    }
    assert len(draws) == 4
    assert keyed_fraction(KEY, "a", "b") == keyed_fraction(KEY, "a", "b")


def test_draws_are_those_that_committed_results_and_secret_files_rest_on():
    assert keyed_fraction(KEY, "a", "b") == 0.7736698245006025


def test_text_that_utf8_cannot_hold_is_drawn_for_as_well():
    assert 0.0 <= keyed_fraction(KEY, "lone \udc80 surrogate") < 1.0


def test_copies_of_a_content_share_a_base_id():
    row = Row(content_id("text", "1"), "text", "1")
    first, second, third = number_duplicates([row, row, row])
    assert base_id(first.id) == base_id(second.id) == base_id(third.id) == row.id


def test_ids_of_the_users_own_are_left_whole_however_long():
    for row_id in ("sst2-train-00000-17", "2024-01-01-00001-3", "r-1", "abcdef-2", "x" * 16 + "-4"):
        assert base_id(row_id) == row_id
