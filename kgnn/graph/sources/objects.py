"""Graphs that are already in memory: SciPy matrices, networkx, `edge_index`, PyG `Data` and `HeteroData`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import DataWarning, InputError
from kgnn.graph.edges import COLUMNS, Relation, table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.options import as_signs
from kgnn.graph.sources.collect import check_genes
from kgnn.graph.tables import GraphTables
from kgnn.names import all_named, as_name

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
    ends = _array(edge_index)
    if ends.ndim != 2 or len(ends) != 2 or not np.issubdtype(ends.dtype, np.integer):
        raise InputError(f"edge_index is {ends.dtype} of shape {ends.shape}; it must be whole numbers [2, edges]")
    if (source_type == target_type) != (target_names is None):
        raise InputError("give target_names if, and only if, sources and targets are of different types")
    sides = {source_type: all_named(names, "names")} | (
        {} if target_names is None else {target_type: all_named(target_names, "target_names")}
    )
    for kind, own in sides.items():
        if kind == "gene":
            check_genes(own, origin)
    for side, kind in zip(ends, (source_type, target_type), strict=True):
        if len(side) and not (side.min() >= 0 and side.max() < len(sides[kind])):
            raise InputError(
                f"edge_index has the {kind} number {side.max()} (or a negative one); there are {len(sides[kind])} names"
            )
    value = np.ones(ends.shape[1]) if weight is None else _floats(weight)
    if value.shape != (ends.shape[1],) or not np.isfinite(value).all():
        raise InputError(
            f"weights of shape {value.shape} for {ends.shape[1]} edges; one finite number an edge is needed"
        )
    given = np.sign(value) * (value < 0) if sign is None else _array(sign)
    signs = as_signs(given.ravel(), lambda row: f"edge {row}")
    if given.shape != value.shape:
        raise InputError(f"signs of shape {given.shape} for {ends.shape[1]} edges; one an edge is needed")
    key = (source_type, relation, target_type)
    table = table_of(ends[0], ends[1], origin, np.abs(value), signs)
    counts = {"rows_read": ends.shape[1], "unit": "edges", "dropped": {}}
    return KnowledgeGraph.of(GraphTables.of_relation(sides, key, table, origin, **counts))


def _array(values: Any) -> np.ndarray:
    """Return a tensor, wherever it is and whatever it learns, or a list as an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _floats(values: Any) -> np.ndarray:
    array = _array(values)
    if np.iscomplexobj(array):
        raise InputError("weights must be finite numbers, one an edge; they are complex")
    try:
        return np.asarray(array, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"weights must be finite numbers, one an edge: {error}") from None


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
    if not sparse.issparse(matrix) and np.ndim(matrix) != 2:
        raise InputError(f"{type(matrix).__name__} of {np.ndim(matrix)} dimensions; give a matrix [sources, targets]")
    try:
        coo = sparse.coo_array(matrix)
    except (TypeError, ValueError) as error:
        raise InputError(f"a matrix of weights must be real numbers: {error}") from None
    if np.iscomplexobj(coo.data):
        raise InputError(f"a matrix of {coo.dtype}; weights must be real numbers")
    coo = coo.astype(np.float64)  # the sum of split entries may be too large for int8
    names = all_named(names, "names")
    columns = names if target_names is None else all_named(target_names, "target_names")
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
    on an edge their values (a sign may be a word such as `repression`, or None), and in a multigraph a text key the
    relation. What `to_networkx` made comes back as it was.
    """
    if not isinstance(graph, nx.Graph):
        raise InputError(f"{type(graph).__name__} where a networkx graph is asked for")
    kind_of, name_of, nodes = {}, {}, dict[str, dict[str, dict]]()
    for node, data in graph.nodes(data=True):
        kind = as_name(data.get("type")) or node_type
        # to_networkx names its nodes (type, name)
        own = node[1] if isinstance(node, tuple) and len(node) == 2 and node[0] == data.get("type") else node
        name = as_name(own)
        if name is None:
            raise InputError(f"the node {node!r} has no name; give it one or leave it out")
        kind_of[node], name_of[node] = kind, name
        columns = nodes.setdefault(kind, {})
        if name in columns:
            raise InputError(f"two nodes are both called {name!r}; names must be unique as text")
        columns[name] = {key: value for key, value in data.items() if key != "type"}
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
        name = key if isinstance(key, str) else as_name(data.get("relation")) or relation
        sign = data.get("sign", -1 if value < 0 else 0)
        row = (abs(value), sign, data.get("confidence", np.nan), as_name(data.get("origin")) or origin)
        rows.setdefault((kind_of[a], name, kind_of[b]), []).append((name_of[a], name_of[b], *row))
        if not graph.is_directed() and a != b:
            rows.setdefault((kind_of[b], name, kind_of[a]), []).append((name_of[b], name_of[a], *row))
    tables = {key: pd.DataFrame(values, columns=COLUMNS) for key, values in rows.items()}
    account = [
        {"origin": str(name), "relation": "–".join(key), "rows_read": len(part), "unit": "edges", "dropped": {}}
        for key, table in tables.items()
        for name, part in table.groupby("origin")
    ]
    check_genes(nodes.get("gene", {}), origin)
    frames = {kind: pd.DataFrame.from_dict(columns, orient="index") for kind, columns in nodes.items()}
    return KnowledgeGraph({kind: frames[kind].reindex(list(nodes[kind])) for kind in frames}, tables, account)


def from_pyg(
    data: Data | HeteroData, names: Sequence[str] | None = None, *, relation: str = "interacts", origin: str = "pyg"
) -> KnowledgeGraph:
    """Take a PyG `Data` or `HeteroData`: `edge_index`, `edge_weight` (or `edge_attr` of one column), `edge_sign`.

    `x` becomes the feature `x`. Node names are `names` (for `Data`), else `data.node_names[type]`, else
    `data[type].node_id`, else the numbers.
    """
    if not hasattr(data, "edge_index") and not hasattr(data, "edge_types"):
        raise InputError(f"{type(data).__name__} where PyG's Data or HeteroData is asked for")
    hetero = hasattr(data, "node_types")
    if hetero and names is not None:
        raise InputError("names are for Data; HeteroData has them as data.node_names = {type: names}")
    stores = {kind: data[kind] for kind in data.node_types} if hetero else {"gene": data}
    told = data.get("node_names") or {} if hetero else {}
    nodes: dict[str, list[str]] = {}
    features: dict[str, dict[str, np.ndarray]] = {}
    for kind, store in stores.items():
        numbers = store.get("node_id", range(store.num_nodes or 0))
        given: Iterable = names if names is not None else told.get(kind, numbers)
        nodes[kind] = all_named(given, f"names of {kind} nodes")
        if store.num_nodes is not None and len(nodes[kind]) != store.num_nodes:
            raise InputError(f"{len(nodes[kind])} names for {store.num_nodes} {kind} nodes; give one a node")
        if store.get("x") is not None:
            features[kind] = {"x": np.asarray(store.x.detach().cpu(), np.float32)}
    keys: list[Relation] = list(data.edge_types) if hetero else [("gene", relation, "gene")]
    graphs = [KnowledgeGraph(nodes, {}, features=features)]
    for key in keys:
        store = data[key] if hetero else data
        weight, sign, attribute = (store.get(f"edge_{name}") for name in ("weight", "sign", "attr"))
        if store.get("edge_index") is None:
            raise InputError(f"{key} has no edge_index; of adj_t make one with `edge_index = data.adj_t.t().coo()[:2]`")
        if weight is None and attribute is not None and attribute.numel() == store.edge_index.shape[1]:
            weight = attribute.reshape(-1)
        elif weight is None and attribute is not None and attribute.numel():
            message = f"{key}: edge_attr of shape {list(attribute.shape)} is not read; give weights as edge_weight"
            warnings.warn(message, DataWarning, stacklevel=2)
        weight = weight.reshape(-1) if weight is not None else None
        part = from_edge_index(
            store.edge_index,
            nodes[key[0]],
            target_names=None if key[0] == key[2] else nodes[key[2]],
            weight=weight,
            sign=sign,
            relation=key[1],
            source_type=key[0],
            target_type=key[2],
            origin=origin,
        )
        graphs.append(part)
    return KnowledgeGraph.merge(graphs)
