"""Random changes of a graph, the controls that ask whether the knowledge helped. Each is a method of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.edges import (
    Relation,
    collapse,
    concat,
    is_symmetric,
    pair_keys,
    table_of,
    tidy_origins,
    unordered_pairs,
)

if TYPE_CHECKING:
    from kgnn.graph.knowledge_graph import KnowledgeGraph


def rewire(self: KnowledgeGraph, seed: int, swaps: int = 10) -> KnowledgeGraph:
    """Scramble who is linked to whom, keeping every node's in- and out-degree in every relation.

    In each round the edges of a relation are paired at random and the two edges of a pair exchange their
    targets, unless that would make a self loop or an edge that exists already (Maslov & Sneppen, Science 2002).
    An edge keeps its source, weight, sign, confidence and origins. A symmetric relation (each edge stands in both
    directions) stays symmetric: its pairs exchange an end each.

    Args:
        seed: same seed, same graph.
        swaps: proposed swaps an edge.
    """
    rng = np.random.default_rng(seed)
    edges = {}
    for relation, table in self._edges.items():
        if relation[0] == relation[2] and is_symmetric(table):
            source, target = _swap_undirected(table, swaps, rng)
        else:
            source = table["source"].to_numpy().astype(np.int64)
            pair, of_row = np.unique(pair_keys(table), return_inverse=True)
            ends = _swap_targets(pair >> 32, pair & 0xFFFFFFFF, relation, swaps, rng)
            target = ends[of_row]
        table = table.assign(source=source.astype(np.int32), target=target.astype(np.int32))
        edges[relation] = collapse(table, drop_loops=False)[0]
    return self._derive("rewire", edges=edges, seed=seed, swaps=swaps)


def _swap_targets(
    source: np.ndarray, target: np.ndarray, relation: Relation, swaps: int, rng: np.random.Generator
) -> np.ndarray:
    target = target.copy()
    n_targets = int(target.max(initial=0)) + 1
    for _ in range(2 * swaps):  # a round pairs every edge once, that is half a swap an edge
        first, second = _random_pairs(len(source), rng)
        new = (source[first] * n_targets + target[second], source[second] * n_targets + target[first])
        good = _fresh(new, source * n_targets + target)
        if relation[0] == relation[2]:
            good &= (source[first] != target[second]) & (source[second] != target[first])
        a, b = first[good], second[good]
        target[a], target[b] = target[b], target[a]
    return target


def _swap_undirected(table: pd.DataFrame, swaps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Swap ends of unordered pairs a–b, c–d to a–d, c–b; return the new ends of every row."""
    pair, of_row = unordered_pairs(table)
    a, b = pair >> 32, pair & 0xFFFFFFFF
    forward = table["source"].to_numpy() == a[of_row]
    n = int(b.max(initial=0)) + 1
    for _ in range(2 * swaps):
        first, second = _random_pairs(len(a), rng)
        turn = rng.random(len(second)) < 0.5  # either end of the second pair may be the one that goes
        c, d = np.where(turn, b[second], a[second]), np.where(turn, a[second], b[second])
        x, y = a[first], b[first]
        new = (np.minimum(x, d) * n + np.maximum(x, d), np.minimum(c, y) * n + np.maximum(c, y))
        good = _fresh(new, np.minimum(a, b) * n + np.maximum(a, b)) & (x != d) & (c != y)
        i, j = first[good], second[good]
        a[i], b[i], a[j], b[j] = x[good], d[good], c[good], y[good]
    return np.where(forward, a[of_row], b[of_row]), np.where(forward, b[of_row], a[of_row])


