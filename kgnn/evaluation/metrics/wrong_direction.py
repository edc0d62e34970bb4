import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, genes="top", limits=(0, 1), source="Roohani, Huang, Leskovec, Nat Biotechnol 2024")
def wrong_direction(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Share of genes with δ̂ · δ < 0, δ̂ = ŷ − c, δ = y − c.

    ŷ predicted, y observed, c control means [genes]; chance: 0.5, but no change: 0.
    """
    return ((observed - reference) * (predicted - reference) < 0).mean()
