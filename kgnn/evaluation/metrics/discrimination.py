import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="perturbation discrimination score, Arc Institute's Virtual Cell Challenge, 2025")
def discrimination(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, panel: np.ndarray, own: int
) -> float:
    """1 − r / n, where r of n conditions are nearer to the prediction than the right one.

    Distance: Σ |ŷ − y| over genes, ŷ predicted means [genes], y the rows of `panel` [conditions, genes], of which `own`
    is the right one. Chance: 0.5.
    """
    distance = np.abs(panel - predicted).sum(axis=1)
    return 1 - float((distance < distance[own]).mean())
