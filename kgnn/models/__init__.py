"""What users hold: estimators with fit, predict, save and load; baselines beside them."""

from kgnn.models.baselines import BASELINES, KNOWLEDGE_BASELINES, LINE_BASELINES
from kgnn.models.cells.model import CellModel
from kgnn.models.cells.training import CellTraining
from kgnn.models.factory import load_model, make_model
from kgnn.models.lightning import checkpoints
from kgnn.models.links.model import LinkModel
from kgnn.models.perturbation.model import PerturbationModel
from kgnn.models.perturbation.predictor import Changes, Predictor, Start, Training
from kgnn.models.perturbation.table import PREDICTORS
from kgnn.models.perturbation.training import PerturbationTraining

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
