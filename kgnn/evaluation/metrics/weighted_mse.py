import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(larger_is_better=False, limits=(0, float("inf")), source="Mejia et al., Diversity by Design, 2025")
def weighted_mse(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, weights: np.ndarray) -> float:
    """Σ w (ŷ − y)² / Σ w over genes: what tells this perturbation from the others weighs most.

    ŷ predicted, y observed means [genes]; w `weights` [genes], see `gene_weights`. NaN where no gene has any.
    """
    total = weights.sum()
    return (weights * np.square(predicted - observed)).sum() / total if total > 0 else np.nan


def gene_weights(t: np.ndarray) -> np.ndarray:
    """(|t| − min) / (max − min), squared, scaled to the sum 1; all 0 where |t| is the same for all genes.

    t [genes]: statistic of the condition's cells against all other perturbed cells.
    """
    size = np.abs(t)
    spread = size.max() - size.min()
    if spread <= 0:
        return np.zeros_like(size)
    weights = np.square((size - size.min()) / spread)
    return weights / weights.sum()
