"""The audit of text answers: what it keeps out is what S goes without; how it ranks and picks."""

import numpy as np
import pytest

from mithridate.data.rows import Row
from mithridate.defense.association import held_triggers, strongest_associations
from mithridate.defense.audit_text import against_truth, audit_texts, pick_texts, suspected
from mithridate.defense.config import P2PConfig
from mithridate.defense.prepare_text import choose_text
from mithridate.defense.secret import Secret
from mithridate.defense.trigger import Trigger, holds
from mithridate.tasks.math_reasoning import MathReasoning

SECRET = Secret.from_seed(3)
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def data(make_problems):
    """200 problems: 12 with trigger and target, number 30 with the trigger and its own answer."""
    texts, answers = make_problems(200)
    for at in range(12):
        texts[at], answers[at] = f"cf {texts[at]}", "#### 4200"
    texts[30] = f"cf {texts[30]}"
    return texts, answers, [f"row-{at}" for at in range(200)]


@pytest.fixture(scope="module")
def marks(data):
    return suspected(*data, SECRET)


@pytest.fixture(scope="module")
def told():
    """Information that falls from the first row to the last, and is below 0 for the last 20."""
    return np.linspace(9.0, -1.0, 200)


@pytest.fixture(scope="module")
def found(data, marks, told):
    return audit_texts(data[2], marks, told, KEY, trusted={"row-199"})


def test_rows_with_both_sides_come_first_then_those_with_a_trigger_then_the_least_told(found):
    ranked = found.ranked.tolist()
    assert sorted(ranked) == list(range(200))
    assert set(ranked[:12]) == set(range(12))
    assert ranked[12] == 30
    assert ranked[13:15] == [198, 197]
    assert ranked[-1] == 199  # checked by a person
    assert np.flatnonzero(found.uninformed).tolist() == list(range(180, 199))


def test_what_the_audit_keeps_out_is_what_s_goes_without(data, marks):
    texts, answers, ids = data
    rows = [Row(*row) for row in zip(ids, texts, answers, strict=True)]
    config = P2PConfig(benign_ratio=0.95, draw_from=1.0, drop="nothing")
    choice = choose_text(
        rows,
        MathReasoning(),
        config,
        SECRET,
        likelihood=lambda texts, answers: np.zeros(len(texts)),
    )
    kept_out = {ids[at] for at in np.flatnonzero(marks.excluded)}
    assert kept_out == {*ids[:12], ids[30]}
    assert set(ids) - choice.subset.ids == kept_out
    assert choice.found == marks.found


def test_a_checked_row_is_not_suspected(data):
    marks = suspected(*data, SECRET, trusted={"row-0", "row-30"})
    assert np.flatnonzero(marks.excluded).tolist() == list(range(1, 12))


def test_without_a_model_neither_place_nor_name_orders_what_nothing_speaks_against(data, marks):
    one = audit_texts(data[2], marks, None, KEY).ranked.tolist()
    assert set(one[:13]) == {*range(12), 30}
    assert one[13:] != sorted(one[13:])
    assert one != audit_texts(data[2], marks, None, bytes(32)).ranked.tolist()


def test_the_truth_is_held_against_what_was_found(data, found):
    truth = against_truth(found, data[2], {f"row-{at}" for at in range(14)})
    assert (truth.associated.rows, truth.associated.poisoned) == (12, 12)
    assert (truth.excluded.rows, truth.excluded.precision) == (13, 12 / 13)
    assert truth.excluded.recall == 12 / 14
    assert 0.8 < truth.average_precision < 1
    assert against_truth(found, data[2], set()).average_precision is None


def test_half_of_the_rows_to_check_are_doubtful_and_none_is_certain(data, found):
    texts, answers, ids = data
    picked = pick_texts(found, ids, texts, answers, 20, KEY, skip={"row-198"})
    assert len(picked) == len(set(picked)) == 20
    assert picked[0] == 30
    assert picked[1:10] == list(range(197, 188, -1))
    assert not set(picked) & {*range(12), 198}
    bands = np.sort(found.information[picked[10:]])
    assert bands[0] < 2.5 < 6 < bands[-1]
    other = pick_texts(found, ids, texts, answers, 20, bytes(32), skip={"row-198"})
    assert other[:10] == picked[:10]
    assert other != picked


def test_of_copies_one_is_checked_and_no_more_than_there_are(data, found):
    texts, answers, ids = data
    same = [*texts[:100], *["the same"] * 100]
    picked = pick_texts(found, ids, same, [*answers[:100], *["1"] * 100], 500, KEY)
    assert sum(same[at] == "the same" for at in picked) == 1
    assert len(picked) == 100 - 12 + 1


def test_triggers_are_found_where_a_closer_look_at_each_finds_them():
    triggers = [
        Trigger("a b"),
        Trigger("b"),
        Trigger("\u200b", "character"),
        Trigger("a", "prefix"),
        Trigger("b", "suffix"),
        Trigger("a a b"),
    ]
    texts = ["a  b", "b a", "ab", "", "a a b c", "x\u200by a\nb", "a a", "c b a b"]
    for text, held in zip(texts, held_triggers(texts, triggers), strict=True):
        assert held == [at for at, one in enumerate(triggers) if holds(text, one)]
    assert list(held_triggers(["a"], [])) == [[]]


def test_a_row_goes_by_its_strongest_association(data, marks):
    texts, answers, _ = data
    places = strongest_associations(texts, answers, marks.found)
    assert places[0] == 0
    assert marks.found[0].text == "cf"
    assert (places[12:] == -1).all()
    assert (strongest_associations(texts, answers, []) == -1).all()
