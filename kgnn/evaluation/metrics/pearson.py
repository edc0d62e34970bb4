import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(genes="both", limits=(-1, 1))
def pearson(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Pearson correlation of ŷ predicted and y observed means [genes]; high already for no change."""
    return correlation(predicted, observed)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two vectors [n]; 0 with a constant, such as the change that no change predicts."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-12 else 0.0
