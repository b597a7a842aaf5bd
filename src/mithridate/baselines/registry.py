"""The registry: every defense by its name, those of other packages included.

Another package adds a defense by an entry point of the group ``mithridate.defenses``, whose name is
the defense's and whose value is a class that derives from `DefenseMethod`::

    [project.entry-points."mithridate.defenses"]
    my-defense = "my_package.my_module:MyDefense"
"""

from mithridate.baselines.base import DefenseMethod
from mithridate.data.plugins import Registry

_HERE = "mithridate.baselines"

# pyproject.toml declares the same ones; kept here too, so that they are found from a source tree.
BUILT_IN = {
    "none": f"{_HERE}.none:Undefended",
    "p2p": f"{_HERE}.p2p:P2P",
    "filter": f"{_HERE}.p2p:Filter",
    "clean-tune": f"{_HERE}.clean_tune:CleanTune",
    "onion": f"{_HERE}.onion:Onion",
    "rewrite": f"{_HERE}.rewrite:Rewrite",
    "strip": f"{_HERE}.strip:Strip",
    "cube": f"{_HERE}.cube:Cube",
    "pdb": f"{_HERE}.pdb:PDB",
    "prune": f"{_HERE}.prune:Prune",
    "int4": f"{_HERE}.int4:Int4",
    "cleangen": f"{_HERE}.cleangen:CleanGen",
    "crow": f"{_HERE}.crow:Crow",
}

GROUP = "mithridate.defenses"
_REGISTRY = Registry(GROUP, "defense", DefenseMethod, BUILT_IN)  # type: ignore[type-abstract]


def defense_names() -> list[str]:
    """Return the names of all defenses, the built-in ones first; none of them is loaded."""
    return _REGISTRY.names()


def find_defense(name: str) -> type[DefenseMethod]:
    """Return the defense of a name.

    Raises:
        InputError: There is no such defense, or what another package registered cannot be used.
    """
    return _REGISTRY.find(name)
