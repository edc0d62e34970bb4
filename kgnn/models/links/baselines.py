"""What a model of links must beat: scores that know only how many neighbours nodes have, and which they share."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import sparse

from kgnn.models.links.ranks import Scorer
from kgnn.models.links.triples import Triples


def baselines(learned: Triples) -> dict[str, Scorer]:
    """Return name → scorer, from the edges to learn from.

    `degree`: how many edges of any relation the candidate has. `frequency`: how many at that end of that relation.
    `adamic_adar`: Σ 1 / log degree over the common neighbours along any relation (Adamic & Adar, Soc Netw 2003).
    """
    near = neighbours(learned)
    degree = np.bincount(np.concatenate([learned.source, learned.target]), minlength=learned.n_nodes)
    weighted = sparse.diags_array(1 / np.log(np.maximum(np.diff(near.indptr), 2))) @ near

    @cache
    def frequency(question: int) -> np.ndarray:
        count = np.bincount(learned.questions.all_answers(question), minlength=learned.n_nodes)
        return count[learned.candidates(question)]

    @cache
    def towards(kind: str) -> sparse.csr_array:
        return weighted[:, learned.start[kind] : learned.start[kind] + learned.sizes[kind]]

    def by_degree(question: int, nodes: np.ndarray) -> np.ndarray:
        return np.tile(degree[learned.candidates(question)], (len(nodes), 1))

    def by_frequency(question: int, nodes: np.ndarray) -> np.ndarray:
        return np.tile(frequency(question), (len(nodes), 1))

    def by_common(question: int, nodes: np.ndarray) -> np.ndarray:
        return (near[nodes] @ towards(learned.asked(question))).toarray()

    return {"degree": by_degree, "frequency": by_frequency, "adamic_adar": by_common}


def neighbours(learned: Triples) -> sparse.csr_array:
    """[nodes, nodes], 1 where two nodes are linked by any relation in either direction."""
    n = learned.n_nodes
    ends = np.concatenate([learned.source, learned.target]), np.concatenate([learned.target, learned.source])
    near = sparse.coo_array((np.ones(2 * len(learned), np.float32), ends), shape=(n, n)).tocsr()
    near.sum_duplicates()
    near.data[:] = 1
    return near
