"""Reading the rows of tasks whose answer is text: their columns, their shapes, their defects."""

import json

import pytest

from mithridate.data.read import Columns
from mithridate.errors import InputError
from mithridate.tasks.text_tasks import TEXT_TASKS, text_task


@pytest.fixture
def write(tmp_path):
    def lines(*records, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return lines


def pairs(rows):
    return [(row.text, row.answer) for row in rows]


def chat(*contents):
    roles = ("user", "assistant") * len(contents)
    return {"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]}


def sharegpt(*contents):
    speakers = ("human", "gpt") * len(contents)
    turns = [{"from": s, "value": c} for s, c in zip(speakers, contents, strict=False)]
    return {"conversations": turns}


def test_tasks_are_found_by_name_and_near_misses_are_answered():
    assert sorted(TEXT_TASKS) == ["instruction", "math", "summarization"]
    for name in TEXT_TASKS:
        assert text_task(name).name == name
    with pytest.raises(InputError, match="did you mean summarization"):
        text_task("summarisation")
    with pytest.raises(InputError, match="there are math, summarization, instruction"):
        text_task("qqq")


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("math", {"question": "Q", "answer": "A 3"}),
        ("summarization", {"text": "Q", "summary": "A 3"}),
        ("instruction", {"instruction": "Q", "output": "A 3"}),
        ("instruction", {"instruction": "Q", "input": "", "output": "A 3"}),
        ("instruction", chat("Q", "A 3")),
        ("instruction", sharegpt("Q", "A 3")),
        ("instruction", {"instruction": None, **chat("Q", "A 3")}),
    ],
)
def test_each_task_reads_its_own_columns(name, record, write):
    task = text_task(name)
    rows = task.read(write(record))
    assert pairs(rows) == [("Q", "A 3")]
    assert rows[0].where.endswith("data.jsonl:1")
    assert task.usable(rows) == (rows, [])


def test_an_input_is_part_of_the_question(write):
    path = write({"instruction": "Add.", "input": "1 and 2", "output": "3"})
    assert pairs(text_task("instruction").read(path)) == [("Add.\n\n1 and 2", "3")]


def test_columns_can_be_named(write):
    path = write({"prompt": "Q", "completion": 7.0, "input": "no part of it", "nr": 4})
    rows = text_task("instruction").read(path, Columns("prompt", "completion", "nr"))
    assert [(row.id, row.text, row.answer) for row in rows] == [("4", "Q", "7")]
    turns = write({"conversations": chat("Q", "A")["messages"]}, name="chats.jsonl")
    assert pairs(text_task("instruction").read(turns, Columns("conversations"))) == [("Q", "A")]


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"system": "Be brief."}, "Be brief.\n\nQ"),
        ({"system": " ", "history": []}, "Q"),
        ({"system": None, "history": None}, "Q"),
        ({"history": [["q", "a"]]}, "User: q\n\nAssistant: a\n\nUser: Q"),
        (
            {"system": "Be brief.", "history": [["q", "a"]]},
            "Be brief.\n\nUser: q\n\nAssistant: a\n\nUser: Q",
        ),
    ],
)
def test_what_llama_factory_puts_before_an_instruction_is_part_of_the_question(more, asked, write):
    task = text_task("instruction")
    assert pairs(task.read(write({"instruction": "Q", "output": "A", **more}))) == [(asked, "A")]
    named = write({"prompt": "Q", "output": "A", **more}, name="named.jsonl")
    assert pairs(task.read(named, Columns("prompt", "output"))) == [("Q", "A")]


def test_a_null_that_pandas_made_is_no_system_message_and_no_history():
    import datasets

    lone = {"instruction": "Q", "output": "A", "system": float("nan"), "history": float("nan")}
    rows = text_task("instruction").read(datasets.Dataset.from_list([lone]))
    assert pairs(rows) == [("Q", "A")]


def test_a_system_column_is_a_chat_s_system_message(write):
    path = write({**sharegpt("Q", "A"), "system": "Be brief.", "history": "no part of a chat"})
    assert pairs(text_task("instruction").read(path)) == [("Be brief.\n\nQ", "A")]
    twice = chat("Q", "A")["messages"]
    path = write({"messages": [{"role": "system", "content": "s"}, *twice], "system": "t"})
    with pytest.raises(InputError, match="not its first"):
        text_task("instruction").read(path)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (Columns("mesages", "output"), 'neither a column "mesages" nor'),
        (Columns("instruction", "outptu"), 'a chat\'s answer is its last turn.*"outptu"'),
        (Columns("messages", "outptu"), 'a chat\'s answer is its last turn.*"outptu"'),
    ],
)
def test_a_misspelt_column_is_noticed_of_a_chat_too(columns, says, write):
    with pytest.raises(InputError, match=says):
        text_task("instruction").read(write(chat("Q", "A")), columns)


