"""From a `KnowledgeGraph` and the data's genes to the graphs that models take."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from kgnn.graph import KnowledgeGraph, Relation
from kgnn.graph.edges import SIMILARITIES, is_similarity
from kgnn.graph.effects import EFFECT
from kgnn.nn.conditions import TypedGraph
from kgnn.nn.knowledge import HOPS, Channel
from kgnn.ops import Adjacency

COEXPRESSED = ("gene", "coexpressed", "gene")


class GeneRelation(NamedTuple):
    """A gene–gene relation over numbered nodes, [edges] each: weight, sign; whether it says that genes are alike."""

    name: Relation
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    sign: np.ndarray
    similarity: bool


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
    return _adjacency(kg, _among_genes(kg), perturbable)


def heaviest_graph(kg: KnowledgeGraph | None, perturbable: Sequence[str], n: int) -> Adjacency:
    """Return the `perturbation_graph` with the `n` heaviest edges into each gene, and self loops."""
    return _heaviest(_edges(kg, _among_genes(kg), perturbable), len(perturbable), n)


def heaviest_graphs(kg: KnowledgeGraph | None, perturbable: Sequence[str], n: int) -> list[Adjacency]:
    """Return the same for each relation apart, one of self loops alone where there is none."""
    return [
        _heaviest(_edges(kg, relations, perturbable), len(perturbable), n)
        for relations in [[relation] for relation in _among_genes(kg)] or [[]]
    ]


def _heaviest(edges: pd.DataFrame, n_nodes: int, n: int) -> Adjacency:
    """Of edges equally heavy those from the first sources count."""
    edges = edges.sort_values(["target", "weight", "source"], ascending=[True, False, True])
    return _graph(edges.groupby("target").head(n), n_nodes)


def _among_genes(kg: KnowledgeGraph | None) -> list[Relation]:
    return [] if kg is None else [r for r in kg.relations if r != COEXPRESSED and r[0] == r[2] == "gene"]


def _adjacency(kg: KnowledgeGraph | None, relations: list[Relation], genes: Sequence[str]) -> Adjacency:
    return _graph(_edges(kg, relations, genes), len(genes))


def _edges(kg: KnowledgeGraph | None, relations: list[Relation], genes: Sequence[str]) -> pd.DataFrame:
    """Numbers of `source` and `target`, and the largest `weight`, of the pairs of genes in some relations."""
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
    return pd.concat(tables).groupby(["source", "target"], as_index=False)["weight"].max()


def _graph(table: pd.DataFrame, n_nodes: int) -> Adjacency:
    return Adjacency(
        torch.from_numpy(table[["source", "target"]].to_numpy(np.int64).T.copy()),
        torch.from_numpy(table["weight"].to_numpy(np.float32).copy()),
        n_nodes=n_nodes,
        normalization="symmetric",
        self_loops=True,
    )


def channels(relations: list[GeneRelation], n_nodes: int) -> list[Channel]:
    """The ways of messages for `kgnn.nn.knowledge`, over all nodes: each gene–gene relation without its signs, weights
    divided by the root of their squares' sum into a target; with its signs, where it has some, divided by the sum of
    their sizes. Estimated effects keep their size. Along similarities messages go one step.
    """
    found = []
    for relation, source, target, weight, sign, symmetric in relations:
        hops = 1 if symmetric else HOPS
        name = relation[1]
        if relation == EFFECT:
            size = np.sqrt(np.square(weight).mean()).clip(1e-12)
            found.append(_channel(name, source, target, weight * sign / size, hops, n_nodes))
            continue
        into = np.sqrt(np.bincount(target, np.square(weight), n_nodes))[target].clip(1e-12)
        found.append(_channel(name, source, target, weight / into, hops, n_nodes))
        if (sign != 0).any():
            into = np.bincount(target, weight * np.abs(sign), n_nodes)[target].clip(1e-12)
            found.append(_channel(f"{name}, signed", source, target, sign * weight / into, hops, n_nodes))
    return found


def _channel(name: str, source: np.ndarray, target: np.ndarray, weight: np.ndarray, hops: int, n: int) -> Channel:
    pairs = torch.from_numpy(np.stack([source, target]).astype(np.int64))
    return Channel(name, Adjacency(pairs, torch.from_numpy(weight.astype(np.float32)), n_nodes=n), hops)


def profiles(relations: list[GeneRelation], n_nodes: int) -> list[sparse.csr_matrix]:
    """Regulators and targets of each node (neighbours and itself, where the relation is symmetric), a relation each."""
    found, n = [], n_nodes
    for relation, source, target, _, _, symmetric in relations:
        if relation == EFFECT:
            continue
        if symmetric:
            known = np.unique(source)
            rows, columns = np.concatenate([source, known]), np.concatenate([target, known])
        else:
            rows, columns = np.concatenate([source, target]), np.concatenate([target, source + n])
        ones = np.ones(len(rows))
        found.append(sparse.csr_matrix((ones, (rows, columns)), (n, 2 * n)))
    return found


def gene_relations(kg: KnowledgeGraph | None, nodes: pd.Index) -> list[GeneRelation]:
    """Gene–gene relations as arrays over `nodes`: source, target, weight, sign, whether symmetric."""
    if kg is None:
        return []
    code = nodes.get_indexer(kg.nodes("gene").index)
    found = []
    for relation in kg.relations:
        if relation[0] != "gene" or relation[2] != "gene":
            continue
        edges = kg.edge_arrays(relation)
        source, target = code[edges["source"]], code[edges["target"]]
        weight, sign = edges["weight"].abs().to_numpy(np.float64), edges["sign"].to_numpy(np.float64)
        if len(source):
            similarity = is_similarity(relation, kg.tables.table(relation))
            found.append(GeneRelation(relation, source, target, weight, sign, similarity))
    return found


def typed_graph(kg: KnowledgeGraph | None, nodes: pd.Index, genes: pd.Index) -> TypedGraph:
    """The whole graph as networks take it, with all of `nodes` as its genes; `genes`: the measured ones."""
    names = {"gene": list(nodes)}
    matrices: dict[Relation, Adjacency] = {}
    signs: dict[Relation, torch.Tensor] = {}
    features: dict[str, dict[str, torch.Tensor]] = {}
    code: dict[str, np.ndarray] = {}
    for kind in [] if kg is None else kg.node_types:
        index = kg.nodes(kind).index  # type: ignore[union-attr]
        names.setdefault(kind, list(index))
        code[kind] = nodes.get_indexer(index) if kind == "gene" else np.arange(len(index))
        for name, matrix in kg.features(kind).items():  # type: ignore[union-attr]
            placed = np.full((len(names[kind]), matrix.shape[1]), np.nan, np.float32)
            placed[code[kind]] = matrix
            features.setdefault(kind, {})[name] = torch.from_numpy(placed)
    for relation in [] if kg is None else kg.relations:
        edges = kg.edge_arrays(relation)  # type: ignore[union-attr]
        source, target = code[relation[0]][edges["source"]], code[relation[2]][edges["target"]]
        signs[relation] = torch.from_numpy(edges["sign"].to_numpy(np.int8, copy=True))
        weight = edges["weight"].abs().to_numpy(np.float32) * np.where(edges["sign"] < 0, -1, 1).astype(np.float32)
        sizes = len(names[relation[2]]), len(names[relation[0]])
        pairs = torch.from_numpy(np.stack([source, target]).astype(np.int64))
        matrices[relation] = Adjacency(pairs, torch.from_numpy(weight), n_nodes=sizes)
    measured = torch.from_numpy(nodes.get_indexer(genes).astype(np.int64))
    return TypedGraph(names, matrices, signs, features, measured)
