import numpy as np

from kgnn.evaluation.metrics.pearson import correlation
from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, limits=(0, 1), source="TxPert, 2025")
def retrieval_rank(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, panel: np.ndarray, own: int
) -> float:
    """Share of the other conditions whose δ correlates better with δ̂ than the right one's; ties count half.

    δ̂ = ŷ − c, δ = y − c: ŷ predicted, c control means [genes], y the rows of `panel` [conditions, genes], of which
    `own` is the right one. Chance and no change: 0.5; a lone condition: 0.
    """
    similarity = np.array([correlation(predicted - reference, row) for row in panel - reference])
    others = np.delete(similarity, own)
    better = (others > similarity[own]) + 0.5 * (others == similarity[own])
    return better.mean() if len(others) else 0.0
