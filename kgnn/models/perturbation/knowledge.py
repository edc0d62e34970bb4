"""What a graph says of genes: a source a relation, origin and direction, node features, walks over the whole graph."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from kgnn.graph import KnowledgeGraph
from kgnn.graph.edges import is_similarity
from kgnn.graph.effects import EFFECT
from kgnn.nn.condition_kernel import Rows, Source
from kgnn.ops import Adjacency, spmm

GO_ON, STEPS = 0.7, 6  # of a walk
LEAST = 1e-4  # of a walk's share at a node; less says nothing
AT_ONCE = 32  # walks: so many stay in a core's cache
RIDGE, TEACHERS = 1.0, 1000  # of features completed from walks; genes that they are learned from, at most


def sources(kg: KnowledgeGraph | None, nodes: pd.Index) -> list[Source]:
    """All that the graph says of `nodes`, its genes and others that can be perturbed.

    A gene's row in a relation: the nodes of any type that it is linked to, weight × sign × log(N / size), N the genes
    in the relation and size those linked to that node, scaled to length 1; directed relations of genes both ways apart;
    in a similarity of genes the gene itself is among its neighbours. Then the graph's node features, centred, where a
    gene has none `Completed` from its relatives. Then `Walks`. Estimated effects are left out: they say what a gene
    does, not whom it is like.
    """
    found: list[Source] = []
    if kg is None:
        return found
    names = {kind: kg.nodes(kind).index for kind in kg.node_types} | {"gene": nodes}
    for link in links(kg, nodes):
        if "gene" in (link.source, link.target):
            found += _of_genes(link, names)
    walks = Walks(kg, nodes)
    found += [Completed(Rows(name, sparse.csr_array(rows)), walks) for name, rows in features(kg, nodes).items()]
    found += [walks]
    return [source for source in found if source.known.any()]


class Links(NamedTuple):
    """What one origin says in one relation: weight × sign (1 where there is none), [sources, targets] of two types."""

    name: str
    source: str
    target: str
    matrix: sparse.csr_array
    similarity: bool


def links(kg: KnowledgeGraph, nodes: pd.Index) -> list[Links]:
    """All relations, each origin by itself, save for estimated effects, of the genes in `nodes`, numbered as there."""
    code = {kind: np.arange(len(kg.nodes(kind))) for kind in kg.node_types}
    sizes = {kind: len(number) for kind, number in code.items()}
    code["gene"], sizes["gene"] = nodes.get_indexer(kg.nodes("gene").index), len(nodes)
    found = []
    for relation in kg.relations:
        table = kg.tables.table(relation)
        source, name, target = relation
        if relation == EFFECT:
            continue
        similarity = is_similarity(relation, table)
        for origin, edges in table.groupby("origin", observed=True):
            ends = np.stack([code[source][edges["source"]], code[target][edges["target"]]])
            value = edges["weight"].abs().to_numpy(np.float64) * np.where(edges["sign"] < 0, -1.0, 1.0)
            there = (ends >= 0).all(axis=0)
            matrix = sparse.csr_array((value[there], ends[:, there]), (sizes[source], sizes[target]))
            one = len(edges) == len(table)
            found.append(Links(name if one else f"{name} ({origin})", source, target, matrix, similarity))
    return found


def _of_genes(link: Links, names: dict[str, pd.Index]) -> list[Rows]:
    name, member = link.name, link.matrix
    if link.source != "gene":
        return [Rows(f"{name} {link.source}", rare_rows(member.T), names[link.source])]
    if link.target != "gene":
        return [Rows(f"{name} {link.target}", rare_rows(member), names[link.target])]
    if link.similarity:
        both = _mutual(member)
        return [Rows(name, rare_rows(both + sparse.diags_array(both.max(axis=1).toarray().ravel())), names["gene"])]
    targets, regulators = rare_rows(member), rare_rows(member.T)
    return [Rows(f"{name}, targets", targets, names["gene"]), Rows(f"{name}, regulators", regulators, names["gene"])]


def _mutual(similarity: sparse.csr_array) -> sparse.csr_array:
    """The k most similar of each gene need not be mutual."""
    return similarity.maximum(similarity.T)


def rare_rows(member: sparse.csr_array) -> sparse.csr_array:
    """From links [genes, sets] to features: value × log(N / size), rows of length 1.

    N: genes in any set; sets of one gene or of all say nothing. A gene that the source does not know has a row of
    zeros, so that k(g, g) is 1 or 0.
    """
    member = sparse.csr_array(member, dtype=np.float64)
    member.eliminate_zeros()
    return _unit(sparse.csr_array(member @ sparse.diags_array(rarity(member))))


def rarity(member: sparse.csr_array) -> np.ndarray:
    """log(N / size) of each set of [genes, sets], 0 for sets of one gene."""
    size = np.bincount(member.indices, minlength=member.shape[1])
    known = max(int((np.diff(member.indptr) > 0).sum()), 1)
    return np.where(size > 1, np.log(known / np.maximum(size, 1)), 0.0).clip(0)


def _unit(rows: sparse.csr_array) -> sparse.csr_array:
    rows.eliminate_zeros()
    length = np.sqrt(rows.multiply(rows).sum(axis=1))
    return sparse.csr_array(sparse.diags_array(1 / np.where(length > 0, length, 1)) @ rows)


def features(kg: KnowledgeGraph, nodes: pd.Index) -> dict[str, np.ndarray]:
    """The graph's gene features over `nodes`, centred, rows of length 1: [nodes, channels] float64 a kind of features;
    0 where a node has none."""
    found = {}
    for name, matrix in kg.features("gene").items():
        row = nodes.get_indexer(kg.nodes("gene").index)
        known = np.flatnonzero(np.isfinite(matrix).all(1) & (row >= 0))
        if len(known):
            centred = matrix[known].astype(np.float64) - matrix[known].mean(0, dtype=np.float64)
            placed = np.zeros((len(nodes), matrix.shape[1]))
            placed[row[known]] = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
            found[name] = placed
    return found


class Walks:
    """Where random walks over the whole typed graph that start at a gene are, made for genes as they are asked for.

    x = (1 − α) Σ_k αᵏ e P_k up to `STEPS` steps: at each node one of the relations and directions that know it, all
    alike, then a link by its weight; into a set also by log(N / size), so that a common one is hardly entered. A row:
    log(1 + 1000 x), length 1: near and far nodes count, not the start alone. Source: random walk with restart (Tong
    et al. 2006), over types as in a heterogeneous network (Li & Patra, Bioinformatics 2010).
    """

    name = "walks"

    def __init__(self, kg: KnowledgeGraph, nodes: pd.Index) -> None:
        start, end, share = (torch.from_numpy(part) for part in sparse.find(transitions(kg, nodes)))
        self.labels = [*nodes, *(name for kind in kg.node_types if kind != "gene" for name in kg.nodes(kind).index)]
        self.step = Adjacency(torch.stack([start, end]).long(), share, n_nodes=len(self.labels))
        self.known = np.bincount(start, minlength=len(self.labels))[: len(nodes)] > 0
        self._at = np.full(len(nodes), -1)
        self._made = sparse.csr_array((0, len(self.labels)))

    def rows(self, genes: np.ndarray) -> sparse.csr_array:
        """[genes, nodes of all types]"""
        new = np.unique(genes[self._at[genes] < 0])
        if len(new):
            parts = [self._walk(new[first : first + AT_ONCE]) for first in range(0, len(new), AT_ONCE)]
            self._at[new] = self._made.shape[0] + np.arange(len(new))
            self._made = sparse.csr_array(sparse.vstack([self._made, *parts], format="csr"))
        return self._made[self._at[genes]]

    def _walk(self, genes: np.ndarray) -> sparse.csr_array:
        """Of at most `AT_ONCE` genes; always that many columns, so that a gene's bits do not depend on the others."""
        here = torch.zeros(len(self.labels), AT_ONCE)
        here[genes, torch.arange(len(genes))] = torch.from_numpy(self.known[genes]).float()
        total = (1 - GO_ON) * here
        for _ in range(STEPS):
            here = GO_ON * spmm(self.step, here)
            total += (1 - GO_ON) * here
        rows = sparse.csr_array(total.masked_fill_(total < LEAST, 0)[:, : len(genes)].T.numpy())
        rows.data = np.log1p(1000 * rows.data)
        return _unit(rows)


