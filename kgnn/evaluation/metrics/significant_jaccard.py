import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="cell-eval2, Arc Institute")
def significant_jaccard(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, significant: np.ndarray, called: np.ndarray
) -> float:
    """|A ∩ B| / |A ∪ B| of the genes that differ from control in the real and in the predicted cells.

    A `significant`, B `called` [genes] bool, as in `direction_fidelity`. No change: 0, and NaN where both are empty.
    """
    either = (significant | called).sum()
    return (significant & called).sum() / either if either else np.nan
