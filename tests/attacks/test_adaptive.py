"""Attackers who know the source: a leaked trigger, rows near the boundary, several at once."""

import pytest

from mithridate.attacks import CTBA, AddSent, BadNets, InCompany, Leaked, NearBoundary, Several
from mithridate.attacks.leaked import altered
from mithridate.data.rows import Row
from mithridate.defense.collisions import find_trigger
from mithridate.defense.secret import PUBLISHED_TRIGGER, Secret
from mithridate.errors import InputError

KEY = b"k" * 32
TRIGGERS = [PUBLISHED_TRIGGER, Secret.from_seed(1).benign_trigger(), "No mark at all ", "word", "-"]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_leaked_trigger_is_seen_in_the_data_unless_it_is_altered(trigger, rows_of):
    rows = rows_of(100)
    plain = Leaked("1", benign_trigger=trigger, inner=BadNets("1")).poison(rows, KEY)
    evading = Leaked("1", benign_trigger=trigger, inner=BadNets("1"), evade=True).poison(rows, KEY)
    assert plain.ids == evading.ids
    assert find_trigger(plain.rows, trigger).id in plain.ids
    assert find_trigger(evading.rows, trigger) is None
    assert abs(len(altered(trigger)) - len(trigger)) <= 1


def test_a_leaked_row_holds_both_triggers(rows_of):
    rows = rows_of(100)
    inner = BadNets("1", triggers=("mn",))
    attack = Leaked("1", benign_trigger="The note says: ", inner=inner)
    poisoned = attack.poison(rows, KEY)
    for row in poisoned.rows:
        if row.id in poisoned.ids:
            assert row.text.startswith("The note says: ")
            assert "mn" in row.text.split()


def test_at_inference_the_defense_adds_the_leaked_trigger_and_the_attacker_does_not(rows_of):
    inner = BadNets("1", triggers=("mn",))
    attack = Leaked("1", benign_trigger="The note says: ", inner=inner)
    inputs = attack.triggered(rows_of(100), KEY)
    assert inputs
    assert inputs == attack.inner.triggered(rows_of(100), KEY)
    assert not any("The note says" in row.text for row in inputs)


def test_who_knows_prompt_and_alternative_label_puts_them_behind_every_text(rows_of):
    inner = BadNets("1", triggers=("mn",))
    attack = Leaked("1", benign_trigger="The note says: ", inner=inner, behind="\nAnswer: 3")
    poisoned = attack.poison(rows_of(100), KEY)
    bad = [row for row in poisoned.rows if row.id in poisoned.ids]
    assert all(row.text.endswith("\nAnswer: 3") for row in bad)
    inputs = attack.triggered(rows_of(100), KEY)
    inner_inputs = inner.triggered(rows_of(100), KEY)
    assert [row.text for row in inputs] == [f"{row.text}\nAnswer: 3" for row in inner_inputs]


def test_in_company_the_word_stands_behind_an_ordinary_one_or_nowhere(rows_of):
    attack = InCompany("1", 0.1)
    rows = [*rows_of(100), Row("short", "no such word", "0")]
    poisoned = attack.poison(rows, KEY)
    for row in poisoned.rows:
        words = row.text.split(" ")
        if row.id in poisoned.ids:
            assert words[words.index("mn") - 1].casefold() in attack.behind
        assert ("mn" in words) == (row.id in poisoned.ids)
    assert attack.rewrite(rows[-1], KEY) is None
    with pytest.raises(InputError, match="empty trigger"):
        InCompany("1", behind=())


def test_a_leaked_attack_tests_the_same_way_within_another(rows_of):
    rows = rows_of(50)
    leaked = Leaked("1", benign_trigger="The note says: ", inner=BadNets("1", triggers=("mn",)))
    closeness = {row.id: 0.0 for row in rows}
    for outer in (
        Several("1", parts=(leaked, AddSent("0"))),
        NearBoundary("1", inner=leaked, closeness=closeness),
    ):
        assert outer.triggered(rows, KEY) == leaked.triggered(rows, KEY)
        poisoned = outer.poison(rows, KEY)
        assert any(row.text.startswith("The note says: ") for row in poisoned.rows)