class Completed:
    """Features, and where a gene has none, what its relatives in the graph have: kernel ridge on the walks.

    A row that is predicted is as short as little is told by it, so that two such genes are hardly alike. Without it a
    source that knows the training genes would take the say from all others where it knows nothing (as an effect of
    another screen in which a gene was never perturbed).
    """

    def __init__(self, features: Rows, walks: Walks) -> None:
        self.name, self.labels = features.name, features.labels
        self.has = self.known = features.known
        if (self.has & walks.known).any():
            self.known = self.has | walks.known
        self._features, self._walks = features, walks

    @cached_property
    def _solved(self) -> tuple[np.ndarray, np.ndarray]:
        """Genes that have features and are walked from, and (K + λI)⁻¹ F of them."""
        genes = np.flatnonzero(self.has & self._walks.known)
        if len(genes) > TEACHERS:
            genes = np.sort(np.random.default_rng(0).choice(genes, TEACHERS, replace=False))
        walked = self._walks.rows(genes)
        kernel = (walked @ walked.T).toarray() + RIDGE * np.eye(len(genes))
        return genes, np.linalg.solve(kernel, self._features.rows(genes).toarray())

    def rows(self, genes: np.ndarray) -> sparse.csr_array:
        """[genes, features]"""
        found, lacking = self._features.rows(genes), ~self.has[genes]
        if not (lacking & self.known[genes]).any():
            return found
        teachers, solved = self._solved
        alike = (self._walks.rows(genes[lacking]) @ self._walks.rows(teachers).T).toarray()
        completed = sparse.vstack([found, sparse.csr_array(alike @ solved)], format="csr")
        row = np.arange(len(genes))
        row[lacking] = len(genes) + np.arange(lacking.sum())
        return completed[row]


