"""Operations that change a graph's shape rather than choose from it: tables in, tables out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kgnn.errors import InputError
from kgnn.graph.edges import Relation, collapse, mirror, pair_keys
from kgnn.graph.edges import reverse as reverse_table
from kgnn.graph.operations import keep_edges, keep_nodes
from kgnn.graph.tables import GraphTables
from kgnn.names import all_named, listed
from kgnn.parts import check_number


def undirected(graph: GraphTables, *relations: Relation) -> GraphTables:
    """Add to each edge the same edge in the other direction, for relations within one node type (default: all).

    Where one source holds both directions already, each keeps its own weight and sign.
    """
    chosen = _chosen(graph, relations, lambda relation: relation[0] == relation[2])
    edges = {rel: mirror(table) if rel in chosen else table for rel, table in graph.edges.items()}
    return graph.derive("undirected", edges=edges, relations=["–".join(relation) for relation in chosen])


def reverse(graph: GraphTables, *relations: Relation) -> GraphTables:
    """Add to each relation its reverse, named `rev_…` as PyG's `ToUndirected` does (default: all relations).

    With it messages pass both ways between node types: `("family", "rev_in_family", "gene")`.
    """
    chosen = _chosen(graph, relations, lambda relation: not relation[1].startswith("rev_"))
    edges = dict(graph.edges)
    for source, name, target in chosen:
        back = collapse(reverse_table(graph.edges[source, name, target]), drop_loops=False)[0]
        edges[target, f"rev_{name}", source] = back
    return graph.derive("reverse", edges=edges, relations=["–".join(relation) for relation in chosen])


def _chosen(graph: GraphTables, relations: Sequence[Relation], default: Callable[[Relation], bool]) -> list[Relation]:
    for relation in relations:
        graph.table(relation)
    return [tuple(rel) for rel in relations] or [rel for rel in graph.edges if default(rel)]  # type: ignore[misc]


def nearest(graph: GraphTables, k: int, *relations: Relation) -> GraphTables:
    """Keep for each target node its `k` sources of largest weight (ties: first in node order) in each relation.

    A pair that several origins hold counts once, with its largest weight.
    """
    check_number(k, "k", 1, whole=True, hint="keep at least one edge a node")
    chosen = _chosen(graph, relations, lambda _: True)

    def choose(rel: Relation, table: pd.DataFrame) -> np.ndarray:
        if rel not in chosen:
            return np.ones(len(table), bool)
        pairs = graph.pairs(rel)
        source, target, weight = (pairs[name].to_numpy() for name in ("source", "target", "weight"))
        source, target, _ = heaviest(source, target, weight, k)
        kept = pair_keys(pd.DataFrame({"source": source, "target": target}))
        return np.isin(pair_keys(table), kept)

    return keep_edges(graph, choose, "nearest", k=k, relations=["–".join(relation) for relation in chosen])


def heaviest(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, k: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep for each target its `k` heaviest edges; ties go to the smaller source number."""
    order = np.lexsort((source, -weight, target))
    source, target, weight = source[order], target[order], weight[order]
    if k is not None:
        first = np.searchsorted(target, target)  # targets are sorted: where each one's edges begin
        keep = np.arange(len(target)) - first < k
        source, target, weight = source[keep], target[keep], weight[keep]
    return source, target, weight


def largest_component(graph: GraphTables) -> GraphTables:
    """Keep the largest set of nodes, of all types, that are linked whatever the edges' direction."""
    label = component_labels(graph)
    joined = np.concatenate(list(label.values()))
    if not len(joined):
        raise InputError("the graph has no nodes")
    largest = np.bincount(joined).argmax()
    return keep_nodes(graph, {kind: np.flatnonzero(x == largest) for kind, x in label.items()}, "largest_component")


