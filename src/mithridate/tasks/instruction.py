"""Instruction following: an instruction, perhaps with an input, and a free answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mithridate.data.fields import answer_of, checked_unicode, text_of
from mithridate.data.read import Columns
from mithridate.data.rows import Row
from mithridate.errors import InputError
from mithridate.tasks.summarization import rouge
from mithridate.tasks.text import TextTask

ROLES = ("system", "user", "assistant")
CONTEXT = "input"
"""Alpaca's column of what the instruction is about; often empty."""
MESSAGES = "messages"
"""The column of a chat."""
CONVERSATIONS = "conversations"
"""The same in ShareGPT's form: ``from`` and ``value`` for ``role`` and ``content``."""
SYSTEM = "system"
"""LLaMA-Factory's column of a system message, beside a chat or an instruction."""
HISTORY = "history"
"""LLaMA-Factory's column of earlier turns, pairs of question and answer."""
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Instruction(TextTask):
    """Alpaca's and chat's kind of row.

    The columns are read as Alpaca's, with its ``input``, and where the instruction's is not there
    ``messages`` or ``conversations`` is read as a chat, question and answer in one. A column of
    another name that holds messages is a chat as well. ``system`` and ``history``, as LLaMA-Factory
    has them, become part of the question.

    Attributes:
        max_new_tokens: How long an output may become.
    """

    max_new_tokens: int = 256

    name: ClassVar[str] = "instruction"
    metric: ClassVar[str] = "ROUGE-L"
    columns: ClassVar[Columns] = Columns("instruction", "output")

    def defect(self, row: Row) -> str | None:
        """A row needs an answer."""
        return None if row.answer and row.answer.strip() else "its answer is empty"

    def utilities(self, outputs: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return the ROUGE-L of every output."""
        pairs = zip(outputs, references, strict=True)
        return [rouge(output, reference)["rougeL"] for output, reference in pairs]

    def wanted(self, columns: Columns, require_answer: bool) -> dict[str, bool]:
        """Return the columns to read; which of them must be there, only a row can tell."""
        named = (columns.text, columns.answer)
        return dict.fromkeys((*named, CONTEXT, MESSAGES, CONVERSATIONS, SYSTEM, HISTORY), False)

    def parts(
        self, fields: Mapping[str, object], columns: Columns, require_answer: bool, where: str
    ) -> tuple[str, str | None]:
        """Return what a record asks, and its answer; ``None`` where it has none.

        Raises:
            InputError: The record lacks a column, or its chat is broken.
        """
        column = columns.text
        if column == self.columns.text and fields.get(column) is None:
            chats = (name for name in (MESSAGES, CONVERSATIONS) if fields.get(name) is not None)
            column = next(chats, column)
        asked = fields.get(column)
        if column in (MESSAGES, CONVERSATIONS) or isinstance(asked, list):
            if columns.answer not in (self.columns.answer, Columns().answer):
                raise InputError(
                    f'a chat\'s answer is its last turn, not a column "{columns.answer}"',
                    where=where,
                    mend="drop --answer-column",
                )
            return chat_text([*_system(fields, where), *_messages(asked, column, where)], where)
        needed = (column, columns.answer) if require_answer else (column,)
        if missing := [name for name in needed if name not in fields]:
            raise InputError(
                f'neither a column "{missing[0]}" nor a chat in "{MESSAGES}" or "{CONVERSATIONS}"',
                where=where,
                mend="name the right ones with --text-column and --answer-column",
            )
        text = text_of(asked, column, where)
        answer = answer_of(fields.get(columns.answer), columns.answer, where)
        if column != self.columns.text or columns.answer == CONTEXT:
            return text, answer
        asked = alpaca_text(text, answer_of(fields.get(CONTEXT), CONTEXT, where) or "")
        before = [*_system(fields, where), *_history(fields.get(HISTORY), where)]
        if before:
            asked, _ = chat_text([*before, {"role": "user", "content": asked}], where)
        return asked, answer


def alpaca_text(instruction: str, context: str = "") -> str:
    """Return what the model is asked: the instruction, then its input on lines of its own."""
    instruction, context = instruction.strip(), context.strip()
    return f"{instruction}\n\n{context}" if context else instruction


def chat_text(messages: Sequence[Mapping[str, object]], where: str = "") -> tuple[str, str | None]:
    """Return a chat as a question and its last answer.

    A system message, if it says anything, and a single user's turn are the question as they stand;
    of a longer chat every turn is led by its speaker's name.

    Args:
        messages: Objects with ``role`` (system, user or assistant) and ``content``, or as ShareGPT
            has them with ``from`` (system, human or gpt) and ``value``.
        where: The place, for messages.

    Returns:
        The question, and the answer; ``None`` where the chat ends with the user's turn, or in an
        assistant's that says nothing, as one that calls a tool does.

    Raises:
        InputError: A role is unknown, another content is no text, the turns do not alternate, or
            there is no question.
    """
    messages = [_with_role(message) for message in messages]
    if messages and _says_nothing(messages[-1], "assistant"):
        messages = messages[:-1]
    if messages and _says_nothing(messages[0], "system"):
        messages = messages[1:]
    turns = [_turn(message, where) for message in messages]
    system = [content for role, content in turns if role == "system"]
    spoken = [turn for turn in turns if turn[0] != "system"]
    if len(system) > 1 or (system and turns[0][0] != "system"):
        raise InputError(
            "the chat has a system message that is not its first message",
            where=where,
            mend="keep one, at the start",
        )
    if not spoken:
        raise InputError("the chat has no user's turn", where=where, mend="fill it in or drop it")
    wanted = ["user", "assistant"] * len(spoken)
    if [role for role, _ in spoken] != wanted[: len(spoken)]:
        raise InputError(
            "the chat's turns do not go from user to assistant and back",
            where=where,
            mend="start with the user and let the two take turns",
        )
    answer = spoken.pop()[1] if spoken[-1][0] == "assistant" else None
    if len(spoken) == 1:
        asked = spoken[0][1]
    else:
        asked = "\n\n".join(f"{role.capitalize()}: {content}" for role, content in spoken)
    return "\n\n".join([*system, asked]), answer


def _with_role(message: Mapping[str, object]) -> Mapping[str, object]:
    """Return a message of ShareGPT's as any other."""
    speaker = message.get("from")
    if speaker is None or message.get("role") is not None:  # a table has all keys in every message
        return message
    role = SHAREGPT_ROLES.get(speaker, speaker) if isinstance(speaker, str) else speaker
    return {"role": role, "content": message.get("value")}


def _says_nothing(message: Mapping[str, object], role: str) -> bool:
    content = message.get("content")
    blank = content is None or (isinstance(content, str) and not content.strip())
    return blank and message.get("role") == role


def _system(fields: Mapping[str, object], where: str) -> list[Mapping[str, object]]:
    """Return the message of the system's column; none where it says nothing.

    Raises:
        InputError: It is no text.
    """
    content = answer_of(fields.get(SYSTEM), SYSTEM, where)
    return [] if content is None else [{"role": "system", "content": content}]


def _history(value: object, where: str) -> list[Mapping[str, object]]:
    """Return the earlier turns of Alpaca's kind of row.

    Raises:
        InputError: They are no pairs.
    """
    # pandas makes a number that is none of a null.
    pairs = [] if not value or value != value else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in pairs
    ):
        raise InputError(
            f'column "{HISTORY}" holds no pairs of question and answer',
            where=where,
            mend='write it as [["...", "..."], ...], or rename the column',
        )
    return [
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def _messages(value: object, column: str, where: str) -> list[Mapping[str, object]]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise InputError(
            f'column "{column}" holds no list of messages',
            where=where,
            mend='write a chat as [{"role": "user", "content": "..."}, ...]',
        )
    return value


def _turn(message: Mapping[str, object], where: str) -> tuple[str, str]:
    role, content = message.get("role"), _joined(message.get("content"))
    if role not in ROLES:
        raise InputError(
            f"the chat has a message with the role {role!r}",
            where=where,
            mend=f"the roles are {', '.join(ROLES)}, or human and gpt in a ShareGPT message's "
            '"from"; drop or rename the others',
        )
    if not isinstance(content, str) or not content.strip():
        raise InputError(
            f"the {role}'s message holds no text", where=where, mend="fill it in or drop the row"
        )
    return str(role), checked_unicode(content.strip(), MESSAGES, where)


def _joined(content: object) -> object:
    """Return the text of a content in parts that are all text; any other content as it is."""
    if not isinstance(content, list):
        return content
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        for part in content
    ]
    if not all(isinstance(text, str) for text in texts):
        return content
    return "\n".join(map(str, texts))
