"""The errors a user can cause, and what each says: what happened, where, and how to mend it.

Every error the command line turns into a one-line message derives from `MithridateError`.
Anything else that escapes is a bug of ours and keeps its traceback.
"""

from typing import Any


class MithridateError(Exception):
    """A failure with a message for the user: what, where, and the mend.

    Args:
        what: One clause that says what is wrong.
        where: The place, for instance ``train.jsonl:17``; empty when there is none.
        mend: What the user can do about it; empty when nothing can be done.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what, where, mend)
        self.what = what
        self.where = where
        self.mend = mend

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an error travel from a worker process to the one that talks to the user."""
        return _rebuild, (type(self), self.what, self.where, self.mend), dict(self.__dict__)

    def __str__(self) -> str:
        """Return the message on one line: ``where: what; mend``."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.mend}" if self.mend else head


def installing(extra: str) -> str:
    """Return the mend where the libraries of an extra are missing.

    Mithridate is in no package index yet, and a stranger could take its name there: so the clone.
    """
    return f"in the clone of Mithridate: pip install '.[{extra}]'"


def _rebuild(kind: type[MithridateError], what: str, where: str, mend: str) -> MithridateError:
    return kind(what, where=where, mend=mend)


class InputError(MithridateError):
    """Wrong input or wrong usage: a file, a column, an option that cannot be used as given."""

    exit_code = 2


class CollisionError(InputError):
    """The data already holds the benign trigger or the safe prefix."""


class AssetError(MithridateError):
    """A default asset could not be fetched, verified or converted."""


class EngineError(MithridateError):
    """An inference server could not be reached, or gave no answer that can be used."""


class ManifestError(InputError):
    """A defense manifest is missing, malformed, of another version, or not the model's own."""


class GateError(MithridateError):
    """A threshold the user set was not met; the run itself succeeded."""

    exit_code = 100
