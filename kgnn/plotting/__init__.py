"""What it looks like: pictures of graphs, predictions and scores."""

from kgnn.plotting.graph import graph_account, neighbourhood
from kgnn.plotting.knowledge import relatives, sources
from kgnn.plotting.predictions import explanation, predicted_vs_observed
from kgnn.plotting.scores import ablation, model_scores

__all__ = [
    "ablation",
    "explanation",
    "graph_account",
    "model_scores",
    "neighbourhood",
    "predicted_vs_observed",
    "relatives",
    "sources",
]
