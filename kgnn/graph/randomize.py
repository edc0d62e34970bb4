"""Random changes of a graph, the controls that ask whether the knowledge helped. Tables in, tables out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.edges import Pairs, Relation, collapse, concat, linked_pairs, pair_ends, reverse, table_of, tidy_origins
from kgnn.graph.operations import recoded
from kgnn.graph.tables import GraphTables
from kgnn.parts import check_number


def rewire(graph: GraphTables, seed: int, swaps: int = 10) -> GraphTables:
    """Scramble who is linked to whom, keeping every node's in- and out-degree in every relation.

    In each round the edges of a relation are paired at random and the two edges of a pair exchange their
    targets, unless that would make a self loop or an edge that exists already (Maslov & Sneppen, Science 2002).
    An edge keeps its source, weight, sign, confidence and origins. A symmetric relation (each edge stands in both
    directions) stays symmetric: its pairs exchange an end each.

    Args:
        seed: same seed, same graph.
        swaps: proposed swaps an edge.
    """
    check_number(0 if seed is None else seed, "seed", 0, whole=True)
    check_number(swaps, "swaps", 0)
    rng = np.random.default_rng(seed)
    edges = {}
    for relation, table in graph.edges.items():
        pairs = linked_pairs(relation, table)
        swap = _swap_either_end if pairs.symmetric else _swap_targets
        edges[relation] = _moved(table, pairs, *swap(*pair_ends(pairs.keys), relation, swaps, rng))
    return graph.derive("rewire", edges=edges, seed=seed, swaps=swaps)


def _swap_targets(
    source: np.ndarray, target: np.ndarray, relation: Relation, swaps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    n_targets = int(target.max(initial=0)) + 1
    for _ in range(2 * swaps):  # a round pairs every edge once, that is half a swap an edge
        first, second = _random_pairs(len(source), rng)
        new = (source[first] * n_targets + target[second], source[second] * n_targets + target[first])
        good = _fresh(new, source * n_targets + target)
        if relation[0] == relation[2]:
            good &= (source[first] != target[second]) & (source[second] != target[first])
        a, b = first[good], second[good]
        target[a], target[b] = target[b], target[a]
    return source, target


def _swap_either_end(
    a: np.ndarray, b: np.ndarray, relation: Relation, swaps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Swap ends of unordered pairs a–b, c–d to a–d, c–b."""
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
    return a, b


