"""Graphs that are already in memory: SciPy matrices, networkx, `edge_index`, PyG `Data` and `HeteroData`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import InputError
from kgnn.graph.edges import COLUMNS, Relation, table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.tables import GraphTables

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Data, HeteroData


def from_edge_index(
    edge_index: Tensor | np.ndarray,
    names: Sequence[str],
    *,
    target_names: Sequence[str] | None = None,
    weight: Tensor | np.ndarray | None = None,
    sign: Tensor | np.ndarray | None = None,
    relation: str = "interacts",
    source_type: str = "gene",
    target_type: str = "gene",
    origin: str = "edge_index",
) -> KnowledgeGraph:
    """Take edges as PyG writes them.

    Args:
        edge_index: whole numbers `[2, edges]`, row 0 sources, row 1 targets.
        names: names of the nodes that the numbers mean; all become nodes.
        target_names: names of the targets, where they are of another type.
        weight: numbers `[edges]`; of a negative one the size is the weight and the sign the edge's sign,
            unless `sign` is given.
        sign: numbers `[edges]` of which only the sign counts.
        relation, source_type, target_type: the relation's triple.
        origin: name of this source in the graph.

    Raises:
        InputError: another shape, a number without a name, a weight that is not finite, a name that stands twice.
    """
    ends = np.asarray(edge_index)
    if ends.ndim != 2 or len(ends) != 2 or not np.issubdtype(ends.dtype, np.integer):
        raise InputError(f"edge_index is {ends.dtype} of shape {ends.shape}; it must be whole numbers [2, edges]")
    if (source_type == target_type) != (target_names is None):
        raise InputError("give target_names if, and only if, sources and targets are of different types")
    sides = {source_type: list(map(str, names))} | (
        {} if target_names is None else {target_type: list(map(str, target_names))}
    )
    for side, kind in zip(ends, (source_type, target_type), strict=True):
        if len(side) and not (side.min() >= 0 and side.max() < len(sides[kind])):
            raise InputError(
                f"edge_index has the {kind} number {side.max()} (or a negative one); there are {len(sides[kind])} names"
            )
    value = np.ones(ends.shape[1]) if weight is None else np.asarray(weight, np.float64)
    if value.shape != (ends.shape[1],) or not np.isfinite(value).all():
        raise InputError(
            f"weights of shape {value.shape} for {ends.shape[1]} edges; one finite number an edge is needed"
        )
    signs = np.sign(value) * (value < 0) if sign is None else np.sign(np.asarray(sign))
    if signs.shape != value.shape:
        raise InputError(f"signs of shape {signs.shape} for {ends.shape[1]} edges; one an edge is needed")
    key = (source_type, relation, target_type)
    table = table_of(ends[0], ends[1], origin, np.abs(value), signs)
    counts = {"rows_read": ends.shape[1], "unit": "edges", "dropped": {}}
    return KnowledgeGraph.of(GraphTables.of_relation(sides, key, table, origin, **counts))


def from_scipy(
    matrix: Any, names: Sequence[str], *, target_names: Sequence[str] | None = None, **options: Any
) -> KnowledgeGraph:
    """Take a SciPy sparse matrix [sources, targets] of weights (a dense array works too); zeros are no edges.

    Args:
        matrix: weights; of a negative one the size is the weight and the sign the edge's sign.
        names: names of the rows, and of the columns unless `target_names` is given.
        target_names: names of the columns, where they are nodes of another type (`target_type=`).
        options: as for `from_edge_index`: `relation`, `source_type`, `target_type`, `origin`.
    """
    coo = sparse.coo_array(matrix)
    columns = names if target_names is None else target_names
    if coo.shape != (len(names), len(columns)):
        raise InputError(f"a matrix of shape {coo.shape} for {len(names)} × {len(columns)} names")
    coo.sum_duplicates()
    some = coo.data != 0
    ends = np.stack([coo.row[some], coo.col[some]]).astype(np.int64)
    return from_edge_index(
        ends, names, target_names=target_names, weight=coo.data[some], **{"origin": "matrix", **options}
    )


def from_networkx(
    graph: nx.Graph, *, relation: str = "interacts", node_type: str = "gene", origin: str = "networkx"
) -> KnowledgeGraph:
    """Take a networkx graph; an undirected one gives edges in both directions.

    Node attributes become columns; `type` on a node gives its node type, `weight`, `sign`, `confidence` and `origin`
    on an edge their values, and in a multigraph a text key the relation. What `to_networkx` made comes back as it was.
    """
    kind_of, name_of, nodes = {}, {}, dict[str, dict[str, dict]]()
    for node, data in graph.nodes(data=True):
        kind = str(data.get("type", node_type))
        # to_networkx names its nodes (type, name)
        name = node[1] if isinstance(node, tuple) and len(node) == 2 and node[0] == data.get("type") else node
        kind_of[node], name_of[node] = kind, str(name)
        columns = nodes.setdefault(kind, {})
        if str(name) in columns:
            raise InputError(f"two nodes are both called {str(name)!r}; names must be unique as text")
        columns[str(name)] = {key: value for key, value in data.items() if key != "type"}
    rows: dict[Relation, list[tuple]] = {}
    triples = (
        graph.edges(keys=True, data=True)
        if graph.is_multigraph()
        else ((a, b, None, d) for a, b, d in graph.edges(data=True))
    )
    for a, b, key, data in triples:
        value = data.get("weight", 1.0)
        if not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise InputError(f"the edge {name_of[a]}–{name_of[b]} has the weight {value!r}; it must be a finite number")
        name = key if isinstance(key, str) else str(data.get("relation", relation))
        sign = data.get("sign", -1 if value < 0 else 0)
        row = (abs(value), sign, data.get("confidence", np.nan), str(data.get("origin", origin)))
        rows.setdefault((kind_of[a], name, kind_of[b]), []).append((name_of[a], name_of[b], *row))
        if not graph.is_directed() and a != b:
            rows.setdefault((kind_of[b], name, kind_of[a]), []).append((name_of[b], name_of[a], *row))
    tables = {key: pd.DataFrame(values, columns=COLUMNS) for key, values in rows.items()}
    account = [
        {"origin": str(name), "relation": "–".join(key), "rows_read": len(part), "unit": "edges", "dropped": {}}
        for key, table in tables.items()
        for name, part in table.groupby("origin")
    ]
    frames = {kind: pd.DataFrame.from_dict(columns, orient="index") for kind, columns in nodes.items()}
    return KnowledgeGraph({kind: frames[kind].reindex(list(nodes[kind])) for kind in frames}, tables, account)


def from_pyg(
    data: Data | HeteroData, names: Sequence[str] | None = None, *, relation: str = "interacts", origin: str = "pyg"
) -> KnowledgeGraph:
    """Take a PyG `Data` or `HeteroData`: `edge_index`, `edge_weight` (or `edge_attr` of one column), `edge_sign`.

    `x` becomes the feature `x`. Node names are `names` (for `Data`), else `data.node_names[type]`, else
    `data[type].node_id`, else the numbers.
    """
    hetero = hasattr(data, "node_types")
    stores = {kind: data[kind] for kind in data.node_types} if hetero else {"gene": data}
    told = data.get("node_names") or {} if hetero else {}
    nodes: dict[str, list[str]] = {}
    features: dict[str, dict[str, np.ndarray]] = {}
    for kind, store in stores.items():
        given: Iterable = (
            names if names is not None and not hetero else told.get(kind, store.get("node_id", range(store.num_nodes)))
        )
        nodes[kind] = [str(name.item() if hasattr(name, "item") else name) for name in given]
        if store.get("x") is not None:
            features[kind] = {"x": np.asarray(store.x.detach().cpu(), np.float32)}
    keys: list[Relation] = list(data.edge_types) if hetero else [("gene", relation, "gene")]
    graphs = [KnowledgeGraph(nodes, {}, features=features)]
    for key in keys:
        store = data[key] if hetero else data
        weight, sign, attribute = (store.get(f"edge_{name}") for name in ("weight", "sign", "attr"))
        if weight is None and attribute is not None and attribute.numel() == store.edge_index.shape[1]:
            weight = attribute.reshape(-1)
        part = from_edge_index(
            store.edge_index.cpu(),
            nodes[key[0]],
            target_names=None if key[0] == key[2] else nodes[key[2]],
            weight=None if weight is None else weight.detach().cpu(),
            sign=None if sign is None else sign.cpu(),
            relation=key[1],
            source_type=key[0],
            target_type=key[2],
            origin=origin,
        )
        graphs.append(part)
    return KnowledgeGraph.merge(graphs)
