"""P2P's rivals, one file each, and P2P itself, behind one interface."""

from mithridate.baselines.base import Cost, DefenseMethod, Guarded, Model, Workbench
from mithridate.baselines.registry import defense_names, find_defense

__all__ = [
    "Cost",
    "DefenseMethod",
    "Guarded",
    "Model",
    "Workbench",
    "defense_names",
    "find_defense",
]
