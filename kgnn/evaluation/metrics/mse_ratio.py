"""The ratio of sums over conditions, `mse_ratio`, that `summarize` makes of these two columns."""

import numpy as np
from scipy import sparse

from kgnn.evaluation.metrics.record import metric

SOURCE = "unbiased error ratio, cell-eval2, Arc Institute"


@metric(larger_is_better=False, source=SOURCE)
def mse_unbiased(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, noise: np.ndarray) -> float:
    """Σ (ŷ − y)² − noise of y over genes: the error against what endless cells would have as their mean.

    ŷ predicted, y observed means [genes]; `noise` [2, genes]: variance of y and of c, the control mean. A condition's
    value may be below 0.
    """
    return (np.square(predicted - observed) - noise[0]).sum()


@metric(source=SOURCE)
def size_unbiased(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, noise: np.ndarray) -> float:
    """Σ (y − c)² − noise of y − noise of c over genes: the size of the change, whatever is predicted.

    y observed, c control means [genes]; `noise` [2, genes]: variance of y and of c. Below 0 where noise is all that
    there is. Their sums over conditions make `mse_ratio`, Σ error / Σ size: perfect 0, no change 1 (the measured c,
    which is not quite the true one: by its noise more).
    """
    return (np.square(observed - reference) - noise.sum(axis=0)).sum()


def noise_of_mean(x: sparse.csr_matrix) -> np.ndarray:
    """Delete-one jackknife variance [genes] of the mean of cells [cells, genes]; of a lone cell NaN.

    (n − 1)/n Σ (x̄₋ᵢ − x̄)², which for a mean is s²/n.
    """
    n, x = x.shape[0], x.astype(np.float64)
    if n < 2:
        return np.full(x.shape[1], np.nan)
    mean = np.asarray(x.mean(axis=0)).ravel()
    return (np.asarray(x.multiply(x).mean(axis=0)).ravel() - np.square(mean)).clip(0) / (n - 1)
