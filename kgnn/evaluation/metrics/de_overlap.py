import numpy as np

from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1))
def de_overlap(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, strongest: np.ndarray) -> float:
    """Share of the top DE genes that are among as many genes of largest |ŷ − c|.

    ŷ predicted, c control means [genes]; `strongest` [top]: numbers of the top DE genes. Among equal |ŷ − c| at the end
    it counts what drawing of them would find on average. No change: top / genes; no gene: NaN.
    """
    if not len(strongest):
        return np.nan
    size, n = np.abs(change(predicted, reference)), len(strongest)
    least = np.sort(size)[-n]
    above, equal = size > least, size == least
    return (above[strongest].sum() + equal[strongest].sum() * (n - above.sum()) / equal.sum()) / n