def _random_pairs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(n)
    return order[: n // 2], order[n // 2 : 2 * (n // 2)]


def _fresh(new: tuple[np.ndarray, np.ndarray], present: np.ndarray) -> np.ndarray:
    """Which swaps make two edges that neither exist nor are made by another swap of the round."""
    proposed = np.concatenate(new)
    _, where, times = np.unique(proposed, return_inverse=True, return_counts=True)
    bad = np.isin(proposed, present) | (times[where] > 1)
    return ~(bad[: len(new[0])] | bad[len(new[0]) :])


def drop_edges(self: KnowledgeGraph, share: float, seed: int) -> KnowledgeGraph:
    """Remove a random share of each relation's pairs; in a symmetric relation both directions go together.

    Args:
        share: of the pairs, from 0 to 1, rounded to whole pairs.
        seed: same seed, same graph.
    """
    edges = {}
    for relation, table, pair, of_row, chosen, _ in _chosen_pairs(self, share, seed):
        gone = np.zeros(len(pair), bool)
        gone[chosen] = True
        kept = tidy_origins(table[~gone[of_row]].reset_index(drop=True))
        if len(kept):
            edges[relation] = kept
    return self._derive("drop_edges", edges=edges, share=share, seed=seed)


def add_random_edges(self: KnowledgeGraph, share: float, seed: int, *, origin: str = "random") -> KnowledgeGraph:
    """Link random pairs of nodes that the relation does not link yet.

    Each new edge takes the weight, sign and confidence of an edge of the relation drawn at random, and the origin
    `origin`, so that `drop_source` takes them out again. A symmetric relation gets both directions of a pair.

    Args:
        share: new pairs as a share of each relation's linked pairs, 0 or more.
        seed: same seed, same graph.

    Raises:
        InputError: a negative share, or fewer unlinked pairs than asked for.
    """
    if share < 0:
        raise InputError(f"share {share} is negative")
    rng = np.random.default_rng(seed)
    edges = {}
    for relation, table in self._edges.items():
        n_source, n_target = len(self._nodes[relation[0]]), len(self._nodes[relation[2]])
        same = relation[0] == relation[2]
        symmetric = same and is_symmetric(table)
        present, _ = _pairs(relation, table)
        wanted = round(share * len(present))
        room = n_source * n_target - n_source * same
        if wanted > (room // 2 if symmetric else room) - len(present):
            raise InputError(f"{'–'.join(relation)} has no room for {wanted} more edges; lower the share")
        new = np.array([], np.int64)
        while len(new) < wanted:
            a, b = rng.integers(n_source, size=2 * wanted), rng.integers(n_target, size=2 * wanted)
            if symmetric:
                a, b = np.minimum(a, b), np.maximum(a, b)
            keys = ((a << 32) | b)[(a != b) | (not same)]
            new = np.concatenate([new, keys[~np.isin(keys, present)]])
            _, first = np.unique(new, return_index=True)
            new = new[np.sort(first)]
        source, target = new[:wanted] >> 32, new[:wanted] & 0xFFFFFFFF
        if wanted:
            like = table.iloc[rng.integers(len(table), size=wanted)]
            added = table_of(source, target, origin, *(like[c].to_numpy() for c in ("weight", "sign", "confidence")))
            back = added.assign(source=added["target"], target=added["source"])
            table = collapse(concat([table, added, *([back] if symmetric else [])]), drop_loops=False)[0]
        edges[relation] = table
    return self._derive("add_random_edges", edges=edges, share=share, seed=seed, origin=origin)


def randomize_edges(self: KnowledgeGraph, share: float, seed: int) -> KnowledgeGraph:
    """Make a random share of each relation's pairs random: both ends are drawn anew among the nodes of their type.

    A drawn edge keeps its weight, sign, confidence and origins; a symmetric relation stays symmetric. The number of
    pairs stays, unless a relation is too dense to find free pairs for all.

    Args:
        share: of the pairs, from 0 to 1, rounded to whole pairs.
        seed: same seed, same graph.
    """
    edges = {}
    for relation, table, pair, of_row, moving, rng in _chosen_pairs(self, share, seed):
        n_source, n_target = len(self._nodes[relation[0]]), len(self._nodes[relation[2]])
        symmetric = relation[0] == relation[2] and is_symmetric(table)
        source, target = pair >> 32, pair & 0xFFFFFFFF
        taken = set(np.delete(pair, moving).tolist())
        for _ in range(20):
            if not len(moving):
                break
            a, b = rng.integers(n_source, size=len(moving)), rng.integers(n_target, size=len(moving))
            a, b = (np.minimum(a, b), np.maximum(a, b)) if symmetric else (a, b)
            left = []
            for edge, x, y in zip(moving.tolist(), a.tolist(), b.tolist(), strict=True):
                key = (x << 32) | y
                if key in taken or (relation[0] == relation[2] and x == y):
                    left.append(edge)
                    continue
                taken.add(key)
                source[edge], target[edge] = x, y
            moving = np.array(left, dtype=np.int64)
        forward = table["source"].to_numpy() == (pair >> 32)[of_row]
        ends = np.where(forward, source[of_row], target[of_row]), np.where(forward, target[of_row], source[of_row])
        table = table.assign(source=ends[0].astype(np.int32), target=ends[1].astype(np.int32))
        edges[relation] = collapse(table, drop_loops=False)[0]
    return self._derive("randomize_edges", edges=edges, share=share, seed=seed)


def _chosen_pairs(
    graph: KnowledgeGraph, share: float, seed: int
) -> Iterator[tuple[Relation, pd.DataFrame, np.ndarray, np.ndarray, np.ndarray, np.random.Generator]]:
    """For each relation: its table, its pairs, each row's pair, a random share of the pairs, and the generator."""
    if not 0 <= share <= 1:
        raise InputError(f"share {share} is not between 0 and 1")
    rng = np.random.default_rng(seed)
    for relation, table in graph._edges.items():
        pair, of_row = _pairs(relation, table)
        yield relation, table, pair, of_row, rng.permutation(len(pair))[: round(share * len(pair))], rng


def _pairs(relation: Relation, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the linked pairs and each row's pair; unordered where the relation is symmetric."""
    if relation[0] == relation[2] and is_symmetric(table):
        return unordered_pairs(table)
    return np.unique(pair_keys(table), return_inverse=True)
