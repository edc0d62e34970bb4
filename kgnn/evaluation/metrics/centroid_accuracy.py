import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1), source="Systema: Viñas Torné et al., Nat Biotechnol 2025")
def centroid_accuracy(
    predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, panel: np.ndarray, own: int
) -> float:
    """Share of the other conditions that are farther (Euclidean) from the prediction than the right one is.

    Distance of ŷ, predicted means [genes], to the rows of `panel` [conditions, genes], of which `own` is the right one;
    strictly farther, a tie counts for nothing. Chance: 0.5; a lone condition: NaN.
    """
    distance = np.linalg.norm(panel - predicted, axis=1)
    return (distance > distance[own]).sum() / (len(panel) - 1) if len(panel) > 1 else np.nan
