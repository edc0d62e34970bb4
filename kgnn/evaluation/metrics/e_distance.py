import numpy as np
from sklearn.metrics import pairwise_distances

from kgnn.evaluation.metrics.record import metric

MOST = 1000  # cells a side


@metric(larger_is_better=False, source="Székely, Rizzo 2013; scPerturb: Peidli et al., Nat Methods 2024")
def e_distance(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, cells: np.ndarray, real_cells: np.ndarray
) -> float:
    """Energy distance of predicted and real cells, `cells` and `real_cells` [cells, genes]: 0 for the same
    distribution.

    Only where cells were predicted; a lone real cell: NaN. Of more than 1,000 cells a side every second, third, …
    counts.
    """
    few, real = (x[:: -(-len(x) // MOST)] for x in (cells, real_cells))
    return energy_distance(few, real)


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """2 E‖a − b‖ − E‖a − a′‖ − E‖b − b′‖ over pairs of rows, [cells, genes] each, none with itself.

    Unbiased, so that few cells are not far by themselves; below 0 by chance. (cell-eval pairs each cell with itself
    too.)
    """
    if min(len(a), len(b)) < 2:
        return np.nan
    within = sum(pairwise_distances(x).sum() / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(2 * pairwise_distances(a, b).mean() - within)
