import numpy as np
from sklearn.metrics import average_precision_score

from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1))
def de_auprc(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, significant: np.ndarray) -> float:
    """Area under the precision–recall curve of |ŷ − c| against the genes that differ from control.

    ŷ predicted, c control means [genes], `significant` [genes] bool. NaN where none or all differ; no change: their
    share.
    """
    scored = significant.any() and not significant.all()
    return average_precision_score(significant, np.abs(change(predicted, reference))) if scored else np.nan
