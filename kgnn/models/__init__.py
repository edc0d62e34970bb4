"""What users hold: estimators with fit, predict, save and load; baselines beside them."""

from pathlib import Path
from typing import Any

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.baselines import BASELINES, Additive, Baseline, CompositionRidge, Linear, Mean, NoChange
from kgnn.models.cells.model import CellModel
from kgnn.models.perturbation.model import PerturbationModel
from kgnn.models.perturbation.networks import NAMES
from kgnn.models.storage import load_config

__all__ = [
    "BASELINES",
    "Additive",
    "Baseline",
    "CellModel",
    "CompositionRidge",
    "Linear",
    "Mean",
    "NoChange",
    "PerturbationModel",
    "load_model",
    "make_model",
]


def make_model(name: str, kg: KnowledgeGraph | None = None, **options: Any) -> PerturbationModel | Baseline:
    """Return an unfitted model by its name: an encoder of `PerturbationModel`, or a baseline (which takes no graph)."""
    if name in BASELINES:
        return BASELINES[name](**options)
    if name not in NAMES:
        raise InputError(f"unknown model {name!r}; choose {', '.join((*NAMES, *BASELINES))}")
    return PerturbationModel(kg, encoder=name, **options)


def load_model(path: str | Path) -> PerturbationModel | Baseline | CellModel:
    """Read a saved model of any kind; raises `InputError` for a missing, foreign or damaged folder."""
    kind = load_config(path)["model"]
    if kind == "cell":
        return CellModel.load(path)
    return (Baseline if kind in BASELINES else PerturbationModel).load(path)
