"""Scores of predicted conditions against real cells."""

from kgnn.evaluation.metrics.runner import evaluate, explained_share, noise_ceiling, paired_difference, summarize

__all__ = ["evaluate", "explained_share", "noise_ceiling", "paired_difference", "summarize"]
