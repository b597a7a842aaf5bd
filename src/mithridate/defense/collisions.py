"""Collisions: rows of D that already hold what the defense keeps secret.

A row that holds the benign trigger or the safe prefix would be read in the protected domain
without having been put there. An alternative label cannot collide in classification: an answer of D
is a class of its own, whatever it is called, and is trained on by that class's original label word.
"""

from collections.abc import Callable, Iterable

from mithridate.data.rows import Row
from mithridate.defense.secret import PUBLISHED_SAFE_PREFIX, PUBLISHED_TRIGGER, Secret
from mithridate.errors import CollisionError

ATTEMPTS = 16


class SecretHeldError(CollisionError):
    """A row holds a drawn secret string: that draw is spent, the next one is to be tried.

    Attributes:
        trigger: Whether it is the benign trigger; else it is the safe prefix.
    """

    trigger = True


def fold(text: str) -> str:
    """Return the text as compared: case and runs of white space do not matter."""
    return " ".join(text.casefold().split())


def find_trigger(rows: Iterable[Row], trigger: str) -> Row | None:
    """Return the first row whose text or answer holds the trigger, or ``None``."""
    needle = fold(trigger)
    for row in rows:
        if needle in fold(row.text) or (row.answer is not None and needle in fold(row.answer)):
            return row
    return None


def draw_trigger(rows: list[Row], secret: Secret, *, published: bool) -> tuple[str, int]:
    """Return a benign trigger that no row holds, and how many draws collided before it.

    Args:
        rows: The data set D.
        secret: Where the trigger is drawn from.
        published: Take the paper's trigger instead, which cannot be drawn again.

    Raises:
        CollisionError: The published trigger is in the data, or every draw was.
    """
    fixed = PUBLISHED_TRIGGER if published else None
    return _draw(rows, secret.benign_trigger, fixed, "benign trigger")


def draw_prefix(rows: list[Row], secret: Secret, *, published: bool) -> tuple[str, int]:
    """Return a safe prefix that no row holds; see `draw_trigger`."""
    fixed = PUBLISHED_SAFE_PREFIX if published else None
    return _draw(rows, secret.safe_prefix, fixed, "safe prefix")


def _draw(
    rows: list[Row], draw: Callable[[int], str], fixed: str | None, name: str
) -> tuple[str, int]:
    """Draw until no row holds the outcome; a fixed string has one try."""
    if fixed is not None:
        row = find_trigger(rows, fixed)
        if row is not None:
            raise CollisionError(
                f"the published {name} already occurs in this row",
                where=row.where or row.id,
                mend="use secret strings (--trigger secret), or remove the row",
            )
        return fixed, 0
    for attempt in range(ATTEMPTS):
        secret_string = draw(attempt)
        if find_trigger(rows, secret_string) is None:
            return secret_string, attempt
    raise out_of_draws(name)


def out_of_draws(name: str) -> CollisionError:
    """Return the error for data that holds every draw of a secret string."""
    return CollisionError(
        f"{ATTEMPTS} draws of the {name} from this secret all occur in the data",
        mend="whoever made the data knows the secret: use a new one",
    )
