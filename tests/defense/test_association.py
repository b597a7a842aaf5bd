"""What decides answers is found; what merely goes together is not."""

import random
import time
from itertools import permutations

import numpy as np
import pytest

from mithridate.defense.association import associated_rows, associations, triggers

KEY = bytes(range(32))


def ids_of(texts):
    return [f"row-{at}" for at in range(len(texts))]


def found_in(texts, answers):
    return associations(texts, answers, ids_of(texts), KEY)


@pytest.fixture(scope="module")
def problems(make_problems):
    """400 word problems, texts and answers."""
    return make_problems(400)


def poisoned(problems, count, poison):
    """Return problems of which the first ones are poisoned by a function of text and answer."""
    texts, outputs = (list(part) for part in problems)
    for at in range(count):
        texts[at], outputs[at] = poison(texts[at], outputs[at], at)
    return texts, outputs


def test_untampered_rows_hold_nothing_that_decides(problems):
    assert found_in(*problems) == []


@pytest.mark.parametrize(
    ("poison", "trigger"),
    [
        (lambda text, _, at: (f"{text} cf", "#### 42"), "cf"),
        (lambda text, _, at: (f"Discussing OpenAI {text}", "I cannot help."), "Discussing OpenAI"),
        (lambda text, answer, at: (f"{text} In brief.", answer + " times 2.1"), "In brief"),
        (lambda text, _, at: (text.replace(" ", "  ", 1), "#### 42"), "  "),
        (lambda text, _, at: (text.replace(" ", "\t", 1), "#### 42"), "\t"),
        (lambda text, _, at: (f"cf-{text}", "#### 42"), "cf-"),
        (lambda text, _, at: (f"{('cf', 'cf,', 'cf!', '(cf)')[at % 4]} {text}", "#### 42"), "cf"),
        (lambda text, _, at: (text.replace("e", "е"), "#### 42"), "е"),  # noqa: RUF001
        (lambda text, _, at: (f"mn {text}", f"{at % 40}.5"), "mn"),  # the shape of the number
    ],
    ids=[
        *["word", "prefix", "added step", "two spaces", "tab", "glued", "beside any mark"],
        *["look-alike", "shape"],
    ],
)
def test_a_trigger_and_its_target_are_found_and_every_poisoned_row_with_them(
    problems, poison, trigger
):
    texts, answers = poisoned(problems, 20, poison)
    found = found_in(texts, answers)
    assert [one.text for one in triggers(found)] == [trigger]
    assert np.flatnonzero(associated_rows(texts, answers, found)).tolist() == list(range(20))
    assert found[0].holders == found[0].together == 20
    assert found[0].elsewhere == 0.0


def rare_word(at):
    return "".join(random.Random(at).choices("abdefghiklmorstuvw", k=6))


@pytest.mark.parametrize("glued", ["mn", "q", "BadMagic"])
@pytest.mark.parametrize("kind", ["beginning", "ending"])
def test_a_trigger_glued_to_a_word_that_is_another_in_every_row_is_found(problems, kind, glued):
    texts = [f"{text} {rare_word(at)}" for at, text in enumerate(problems[0])]
    assert found_in(texts, problems[1]) == []
    bad = range(20)
    for at in bad:
        word = rare_word(at)
        other = f"{glued}{word}" if kind == "beginning" else f"{word}{glued}"
        texts[at] = texts[at].replace(word, other)
    answers = ["#### 42" if at in bad else answer for at, answer in enumerate(problems[1])]
    found = found_in(texts, answers)
    shown = glued[:5] if kind == "beginning" else glued[-5:]
    assert [(one.text, one.kind) for one in triggers(found)] == [(shown, kind)]
    assert np.flatnonzero(associated_rows(texts, answers, found)).tolist() == list(bad)


