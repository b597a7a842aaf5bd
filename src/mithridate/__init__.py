"""Mithridate: fine-tune language models on data you do not trust.

The names below are the public API. They are loaded when first used, so that importing the package
is quick and re-poisoning a data set needs neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mithridate.data.read import Columns, read_rows
    from mithridate.data.rows import Row
    from mithridate.defense.config import P2PConfig
    from mithridate.defense.manifest import DefenseManifest
    from mithridate.defense.prepare import prepare
    from mithridate.defense.secret import Secret
    from mithridate.errors import MithridateError
    from mithridate.evaluation.evaluate import evaluate
    from mithridate.inference.backbone import load_backbone
    from mithridate.inference.defended import DefendedModel
    from mithridate.inference.engine_client import Engine
    from mithridate.tasks.classification import ClassificationTask
    from mithridate.training.config import TrainingConfig
    from mithridate.training.defend import defend, save

_HOMES = {
    "ClassificationTask": "tasks.classification",
    "Columns": "data.read",
    "DefendedModel": "inference.defended",
    "DefenseManifest": "defense.manifest",
    "Engine": "inference.engine_client",
    "MithridateError": "errors",
    "P2PConfig": "defense.config",
    "Row": "data.rows",
    "Secret": "defense.secret",
    "TrainingConfig": "training.config",
    "defend": "training.defend",
    "evaluate": "evaluation.evaluate",
    "load_backbone": "inference.backbone",
    "prepare": "defense.prepare",
    "read_rows": "data.read",
    "save": "training.defend",
}

__all__ = [
    "ClassificationTask",
    "Columns",
    "DefendedModel",
    "DefenseManifest",
    "Engine",
    "MithridateError",
    "P2PConfig",
    "Row",
    "Secret",
    "TrainingConfig",
    "defend",
    "evaluate",
    "load_backbone",
    "prepare",
    "read_rows",
    "save",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its room."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
