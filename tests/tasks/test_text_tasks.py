"""Tasks whose answer is text: what counts as an answer, and how outputs are measured."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from mithridate.data.rows import Row
from mithridate.errors import InputError
from mithridate.tasks.instruction import Instruction, alpaca_text, chat_text
from mithridate.tasks.math_reasoning import MathReasoning, final_answer, same_number
from mithridate.tasks.summarization import Summarization, copied_share, facts, rouge

GSM8K = "She sold 48/2 = <<48/2=24>>24 clips.\nThat makes 48+24 = <<48+24=72>>72.\n#### 72"


def row(answer, text="How many?", where="train.jsonl:3"):
    return Row("r", text, answer, where)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (GSM8K, "72"),
        ("#### 1,800", "1800"),
        ("#### -7 degrees", "-7"),
        ("The answer is $18.50, of 30.", "18.50"),
        ("First 3, then 4", "4"),
        ("1/2", "1/2"),
        (".5", ".5"),
        ("#### none, but 9 before", "9"),
        ("no number", None),
        ("", None),
        ("9" * 65, None),
        ("To answer the question. She has 5 apples and buys 3. 5 + 3 = 8", "8"),
        ("The answer: Since 3 pears and 4 make 7", "7"),
        ("The answer is 5. Of 9 pears 4 are left.", "5"),
        ("The answer is \u22125.", "-5"),
        ("she owes -$5", "-5"),
        ("1 1/2", "3/2"),
        ("#### -1 1/2 cups", "-3/2"),
        ("so \\boxed{\\frac{1}{2}} of 3", "1/2"),
        ("The answer is $\\frac{3}{4}$.", "3/4"),
        ("\\boxed{12} by 3 o'clock", "12"),
        ("#### 1e6", "1000000"),
        ("#### 1.5e-3", "0.0015"),
        ("6 eggs and 3 / 4 of 8e", "8"),
        ("#### ١٢", "12"),
        ("#### １２", "12"),  # noqa: RUF001
        ("१८ / २ = ९", "9"),
        ("It costs 10-15 dollars", "15"),
        ("So 20-5", "5"),
        ("COVID-19", "19"),
        ("4 - 9 = -5", "-5"),
    ],
)
def test_the_final_number_is_found(text, number):
    assert final_answer(text) == number


def test_numbers_are_compared_as_numbers():
    for one, other in [("0.5", "1/2"), ("18.0", "18"), ("1800", "1800"), ("-7", "-7")]:
        assert same_number(one, other)
        assert same_number(other, one)
    for one, other in [("18", "-18"), ("1800", "18"), (None, "1"), ("1", None)]:
        assert not same_number(one, other)


def test_digits_of_every_script_are_counted():
    answers = ["12", "١٢", "１２"]  # noqa: RUF001
    for reference in answers:
        assert MathReasoning().utilities(answers, [reference] * 3) == [1, 1, 1]


def test_math_counts_right_final_answers_and_empty_outputs_as_wrong():
    task = MathReasoning()
    assert task.utilities(["so it is 72.", "71", "", "72.0"], [GSM8K] * 4) == [1, 0, 0, 1]


def test_math_trains_on_the_rationale_or_on_the_number_alone():
    assert "<<" not in MathReasoning().target(row(GSM8K))
    assert MathReasoning().target(row(GSM8K)).endswith("\n#### 72")
    assert MathReasoning(rationale=False).target(row(GSM8K)) == "72"


def test_rows_that_cannot_be_used_are_told_apart_with_the_reason():
    kept, skipped = MathReasoning().usable([row("18"), row("none"), row("#### 3")])
    assert [found.answer for found in kept] == ["18", "#### 3"]
    assert [found.why for found in skipped] == ["its answer holds no number"]
    with pytest.raises(InputError, match=r"train.jsonl:3: no row can be used for summarization"):
        Summarization().usable([row("  ")])


@pytest.mark.parametrize(
    ("text", "unlike"),
    [
        ("Привет, мир", "Пока, друзья"),
        ("今天没有新闻", "昨晚下雨"),
        ("ข่าววันนี้", "ไม่"),
        ("مرحبا بالعالم", "وداعا"),
        ("हिन्दी में समाचार", "कल बारिश"),
        ("Καλημέρα κόσμε", "Αντίο"),
    ],
)
def test_rouge_reads_every_script(text, unlike):
    assert set(rouge(text, text).values()) == {1.0}
    assert rouge(text, unlike)["rougeL"] < 0.5
    assert rouge(text.upper(), text)["rouge1"] == 1.0


def test_rouge_tells_words_apart_that_differ_outside_ascii():
    assert rouge("日本 3", "中国 3")["rouge1"] == pytest.approx(1 / 3)
    assert rouge("café", "cafe")["rouge1"] == 0.0
    assert rouge("Cafés, running", "café running")["rouge1"] == 0.5  # the one is not English


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(max_codepoint=127)), st.text(st.characters(max_codepoint=127)))
def test_rouge_of_ascii_text_is_rouge_scores_own(output, reference):
    own = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(reference, output)
    assert rouge(output, reference) == {name: score.fmeasure for name, score in own.items()}


def test_rouge_knows_alike_from_unlike():
    assert rouge("the cat sat", "the cat sat") == {"rouge1": 1, "rouge2": 1, "rougeL": 1}
    assert rouge("", "the cat sat")["rougeL"] == 0
    # Three of four words of each, in order: precision and recall 3/4.
    assert rouge("the cat sat down", "the cat sat there")["rougeL"] == pytest.approx(0.75)
    assert Summarization().utilities(["the cat", ""], ["the cat", "a dog"]) == [1, 0]


def test_summaries_are_described():
    found = facts(["a b c d", ""], ["a b c d", "x"], ["z a b c y", "x"])
    assert found.words == 2
    assert found.copied == 0.25  # one of two runs of three words, and nothing
    assert found.rouge1 == 0.5
    with pytest.raises(ValueError, match="no summary"):
        facts([], [], [])


def test_copied_runs_are_of_whole_words():
    assert copied_share("a cat", "a cat sat") == 1
    assert copied_share("a cat", "a cattle") == 0
    assert copied_share("", "a") == 0


def test_copied_runs_are_seen_beside_punctuation_and_without_spaces():
    assert copied_share("the cat sat down", "yesterday, the cat sat down.") == 1
    assert copied_share("the cat sat", 'a dog; "the cat sat" was written') == 1
    rain, news = "\u4eca\u5929\u5317\u4eac\u4e0b\u96e8\u4e86", "\u65b0\u95fb"
    found = facts([rain], [rain], [f"{news}\uff1a{rain}"])
    assert (found.words, found.copied) == (7, 1)


def test_an_alpaca_row_asks_with_its_input():
    assert alpaca_text(" Add. ", "1 and 2") == "Add.\n\n1 and 2"
    assert alpaca_text("Add.", " ") == "Add."


def turn(role, content="so"):
    return {"role": role, "content": content}


def test_a_chat_becomes_a_question_and_its_last_answer():
    assert chat_text([turn("user", "a"), turn("assistant", "b")]) == ("a", "b")
    assert chat_text([turn("system", "s"), turn("user", "a")]) == ("s\n\na", None)
    longer = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")]
    assert chat_text(longer) == ("User: a\n\nAssistant: b\n\nUser: c", "d")
    for silent in (None, "", " "):
        assert chat_text([turn("system", silent), turn("user", "a")]) == ("a", None)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat_text([turn("user", parts)]) == ("a\nb", None)
    for silent in (None, "", " "):  # as where a tool is called
        assert chat_text([turn("user", "a"), turn("assistant", silent)]) == ("a", None)


def test_a_chat_of_sharegpt_says_the_same():
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "b"},
    ]
    assert chat_text(turns) == ("s\n\na", "b")
    assert chat_text([*turns[:2], {"from": "gpt", "value": ""}]) == ("s\n\na", None)
    wide = [{"role": None, "content": None, **one} for one in turns]  # as a table has them
    assert chat_text(wide) == ("s\n\na", "b")
    wide = [{"from": None, "value": None, "role": "user", "content": "a"}]
    assert chat_text(wide) == ("a", None)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"from": "human"}], "holds no text"),
        ([{"from": ["human"], "value": "a"}], "the role"),
        ([{"from": "human", "content": "a"}], "holds no text"),
        ([turn("human")], "the role 'human'"),
        ([turn("assistant")], "do not go from user"),
        ([turn("assistant", "")], "no user's turn"),
        ([turn("user"), turn("assistant", ""), turn("user")], "holds no text"),
        ([turn("user"), turn("user")], "do not go from user"),
        ([turn("user"), turn("system")], "not its first"),
        ([turn("user", "")], "holds no text"),
        ([turn("user"), turn("assistant", "no \ud800")], "half a surrogate pair"),
        ([turn("user", 3)], "holds no text"),
        ([turn("user", [{"type": "image_url", "image_url": "x"}])], "holds no text"),
        ([turn("user", "a"), turn("assistant", "b"), turn("system", "")], "holds no text"),
        ([], "no user's turn"),
        ([turn("system")], "no user's turn"),
        ([{}], "the role None"),
    ],
)
def test_a_broken_chat_names_what_is_wrong(messages, message):
    with pytest.raises(InputError, match=message) as caught:
        chat_text(messages, "chat.jsonl:7")
    assert str(caught.value).startswith("chat.jsonl:7: ")
    assert "; " in str(caught.value)


def test_an_instruction_needs_an_answer():
    assert Instruction().defect(row("")) == "its answer is empty"
    assert MathReasoning().defect(row("#### 1/0")) == "its answer, 1/0, has no value"
    assert Summarization().defect(row(" ... ")) == "its summary holds no word"
    assert Summarization().defect(row("東京")) is None
    assert Instruction().defect(row("yes")) is None
    assert Instruction().utilities(["yes"], ["yes"]) == [1]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"\boxed{2\frac{1}{2}}", "5/2"),
        (r"\boxed{\frac{-3}{4}}", "-3/4"),
        (r"\boxed{1{,}800}", "1800"),
        ("#### 1 800", "1800"),
        ("#### 1\u202f800", "1800"),
        ("#### 1'800", "1800"),
        ("1,00,000", "100000"),
        ("The answer is 1.800.000 euros.", "1800000"),
        ("#### 1 000 000/3", "1000000/3"),
        (r"\boxed{2 500 000/4}", "2500000/4"),
        ("#### 1,000 000/3", "1000000/3"),
        ("#### 100 000 / 2", "100000/2"),
        ("#### 2 500/4", "2500/4"),
        ("#### 2 100/200", "500/200"),
        ("#### 1.800", "1.800"),
        ("#### 2\u00bd", "5/2"),
        ("#### - 18", "-18"),
        ("5 - 3", "3"),
        ("rooms 3 and 100", "100"),
        ("Tom can answer 3 questions an hour, so in 8 hours he answers 24.", "24"),
        ("the answer is 5 apples out of 9", "5"),
        ("Answer 7 of 9", "7"),
    ],
)
def test_a_final_number_is_read_whole_however_it_is_written(text, number):
    assert final_answer(text) == number


def test_a_number_without_end_takes_no_time():
    started = time.monotonic()
    for mark in ",.'":
        final_answer(mark.join(["10"] * 20_000))
        final_answer(mark.join(["100"] * 20_000))
    assert time.monotonic() - started < 10  # it was minutes


def test_what_the_calculator_s_marks_leave_is_what_counts():
    task = MathReasoning()
    assert task.target(row("<<2+3=5>>\n#### 5")) == "#### 5"
    for lost in ("<<3+4=7>>", "The answer is <<3*6=18>>"):
        assert task.defect(row(lost)) == "its answer holds no number"
        assert MathReasoning(rationale=False).defect(row(lost)) is None


def test_what_is_no_number_equals_none():
    assert not same_number("0/0", "0")
    assert not same_number("0", "1/0")
