"""What users hold: estimators with fit, predict, save and load; baselines beside them."""

from pathlib import Path

from kgnn.models.baselines import BASELINES, Additive, Baseline, CompositionRidge, Linear, Mean, NoChange
from kgnn.models.perturbation import PerturbationModel
from kgnn.models.storage import load_config

__all__ = [
    "BASELINES",
    "Additive",
    "Baseline",
    "CompositionRidge",
    "Linear",
    "Mean",
    "NoChange",
    "PerturbationModel",
    "load_model",
]


def load_model(path: str | Path) -> PerturbationModel | Baseline:
    """Read a saved model of any kind; raises `InputError` for a missing, foreign or damaged folder."""
    return (Baseline if load_config(path)["model"] in BASELINES else PerturbationModel).load(path)