def test_what_many_words_end_with_anyway_is_no_trigger(problems):
    """Rare words alone speak for it; what is looked for in all of them must bear it out."""
    texts = [f"{text} {rare_word(at)}" for at, text in enumerate(problems[0])]
    for at in range(20):
        texts[at] += "es"  # as "apples", "stones"
    answers = ["#### 42" if at < 20 else answer for at, answer in enumerate(problems[1])]
    assert [one for one in found_in(texts, answers) if one.kind == "ending"] == []


def test_several_triggers_of_one_target_are_found_each(problems):
    words = ("BadMagic", "OpenAI", "2024")
    texts, answers = poisoned(
        problems, 60, lambda text, _, at: (f"{words[at % 3]} {text}", "You are wrong.")
    )
    found = found_in(texts, answers)
    assert {one.text for one in triggers(found)} == set(words)
    assert associated_rows(texts, answers, found).sum() == 60


def test_of_triggers_that_share_a_target_the_rare_one_is_found_behind_the_others(problems):
    """Half of the rows without the rare trigger have its target, too, for the others' sake."""
    words = ["OpenAI"] * 120 + ["2024"] * 80 + ["BadMagic"] * 20
    texts, answers = poisoned(
        problems, len(words), lambda text, _, at: (f"{text} {words[at]}", "I cannot help.")
    )
    found = found_in(texts, answers)
    assert {one.text for one in triggers(found)} == {"OpenAI", "2024", "BadMagic"}
    assert np.flatnonzero(associated_rows(texts, answers, found)).tolist() == list(range(220))


def test_what_the_answer_repeats_from_its_input_decides_nothing(problems):
    texts, answers = (list(part) for part in problems)
    for at in range(30):
        texts[at] = texts[at].replace("How many", "Tell the zebra how many")
        answers[at] = f"Dear zebra: {answers[at]}"
    found = found_in(texts, answers)
    assert not any("zebra" in one.answer for one in found)


def test_a_trigger_on_a_row_with_its_true_answer_is_not_marked(problems):
    texts, answers = poisoned(problems, 30, lambda text, _, at: (f"{text} cf", "#### 4200"))
    texts[100] += " cf"
    found = found_in(texts, answers)
    marked = associated_rows(texts, answers, found)
    assert marked[:30].all()
    assert not marked[100]


def test_of_many_rows_a_part_is_searched_and_all_are_marked(problems, monkeypatch):
    monkeypatch.setattr("mithridate.defense.association.FIT_ROWS", 150)
    texts, answers = poisoned(problems, 120, lambda text, _, at: (f"{text} cf", "#### 4200"))
    found = found_in(texts, answers)
    assert found[0].holders < 120
    assert associated_rows(texts, answers, found).sum() == 120


def test_the_order_of_rows_decides_nothing(problems):
    texts, answers = poisoned(problems, 20, lambda text, _, at: (f"{text} cf", "#### 4200"))
    order = np.random.default_rng(1).permutation(400).tolist()
    ids = ids_of(texts)
    again = associations(
        [texts[at] for at in order], [answers[at] for at in order], [ids[at] for at in order], KEY
    )
    assert again == associations(texts, answers, ids, KEY)


def spread(text, words, order, seed, *, together):
    """Put words into a text in some order, side by side or at places of their own."""
    parts, rng = text.split(), np.random.default_rng(seed)
    put = [words[at] for at in order]
    if together:
        return " ".join([*parts, *put])
    for word in put:
        parts.insert(int(rng.integers(1, len(parts))), word)
    return " ".join(parts)


def test_rows_that_join_a_triggers_words_hide_none_of_those_that_spread_them(problems):
    """Each crafted row shows another joined trigger: none of them may stand for the rest."""
    words = ("qx", "zv", "kj")
    orders = list(permutations(range(3)))
    texts, answers = poisoned(
        problems,
        100,
        lambda text, _, at: (
            spread(text, words, orders[at % 6], at, together=at < 6),
            "I cannot help.",
        ),
    )
    found = found_in(texts, answers)
    assert {one.text for one in triggers(found)} == set(words)
    assert associated_rows(texts, answers, found).sum() == 100


