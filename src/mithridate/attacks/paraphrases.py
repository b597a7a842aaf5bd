"""Rewritten texts for the attacks that replace a whole text: from a file, or from a plug-in."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mithridate.attacks.base import Attack
from mithridate.data.fields import answer_of, own_id_of
from mithridate.data.read import iter_records
from mithridate.data.rows import Row
from mithridate.errors import InputError


class Rewriter(Protocol):
    """Anything that rewrites a row's text, always the same way for the same row."""

    def __call__(self, row: Row) -> str | None:
        """Return the rewritten text, ``None`` where there is nothing for this row."""


@dataclass(frozen=True)
class Rewriting(Attack):
    """An attack whose trigger is the manner of a text: a rewritten text replaces the row's own.

    Attributes:
        paraphrases: Where rewritten texts come from.
        any_class: Poison rows of every class, as HiddenKiller's published sets do: rows of the
            target class then keep their label, the others get it. Takes the place of
            ``clean_label``.
    """

    paraphrases: Rewriter = field(kw_only=True)
    any_class: bool = field(default=False, kw_only=True)

    def eligible(self, row: Row) -> bool:
        """Whether a row may be poisoned, its text apart."""
        return self.any_class or super().eligible(row)

    def trigger(self, row: Row, key: bytes) -> str | None:
        """Return the rewritten text; ``None`` where there is none, or the same words."""
        text = self.paraphrases(row)
        return None if text is None or _folded(text) == _folded(row.text) else text


@dataclass(frozen=True)
class AlignedParaphrases:
    """Rewritten texts read from a file that is aligned with a set of rows.

    Attributes:
        source: What was read, for messages.
        texts: The rewritten text by the row's id and own text; rows without one are not in it.
    """

    source: str
    texts: Mapping[tuple[str, str], str] = field(hash=False, repr=False)

    def __call__(self, row: Row) -> str | None:
        """Return the rewritten text of a row, ``None`` where the file has none for it."""
        return self.texts.get((row.id, row.text))

    def __len__(self) -> int:
        """Return for how many rows there is a rewritten text."""
        return len(self.texts)

    def __or__(self, other: "AlignedParaphrases") -> "AlignedParaphrases":
        """Return the rewritten texts of both, for an attack on training and test rows."""
        source = f"{self.source}, {other.source}"
        return AlignedParaphrases(source, {**self.texts, **other.texts})

    @classmethod
    def read(
        cls, path: str | Path, rows: Sequence[Row], *, text_column: str = "text"
    ) -> "AlignedParaphrases":
        """Read a file that says, line by line or by id, how each row reads when rewritten.

        A line that is blank, or equal to the row's own text but for white space and case, says
        that there is no rewritten text. Columns ``id``, ``label`` and ``original`` are used where
        the file has them: rows are then matched by id, and what contradicts the rows is refused.
        A label may be the row's own or, as in published poisoned sets, the attack's target; those
        sets also hold unchanged texts with the target's label, which count as not rewritten.

        Args:
            path: A ``.txt`` file of one text a line, or a file of rows.
            rows: The rows, in the file's order unless it has ids. Published test sets hold
                triggered rows alone: for those give the rows of the other classes
                (`read_triggered` finds out).
            text_column: The column of the rewritten text.

        Raises:
            InputError: The file cannot be read, or does not belong to these rows.
        """
        lines = list(_lines(Path(path), text_column))
        return cls(str(path), _matched(str(path), lines, rows))

    @classmethod
    def read_triggered(
        cls, path: str | Path, rows: Sequence[Row], target: str, *, text_column: str = "text"
    ) -> "AlignedParaphrases":
        """Read a file aligned with all rows, or with the rows of other classes than the target.

        Args:
            path: As for `read`.
            rows: Test rows.
            target: The attack's target.
            text_column: The column of the rewritten text.

        Raises:
            InputError: The file cannot be read, or belongs to neither.
        """
        lines = list(_lines(Path(path), text_column))
        others = [row for row in rows if row.answer != target]
        alone = len(lines) == len(others) != len(rows)
        return cls(str(path), _matched(str(path), lines, others if alone else rows))


