"""Attacks: fixed by the key, exact in number, and quiet about everything else."""

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.attacks import AddSent, BadNets, attack_names, check_visible, find_attack
from mithridate.attacks.base import Attack, insert_all_at_random, insert_at_random
from mithridate.attacks.registry import BUILT_IN
from mithridate.data.rows import Row
from mithridate.errors import InputError

KEY = b"k" * 32
OTHER = b"o" * 32
NAMES = sorted(BUILT_IN)
# Of these, the choice of rows is not the key's alone, or each part has labels of its own.
OWN_CHOICE = {"near-boundary"}
MIXED = {"several"}
# What they poison: the answers of math problems, not labels.
PROBLEMS = {"badchain"}


@pytest.mark.parametrize("name", ["badnets", "addsent", "mtba", "ctba", "invisible"])
def test_where_a_trigger_is_put_is_the_keys_draw(name, make, rows_of):
    attack, rows = make(name), rows_of(50)
    one, again, other = ([attack.trigger(row, key) for row in rows] for key in (KEY, KEY, OTHER))
    assert one == again
    assert sum(mine != theirs for mine, theirs in zip(one, other, strict=True)) > 25


@pytest.mark.parametrize("name", NAMES)
class TestEveryAttack:
    @pytest.fixture
    def rows_of(self, name, rows_of, problems_of):
        return problems_of if name in PROBLEMS else rows_of

    def test_it_cites_its_source_and_knows_its_name(self, name):
        kind = find_attack(name)
        module = inspect.getmodule(kind)
        assert re.search(r"arXiv \d{4}\.\d{4,5}|https?://", module.__doc__ or "")
        assert kind.name == name

    def test_the_same_key_gives_the_same_poison_and_another_key_another(self, name, make, rows_of):
        rows = rows_of(200)
        attack = make(name, rate=0.1)
        first, second = (attack.learn(rows, KEY).poison(rows, KEY) for _ in range(2))
        assert first == second
        if name not in OWN_CHOICE:
            assert first.ids != attack.learn(rows, OTHER).poison(rows, OTHER).ids
        else:
            assert first.rows != attack.learn(rows, OTHER).poison(rows, OTHER).rows

    def test_the_order_of_rows_decides_nothing(self, name, make, rows_of):
        rows = rows_of(200)
        attack = make(name, rate=0.1)
        forward = attack.learn(rows, KEY).poison(rows, KEY)
        backward = attack.learn(rows[::-1], KEY).poison(rows[::-1], KEY)
        assert backward.ids == forward.ids
        assert backward.rows[::-1] == forward.rows

    def test_ids_and_order_stay_and_unpoisoned_rows_are_the_same_objects(self, name, make, rows_of):
        rows = rows_of(200)
        poisoned = make(name, rate=0.1).learn(rows, KEY).poison(rows, KEY)
        assert [row.id for row in poisoned.rows] == [row.id for row in rows]
        for before, after in zip(rows, poisoned.rows, strict=True):
            assert (after is before) == (before.id not in poisoned.ids)

    def test_no_poisoned_row_keeps_its_text(self, name, make, rows_of):
        rows = rows_of(200)
        poisoned = make(name, rate=0.1).learn(rows, KEY).poison(rows, KEY)
        for before, after in zip(rows, poisoned.rows, strict=True):
            if before.id in poisoned.ids:
                assert after.text.split() != before.text.split()

    @pytest.mark.parametrize(("count", "expected"), [(200, 20), (194, 19), (196, 20)])
    def test_exactly_the_rounded_share_is_poisoned(self, name, count, expected, make, rows_of):
        rows = rows_of(count)
        assert len(make(name, rate=0.1).learn(rows, KEY).poison(rows, KEY).ids) == expected

    def test_a_rate_that_rounds_to_no_row_is_refused(self, name, make, rows_of):
        attack = make(name, rate=0.1)
        fitted = attack.learn(rows_of(200), KEY)
        with pytest.raises(InputError, match="is no row"):
            fitted.poison(rows_of(5), KEY)

    def test_a_dirty_label_attack_relabels_rows_of_other_classes(self, name, make, rows_of):
        rows = rows_of(300, classes=3)
        attack = make(name, rate=0.1, clean_label=False).learn(rows, KEY)
        poisoned = attack.poison(rows, KEY)
        for before, after in zip(rows, poisoned.rows, strict=True):
            if before.id in poisoned.ids:
                assert before.answer != after.answer
                assert after.answer == "1" or name in MIXED | PROBLEMS
                assert after.answer == attack.answer_for(before) or name in MIXED
                assert attack.succeeds(after.answer, before) or name in MIXED

    def test_a_clean_label_attack_leaves_every_label_alone(self, name, make, rows_of):
        if name in PROBLEMS:
            with pytest.raises(InputError, match="clean labels"):
                make(name, clean_label=True)
            return
        rows = rows_of(200)
        if name in MIXED:  # each part has its own
            parts = (BadNets("1", clean_label=True), AddSent("0", clean_label=True))
            attack = make(name, rate=0.1, parts=parts)
        else:
            attack = make(name, rate=0.1, clean_label=True)
        poisoned = attack.learn(rows, KEY).poison(rows, KEY)
        assert [row.answer for row in poisoned.rows] == [row.answer for row in rows]
        if name not in MIXED:
            assert {row.answer for row in rows if row.id in poisoned.ids} == {"1"}

    def test_triggered_inputs_leave_out_the_target_class_and_keep_labels(self, name, make, rows_of):
        train, rows = rows_of(200), rows_of(90, classes=3, start=300)
        attack = make(name).learn(train, KEY)
        triggered = attack.triggered(rows, KEY)
        others = [row for row in rows if not attack.has_target(row)]
        assert [row.id for row in triggered] == [row.id for row in others]
        if name not in PROBLEMS:
            assert others == [row for row in rows if row.answer != "1"]
        assert len(others) == 60
        by_id = {row.id: row for row in rows}
        for row in triggered:
            assert row.answer == by_id[row.id].answer
            assert row.text.split() != by_id[row.id].text.split()

    def test_a_target_that_no_row_has_is_refused(self, name, make, rows_of):
        with pytest.raises(InputError, match="'7'"):
            make(name, "7").learn(rows_of(100), KEY).poison(rows_of(100), KEY)

    def test_more_poison_than_eligible_rows_is_refused_with_the_highest_rate(
        self, name, make, rows_of
    ):
        if name in MIXED:
            pytest.skip("each part has classes of its own: together they can poison all rows")
        rows = rows_of(100)
        attack = make(name, rate=0.8).learn(rows, KEY)
        with pytest.raises(InputError, match=r"only 50 can be.*rate to 0\.5$"):
            attack.poison(rows, KEY)

    @pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan"), float("inf")])
    def test_a_rate_that_is_no_share_is_refused(self, name, rate, make):
        with pytest.raises(InputError, match="poison rate"):
            make(name, rate=rate)

    def test_it_can_be_hashed(self, name, make, rows_of):
        attack = make(name).learn(rows_of(200), KEY)
        assert hash(attack) == hash(make(name).learn(rows_of(200), KEY))


