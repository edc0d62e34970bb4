import numpy as np

from kgnn.evaluation.metrics.change import change, rounding
from kgnn.evaluation.metrics.pearson import correlation
from kgnn.evaluation.metrics.record import metric


@metric(limits=(-1, 1))
def pearson_crossed(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, halves: np.ndarray) -> float:
    """Pearson correlation of ŷ − a and y − b, mean over halves of the control cells, both ways.

    ŷ predicted, y observed, c control means [genes]; a and b: `halves` [draws, 2, genes], means of two random halves of
    the control cells. No change: 0.

    What it removes: the noise of a is not that of b. What it cannot know: how much of c's noise e is in ŷ = c + δ̂. A
    model whose δ̂ was learned from changes against c has −λe in δ̂. With λ = 1 (the mean, a replicate: ŷ is made of
    perturbed cells alone) nothing of e is left in ŷ, and the score is free of it. A model that shrinks (λ < 1) has
    (1 − λ)e in ŷ, against the −b of the truth: its score is then too low by (1 − λ) σ²/n a gene in the covariance, as
    `pearson_delta` is too high by λ σ²/n. The truth lies between the two; `kgnn.metrics.crossed_scores` finds it by
    fitting on one half and scoring against the other. Halves have twice the noise of all cells, which lowers every
    score.
    """
    if not change(predicted, reference).any():
        return 0.0
    least = rounding(predicted, observed, reference)
    pairs = [pair for a, b in halves for pair in ((a, b), (b, a))]
    return float(np.mean([correlation(predicted - a, observed - b, least) for a, b in pairs]))
