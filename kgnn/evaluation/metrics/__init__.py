"""Scores of predicted conditions against real cells."""

from kgnn.evaluation.metrics.calibration import calibration_curve
from kgnn.evaluation.metrics.crossed import control_halves, crossed_scores
from kgnn.evaluation.metrics.e_distance import energy_distance
from kgnn.evaluation.metrics.gene_auc import answers_auc, gene_auc
from kgnn.evaluation.metrics.limits import explained_share, noise_ceiling
from kgnn.evaluation.metrics.record import Metric, metric
from kgnn.evaluation.metrics.references import reference_scores
from kgnn.evaluation.metrics.runner import evaluate
from kgnn.evaluation.metrics.summary import paired_difference, summarize
from kgnn.evaluation.metrics.table import METRICS

__all__ = [
    "METRICS",
    "Metric",
    "answers_auc",
    "calibration_curve",
    "control_halves",
    "crossed_scores",
    "energy_distance",
    "evaluate",
    "explained_share",
    "gene_auc",
    "metric",
    "noise_ceiling",
    "paired_difference",
    "reference_scores",
    "summarize",
]
