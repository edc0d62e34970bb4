"""Knowledge as one vector a gene and source, for designs that pool sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.embeddings import node2vec
from kgnn.models.perturbation.knowledge import links

DIM = 128  # of a source's vectors: node2vec, principal components
SEED = 0  # of walks and decompositions: what is known does not hang on the seed of a fit
Matrix: TypeAlias = "np.ndarray | sparse.csr_array"


class SourceVectors(NamedTuple):
    """vectors [sources, genes, 128] float32, 0 where a source says nothing of a gene; known [sources, genes] bool."""

    vectors: np.ndarray
    known: np.ndarray


def source_vectors(kg: KnowledgeGraph | None, nodes: pd.Index) -> SourceVectors:
    """What each source says of `nodes`: standardised by columns → PCA 128 → divided by the median norm (PRESAGE, 2025).

    A source: each relation and origin, genes × genes by node2vec over its links as undirected ones, genes × sets (or
    any other type) as they are; each kind of gene features. All is fitted on the genes that the source knows. Fewer
    than 128 components are filled up with zeros. A source that tells no gene from another is left out; estimated
    effects are as well, see `kgnn.models.perturbation.knowledge.links`.

    Raises:
        InputError: no source is left.
    """
    found = [one for one in (() if kg is None else _matrices(kg, nodes)) if _tells(one[1])]
    if not found:
        raise InputError(
            "no knowledge source tells one gene from another: give a graph with edges or gene features; without any "
            "knowledge there is encoder='mean'"
        )
    vectors = np.zeros((len(found), len(nodes), DIM), np.float32)
    known = np.zeros(vectors.shape[:2], bool)
    for number, (rows, matrix) in enumerate(found):
        part = prepared(matrix)
        vectors[number, rows, : part.shape[1]] = part
        known[number, rows] = True
    return SourceVectors(vectors, known)


def _matrices(kg: KnowledgeGraph, nodes: pd.Index) -> Iterator[tuple[np.ndarray, Matrix]]:
    """Each source: numbers of the genes that it knows, and what it says of them [known genes, columns]."""
    for link in links(kg, nodes):
        if link.source == link.target == "gene":
            weights = sparse.csr_array(abs(link.matrix) + abs(link.matrix).T) / 2
            rows = np.flatnonzero(np.diff(weights.indptr))
            dim = min(DIM, len(rows))
            yield rows, node2vec(sparse.csr_array(weights[rows][:, rows]), dim, SEED) if dim else np.zeros((0, 1))
        elif "gene" in (link.source, link.target):
            members = sparse.csr_array(link.matrix if link.source == "gene" else link.matrix.T)
            rows = np.flatnonzero(np.diff(members.indptr))
            yield rows, sparse.csr_array(members[rows])
    place = nodes.get_indexer(kg.nodes("gene").index)
    for matrix in kg.features("gene").values():
        told = np.isfinite(matrix).all(axis=1) & (place >= 0)
        yield place[told], matrix[told].astype(np.float64)


def _tells(matrix: Matrix) -> bool:
    """Whether some rows differ."""
    if matrix.shape[0] < 2:
        return False
    spread = matrix.max(axis=0) - matrix.min(axis=0)
    return bool((spread.toarray() if sparse.issparse(spread) else spread).any())


def prepared(matrix: Matrix) -> np.ndarray:
    """Standardised by columns → first principal components, at most 128 → divided by the median norm of the rows."""
    n = min(DIM, *matrix.shape)
    if sparse.issparse(matrix) and n < min(matrix.shape):
        scaled = StandardScaler(with_mean=False).fit_transform(matrix)  # PCA centres it without writing it out
        found = PCA(n, svd_solver="arpack", random_state=SEED).fit_transform(scaled)
    else:
        dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        found = PCA(n, random_state=SEED).fit_transform(StandardScaler().fit_transform(dense))
    norm = np.linalg.norm(found, axis=1)
    return found / np.median(norm[norm > 0])
