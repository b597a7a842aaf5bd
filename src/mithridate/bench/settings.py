"""The settings of attacks and defenses, which are their classes' fields, as a file gives them."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from mithridate.attacks.base import Attack
from mithridate.baselines.base import DefenseMethod

_SIMPLE = (str, int, float, bool)


def settable(kind: type[Attack] | type[DefenseMethod]) -> list[str]:
    """Return the names of the settings that a file can give: texts, numbers, and lists of these."""
    hints = get_type_hints(kind)
    return [field.name for field in dataclasses.fields(kind) if _is_simple(hints[field.name])]


def _is_simple(hint: Any) -> bool:
    """Whether a file can hold what a type hint asks for."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return all(_is_simple(part) for part in inner if part is not type(None))
    if origin in (tuple, list, Sequence):
        return all(part is ... or part in _SIMPLE or get_origin(part) is Literal for part in inner)
    return hint in _SIMPLE or origin is Literal


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
