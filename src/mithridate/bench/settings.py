"""The settings of attacks and defenses, which are their classes' fields, as a file gives them."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from mithridate.attacks.base import Attack
from mithridate.baselines.base import DefenseMethod


def settable(kind: type[Attack] | type[DefenseMethod]) -> list[str]:
    """Return the names of the settings that a file can give."""
    hints = get_type_hints(kind)
    simple = (str, int, float, bool, tuple[str, ...])
    names = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        parts = get_args(hint) if get_origin(hint) not in (tuple, Literal) else (hint,)
        inner = [part for part in parts or (hint,) if part is not type(None)]
        if all(part in simple or get_origin(part) is Literal for part in inner):
            names.append(field.name)
    return names


def checked(
    kind: type[Attack] | type[DefenseMethod], settings: Mapping[str, Any], known: set[str]
) -> dict[str, Any]:
    """Return settings as a class's fields want them.

    Raises:
        ValueError: There is no such setting, or a value is none for it.
    """
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}"
            raise ValueError(f"{kind.name} has no setting {name!r:.60}; {hint}")
    hints = get_type_hints(kind)
    fields: Any = {name: (hints[name], ...) for name in settings}
    typed = create_model(kind.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    try:
        made = typed(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{kind.name}: {fault['loc'][0]}: {fault['msg']}") from None
    return {name: getattr(made, name) for name in settings}
