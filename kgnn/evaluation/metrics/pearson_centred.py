import numpy as np

from kgnn.evaluation.metrics.change import rounding
from kgnn.evaluation.metrics.pearson import correlation
from kgnn.evaluation.metrics.record import metric


@metric(genes="both", limits=(-1, 1), source="Systema: Viñas Torné et al., Nat Biotechnol 2025")
def pearson_centred(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, center: np.ndarray) -> float:
    """Pearson correlation of ŷ − m and y − m.

    ŷ predicted, y observed means [genes]; m `center`, the mean over training perturbations, without a split over the
    others of the panel. What perturbations share counts for nothing: the mean of training has 0. y − m holds no control
    cells, so that their noise is no agreement.
    """
    return correlation(predicted - center, observed - center, rounding(predicted, observed, center))
