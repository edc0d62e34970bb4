import numpy as np

from kgnn.evaluation.metrics.record import metric


@metric(limits=(0, 1))
def de_overlap(predicted: np.ndarray, observed: np.ndarray, reference: np.ndarray, strongest: np.ndarray) -> float:
    """Share of the top DE genes that are among as many genes of largest |ŷ − c|.

    ŷ predicted, c control means [genes]; `strongest` [top]: numbers of the top DE genes.
    """
    ranked = np.argsort(-np.abs(predicted - reference), kind="stable")
    return np.isin(strongest, ranked[: len(strongest)]).mean()
