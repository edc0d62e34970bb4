import numpy as np

from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.discrimination import nearer
from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="perturbation discrimination score (cosine), cell-eval2, Arc Institute")
def pds_cosine(
    predicted: np.ndarray,
    observed: np.ndarray,
    reference: np.ndarray,
    panel: np.ndarray,
    own: int,
    targets: np.ndarray,
) -> float:
    """1 − k / (n − 1), where k of n − 1 other conditions have a change nearer to the predicted one; ties count half.

    Distance: 1 − cos(ŷ − c, y − c), 1 where either is 0: ŷ predicted, c control means [genes], y the rows of `panel`
    [conditions, genes], of which `own` is the right one. Genes that are perturbed anywhere in the panel, `targets`
    [genes] bool, are left out of all. Chance and no change: 0.5; a lone condition, or no gene left: NaN.
    """
    if len(panel) < 2 or targets.all():
        return np.nan
    predicted, reference, panel = predicted[~targets], reference[~targets], panel[:, ~targets]
    moved = change(predicted, reference)
    real = np.array([change(row, reference) for row in panel])
    norm = np.linalg.norm(real, axis=1) * np.linalg.norm(moved)
    distance = 1 - np.divide(real @ moved, norm, out=np.zeros(len(panel)), where=norm > 0)
    return 1 - nearer(distance, own) / (len(panel) - 1)
