"""Operations that make a new `KnowledgeGraph` from old ones."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.knowledge_graph import EDGE_COLUMNS, KnowledgeGraph, Relation


def merge(graphs: Sequence[KnowledgeGraph]) -> KnowledgeGraph:
    """Unite graphs; see `KnowledgeGraph.merge`.

    Node order is that of first appearance. Where two graphs describe the same node, the first one's values
    stand and the later ones fill what is missing. The same pair from the same origin in two graphs merges like
    a duplicate row; from different origins both stay.
    """
    if not graphs:
        raise InputError("nothing to merge: give at least one KnowledgeGraph")
    nodes: dict[str, pd.DataFrame] = {}
    for graph in graphs:
        for kind, table in graph._nodes.items():
            nodes[kind] = table if kind not in nodes else _merge_nodes(nodes[kind], table)
    relations = list(dict.fromkeys(relation for graph in graphs for relation in graph.relations))
    edges = {
        relation: pd.concat(
            [graph.edges(relation, by_origin=True) for graph in graphs if relation in graph._edges],
            ignore_index=True,
        )
        for relation in relations
    }
    return KnowledgeGraph(nodes, edges, [record for graph in graphs for record in graph.account])


def _merge_nodes(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    new = second.index.difference(first.index, sort=False)
    index = pd.Index(first.index.append(new), name="name")
    columns = list(dict.fromkeys([*first.columns, *second.columns]))
    result = pd.DataFrame(index=index)
    for column in columns:
        parts = [table[column].reindex(index) for table in (first, second) if column in table]
        result[column] = parts[0] if len(parts) == 1 else parts[0].where(parts[0].notna(), parts[1])
    return result


def subset(graph: KnowledgeGraph, names: Iterable[str], node_type: str) -> KnowledgeGraph:
    """Keep some nodes of a type; see `KnowledgeGraph.subset`."""
    wanted = pd.Index(list(dict.fromkeys(names)), dtype=object)
    table = graph.nodes(node_type)
    kept = wanted[wanted.isin(table.index)]
    if not len(kept):
        examples = ", ".join(map(str, wanted[:3])) or "none given"
        has = ", ".join(map(str, table.index[:3]))
        raise InputError(
            f"none of the {len(wanted)} names ({examples}) is a {node_type} of the graph ({has}); "
            "check species and gene namespace"
        )
    new_code = np.full(len(table), -1, dtype=np.int32)
    new_code[table.index.get_indexer(kept)] = np.arange(len(kept), dtype=np.int32)
    edges = {}
    for relation, rows in graph._edges.items():
        rows = rows.copy()
        for column, kind in (("source", relation[0]), ("target", relation[2])):
            if kind == node_type:
                rows[column] = new_code[rows[column]]
        rows = rows[(rows["source"] >= 0) & (rows["target"] >= 0)]
        if len(rows):
            edges[relation] = rows.sort_values(["source", "target", "origin"], kind="stable", ignore_index=True)
    return KnowledgeGraph._from_parts(graph._nodes | {node_type: table.loc[kept]}, edges, graph.account)


def rewire(graph: KnowledgeGraph, seed: int, swaps: int = 10) -> KnowledgeGraph:
    """Degree-preserving random graph: the control that asks whether the knowledge helped or only its shape.

    In each round the edges of a relation are paired at random and the two edges of a pair exchange their
    targets, unless that would make a self loop or an edge that exists already (Maslov & Sneppen, Science 2002).
    Every node keeps its number of incoming and outgoing edges in every relation; an edge keeps its source,
    weight, sign and origins.
    """
    rng = np.random.default_rng(seed)
    edges = {}
    for relation, rows in graph._edges.items():
        pair, pair_of_row = np.unique(rows[["source", "target"]].to_numpy(np.int64), axis=0, return_inverse=True)
        targets = _swap_targets(pair[:, 0], pair[:, 1].copy(), relation, swaps, rng)
        rows = rows.assign(target=targets[pair_of_row.ravel()].astype(np.int32))
        edges[relation] = rows.sort_values(["source", "target", "origin"], kind="stable", ignore_index=True)
        edges[relation] = edges[relation][EDGE_COLUMNS]
    return KnowledgeGraph._from_parts(graph._nodes, edges, graph.account)


def _swap_targets(
    source: np.ndarray, target: np.ndarray, relation: Relation, swaps: int, rng: np.random.Generator
) -> np.ndarray:
    n_targets = int(target.max(initial=0)) + 1
    for _ in range(2 * swaps):  # a round pairs every edge once, that is half a swap an edge
        order = rng.permutation(len(source))
        half = len(order) // 2
        first, second = order[:half], order[half : 2 * half]
        proposed = np.concatenate(
            [source[first] * n_targets + target[second], source[second] * n_targets + target[first]]
        )
        present = np.isin(proposed, source * n_targets + target)
        _, where, times = np.unique(proposed, return_inverse=True, return_counts=True)
        bad = present | (times[where] > 1)
        if relation[0] == relation[2]:
            loops = np.concatenate([source[first] == target[second], source[second] == target[first]])
            bad |= loops
        good = ~(bad[:half] | bad[half:])
        a, b = first[good], second[good]
        target[a], target[b] = target[b], target[a]
    return target
