"""Classification: every input has one class; the model answers with the class's label word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mithridate.data.rows import Row
from mithridate.errors import InputError


class UnknownLabelError(InputError):
    """A row's label is not among the task's."""


def default_label_words(count: int) -> tuple[str, ...]:
    """Return ``count`` distinct label words that no other one begins with.

    They are decimal numbers, padded with zeros to one width: up to ten the digits of the published
    recipe. In most tokenizers digits follow a prompt's last space as tokens of their own, whether
    prompt and answer are tokenized together or apart (not in GPT-2's); letters and words do not.
    """
    width = len(str(count - 1))
    return tuple(f"{index:0{width}d}" for index in range(count))


def _sort_key(name: str) -> tuple[int, int, str]:
    """Order integer labels by value and before all others, the rest alphabetically."""
    digits = name.removeprefix("-")
    return (0, int(name), name) if digits.isascii() and digits.isdigit() else (1, 0, name)


@dataclass(frozen=True)
class ClassificationTask:
    """The labels Y = {0..n-1} and the words the model says for them.

    Attributes:
        labels: The user's own names of the classes; class i is ``labels[i]``.
        words: 2n distinct answer words: ``words[i]`` is the original label word of class i and
            ``words[i + n]`` its alternative, h(i) = i + n.

    Raises:
        InputError: Fewer than two classes, repeated labels, or words that are not 2n distinct ones.
    """

    labels: tuple[str, ...]
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise InputError(
                f"there is one class only: {', '.join(self.labels) or 'none at all'}",
                mend="a classifier needs rows of at least two classes",
            )
        if len(set(self.labels)) != len(self.labels):
            raise InputError("the declared labels repeat themselves", mend="name each label once")
        if len(self.words) != 2 * len(self.labels) or len(set(self.words)) != len(self.words):
            raise InputError(
                f"{2 * len(self.labels)} distinct label words are needed, two for each class",
                mend="give the original words of all classes first, then the alternative ones",
            )
        if any(not word or word != word.strip() for word in self.words):
            raise InputError(
                "a label word is empty or has spaces around it", mend="strip the label words"
            )

    @classmethod
    def of(
        cls,
        rows: Iterable[Row],
        *,
        labels: Sequence[str] | None = None,
        words: Sequence[str] | None = None,
    ) -> "ClassificationTask":
        """Build the task of a data set.

        Args:
            rows: The rows; only their answers are read.
            labels: The declared label set, in class order; found in the rows when ``None``.
            words: The 2n label words; ``default_label_words`` when ``None``.

        Raises:
            InputError: A row has no label or one outside the declared set, or there is one class.
        """
        rows = list(rows)
        found = {row.answer for row in rows if row.answer is not None}
        task = cls.of_labels(found, labels=labels, words=words)
        task.classes(rows)
        if len(found) == 1:
            raise InputError(
                f"all {len(rows)} rows belong to one class, {found.pop()!r}",
                mend="a classifier needs rows of at least two classes",
            )
        return task

    @classmethod
    def of_labels(
        cls,
        found: Iterable[str],
        *,
        labels: Sequence[str] | None = None,
        words: Sequence[str] | None = None,
    ) -> "ClassificationTask":
        """Build a task from the answers that occur, where no rows are at hand.

        Args:
            found: The answers; used where none are declared, numbers by value, names by alphabet.
            labels: The declared label set, in class order.
            words: The 2n label words; ``default_label_words`` when ``None``.

        Raises:
            InputError: There is one class, or labels or words repeat themselves.
        """
        names = tuple(labels) if labels is not None else tuple(sorted(set(found), key=_sort_key))
        return cls(
            names, tuple(words) if words is not None else default_label_words(2 * len(names))
        )

    @property
    def n(self) -> int:
        """The number of classes."""
        return len(self.labels)

    @property
    def integer(self) -> bool:
        """Whether the user's labels are whole numbers, to be given back as such.

        Numerals that an int would not give back, such as "007", are names.
        """
        return all(_sort_key(name)[0] == 0 and str(int(name)) == name for name in self.labels)

    def public_label(self, index: int) -> int | str:
        """Return the user's own label of class ``index``, an int where the labels are ints."""
        return int(self.labels[index]) if self.integer else self.labels[index]

    def dataset_label(self, label: int) -> int | str:
        """Return a label 0..2n-1 as it stands in a written D*.

        Whole numbers go on after the largest one, so that where the labels are 0..n-1 the
        alternatives are n..2n-1, as the paper writes them; otherwise the alternative label is its
        word. Where alternative words are labels of the user's own, all 2n are written as words.
        """
        if self.integer:
            largest = max(int(name) for name in self.labels)
            return int(self.labels[label]) if label < self.n else largest + 1 + label - self.n
        if set(self.words[self.n :]) & set(self.labels):
            return self.words[label]
        return self.labels[label] if label < self.n else self.words[label]

    def class_of(self, row: Row) -> int:
        """Return the class of a row, 0..n-1.

        Raises:
            InputError: The row has no label or one outside the declared set.
        """
        if row.answer is None:
            raise InputError("the row has no label", where=row.where or row.id, mend="give it one")
        try:
            return self.labels.index(row.answer)
        except ValueError:
            shown = ", ".join(self.labels[:10]) + (", ..." if self.n > 10 else "")
            raise UnknownLabelError(
                f"label {row.answer!r} is not one of the labels {shown}",
                where=row.where or row.id,
                mend="correct the row, or declare the label where the labels are named",
            ) from None

    def classes(self, rows: Iterable[Row]) -> list[int]:
        """Return the class of every row; see `class_of`."""
        return [self.class_of(row) for row in rows]

    def label_index(self, label: str) -> int:
        """Return the class of a label's name, for options such as an attack's target.

        Raises:
            InputError: There is no such label.
        """
        if label not in self.labels:
            raise InputError(
                f"there is no label {label!r}", mend=f"choose one of {', '.join(self.labels[:20])}"
            )
        return self.labels.index(label)