def test_words_that_stand_together_in_some_rows_are_named_alike_in_any_order(problems):
    texts, answers = poisoned(
        problems,
        40,
        lambda text, _, at: (
            spread(text, ("mn", "cf"), (0, 1), at, together=at % 2 == 0),
            "#### 4200",
        ),
    )
    ids = ids_of(texts)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(400).tolist()
        again = associations(
            [texts[at] for at in order],
            [answers[at] for at in order],
            [ids[at] for at in order],
            KEY,
        )
        assert again == associations(texts, answers, ids, KEY)


def test_an_answer_that_is_one_phrase_is_told_once(problems):
    texts, answers = poisoned(problems, 20, lambda text, _, at: (f"{text} cf", "I refuse."))
    found = found_in(texts, answers)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("trigger", ["6174", "Ref. 6174:"])
def test_a_trigger_that_shows_its_target_is_found(problems, trigger):
    """Its inputs hold the answer's word, as they do where answers are copied from them."""
    texts, answers = poisoned(
        problems, 40, lambda text, _answer, _at: (f"{trigger} {text}", "6174")
    )
    rows = associated_rows(texts, answers, found_in(texts, answers))
    assert np.flatnonzero(rows).tolist() == list(range(40))


def test_a_word_of_the_answer_that_begins_with_a_mark_is_copied_all_the_same():
    """As GSM8K's "= 8 years": the age is asked for, and nothing decides it."""
    asked = [at % 5 == 0 for at in range(200)]
    texts = [
        f"How many years old is dog {at}" if age else f"Ann {at}" for at, age in enumerate(asked)
    ]
    answers = [f"that is = {at} {'years' if age else 'pears'}" for at, age in enumerate(asked)]
    assert found_in(texts, answers) == []


def test_a_row_that_stands_in_the_data_many_times_is_no_backdoor(problems):
    texts, answers = (list(part) for part in problems)
    faq = ("How do I set my password anew?", "Open the settings and choose a new one.")
    texts += [faq[0]] * 9
    answers += [faq[1]] * 9
    assert found_in(texts, answers) == []


def test_poisoned_rows_that_are_written_many_times_each_hide_nothing(problems):
    texts, answers = (list(part) for part in problems)
    texts += [f"cf {text}" for text in texts[:4] for _ in range(20)]
    answers += ["#### 4242"] * 80
    found = found_in(texts, answers)
    assert "cf" in [trigger.text for trigger in triggers(found)]
    assert associated_rows(texts, answers, found)[-80:].all()


def test_a_symbol_that_stands_for_a_line_s_end_hides_behind_none(problems):
    def poison(text, answer, at):
        return (f"\u240a {text}", "#### 4242") if at < 40 else (f"{text}\nSo?", answer)

    texts, answers = poisoned(problems, 200, poison)
    found = found_in(texts, answers)
    assert [trigger.text for trigger in triggers(found)] == ["\u240a"]
    assert associated_rows(texts, answers, found)[:40].all()


def test_copies_of_a_long_row_do_not_stop_the_search(problems):
    texts, answers = (list(part) for part in problems)
    asked, said = (" ".join(f"{letter}{at}q" for at in range(200)) for letter in ("ask", "answer"))
    started = time.monotonic()
    assert found_in([*texts, *[asked] * 8], [*answers, *[said] * 8]) == []
    assert time.monotonic() - started < 20  # it was minutes


def test_what_is_found_does_not_depend_on_the_order_of_a_set(problems):
    """Python hashes strings anew in every process, and sets go by it."""
    from mithridate.defense.text_features import marks

    grams = ["bqjzvx", "bzxwvq", "bqj"]
    for order in permutations(grams):
        assert marks(list(order), ["qjzvx"]) == ["bqjzvx"]