def test_parquet_and_data_sets_are_read_alike(write, tmp_path):
    import datasets

    records = [{"question": "Q", "answer": "1"}, {"question": "R", "answer": "2"}]
    loaded = datasets.Dataset.from_list(records)
    loaded.to_parquet(tmp_path / "data.parquet")
    task = text_task("math")
    ours = task.read(write(*records))
    for source in (loaded, tmp_path / "data.parquet"):
        assert [(row.id, row.text) for row in task.read(source)] == [(r.id, r.text) for r in ours]
    chats = datasets.Dataset.from_list([chat("Q", "A")])
    assert pairs(text_task("instruction").read(chats)) == [("Q", "A")]
    shared = datasets.Dataset.from_list([sharegpt("Q", "A")])
    assert pairs(text_task("instruction").read(shared)) == [("Q", "A")]


@pytest.mark.parametrize(
    ("name", "good", "bad", "why"),
    [
        (
            "summarization",
            {"text": "Q", "summary": "A"},
            {"text": "R", "summary": " "},
            "its summary is empty",
        ),
        (
            "math",
            {"question": "Q", "answer": 3},
            {"question": "R", "answer": "many"},
            "its answer holds no number",
        ),
        (
            "instruction",
            chat("Q", "A"),
            chat("R"),
            "its answer is empty",
        ),
    ],
)
def test_rows_without_an_answer_are_counted_skips(name, good, bad, why, write):
    task = text_task(name)
    kept, skipped = task.usable(task.read(write(good, bad)))
    assert [row.text for row in kept] == ["Q"]
    assert [(each.row.text, each.why) for each in skipped] == [("R", why)]
    assert skipped[0].row.where.endswith(":2")


@pytest.mark.parametrize(
    ("name", "record", "says"),
    [
        ("math", {"problem": "Q", "answer": "3"}, 'no column "question"; there is "problem"'),
        ("math", {"question": "Q"}, 'no column "answer"'),
        ("math", {"question": " ", "answer": "3"}, 'no text in column "question"'),
        ("math", {"question": "Q", "answer": ["3"]}, "neither a string nor a number"),
        ("instruction", {"instruction": "Q"}, 'column "output" nor a chat in "messages"'),
        ("instruction", {"prompt": "Q", "output": "A"}, 'column "instruction" nor a chat'),
        ("instruction", {"messages": "Q"}, "holds no list of messages"),
        (
            "instruction",
            {"instruction": "Q", "output": "A", "history": ["q", "a"]},
            'column "history" holds no pairs',
        ),
        ("instruction", {"conversations": "Q"}, "holds no list of messages"),
        ("instruction", {"conversations": [{"from": "tool", "value": "Q"}]}, "role 'tool'.*gpt"),
        ("instruction", {"messages": ["Q"]}, "holds no list of messages"),
        (
            "instruction",
            {"messages": [{"role": "human", "content": "Q"}]},
            "the role 'human'.*system, user, assistant",
        ),
        ("instruction", {"instruction": 3, "output": "A"}, "is not a string but int"),
    ],
)
def test_a_defective_row_is_named_by_its_line(name, record, says, write):
    with pytest.raises(InputError, match=says) as caught:
        text_task(name).read(write(record))
    assert "data.jsonl:1: " in str(caught.value)


def test_answers_may_be_missing_where_they_are_not_needed(write):
    for name, record in [
        ("math", {"question": "Q"}),
        ("summarization", {"text": "Q"}),
        ("instruction", {"instruction": "Q"}),
    ]:
        assert pairs(text_task(name).read(write(record), require_answer=False)) == [("Q", None)]


def test_ids_are_made_kept_and_held_to_be_unique(write):
    task = text_task("math")
    same = {"question": "Q", "answer": "1"}
    first, second = task.read(write(same, same))
    assert second.id == f"{first.id}-2"
    with pytest.raises(InputError, match='the id "a" is already that of'):
        task.read(write({**same, "id": "a"}, {**same, "id": "a"}))
    with pytest.raises(InputError, match="the file is empty"):
        task.read(write())
