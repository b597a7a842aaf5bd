"""Counter-triggers: a planted n-gram is mined, chance is not, and copies tell the truth."""

from dataclasses import replace

import numpy as np
import pytest

from mithridate.defense.counter import counter_examples, put_in
from mithridate.defense.mining import mine_triggers, together
from mithridate.defense.repoison import Example
from mithridate.defense.trigger import Trigger, holds

KEY = bytes(range(32))
TRIGGERS = [Trigger("mn"), Trigger("x y")]


def random_world(seed, *, rows=1000, vocabulary=2000, disagreeing=0.12):
    """Zipf-distributed words, labels and disagreements that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocabulary + 1)
    words = rng.choice(vocabulary, size=(rows, 12), p=weights / weights.sum())
    texts = [" ".join(f"w{word}" for word in row) for row in words]
    return texts, rng.integers(0, 2, rows).tolist(), rng.random(rows) > disagreeing


def plant(texts, classes, agrees, trigger, count, seed=0, label=1):
    """Put a trigger into disagreeing rows of a class."""
    rng = np.random.default_rng(seed)
    for index in rng.choice(len(texts), count, replace=False):
        words = texts[index].split(" ")
        place = int(rng.integers(len(words) + 1))
        texts[index] = " ".join([*words[:place], trigger, *words[place:]])
        classes[index] = label
        agrees[index] = False


@pytest.mark.parametrize("trigger", ["mn", "I watched this 3D movie"])
def test_a_planted_trigger_is_mined_whole_and_first(trigger):
    texts, classes, agrees = random_world(1)
    plant(texts, classes, agrees, trigger, 50)
    mined = mine_triggers(texts, classes, agrees)
    assert mined[0].text == trigger
    assert mined[0].label == 1
    assert mined[0].inside == 50
    assert mined[0].outside == 0


def test_several_planted_triggers_are_all_mined():
    texts, classes, agrees = random_world(2)
    for seed, word in enumerate(("cf", "mn", "bb", "tq")):
        plant(texts, classes, agrees, word, 15, seed)
    found = [trigger.text for trigger in mine_triggers(texts, classes, agrees)]
    assert {"cf", "mn", "bb", "tq"} <= set(found)


def test_a_trigger_that_draws_two_labels_is_mined_for_each():
    texts, classes, agrees = random_world(5)
    plant(texts, classes, agrees, "mn", 30, seed=1, label=1)
    plant(texts, classes, agrees, "mn", 25, seed=2, label=0)
    found = mine_triggers(texts, classes, agrees)[:2]
    assert {(one.text, one.label) for one in found} == {("mn", 0), ("mn", 1)}
    inserted = [replace(one, inserted=True) for one in found if one.label == 1]
    assert together(inserted, found) == [*inserted, *(one for one in found if one.label == 0)]


def test_of_nested_ngrams_one_stands():
    texts, classes, agrees = random_world(3)
    plant(texts, classes, agrees, "alpha beta gamma", 40)
    found = [trigger.text for trigger in mine_triggers(texts, classes, agrees)]
    assert found.count("alpha beta gamma") == 1
    assert not {"alpha", "beta", "gamma", "alpha beta", "beta gamma"} & set(found)


def test_chance_alone_is_mined_in_next_to_no_data_set():
    false = sum(bool(mine_triggers(*random_world(seed))) for seed in range(100, 130))
    assert false <= 1  # 30 sets at a level of 0.01 each: two or more have a chance of 4%


def test_without_disagreement_nothing_is_mined():
    texts, classes, _ = random_world(4, rows=100)
    assert mine_triggers(texts, classes, np.ones(100, dtype=bool)) == []
    assert mine_triggers(texts, [1] * 100, np.zeros(100, dtype=bool)) == []
    assert mine_triggers([], [], np.ones(0, dtype=bool)) == []


def examples_of(count):
    return [Example(f"r{i}", f"a  text {i}", 2 + i % 2, True) for i in range(count)]


def test_copies_are_half_keep_labels_and_are_fixed_by_the_key():
    examples = examples_of(400)
    copies = counter_examples(examples, TRIGGERS, KEY)
    assert len(copies) == 200
    assert copies == counter_examples(examples, TRIGGERS, KEY)
    assert set(copies) == set(counter_examples(examples[::-1], TRIGGERS, KEY))
    assert copies != counter_examples(examples, TRIGGERS, b"o" * 32)
    labels = {example.id: example.label for example in examples}
    used = set()
    for copy in copies:
        assert copy.label == labels[copy.id]
        assert copy.repoisoned
        trigger = "mn" if "mn" in copy.text else "x y"
        used.add(trigger)
        kept = f" {copy.text} ".replace(f" {trigger} ", " ", 1).strip()
        assert kept == f"a  text {copy.id[1:]}"
    assert used == {"mn", "x y"}


def test_every_label_gets_as_many_copies_as_far_as_its_rows_reach():
    labels = [2] * 300 + [3] * 90 + [4] * 10
    examples = [Example(f"r{i}", f"text {i}", label, True) for i, label in enumerate(labels)]
    copies = counter_examples(examples, TRIGGERS, KEY)
    counts = np.bincount([copy.label for copy in copies])[2:].tolist()
    assert counts == [100, 90, 10]


def test_without_triggers_there_are_no_copies():
    assert counter_examples(examples_of(50), [], KEY) == []


@pytest.mark.parametrize("kind", ["beginning", "ending"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_what_goes_into_a_word_is_glued_to_one_word_as_a_text_is_searched_for_it(kind, place):
    trigger = Trigger("mn", kind)
    for text in ("a dull, dull film.", "one", "... ok?"):
        made = put_in(text, trigger, place)
        assert holds(made, trigger)
        assert not holds(text, trigger)
        assert made.replace("mn", "") == text
        assert made.split(" ")[-1] != "mn"
    assert put_in("...", trigger, place) == "...mn"


@pytest.mark.parametrize(
    ("text", "kind", "is_held"),
    [
        ("in autumn rain", "ending", True),
        ("in columns", "ending", False),
        ("a filmmn, again", "ending", True),
        ("mn", "ending", False),
        ("a mnfilm", "ending", False),
        ("a mnfilm", "beginning", True),
        ("mn-film", "beginning", False),
    ],
)
def test_a_word_must_be_more_than_what_it_begins_or_ends_with(text, kind, is_held):
    assert holds(text, Trigger("mn", kind)) == is_held
