import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="perturbation discrimination score (L1), Virtual Cell Challenge 2025; cell-eval 0.8")
def discrimination(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, panel: np.ndarray, own: int
) -> float:
    """1 − k / n, where k of n conditions are nearer to the prediction than the right one; ties count half.

    Distance: Σ |ŷ − y| over genes, ŷ predicted means [genes], y the rows of `panel` [conditions, genes], of which `own`
    is the right one. Chance: (n + 1) / 2n; a lone condition: NaN. cell-eval leaves the perturbed gene out, as
    `evaluate(exclude_targets=True)` does.
    """
    distance = np.abs(panel - predicted).sum(axis=1)
    return 1 - nearer(distance, own) / len(panel) if len(panel) > 1 else np.nan


def nearer(distance: np.ndarray, own: int, least: float = 0.0) -> float:
    """How many others have a smaller distance [conditions] than `own`; ties, within `least`, count half."""
    gap = distance - distance[own]
    return float((gap < -least).sum() + ((np.abs(gap) <= least).sum() - 1) / 2)