def component_labels(graph: GraphTables) -> dict[str, np.ndarray]:
    """Number the weakly connected components over all relations: node type → number of each node's component."""
    sizes = [len(table) for table in graph.nodes.values()]
    start = dict(zip(graph.nodes, np.cumsum([0, *sizes]).tolist(), strict=False))
    ends = [
        (table["source"].to_numpy() + start[rel[0]], table["target"].to_numpy() + start[rel[2]])
        for rel, table in graph.edges.items()
    ]
    source, target = (np.concatenate([np.array([], np.int64), *(pair[side] for pair in ends)]) for side in (0, 1))
    n = sum(sizes)
    matrix = sparse.coo_array((np.ones(len(source), np.int8), (source, target)), shape=(n, n))
    _, label = connected_components(matrix.tocsr(), directed=False)
    return {kind: label[start[kind] : start[kind] + size] for kind, size in zip(graph.nodes, sizes, strict=True)}


def with_features(
    graph: GraphTables, name: str, values: pd.DataFrame | np.ndarray, node_type: str = "gene"
) -> GraphTables:
    """Add a node feature, such as an embedding or a promoter's k-mer profile.

    Args:
        name: what to call it; an old feature of that name is replaced.
        values: table indexed by node name (nodes without a row get NaN, rows without a node are passed over), or an
            array `[nodes, channels]` in node order.
        node_type: nodes that it belongs to.

    Raises:
        InputError: no name of the table is a node, or one stands twice; values that are no numbers; an array with
            another number of rows.
    """
    index = graph.node_table(node_type).index
    if isinstance(values, pd.DataFrame):
        values = values.set_axis(pd.Index(all_named(values.index, f"rows of the feature {name!r}"), dtype=object))
        if not values.index.is_unique:
            twice = values.index[values.index.duplicated()][0]
            raise InputError(f"{twice!r} stands twice among the rows of the feature {name!r}; give one row a node")
        if not values.index.isin(index).any():
            examples = ", ".join(map(str, values.index[:3]))
            raise InputError(
                f"none of the {len(values)} names ({examples}) of the feature {name!r} is a {node_type} of the graph"
            )
        for column, kind in values.dtypes.items():
            if not pd.api.types.is_numeric_dtype(kind):
                raise InputError(f"column {column!r} of the feature {name!r} holds {kind}, not numbers; leave it out")
        values = values.reindex(index).to_numpy(np.float32, na_value=np.nan)
    old = graph.features.get(node_type, {})
    return graph.derive("with_features", features=graph.features | {node_type: {**old, name: values}}, name=name)


def with_cells(graph: GraphTables, cells: Any, origin: str) -> GraphTables:
    """Note which cells a source was made from, so that fits and scores tell where held-out cells are among them.

    `load_coexpression`, `load_markers`, `estimate_effects` and a cell model's `gene_network` do it themselves; this is
    for edges and features that were learned elsewhere.

    Args:
        cells: AnnData, or the names of its cells. A hash of the names is kept (8 bytes a cell).
        origin: an origin of edges, or the name of a feature.

    Raises:
        InputError: no such source in the graph.
    """
    if origin not in graph.sources:
        raise InputError(
            f"no source or feature {origin!r} in the graph; it has {', '.join(sorted(graph.sources)) or 'none'}"
        )
    names: Iterable[str] = cells.obs_names if hasattr(cells, "obs_names") else listed(cells, "cells")
    return graph.made_from(origin, names)


def with_node_column(graph: GraphTables, column: str, value: Any, node_type: str = "gene") -> GraphTables:
    """Add a column to a node table: one value for all nodes (such as a species) or a mapping by name."""
    table = graph.node_table(node_type).copy()
    if isinstance(value, Mapping | pd.Series):
        value = table.index.map(dict(value))
    elif not isinstance(value, str) and hasattr(value, "__len__") and len(value) != len(table):
        raise InputError(f"{len(value)} values of {column!r} for {len(table)} {node_type} nodes; give one a node")
    table[column] = value
    return graph.derive("with_node_column", nodes=graph.nodes | {node_type: table}, column=column)
