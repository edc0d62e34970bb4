"""Scores of predicted conditions against real cells."""

from kgnn.evaluation.metrics.limits import explained_share, noise_ceiling
from kgnn.evaluation.metrics.record import Metric, metric
from kgnn.evaluation.metrics.runner import evaluate
from kgnn.evaluation.metrics.summary import paired_difference, summarize
from kgnn.evaluation.metrics.table import METRICS

__all__ = [
    "METRICS",
    "Metric",
    "evaluate",
    "explained_share",
    "metric",
    "noise_ceiling",
    "paired_difference",
    "summarize",
]
