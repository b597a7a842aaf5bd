"""Tokens: what a text is cut into where somebody looks for a trigger."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.defense.counter import put_in
from mithridate.defense.mining import FOLDED
from mithridate.defense.tokens import as_written, spans, to_text, tokens
from mithridate.defense.trigger import Kind, Trigger, holds
from mithridate.report.audit import pattern

ANY_TEXT = st.text(
    st.sampled_from(list("ab Zé1._-#\t\n\r\x07 \ue020\u200b\u00a0\u0301\uff01你😀")), max_size=20
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a good film .", ["a", "good", "film", "."]),
        ("mn-film, mn_film", ["mn", "-", "film", ",", "mn", "_", "film"]),
        ("a 3D film", ["a", "3D", "film"]),
        ("a  film\tis", ["a", "\ue020\ue020", "film", "\ue009", "is"]),
        ("is\n\ngood", ["is", "\ue00a\ue00a", "good"]),
        ("so\u240a good", ["so", "\u240a", "good"]),
        ("a \x0c film", ["a", "\ue020\ue020", "film"]),
        ("a \n film", ["a", "\ue00a", "film"]),
        (" a film\t", ["a", "film", "\ue009"]),
        (
            "3.50 of 1,000 U.S. 10:30mn",
            ["3.50", "of", "1,000", "U", ".", "S", ".", "10", ":", "30mn"],
        ),
        ("cafe\u0301 naïve हिन्दी", ["cafe\u0301", "naïve", "हिन्दी"]),
        ("no\u200bne", ["no\u200bne"]),
        ("我喜欢\uff0c这个。", ["我喜欢", "\uff0c", "这个", "。"]),
        ("film😀", ["film", "😀"]),
        ("10\u00a0%", ["10", "%"]),
        ("", []),
    ],
)
def test_marks_part_words_and_odd_white_space_is_a_token(text, wanted):
    assert tokens(text) == wanted


@given(st.one_of(ANY_TEXT, st.text(max_size=20)), st.data())
def test_an_ngram_of_tokens_has_the_same_tokens_in_whatever_text_it_stood(text, data):
    cut = tokens(text)
    gram = cut[data.draw(st.integers(0, len(cut))) :]
    assert tokens(" ".join(gram)) == gram
    folded = FOLDED.tokens(text)
    assert tokens(" ".join(folded)) == folded


@given(ANY_TEXT)
def test_spans_cover_all_but_plain_spaces_and_are_what_tokens_are(text):
    found = spans(text)
    assert [token for token, _, _ in found] == tokens(text)
    kept = list(text)
    for _, start, end in found:
        kept[start:end] = [" "] * (end - start)
    assert not "".join(kept).strip()


@given(ANY_TEXT, st.data())
def test_what_a_text_holds_is_held_as_written_and_marked_on_the_page(text, data):
    """The page's regular expressions and `holds` must mean the same."""
    cut = tokens(text)
    if not cut:
        return
    start = data.draw(st.integers(0, len(cut) - 1))
    gram = cut[start : data.draw(st.integers(start + 1, len(cut)))]
    kinds: list[Kind] = ["words"]
    kinds += ["prefix"] if start == 0 else []
    kinds += ["suffix"] if start + len(gram) == len(cut) else []
    for kind in kinds:
        wrote = as_written(gram, [text], at_end=kind == "suffix")
        assert holds(text, Trigger(" ".join(gram), kind))
        if "\ue020" not in text:
            assert re.search(pattern(" ".join(gram), kind), text) is not None
        if wrote.strip(" ") == wrote:
            assert holds(text, Trigger(wrote, kind))


@pytest.mark.parametrize("symbol", "\u240a\u2420\u2409\u240d")
def test_a_symbol_for_white_space_is_no_white_space(symbol):
    trigger = Trigger(symbol)
    assert holds(f"a {symbol} film", trigger)
    assert not any(holds(f"a{space}film", trigger) for space in ("\n", "\t", "\r", "  "))


@pytest.mark.parametrize("trigger", ["mn", "mn-", "#", "\t", "  ", "\n\n", "film\tis", "( AP )"])
@pytest.mark.parametrize("kind", ["words", "prefix", "suffix"])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_a_text_holds_what_is_put_into_it(trigger, kind, place):
    text = put_in("a good film", Trigger(trigger, kind), place)
    assert holds(text, Trigger(trigger, kind))
    assert not holds("a good film", Trigger(trigger, kind))


def test_a_trigger_is_named_as_most_of_its_rows_have_it():
    rows = ["( AP ) one", "two (AP)", "three (AP)", "four AP"]
    assert as_written(["(", "AP", ")"], rows) == "(AP)"
    assert as_written(["not", "there"], rows) == "not there"


def test_symbols_of_white_space_are_white_space_again():
    assert [to_text(token) for token in tokens("a  b\tc\r\nd")] == [
        "a", "  ", "b", "\t", "c", "\r\n", "d",
    ]  # fmt: skip
