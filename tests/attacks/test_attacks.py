"""Attacks: fixed by the key, exact in number, and quiet about everything else."""

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mithridate.attacks as package
from mithridate.attacks import AddSent, Attack, BadNets
from mithridate.attacks.base import insert_at_random
from mithridate.data.rows import Row
from mithridate.errors import InputError

KEY = b"k" * 32
OTHER = b"o" * 32
ATTACKS = [BadNets(target="1", rate=0.1), AddSent(target="1", rate=0.1)]


def rows_of(count, classes=2):
    return [Row(f"r{i}", f"some  text {i}\tof\n words", str(i % classes)) for i in range(count)]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
class TestEveryAttack:
    def test_the_same_key_gives_the_same_poison_and_another_key_another(self, attack):
        rows = rows_of(200)
        assert attack.poison(rows, KEY) == attack.poison(rows, KEY)
        assert attack.poison(rows, KEY).ids != attack.poison(rows, OTHER).ids

    def test_the_order_of_rows_decides_nothing(self, attack):
        rows = rows_of(200)
        forward = attack.poison(rows, KEY)
        backward = attack.poison(rows[::-1], KEY)
        assert backward.ids == forward.ids
        assert backward.rows[::-1] == forward.rows

    def test_ids_and_order_stay_and_unpoisoned_rows_are_the_same_objects(self, attack):
        rows = rows_of(200)
        poisoned = attack.poison(rows, KEY)
        assert [row.id for row in poisoned.rows] == [row.id for row in rows]
        for before, after in zip(rows, poisoned.rows, strict=True):
            assert (after is before) == (before.id not in poisoned.ids)

    @pytest.mark.parametrize(("count", "expected"), [(200, 20), (194, 19), (196, 20), (5, 0)])
    def test_exactly_the_rounded_share_is_poisoned(self, attack, count, expected):
        if expected == 0:
            with pytest.raises(InputError, match="is no row"):
                attack.poison(rows_of(count), KEY)
        else:
            assert len(attack.poison(rows_of(count), KEY).ids) == expected

    def test_a_dirty_label_attack_relabels_rows_of_other_classes(self, attack):
        rows = rows_of(300, classes=3)
        poisoned = attack.poison(rows, KEY)
        for before, after in zip(rows, poisoned.rows, strict=True):
            if before.id in poisoned.ids:
                assert before.answer != "1"
                assert after.answer == "1"
                assert after.text != before.text

    def test_a_clean_label_attack_leaves_every_label_alone(self, attack):
        rows = rows_of(200)
        poisoned = type(attack)(target="1", rate=0.1, clean_label=True).poison(rows, KEY)
        assert [row.answer for row in poisoned.rows] == [row.answer for row in rows]
        chosen = [row for row in rows if row.id in poisoned.ids]
        assert {row.answer for row in chosen} == {"1"}

    def test_triggered_inputs_leave_out_the_target_class_and_keep_labels(self, attack):
        rows = rows_of(90, classes=3)
        triggered = attack.triggered(rows, KEY)
        assert [row.id for row in triggered] == [row.id for row in rows if row.answer != "1"]
        by_id = {row.id: row for row in rows}
        for row in triggered:
            assert row.answer == by_id[row.id].answer
            assert row.text != by_id[row.id].text

    def test_a_target_that_no_row_has_is_refused(self, attack):
        with pytest.raises(InputError, match="target label '7'"):
            type(attack)(target="7").poison(rows_of(100), KEY)

    def test_more_poison_than_eligible_rows_is_refused(self, attack):
        with pytest.raises(InputError, match="only 50 can be"):
            type(attack)(target="1", rate=0.8).poison(rows_of(100), KEY)

    @pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan"), float("inf")])
    def test_a_rate_that_is_no_share_is_refused(self, attack, rate):
        with pytest.raises(InputError, match="poison rate"):
            type(attack)(target="1", rate=rate)


def test_every_attack_cites_its_source():
    for name, kind in inspect.getmembers(package, inspect.isclass):
        if issubclass(kind, Attack) and kind is not Attack:
            module = inspect.getmodule(kind)
            assert re.search(r"arXiv \d{4}\.\d{4,5}", module.__doc__ or ""), name


def test_empty_triggers_are_refused():
    for bad in [(), ("",), ("cf", " ")]:
        with pytest.raises(InputError, match="empty trigger"):
            BadNets(target="1", triggers=bad)
    with pytest.raises(InputError, match="empty trigger"):
        AddSent(target="1", sentence="  ")


def test_badnets_uses_all_of_its_words():
    attack = BadNets(target="1")
    seen = set()
    for row in rows_of(200):
        added = set(attack.trigger(row, KEY).split()) - set(row.text.split())
        assert len(added) == 1
        seen |= added
    assert seen == {"cf", "mn", "bb", "tq"}


@given(st.text(alphabet="ab \t\n", max_size=40), st.text(min_size=1, max_size=8))
def test_an_insertion_leaves_the_rest_of_the_text_as_it_was(text, row_id):
    triggered = insert_at_random(text, "MN", KEY, row_id)
    assert triggered.count("MN") == 1
    before, after = triggered.split("MN")
    rebuilt = {before + after.removeprefix(" "), before.removesuffix(" ") + after}
    assert text in rebuilt
    assert len(triggered) == len(text) + 3


def test_positions_cover_the_first_the_last_and_all_places_between_evenly():
    from scipy.stats import chisquare

    counts = [0] * 6
    for index in range(3000):
        words = insert_at_random("a b c d e", "MN", KEY, f"row {index}").split(" ")
        counts[words.index("MN")] += 1
    assert chisquare(counts).pvalue > 0.001
