import numpy as np

from kgnn.evaluation.metrics.change import rounding
from kgnn.evaluation.metrics.pearson import correlation
from kgnn.evaluation.metrics.record import metric


@metric(genes="both", limits=(-1, 1), source="Roohani, Huang, Leskovec, Nat Biotechnol 2024")
def pearson_delta(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Pearson correlation of δ̂ = ŷ − c and δ = y − c.

    ŷ predicted, y observed, c control means [genes]; no change: 0. What most perturbations share scores well, and so
    does the noise of c, which both changes hold: see `pearson_centred` and `pearson_crossed`.
    """
    return correlation(predicted - reference, observed - reference, rounding(predicted, observed, reference))
