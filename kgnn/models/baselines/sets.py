"""The baseline on set membership: kernel ridge regression, genes alike as far as they are in the same rare sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.baselines.ridge import RidgeBaseline
from kgnn.models.perturbation.graphs import gene_relations, profiles
from kgnn.models.perturbation.knowledge import rare_rows
from kgnn.models.perturbation.predictor import Training


class SetKernelRidge(RidgeBaseline):
    """Kernel ridge regression on the sets that perturbed genes are in, around the mean of training.

    A set is whatever a gene has as neighbour in a relation of the graph: a complex, a term, a family; a gene's
    regulators and targets, and in a symmetric relation its neighbours and itself. Gene g has log(N / size) at each of
    its sets (of two genes or more, of N genes that are in any) and is scaled to length 1, so that k(g, g) = 1; a
    condition's features are the sum of its genes'. Without the graph's edge weights and signs. See `RidgeBaseline`.
    """

    def _features(self, data: Training, seed: int) -> tuple[pd.Index, sparse.csr_array]:
        if data.kg is None or not any("gene" in relation[::2] for relation in data.kg.relations):
            raise InputError(
                "no gene set: set_kernel_ridge needs a graph with relations of genes; without any there is "
                "encoder='mean'"
            )
        member = membership(data.kg)
        known = np.flatnonzero(np.diff(member.indptr))
        return data.kg.nodes("gene").index[known], rare_rows(sparse.csr_array(member[known]))


def membership(kg: KnowledgeGraph) -> sparse.csr_array:
    """Which sets the graph's genes are in, [genes, sets] 0/1; sets of one gene, which relate nobody, are left out."""
    index = kg.nodes("gene").index
    parts = profiles(gene_relations(kg, index), len(index))
    for source, name, target in kg.relations:
        if "gene" in (source, target) and source != target:
            edges = kg.to_scipy((source, name, target))
            parts.append(edges if source == "gene" else edges.T)
    found = sparse.csr_array(sparse.hstack(parts), dtype=np.float64)
    found.sum_duplicates()
    found.data[:] = 1.0
    return sparse.csr_array(found[:, np.flatnonzero(found.sum(axis=0) > 1)])
