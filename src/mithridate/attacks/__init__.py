"""Data-poisoning attacks, one file each, to measure the defense with harmless targets."""

from mithridate.attacks.addsent import AddSent
from mithridate.attacks.badnets import BadNets
from mithridate.attacks.base import Attack, Poisoned

__all__ = ["AddSent", "Attack", "BadNets", "Poisoned"]
