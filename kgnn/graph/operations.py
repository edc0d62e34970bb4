"""Operations that unite graphs or choose from them: tables in, tables out. `KnowledgeGraph` has them as methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.edges import Relation, collapse, concat, replaced, sides, take, tidy_origins
from kgnn.graph.licences import allowed_sources, merged
from kgnn.graph.options import as_signs, check_measure, confidence_limit
from kgnn.graph.tables import GraphTables, united
from kgnn.names import all_named, as_names, listed
from kgnn.parts import check_number, is_number


def merge(graphs: Sequence[GraphTables]) -> GraphTables:
    """Unite graphs; see `KnowledgeGraph.merge`.

    Node order is that of first appearance. Where two graphs describe the same node, the first one's values
    stand and the later ones fill what is missing. The same pair from the same origin in two graphs merges like
    a duplicate row; from different origins both stay.

    Raises:
        InputError: no graph; a node that is of two species (see `join_species`).
    """
    if not graphs:
        raise InputError("nothing to merge: give at least one KnowledgeGraph")
    nodes: dict[str, pd.DataFrame] = {}
    for graph in graphs:
        for kind, table in graph.nodes.items():
            nodes[kind] = table if kind not in nodes else _merge_nodes(kind, nodes[kind], table)
    code = [{kind: nodes[kind].index.get_indexer(t.index) for kind, t in graph.nodes.items()} for graph in graphs]
    edges: dict[Relation, pd.DataFrame] = {}
    for relation in dict.fromkeys(relation for graph in graphs for relation in graph.edges):
        parts = [
            _recode(graph.edges[relation], relation, new)
            for graph, new in zip(graphs, code, strict=True)
            if relation in graph.edges
        ]
        edges[relation] = concat(parts)
    features: dict[str, dict[str, np.ndarray]] = {}
    for graph, new in zip(graphs, code, strict=True):
        for kind, matrices in graph.features.items():
            for name, matrix in matrices.items():
                _place(features.setdefault(kind, {}), name, matrix, new[kind], len(nodes[kind]))
    account = [record for graph in graphs for record in graph.account]
    history = [note for graph in graphs for note in graph.history]
    cells = united(graph.cells for graph in graphs)
    known = merged(graph.provenance for graph in graphs)
    return GraphTables.collapsed(nodes, edges, account, history, features, cells, known)


def _place(features: dict[str, np.ndarray], name: str, matrix: np.ndarray, rows: np.ndarray, n_nodes: int) -> None:
    old = features.get(name)
    if old is not None and old.shape[1] != matrix.shape[1]:
        raise InputError(f"feature {name!r} has {old.shape[1]} channels in one graph and {matrix.shape[1]} in another")
    whole = np.full((n_nodes, matrix.shape[1]), np.nan, np.float32) if old is None else old
    missing = np.isnan(whole[rows])
    whole[rows] = np.where(missing, matrix, whole[rows])
    features[name] = whole


def _recode(table: pd.DataFrame, relation: Relation, code: Mapping[str, np.ndarray]) -> pd.DataFrame:
    ends = [(side, code[kind].astype(np.int32)) for side, kind in sides(relation) if kind in code]
    return replaced(table, **{side: new[table[side]] for side, new in ends})


def _merge_nodes(kind: str, first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    new = second.index.difference(first.index, sort=False)
    index = pd.Index(first.index.append(new), name="name")
    columns = list(dict.fromkeys([*first.columns, *second.columns]))
    if "species" in first and "species" in second:
        both = first[["species"]].join(second["species"], rsuffix="_2", how="inner").dropna()
        clash = both[both["species"] != both["species_2"]]
        if len(clash):
            raise InputError(
                f"{kind} {clash.index[0]!r} is {clash.iloc[0, 0]} in one graph and {clash.iloc[0, 1]} in another "
                f"({len(clash)} such names); join graphs of several species with kgnn.graph.join_species"
            )
    result = pd.DataFrame(index=index)
    for column in columns:
        parts = [table[column].reindex(index) for table in (first, second) if column in table]
        result[column] = parts[0] if len(parts) == 1 else parts[0].where(parts[0].notna(), parts[1])
    return result


def subset(graph: GraphTables, names: Iterable[str], node_type: str = "gene", *, neighbours: int = 0) -> GraphTables:
    """Keep the nodes of `node_type` that are in `names` (in that order) and the edges between kept nodes.

    Args:
        names: node names; those that the graph does not know are passed over.
        node_type: nodes of other types all stay, unless `neighbours` is given.
        neighbours: also keep nodes (of any type) up to this many edges away, whatever the edges' direction; nodes
            of other types that are not reached go.

    Raises:
        InputError: none of the names is in the graph.
    """
    check_number(neighbours, "neighbours", 0, whole=True)
    given = dict.fromkeys(as_names(listed(names, "names")))
    wanted = pd.Index([name for name in given if name is not None], dtype=object)
    table = graph.node_table(node_type)
    codes = table.index.get_indexer(wanted)
    codes = codes[codes >= 0]
    if not len(codes):
        examples = ", ".join(map(str, wanted[:3])) or "none given"
        raise InputError(
            f"none of the {len(wanted)} names ({examples}) is a {node_type} of the graph "
            f"({', '.join(map(str, table.index[:3]))}); check species and gene namespace"
        )
    keep = {node_type: codes}
    if neighbours:
        keep = _reached(graph, node_type, codes, neighbours)
    return keep_nodes(graph, keep, "subset", node_type=node_type, names=len(wanted), neighbours=neighbours)


def _reached(graph: GraphTables, node_type: str, start: np.ndarray, hops: int) -> dict[str, np.ndarray]:
    seen = {kind: np.zeros(len(table), bool) for kind, table in graph.nodes.items()}
    seen[node_type][start] = True
    for _ in range(hops):
        before = {kind: mask.copy() for kind, mask in seen.items()}
        for relation, table in graph.edges.items():
            source, target = table["source"].to_numpy(), table["target"].to_numpy()
            seen[relation[2]][target[before[relation[0]][source]]] = True
            seen[relation[0]][source[before[relation[2]][target]]] = True
    keep = {kind: np.flatnonzero(mask) for kind, mask in seen.items()}
    others = np.setdiff1d(keep[node_type], start)
    return keep | {node_type: np.concatenate([start, others])}


def keep_nodes(graph: GraphTables, keep: Mapping[str, np.ndarray], operation: str, **details: Any) -> GraphTables:
    """Keep the node rows `keep[type]`, in that order; types that are not named stay whole."""
    code = {kind: np.full(len(graph.nodes[kind]), -1, np.int32) for kind in keep}
    for kind, rows in keep.items():
        code[kind][rows] = np.arange(len(rows), dtype=np.int32)
    nodes, features = graph.take_nodes(keep)
    return graph.derive(operation, nodes=nodes, edges=recoded(graph, code), features=features, **details)


def recoded(graph: GraphTables, code: Mapping[str, np.ndarray]) -> dict[Relation, pd.DataFrame]:
    """Give nodes the row numbers `code[type][row]`; edges of nodes without one (−1) go, and relations left empty."""
    edges = {}
    for relation, table in graph.edges.items():
        table = _recode(table, relation, code)
        inside = ((table["source"] >= 0) & (table["target"] >= 0)).to_numpy()
        table = table if inside.all() else take(table, inside)
        edges[relation] = collapse(table, drop_loops=relation[0] == relation[2])[0]
    return {relation: table for relation, table in edges.items() if len(table)}


def keep_edges(
    graph: GraphTables, choose: Callable[[Relation, pd.DataFrame], Any], operation: str, **details: Any
) -> GraphTables:
    """Keep the rows (numbers or mask) that `choose` returns for a relation and its table; empty relations go."""
    tables = {rel: tidy_origins(take(table, np.asarray(choose(rel, table)))) for rel, table in graph.edges.items()}
    return graph.derive(operation, edges={rel: table for rel, table in tables.items() if len(table)}, **details)


def drop_source(graph: GraphTables, *origins: str) -> GraphTables:
    """Remove all edges that the named knowledge sources contributed, and their account; nodes stay.

    Raises:
        InputError: no such source in the graph.
    """
    _check_origins(graph, origins)
    return _keep_origins(graph, set(graph.origins) - set(origins), "drop_source", origins)


def only_sources(graph: GraphTables, *origins: str) -> GraphTables:
    """Keep only the edges that the named knowledge sources contributed; nodes stay."""
    _check_origins(graph, origins)
    return _keep_origins(graph, set(origins), "only_sources", origins)


def only_licences(graph: GraphTables, licences: Iterable[str]) -> GraphTables:
    """Keep only the edges and features of sources under these licences (see `with_source`); nodes stay.

    A source that tells no licence goes, with a `DataWarning`; one that tells several stays where all are among these.
    Names are compared whatever their case, blanks and hyphens.

    Raises:
        InputError: no source has one of these licences.
    """
    licences = all_named(licences, "licences")
    kept = allowed_sources(graph, licences)
    features = {
        kind: {name: matrix for name, matrix in matrices.items() if name in kept}
        for kind, matrices in graph.features.items()
    }
    return _keep_origins(replace(graph, features=features), kept, "only_licences", licences)


def _keep_origins(graph: GraphTables, kept: set[str], operation: str, named: Sequence[str]) -> GraphTables:
    result = keep_edges(graph, lambda _, table: table["origin"].isin(kept), operation, origins=list(named))
    gone = set(graph.origins) - kept
    return replace(result, account=tuple(record for record in result.account if record["origin"] not in gone))


def _check_origins(graph: GraphTables, origins: Iterable[str]) -> None:
    for origin in origins:
        if not isinstance(origin, str):
            raise InputError(f"no source {origin!r}; write the names one by one: 'dorothea', 'trrust'")
    unknown = sorted(set(origins) - set(graph.origins))
    if unknown:
        raise InputError(f"no source {unknown[0]!r} in the graph; it has {', '.join(graph.origins) or 'none'}")


def filter(
    graph: GraphTables,
    relation: Relation | None = None,
    *,
    origin: str | None = None,
    min_weight: float | None = None,
    sign: int | str | Iterable[int | str] | None = None,
    min_confidence: float | str | None = None,
) -> GraphTables:
    """Keep edges by weight, sign or confidence; edges of other relations or origins than the named ones stay.

    Args:
        relation: filter this relation only; default: all.
        origin: filter this knowledge source only; default: all.
        min_weight: smallest weight to keep.
        sign: the sign or signs to keep: +1, −1, 0, or words such as `activation`.
        min_confidence: smallest confidence to keep, in the source's own measure (each loader names it), or a letter
            of DoRothEA, A (best) to E. An edge without a confidence goes.

    Raises:
        InputError: no such relation or source; a confidence that is neither a number nor a letter A to E; a letter
            for a source whose confidences are no levels.
    """
    if relation is not None:
        graph.table(relation)
    if origin is not None:
        _check_origins(graph, [origin])
    if min_weight is not None:
        check_number(min_weight, "min_weight")
    given = [sign] if isinstance(sign, str) or is_number(sign) else list(sign or [])  # type: ignore[arg-type]
    signs = None if sign is None else as_signs(given, lambda row: f"sign = {sign!r}").tolist()
    limit, _ = confidence_limit(min_confidence)
    check_measure(min_confidence, _measures(graph, relation, origin), ", or filter the edges with levels by origin=")

    def choose(rel: Relation, table: pd.DataFrame) -> np.ndarray:
        keep = np.ones(len(table), bool)
        if relation is not None and rel != tuple(relation):
            return keep
        if min_weight is not None:
            keep &= table["weight"].to_numpy() >= np.float32(min_weight)
        if signs is not None:
            keep &= np.isin(table["sign"].to_numpy(), signs)
        if limit is not None:
            keep &= table["confidence"].to_numpy() >= np.float32(limit)
        if origin is not None:
            keep |= (table["origin"] != origin).to_numpy()
        return keep

    details = {"relation": relation and "–".join(relation), "origin": origin, "min_weight": min_weight, "sign": signs}
    details = {name: value for name, value in details.items() if value is not None}
    return keep_edges(graph, choose, "filter", **details, **({} if limit is None else {"min_confidence": limit}))


def _measures(graph: GraphTables, relation: Relation | None, origin: str | None) -> dict[str, str | None]:
    """What the confidences of the sources measure that a filter is for."""
    chosen = [record for record in graph.account if origin in (None, record["origin"])]
    if relation is not None:
        chosen = [record for record in chosen if record.get("relation") == "–".join(relation)]
    return {str(record["origin"]): record.get("confidence") for record in chosen}
