import numpy as np

from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.record import metric

RIGHT = 0.9


@metric(limits=(0, 1), source="cell-eval2, Arc Institute")
def reach(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, significant: np.ndarray) -> float:
    """How far down its own order a prediction has the right signs, in shares of the genes that differ from control.

    The deepest prefix of the `significant` genes [genes] bool, by falling |δ̂|, of which 90 % or more have sign δ̂ = sign
    δ; δ̂ = ŷ − c, δ = y − c. Among equal |δ̂| wrong ones come first. No change: 0; no such gene: NaN.
    """
    if not significant.any():
        return np.nan
    moved = change(predicted, reference)[significant]
    right = np.sign(moved) == np.sign((observed - reference)[significant])
    right = right[np.lexsort((right, -np.abs(moved)))]
    depth = np.arange(1, len(right) + 1)
    good = np.flatnonzero(right.cumsum() >= RIGHT * depth - 1e-9)
    return (good[-1] + 1) / len(right) if len(good) else 0.0
