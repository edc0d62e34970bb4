"""From a `KnowledgeGraph` and the data's genes to the two graphs of a GEARS-style model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from kgnn.graph import KnowledgeGraph
from kgnn.ops import Adjacency

COEXPRESSED = ("gene", "coexpressed", "gene")
SIMILARITIES = (
    "coexpressed",
    "shares_gene_sets",
)  # already k sources for each target: used as written, as in GEARS


def gene_graph(kg: KnowledgeGraph | None, genes: Sequence[str]) -> Adjacency:
    """Return the co-expression graph over the measured genes: [genes, genes], symmetric, with self loops."""
    relations = [COEXPRESSED] if kg is not None and COEXPRESSED in kg.relations else []
    return _adjacency(kg, relations, genes)


def perturbation_graph(kg: KnowledgeGraph | None, perturbable: Sequence[str]) -> Adjacency:
    """Return the graph of all other gene–gene relations over the perturbable genes, likewise.

    Along relations that are no similarities (regulation, a user's own edges) messages pass both ways: else a
    regulator that nothing regulates would hear of no other gene. Where a pair stands in several relations the
    largest weight counts; signs are not used, as in GEARS.
    """
    relations = [] if kg is None else [r for r in kg.relations if r != COEXPRESSED and r[0] == r[2] == "gene"]
    return _adjacency(kg, relations, perturbable)


def _adjacency(kg: KnowledgeGraph | None, relations: list[tuple[str, str, str]], genes: Sequence[str]) -> Adjacency:
    index = pd.Index(genes, dtype=object)
    tables = [pd.DataFrame({"source": [], "target": [], "weight": []}, dtype=np.int64)]
    if kg is not None and relations:
        code = index.get_indexer(kg.nodes("gene").index)
        for relation in relations:
            edges = kg.edge_arrays(relation)
            table = pd.DataFrame(
                {
                    "source": code[edges["source"]],
                    "target": code[edges["target"]],
                    "weight": edges["weight"].abs().to_numpy(np.float64),
                }
            )
            table = table[(table["source"] >= 0) & (table["target"] >= 0)]
            tables.append(table)
            if relation[1] not in SIMILARITIES:
                tables.append(table.rename(columns={"source": "target", "target": "source"}))
    table = pd.concat(tables).groupby(["source", "target"], as_index=False)["weight"].max()
    return Adjacency(
        torch.from_numpy(table[["source", "target"]].to_numpy(np.int64).T.copy()),
        torch.from_numpy(table["weight"].to_numpy(np.float32).copy()),
        n_nodes=len(index),
        normalization="symmetric",
        self_loops=True,
    )
