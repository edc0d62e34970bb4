import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, genes="both", limits=(0, float("inf")))
def mae(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute error, mean of |ŷ − y| over genes; ŷ predicted, y observed means [genes]."""
    return np.abs(predicted - observed).mean()
