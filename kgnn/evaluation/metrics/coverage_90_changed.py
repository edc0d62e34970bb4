import numpy as np

from kgnn.evaluation.metrics.coverage_90 import Z_90
from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1))
def coverage_90_changed(
    predicted: np.ndarray,
    observed: np.ndarray,
    reference: np.ndarray,
    variance: np.ndarray,
    significant: np.ndarray,
) -> float:
    """`coverage_90` over the genes that differ from control, `significant` [genes] bool; none: NaN.

    Most genes do not change: variances that are right for these alone still make `coverage_90` about 0.9.
    """
    inside = np.abs(predicted - observed) <= Z_90 * np.sqrt(variance)
    return inside[significant].mean() if significant.any() else np.nan
