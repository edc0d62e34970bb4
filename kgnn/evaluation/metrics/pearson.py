import numpy as np

from kgnn.evaluation.metrics.change import rounding
from kgnn.evaluation.metrics.record import metric


@metric(genes="both", limits=(-1, 1))
def pearson(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Pearson correlation of ŷ predicted and y observed means [genes]; high already for no change."""
    return correlation(predicted, observed, rounding(predicted, observed))


def correlation(a: np.ndarray, b: np.ndarray, least: float = 1e-12) -> float:
    """Pearson correlation of two vectors [n]; 0 with a constant, such as the change that no change predicts.

    A vector is constant whose values lie within `least` of their mean, what rounding makes of a constant.
    """
    if len(a) == 0:
        return np.nan
    a, b = a - a.mean(), b - b.mean()
    if min(np.abs(a).max(), np.abs(b).max()) <= least:
        return 0.0
    return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
