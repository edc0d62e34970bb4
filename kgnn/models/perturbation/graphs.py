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
from kgnn.graph.sources.gene_sets import similar
from kgnn.models.perturbation.knowledge import links
from kgnn.nn.conditions import TypedGraph
from kgnn.nn.knowledge import HOPS, Channel
from kgnn.ops import Adjacency

COEXPRESSED = ("gene", "coexpressed", "gene")
MOST_ALIKE, LEAST_ALIKE = 20, 0.1  # of genes linked by what they share: so many a gene, above this Jaccard index


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
    own = [] if kg is None or COEXPRESSED not in kg.relations else [_edges(kg, COEXPRESSED, genes)]
    return _graph(_united(own), len(genes))


def perturbation_graph(kg: KnowledgeGraph | None, perturbable: Sequence[str]) -> Adjacency:
    """Return the graph of all else that links the perturbable genes, likewise.

    Along relations that are no similarities (regulation, a user's own edges) messages pass both ways: else a
    regulator that nothing regulates would hear of no other gene. Genes with the same neighbours of another type (sets,
    complexes, families, drugs) are linked as `kgnn.graph.load_gene_sets` does by default, GEARS' GO graph: by their
    Jaccard index, where it is above 0.1, the 20 most alike of each gene, of those equally alike the first by name; each
    relation and origin apart. Where a pair stands in several the largest weight counts; signs are not used, as in
    GEARS.
    """
    return _graph(_united(_among(kg, perturbable)), len(perturbable))


def heaviest_graph(kg: KnowledgeGraph | None, perturbable: Sequence[str], n: int) -> Adjacency:
    """Return the `perturbation_graph` of the `n` heaviest edges of each source into each gene, and self loops.

    A source is a relation among genes, or one origin of a relation between genes and other nodes.
    """
    return _graph(_united([_heaviest(edges, n) for edges in _among(kg, perturbable)]), len(perturbable))


def heaviest_graphs(kg: KnowledgeGraph | None, perturbable: Sequence[str], n: int) -> list[Adjacency]:
    """Return the same for each source apart, one of self loops alone where there is none."""
    return [_graph(_heaviest(edges, n), len(perturbable)) for edges in _among(kg, perturbable) or [_united([])]]


def _among(kg: KnowledgeGraph | None, genes: Sequence[str]) -> list[pd.DataFrame]:
    """`source, target, weight` of each relation among genes but co-expression, then of genes alike by what else they
    are linked to."""
    if kg is None:
        return []
    own = [_edges(kg, r, genes) for r in kg.relations if r != COEXPRESSED and r[0] == r[2] == "gene"]
    shared = [
        link for link in links(kg, pd.Index(genes, dtype=object)) if (link.source == "gene") != (link.target == "gene")
    ]
    return own + [_alike(link.matrix if link.source == "gene" else link.matrix.T) for link in shared]


def _alike(linked: sparse.csr_array) -> pd.DataFrame:
    member = sparse.csr_array(linked != 0, dtype=np.float32)
    source, target, weight = similar(member, "jaccard", MOST_ALIKE, LEAST_ALIKE)
    return pd.DataFrame({"source": source, "target": target, "weight": weight.astype(np.float64)})


def _edges(kg: KnowledgeGraph, relation: Relation, genes: Sequence[str]) -> pd.DataFrame:
    code = pd.Index(genes, dtype=object).get_indexer(kg.nodes("gene").index)
    edges = kg.edge_arrays(relation)
    ends = {side: code[edges[side]] for side in ("source", "target")}
    table = pd.DataFrame(ends | {"weight": edges["weight"].abs().to_numpy(np.float64)})
    table = table[(table["source"] >= 0) & (table["target"] >= 0)]
    back = table.rename(columns={"source": "target", "target": "source"})
    return _united([table] if relation[1] in SIMILARITIES else [table, back])


def _united(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Each pair once, with its largest weight."""
    empty = pd.DataFrame({"source": [], "target": [], "weight": []}, dtype=np.int64)
    return pd.concat([empty, *tables]).groupby(["source", "target"], as_index=False)["weight"].max()


def _heaviest(edges: pd.DataFrame, n: int) -> pd.DataFrame:
    """Of edges equally heavy those from the first sources count."""
    return edges.sort_values(["target", "weight", "source"], ascending=[True, False, True]).groupby("target").head(n)


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
