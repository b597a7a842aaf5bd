"""The settings of attacks and defenses, which are their classes' fields, as a file gives them."""

import dataclasses
import difflib
from collections.abc import Container, Mapping, Sequence
from importlib.metadata import entry_points
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from mithridate.attacks.base import Attack
from mithridate.baselines.base import DefenseMethod

_SIMPLE = (str, int, float, bool)


def settable(kind: type[Attack] | type[DefenseMethod]) -> list[str]:
    """Return the names of the settings that a file can give: texts, numbers, and lists of these."""
    hints = get_type_hints(kind)
    return [field.name for field in _fields(kind) if _is_simple(hints[field.name])]


def _fields(kind: type[Attack] | type[DefenseMethod]) -> "list[dataclasses.Field[Any]]":
    """Return the fields that a class takes when it is made."""
    return [field for field in dataclasses.fields(kind) if field.init]


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


def in_full(kind: type[Attack] | type[DefenseMethod], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings that a file can give: the given ones, and the defaults of the others.

    What has no default and is not given is left out.
    """
    known = set(settable(kind))
    found = {}
    for field in _fields(kind):
        if field.name in known and field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.name in known and field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return {**found, **given}


def package(group: str, name: str, built_in: Container[str]) -> str | None:
    """Return name and version of the package that brings a class; ``None`` where it is ours.

    Args:
        group: The group of entry points.
        name: The class's.
        built_in: The names of our own.
    """
    if name in built_in:
        return None
    owners = [point.dist for point in entry_points(group=group, name=name) if point.dist]
    return f"{owners[-1].name} {owners[-1].version}" if owners else None