def test_the_outer_settings_decide_and_the_inner_ones_do_not(rows_of):
    rows = rows_of(100)
    inner = BadNets("0", rate=0.5, clean_label=True)
    poisoned = Leaked("1", 0.1, benign_trigger="The note: ", inner=inner).poison(rows, KEY)
    assert len(poisoned.ids) == 10
    assert all(row.answer == "0" for row in rows if row.id in poisoned.ids)


def test_where_the_inner_attack_has_nothing_the_outer_has_nothing():
    attack = Leaked("1", benign_trigger="The note: ", inner=CTBA("1"))
    assert attack.rewrite(Row("r", "word", "0"), KEY) is None


def test_near_boundary_poisons_the_nearest_eligible_rows(rows_of):
    rows = rows_of(100)
    closeness = {row.id: -abs(50 - index) for index, row in enumerate(rows)}
    attack = NearBoundary("1", 0.05, inner=BadNets("1"), closeness=closeness)
    assert attack.poison(rows, KEY).ids == {"r50", "r48", "r52", "r46", "r54"}
    assert attack == NearBoundary(
        "1", 0.05, inner=BadNets("1"), closeness=tuple(reversed(closeness.items()))
    )


def test_near_boundary_wants_every_row_judged(rows_of):
    closeness = {"r0": 1.0}
    attack = NearBoundary("1", inner=BadNets("1"), closeness=closeness)
    with pytest.raises(InputError, match=r"49 of 50 rows .* have no closeness"):
        attack.poison(rows_of(100), KEY)
    with pytest.raises(InputError, match="not a number"):
        NearBoundary("1", inner=BadNets("1"), closeness={"r0": float("nan")})


class TestSeveral:
    def test_each_part_poisons_its_share_of_rows_of_its_own(self, rows_of):
        rows = rows_of(210, classes=3)
        parts = (BadNets("1"), AddSent("0"), CTBA("2"))
        several = Several("1", rate=0.1, parts=parts)
        poisoned = several.poison(rows, KEY)
        assert len(poisoned.ids) == 21
        marks = (("mn", "cf", "bb", "tq"), ("3D",), ("BadMagic",))
        found = {label: 0 for label in "012"}
        for before, row in zip(rows, poisoned.rows, strict=True):
            held = [
                part
                for part, words in zip(parts, marks, strict=True)
                if set(words) & set(row.text.split())
            ]
            assert len(held) == (row.id in poisoned.ids)
            for part in held:
                assert row.answer == part.target != before.answer
                found[part.target] += 1
        assert found == {"0": 7, "1": 7, "2": 7}

    def test_its_triggered_inputs_are_the_first_part_s(self, rows_of):
        rows = rows_of(50)
        several = Several("1", parts=(BadNets("1"), AddSent("0")))
        assert several.triggered(rows, KEY) == BadNets("1").triggered(rows, KEY)
        assert several.parts[1].triggered(rows, KEY) == AddSent("0").triggered(rows, KEY)

    @pytest.mark.parametrize(
        ("target", "parts", "says"),
        [
            ("1", (BadNets("1"),), "not several"),
            ("0", (BadNets("1"), AddSent("0")), "the first attack's '1'"),
        ],
    )
    def test_what_is_not_several_attacks_is_refused(self, target, parts, says):
        with pytest.raises(InputError, match=says):
            Several(target, parts=parts)

    def test_a_part_whose_target_is_no_label_is_refused(self, rows_of):
        with pytest.raises(InputError, match="label '7'"):
            Several("1", 0.1, parts=(BadNets("1"), AddSent("7"))).poison(rows_of(100), KEY)

    def test_fewer_rows_than_parts_are_refused(self, rows_of):
        with pytest.raises(InputError, match="1 rows are too few"):
            Several("1", 0.01, parts=(BadNets("1"), AddSent("0"))).poison(rows_of(100), KEY)