def _random_pairs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(n)
    return order[: n // 2], order[n // 2 : 2 * (n // 2)]


def _fresh(new: tuple[np.ndarray, np.ndarray], present: np.ndarray) -> np.ndarray:
    """Which swaps make two edges that neither exist nor are made by another swap of the round."""
    proposed = np.concatenate(new)
    _, where, times = np.unique(proposed, return_inverse=True, return_counts=True)
    bad = np.isin(proposed, present) | (times[where] > 1)
    return ~(bad[: len(new[0])] | bad[len(new[0]) :])


def drop_edges(graph: GraphTables, share: float, seed: int) -> GraphTables:
    """Remove a random share of each relation's pairs; in a symmetric relation both directions go together.

    Args:
        share: of the pairs, from 0 to 1, rounded to whole pairs.
        seed: same seed, same graph.
    """
    edges = {}
    for relation, table, pairs, chosen, _ in _chosen_pairs(graph, share, seed):
        gone = np.zeros(len(pairs.keys), bool)
        gone[chosen] = True
        kept = tidy_origins(table[~gone[pairs.of_row]].reset_index(drop=True))
        if len(kept):
            edges[relation] = kept
    return graph.derive("drop_edges", edges=edges, share=share, seed=seed)


def add_random_edges(graph: GraphTables, share: float, seed: int, *, origin: str = "random") -> GraphTables:
    """Link random pairs of nodes that the relation does not link yet.

    Each new edge takes the weight, sign and confidence of an edge of the relation drawn at random, and the origin
    `origin`, so that `drop_source` takes them out again. A symmetric relation gets both directions of a pair.

    Args:
        share: new pairs as a share of each relation's linked pairs, 0 or more.
        seed: same seed, same graph.

    Raises:
        InputError: a negative share, or fewer unlinked pairs than asked for.
    """
    check_number(share, "share", 0)
    check_number(0 if seed is None else seed, "seed", 0, whole=True)
    rng = np.random.default_rng(seed)
    edges = {}
    for relation, table in graph.edges.items():
        n_source, n_target = len(graph.nodes[relation[0]]), len(graph.nodes[relation[2]])
        same = relation[0] == relation[2]
        present, _, symmetric = linked_pairs(relation, table)
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
        if wanted:
            like = table.iloc[rng.integers(len(table), size=wanted)]
            values = [like[name].to_numpy() for name in ("weight", "sign", "confidence")]
            added = table_of(*pair_ends(new[:wanted]), origin, *values)
            table = collapse(concat([table, added, *([reverse(added)] if symmetric else [])]), drop_loops=False)[0]
        edges[relation] = table
    return graph.derive("add_random_edges", edges=edges, share=share, seed=seed, origin=origin)


def randomize_edges(graph: GraphTables, share: float, seed: int) -> GraphTables:
    """Make a random share of each relation's pairs random: both ends are drawn anew among the nodes of their type.

    A drawn edge keeps its weight, sign, confidence and origins; a symmetric relation stays symmetric. The number of
    pairs stays, unless a relation is too dense to find free pairs for all.

    Args:
        share: of the pairs, from 0 to 1, rounded to whole pairs.
        seed: same seed, same graph.
    """
    edges = {}
    for relation, table, pairs, moving, rng in _chosen_pairs(graph, share, seed):
        n_source, n_target = len(graph.nodes[relation[0]]), len(graph.nodes[relation[2]])
        source, target = pair_ends(pairs.keys)
        taken = set(np.delete(pairs.keys, moving).tolist())
        for _ in range(20):
            if not len(moving):
                break
            a, b = rng.integers(n_source, size=len(moving)), rng.integers(n_target, size=len(moving))
            a, b = (np.minimum(a, b), np.maximum(a, b)) if pairs.symmetric else (a, b)
            left = []
            for edge, x, y in zip(moving.tolist(), a.tolist(), b.tolist(), strict=True):
                key = (x << 32) | y
                if key in taken or (relation[0] == relation[2] and x == y):
                    left.append(edge)
                    continue
                taken.add(key)
                source[edge], target[edge] = x, y
            moving = np.array(left, dtype=np.int64)
        edges[relation] = _moved(table, pairs, source, target)
    return graph.derive("randomize_edges", edges=edges, share=share, seed=seed)


def permute(graph: GraphTables, seed: int) -> GraphTables:
    """Deal the names of the nodes anew within each node type: the same graph, of other nodes.

    Edges and features go along with the node, the columns of the node table (a label, the species) stay with the name.
    The graph is isomorphic to the old one: all that is lost is whom the knowledge is about.

    Args:
        seed: same seed, same graph.
    """
    check_number(0 if seed is None else seed, "seed", 0, whole=True)
    rng = np.random.default_rng(seed)
    code = {kind: rng.permutation(len(table)).astype(np.int32) for kind, table in graph.nodes.items()}
    old = {kind: np.argsort(new) for kind, new in code.items()}  # whose edges and features a name gets
    features = graph.take_nodes(old)[1]
    return graph.derive("permute", edges=recoded(graph, code), features=features, seed=seed)


def permute_features(graph: GraphTables, seed: int) -> GraphTables:
    """Deal each feature anew to the nodes that have it, whole rows; edges stay.

    Args:
        seed: same seed, same graph.
    """

    def deal(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        some = np.flatnonzero(np.isfinite(matrix).any(axis=1))
        dealt = matrix.copy()
        dealt[some] = matrix[rng.permutation(some)]
        return dealt

    return _with_random_features(graph, "permute_features", deal, seed)


def randomize_features(graph: GraphTables, seed: int) -> GraphTables:
    """Put normal noise in the place of features, of the same mean and standard deviation a channel; edges stay.

    What is missing stays missing.

    Args:
        seed: same seed, same graph.
    """

    def noise(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        known = np.isfinite(matrix)
        number = known.sum(axis=0).clip(1)
        mean = np.where(known, matrix, 0).sum(axis=0, dtype=np.float64) / number
        spread = np.sqrt(np.where(known, np.square(matrix - mean), 0).sum(axis=0) / number)
        return np.where(known, mean + spread * rng.standard_normal(matrix.shape), matrix)

    return _with_random_features(graph, "randomize_features", noise, seed)


def _with_random_features(
    graph: GraphTables, operation: str, change: Callable[[np.ndarray, np.random.Generator], np.ndarray], seed: int
) -> GraphTables:
    check_number(0 if seed is None else seed, "seed", 0, whole=True)
    rng = np.random.default_rng(seed)
    features = {
        kind: {name: change(matrix, rng) for name, matrix in matrices.items()}
        for kind, matrices in graph.features.items()
    }
    return graph.derive(operation, features=features, seed=seed)


def _moved(table: pd.DataFrame, pairs: Pairs, source: np.ndarray, target: np.ndarray) -> pd.DataFrame:
    """Move rows to the new ends [pairs] of their pairs, turned round where a row runs against its pair."""
    forward = table["source"].to_numpy() == (pairs.keys >> 32)[pairs.of_row]
    source, target = source[pairs.of_row].astype(np.int32), target[pairs.of_row].astype(np.int32)
    table = table.assign(source=np.where(forward, source, target), target=np.where(forward, target, source))
    return collapse(table, drop_loops=False)[0]


def _chosen_pairs(
    graph: GraphTables, share: float, seed: int
) -> Iterator[tuple[Relation, pd.DataFrame, Pairs, np.ndarray, np.random.Generator]]:
    """For each relation: its table, its pairs, a random share of the pairs, and the generator."""
    check_number(share, "share", 0, 1)
    check_number(0 if seed is None else seed, "seed", 0, whole=True)
    rng = np.random.default_rng(seed)
    for relation, table in graph.edges.items():
        pairs = linked_pairs(relation, table)
        n = len(pairs.keys)
        yield relation, table, pairs, rng.permutation(n)[: round(share * n)], rng
