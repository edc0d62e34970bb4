import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="cell-eval2, Arc Institute")
def direction_fidelity(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, significant: np.ndarray, called: np.ndarray
) -> float:
    """k / max(n predicted, n real), where k genes are called in both, with the right sign of ŷ − c.

    ŷ predicted, y observed, c control means [genes]; `significant` [genes] bool differ from control in the real cells,
    `called` [genes] bool in the predicted ones, see `called_genes`. No change: 0, and NaN where no gene is called at
    all.
    """
    most = max(significant.sum(), called.sum())
    right = np.sign(predicted - reference) == np.sign(observed - reference)
    return (significant & called & right).sum() / most if most else np.nan


def called_genes(moved: np.ndarray, significant: np.ndarray) -> np.ndarray:
    """As many genes as are significant, those of the largest |change| [genes]: what a prediction of a mean calls.

    A change of 0 is never called; of equal ones at the end none is.
    """
    size, n = np.abs(moved), int(significant.sum())
    if n == 0 or n > len(size):
        return np.zeros(len(size), dtype=bool)
    least = np.sort(size)[-n]
    called = (size >= least) & (size > 0)
    return called if called.sum() <= n else size > least