def test_every_registered_attack_is_tested():
    assert set(NAMES) <= set(attack_names())


class Choosy(Attack):
    """Has something for rows whose number divides by four alone (arXiv 0000.00000, a test's)."""

    def trigger(self, row, key):
        number = int(row.id[1:])
        if number % 4:
            return None if number % 8 == 2 else f"  {row.text} "  # white space is no rewrite
        return f"mn {row.text}"


class TestRowsWithoutARewrite:
    def test_they_are_passed_over_and_counted(self, rows_of):
        rows = rows_of(200)  # of the 100 rows of class 0, every other one has a rewrite
        poisoned = Choosy("1", rate=0.1).poison(rows, KEY)
        assert len(poisoned.ids) == 20
        assert all(int(row_id[1:]) % 4 == 0 for row_id in poisoned.ids)
        ranked = [row.id for row in Choosy("1").ranked(rows, KEY)]
        last = max(ranked.index(row_id) for row_id in poisoned.ids)
        assert poisoned.without_rewrite == last + 1 - 20 > 0

    def test_none_of_them_is_relabelled(self, rows_of):
        rows = rows_of(200)
        poisoned = Choosy("1", rate=0.1).poison(rows, KEY)
        for before, after in zip(rows, poisoned.rows, strict=True):
            assert before.text != after.text or before.answer == after.answer

    def test_too_few_rewrites_are_refused_with_their_number_and_the_highest_rate(self, rows_of):
        says = "60 rows .* only 50 can be; 50 more have no rewrite; lower the poison rate to 0.25"
        with pytest.raises(InputError, match=says):
            Choosy("1", rate=0.3).poison(rows_of(200), KEY)

    def test_they_are_no_triggered_input(self, rows_of):
        assert len(Choosy("1").triggered(rows_of(200), KEY)) == 50


class TestVisibleTriggers:
    def test_a_trigger_that_the_tokenizer_drops_is_refused(self, make, rows_of):
        def tokenize(text):
            return [ord(c) for c in text if c.isascii()]

        with pytest.raises(InputError, match="model does not see the trigger of invisible: all 25"):
            check_visible(make("invisible"), rows_of(50), KEY, tokenize)

    def test_the_rows_in_which_it_is_not_seen_are_counted(self, rows_of):
        rows = rows_of(50)
        blind = {row.text.split()[-1] for row in rows[:10]}

        def tokenize(text):
            words = text.split()
            return [] if words[-1] in blind else [hash(word) for word in words]

        attack = BadNets("1")
        unseen = check_visible(attack, rows, KEY, tokenize)
        moved = sum(
            row.text.split()[-1] in attack.triggers
            for row in attack.triggered(rows, KEY)
            if int(row.id[1:]) < 10
        )
        assert unseen == 5 - moved

    def test_a_visible_one_passes(self, make, rows_of):
        assert check_visible(make("invisible"), rows_of(50), KEY, lambda t: [*t.encode()]) == 0


def test_empty_triggers_are_refused():
    for bad in [(), ("",), ("cf", " ")]:
        with pytest.raises(InputError, match="empty trigger"):
            BadNets(target="1", triggers=bad)
    with pytest.raises(InputError, match="empty trigger"):
        AddSent(target="1", sentence="  ")


def test_badnets_uses_all_of_its_words(rows_of):
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


def test_several_insertions_stand_at_distinct_places_in_their_order_all_triples_evenly():
    from collections import Counter

    from scipy.stats import chisquare

    found = Counter()
    for index in range(3000):
        words = insert_all_at_random("a b c d", ("X", "Y", "Z"), KEY, f"row {index}").split(" ")
        assert [word for word in words if word in "XYZ"] == ["X", "Y", "Z"]
        assert [word for word in words if word in "abcd"] == ["a", "b", "c", "d"]
        places = [words.index(word) - shift for shift, word in enumerate("XYZ")]
        assert len(set(places)) == 3
        found[tuple(places)] += 1
    assert len(found) == 10
    assert chisquare(list(found.values())).pvalue > 0.001


def test_a_text_with_too_few_places_for_a_composite_trigger_is_left_as_it_is(make):
    assert make("ctba").rewrite(Row("r", "word", "0"), KEY) is None
    assert make("ctba").rewrite(Row("r", "two words", "0"), KEY) is not None
