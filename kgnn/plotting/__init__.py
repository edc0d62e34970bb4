"""What it looks like: pictures of graphs, predictions and scores."""

from kgnn.plotting.pictures import (
    ablation,
    explanation,
    graph_account,
    model_scores,
    neighbourhood,
    predicted_vs_observed,
)

__all__ = ["ablation", "explanation", "graph_account", "model_scores", "neighbourhood", "predicted_vs_observed"]
