import numpy as np

from kgnn.evaluation.metrics.change import rounding
from kgnn.evaluation.metrics.record import metric


@metric(limits=(float("-inf"), 1), source="Mejia et al., Diversity by Design, 2025")
def weighted_r2(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, weights: np.ndarray, center: np.ndarray
) -> float:
    """1 − Σ w (ŷ − y)² / Σ w (δ − δ̄)², δ = y − m and δ̄ = Σ w δ / Σ w over genes.

    ŷ predicted, y observed means [genes]; w and m as in `weighted_mse` and `pearson_centred`. The mean of training has
    0 or less. NaN where no gene has a weight or all that have one change alike.
    """
    total = weights.sum()
    if total <= 0:
        return np.nan
    weights, real = weights / total, observed - center
    size = (weights * np.square(real - weights @ real)).sum()
    if np.sqrt(size) <= rounding(observed, center):
        return np.nan
    return 1 - (weights * np.square(predicted - observed)).sum() / size
