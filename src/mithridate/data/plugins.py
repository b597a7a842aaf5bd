"""Classes by name, those of other packages included: entry points with errors that help."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from mithridate.errors import InputError

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Registry(Generic[Kind]):
    """A kind of class that other packages may add to.

    Attributes:
        group: The group of entry points.
        noun: What messages call one.
        base: What every one must derive from.
        built_in: Ours, ``module:class`` by name.
    """

    group: str
    noun: str
    base: type[Kind]
    built_in: Mapping[str, str]

    def names(self) -> list[str]:
        """Return all names, the built-in ones first; nothing is loaded."""
        return [*self.built_in, *sorted(set(self._added()) - set(self.built_in))]

    def find(self, name: str) -> type[Kind]:
        """Return the class of a name.

        Raises:
            InputError: There is none, or what another package registered cannot be used.
        """
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            own: type[Kind] = getattr(import_module(module), attribute)
            return own
        added = self._added()
        if name not in added:
            near = difflib.get_close_matches(name.casefold(), self.names(), n=1)
            mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.names())}"
            raise InputError(f"no {self.noun} is called {name!r:.60}", mend=mend)
        return self._loaded(added[name])

    def _added(self) -> dict[str, EntryPoint]:
        """Return the entry points by name."""
        return {point.name: point for point in entry_points(group=self.group)}

    def _loaded(self, point: EntryPoint) -> type[Kind]:
        """Load a class of another package, whose faults are its own."""
        owner = point.dist.name if point.dist else "a package"
        what = f"the {self.noun} {point.name!r} of {owner}"
        mend = f"mend or uninstall {owner}; the others work"
        try:
            found = point.load()
        except Exception as error:
            raise InputError(
                f"{what} cannot be loaded ({error!r:.200})", where=point.value, mend=mend
            ) from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            what = f"{what} is no class derived from {self.base.__name__}"
            raise InputError(what, where=point.value, mend=mend)
        return found