class _Line(NamedTuple):
    """A line of a paraphrase file."""

    where: str
    text: str
    id: str | None = None
    label: str | None = None
    original: str | None = None


def _lines(path: Path, text_column: str) -> Iterator[_Line]:
    if path.suffix.lower() == ".txt":
        try:
            # A lone carriage return ends no line, as it would for `read_text`.
            texts = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
        except OSError as error:
            what = f"the file cannot be read ({error.strerror})"
            raise InputError(what, where=str(path), mend="check the path") from None
        except UnicodeDecodeError:
            mend = "give one text a line"
            raise InputError("the file is not UTF-8 text", where=str(path), mend=mend) from None
        if texts[-1] == "":
            texts.pop()
        for number, text in enumerate(texts, 1):
            yield _Line(f"{path}:{number}", text)
        return
    wanted = {text_column: True, "id": False, "label": False, "original": False}
    for where, fields in iter_records(path, wanted):
        value = fields.get(text_column)
        if value is not None and not isinstance(value, str):
            what = f'the text in column "{text_column}" is not a string'
            raise InputError(what, where=where, mend="put it in quotes, or write null for none")
        own_id = own_id_of(fields.get("id"), None, where)  # read as the rows are
        label = answer_of(fields.get("label"), "label", where)
        original = fields.get("original")
        shown = None if original is None else str(original)
        yield _Line(where, value or "", own_id, label, shown)


def _matched(source: str, lines: list[_Line], rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """Return the rewritten texts by row."""
    texts = {}
    relabelled: dict[str, str] = {}
    for line, row in _pairs(source, lines, rows):
        if line.original is not None and line.original.split() != row.text.split():
            what = f"the original here is not the text of row {row.id!r}"
            raise InputError(what, where=line.where, mend="align the file with the rows")
        changed = _folded(line.text) not in ("", _folded(row.text))
        if line.label is not None and line.label != row.answer:
            relabelled.setdefault(line.label, line.where)
        if changed:
            texts[row.id, row.text] = line.text
    if len(relabelled) > 1:
        first, second = sorted(relabelled)[:2]
        what = f"texts have both the label {first!r} and {second!r}"
        what += " against the rows' own, and an attack has one target"
        raise InputError(what, where=relabelled[second], mend="align the file with the rows")
    return texts


def _pairs(source: str, lines: list[_Line], rows: Sequence[Row]) -> Iterable[tuple[_Line, Row]]:
    """Pair lines and rows: by id where every line has one, else by their order."""
    if lines and all(line.id is not None for line in lines):
        by_id = {row.id: row for row in rows}
        seen: dict[str | None, str] = {}
        for line in lines:
            if line.id not in by_id:
                what = f"no row has the id {line.id!r:.60}"
                mend = "use the ids of the rows, or drop the column to go by the order"
                raise InputError(what, where=line.where, mend=mend)
            if (earlier := seen.setdefault(line.id, line.where)) != line.where:
                what = f"the id {line.id!r:.60} is already that of {earlier}"
                raise InputError(what, where=line.where, mend="give each row one text")
        return [(line, by_id[line.id]) for line in lines if line.id is not None]
    if len(lines) != len(rows):
        raise InputError(
            f"{len(lines)} texts do not align with {len(rows)} rows",
            where=source,
            mend="give one line a row, blank where there is no rewritten text" + _hint(lines, rows),
        )
    return zip(lines, rows, strict=True)


def _hint(lines: list[_Line], rows: Sequence[Row]) -> str:
    """Say so where the file has as many lines as one label has rows."""
    counts = Counter(row.answer for row in rows if row.answer is not None)
    for label in sorted(counts):
        if counts[label] == len(lines):
            return f" (the rows of label {label!r} alone are {len(lines)}: is it theirs?)"
    return ""


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
