import numpy as np

from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, genes="top", limits=(0, 1), source="Roohani, Huang, Leskovec, Nat Biotechnol 2024")
def wrong_direction(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray) -> float:
    """Share of genes with δ̂ · δ < 0, δ̂ = ŷ − c, δ = y − c; a δ̂ of 0 counts half.

    ŷ predicted, y observed, c control means [genes]; genes with a δ of 0 are left out. Chance and no change: 0.5.
    """
    sign = np.sign(change(predicted, reference)) * np.sign(observed - reference)
    sign = sign[observed != reference]
    return ((sign < 0) + (sign == 0) / 2).mean() if len(sign) else np.nan
