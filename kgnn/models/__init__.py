"""What users hold: estimators with fit, predict, save and load; baselines beside them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kgnn.models.baselines import BASELINES, KNOWLEDGE_BASELINES, LINE_BASELINES
from kgnn.models.cells.model import CellModel
from kgnn.models.factory import load_model, make_model
from kgnn.models.links.model import LinkModel
from kgnn.models.perturbation.model import PerturbationModel
from kgnn.models.perturbation.predictor import Changes, Predictor, Start, Training
from kgnn.models.perturbation.table import PREDICTORS

if TYPE_CHECKING:
    from kgnn.models.cells.training import CellTraining
    from kgnn.models.lightning import checkpoints
    from kgnn.models.perturbation.training import PerturbationTraining

_WITH_LIGHTNING = {
    "CellTraining": "kgnn.models.cells.training",
    "PerturbationTraining": "kgnn.models.perturbation.training",
    "checkpoints": "kgnn.models.lightning",
}

__all__ = [
    "BASELINES",
    "KNOWLEDGE_BASELINES",
    "LINE_BASELINES",
    "PREDICTORS",
    "CellModel",
    "CellTraining",
    "Changes",
    "LinkModel",
    "PerturbationModel",
    "PerturbationTraining",
    "Predictor",
    "Start",
    "Training",
    "checkpoints",
    "load_model",
    "make_model",
]


def __getattr__(name: str) -> Any:
    """Import what is built on Lightning when it is first used: that takes seconds."""
    if name in _WITH_LIGHTNING:
        return getattr(import_module(_WITH_LIGHTNING[name]), name)
    raise AttributeError(f"module 'kgnn.models' has no attribute {name!r}")
