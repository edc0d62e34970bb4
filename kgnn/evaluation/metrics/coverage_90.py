import numpy as np

from kgnn.evaluation.metrics.record import metric

Z_90 = 1.6449  # half the width of the central 90 % of a normal distribution, in standard deviations


@metric(limits=(0, 1))
def coverage_90(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, variance: np.ndarray) -> float:
    """Share of genes with |ŷ − y| within 1.645 standard deviations: 0.9 where these are right, more where too wide.

    ŷ predicted, y observed means [genes], `variance` [genes] of ŷ. `kgnn.metrics.calibration_curve` has all levels.
    """
    return (np.abs(predicted - observed) <= Z_90 * np.sqrt(variance)).mean()