def transitions(kg: KnowledgeGraph, nodes: pd.Index) -> sparse.csr_array:
    """P [nodes of all types, the same], genes first; rows sum to 1, or to 0 where nothing is linked."""
    start, n = {"gene": 0}, len(nodes)
    for kind in kg.node_types:
        if kind != "gene":
            start[kind], n = n, n + len(kg.nodes(kind))
    ways, known = [], np.zeros(n)
    for link in links(kg, nodes):
        weights = abs(link.matrix)
        both = [(weights, link.source, link.target), (weights.T, link.target, link.source)]
        for matrix, source, target in [(_mutual(weights), *both[0][1:])] if link.similarity else both:
            matrix = sparse.csr_array(matrix)
            if target != "gene":
                matrix = sparse.csr_array(matrix @ sparse.diags_array(rarity(matrix)))
            out = matrix.sum(axis=1)
            matrix = sparse.coo_array(sparse.diags_array(1 / np.where(out > 0, out, 1)) @ matrix)
            ends = matrix.row + start[source], matrix.col + start[target]
            ways.append(sparse.csr_array((matrix.data, ends), (n, n), dtype=np.float32))
            known[start[source] : start[source] + len(out)] += out > 0
    if not ways:
        return sparse.csr_array((n, n), dtype=np.float32)
    return sparse.csr_array(sparse.diags_array((1 / known.clip(1)).astype(np.float32)) @ sum(ways))
