import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, limits=(0, float("inf")))
def fold_change_error(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, significant: np.ndarray
) -> float:
    """Mean |log₂ fold change predicted − measured| over the genes that differ from control.

    The log₂ fold change of means of log1p values is (y − c) / ln 2, with a pseudo-count of 1: ŷ predicted, y observed,
    c control means [genes], `significant` [genes] bool. No change: the mean size; no such gene: NaN.
    """
    return np.abs(predicted - observed)[significant].mean() / np.log(2) if significant.any() else np.nan
