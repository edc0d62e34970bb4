"""Personalised PageRank of all nodes at once."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

BLOCK = 256  # start nodes that are solved together


def transition(adjacency: sparse.csr_array) -> tuple[sparse.csr_array, np.ndarray]:
    """Return the random walk's matrix (rows sum to 1) and which nodes have no way out."""
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    lone = degree == 0
    scale = sparse.diags_array(1 / np.where(lone, 1, degree))
    return sparse.csr_array(scale @ adjacency), lone


def pagerank_matrix(adjacency: sparse.csr_array, alpha: float = 0.9, starts: Sequence[int] | None = None) -> np.ndarray:
    """Return personalised PageRank from every node, exactly: row i is the walk that restarts at the ith start.

    x_i = (1 − α) Σ_k αᵏ e_i Pᵏ, solved as a sparse linear system for all i (LU once; suits graphs near to trees,
    as ontologies are). A node without a way out passes its rank back to the start, as in networkx.

    Args:
        adjacency: `[nodes, nodes]` weights, edges from row to column.
        alpha: chance to walk on, in (0, 1).
        starts: numbers of the nodes to start at; default all.

    Returns:
        float64 `[starts, nodes]`; rows sum to 1.
    """
    walk, lone = transition(adjacency)
    n = walk.shape[0]
    begin = np.arange(n) if starts is None else np.asarray(starts)
    solve = splu(sparse.csc_matrix(sparse.eye_array(n) - alpha * walk.T)).solve
    result = np.empty((len(begin), n))
    for first in range(0, len(begin), BLOCK):
        some = begin[first : first + BLOCK]
        unit = np.zeros((n, len(some)))
        unit[some, np.arange(len(some))] = 1 - alpha
        result[first : first + len(some)] = solve(unit).T
    if lone.any():  # what sinks there restarts: it only scales each row
        result /= result.sum(axis=1, keepdims=True)
    return result


def pagerank_operator(
    adjacency: sparse.csr_array, alpha: float, tolerance: float = 1e-8
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Return functions that multiply `[nodes, columns]` by the PageRank matrix and by its transpose, without making it.

    The series is summed until its rest is below `tolerance`; lone nodes keep what they have.
    """
    walk, lone = transition(adjacency)
    walk = sparse.csr_array(walk + sparse.diags_array(lone.astype(float)))
    back = sparse.csr_array(walk.T)
    steps = int(np.ceil(np.log(tolerance) / np.log(alpha)))

    def times(matrix: sparse.csr_array) -> Callable[[np.ndarray], np.ndarray]:
        def product(x: np.ndarray) -> np.ndarray:
            term, total = x, x.copy()
            for _ in range(steps):
                term = alpha * (matrix @ term)
                total += term
            return (1 - alpha) * total

        return product

    return times(walk), times(back)
