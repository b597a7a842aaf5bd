"""What a record's fields must be to become a row: a text, an answer, an id."""

import math

from mithridate.errors import InputError


def text_of(value: object, column: str, where: str) -> str:
    """Return the input.

    Raises:
        InputError: It is no string, or blank.
    """
    if not isinstance(value, str) and value is not None:
        kind = type(value).__name__
        what = f'the text in column "{column}" is not a string but {kind}'
        raise InputError(what, where=where, mend="put the text in quotes, or name another column")
    if not value or value.isspace():
        what = f'no text in column "{column}"'
        raise InputError(what, where=where, mend="fill it in or drop the row")
    return checked_unicode(value, column, where)


def answer_of(value: object, column: str, where: str) -> str | None:
    """Return the answer as text, ``None`` where there is none (null, blank or not a number).

    Raises:
        InputError: It is neither a string nor a number.
    """
    if isinstance(value, str):
        return checked_unicode(value, column, where) if value and not value.isspace() else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"  # as JSON spells it
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    raise InputError(
        f'the answer in column "{column}" is neither a string nor a number but {value!r:.40}',
        where=where,
        mend="give one label or one text",
    )


def own_id_of(value: object, column: str | None, where: str) -> str | None:
    """Return the source's own id, ``None`` where the column is not asked for and has none.

    White space and byte order marks around it are dropped, since files of ids hold one a line.

    Raises:
        InputError: It is neither a string of one line nor a whole number, or missing where it is
            asked for.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas makes floats of ints beside a null
    if isinstance(value, str) and (own_id := value.strip().strip("\ufeff")):
        if len(own_id.splitlines()) > 1:
            what = f"a line break in the id {own_id!r:.60}"
            raise InputError(what, where=where, mend="give each row an id of one line")
        return checked_unicode(own_id, column or "id", where)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    is_null = value is None or value != value or (isinstance(value, str) and not value.strip())
    if is_null and column is None:
        return None
    what = f'no id in column "{column or "id"}"' if is_null else f"the id is {value!r:.40}"
    raise InputError(what, where=where, mend="give each row one string or whole number as its id")


def checked_unicode(value: str, column: str, where: str) -> str:
    """Return a string that is well-formed Unicode.

    JSON can write half a surrogate pair, which no tokenizer takes: better refused here, by line.

    Raises:
        InputError: It holds half a surrogate pair.
    """
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            what = f'half a surrogate pair in column "{column}", character {error.start + 1}'
            raise InputError(what, where=where, mend="delete that character") from None
    return value
