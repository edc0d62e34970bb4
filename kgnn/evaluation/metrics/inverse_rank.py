import numpy as np

from kgnn.evaluation.metrics.change import rounding
from kgnn.evaluation.metrics.discrimination import nearer
from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="normalised inverse rank; rank of PerturBench: Wu et al., 2024")
def inverse_rank(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, predictions: np.ndarray, place: int
) -> float:
    """1 − k / (n − 1), where k of the n − 1 other predictions are nearer (Euclidean) to the truth; ties count half.

    Distance of y, observed means [genes], to the rows of `predictions` [predicted conditions, genes], of which `place`
    is this condition's. One prediction for all conditions: 0.5; a lone prediction: NaN.
    """
    if len(predictions) < 2:
        return np.nan
    distance = np.linalg.norm(predictions - observed, axis=1)
    return 1 - nearer(distance, place, rounding(predictions)) / (len(predictions) - 1)
