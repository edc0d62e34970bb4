import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, genes="both", limits=(0, float("inf")))
def mse(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Mean squared error, mean of (ŷ − y)² over genes; ŷ predicted, y observed means [genes]."""
    return np.square(predicted - observed).mean()
