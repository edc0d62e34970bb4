"""`KnowledgeGraph`, the one container for typed prior knowledge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph import operations, randomize, report, structure
from kgnn.graph.edges import Relation, collapse, combine_origins, encode, named

if TYPE_CHECKING:
    import networkx as nx
    from scipy import sparse
    from torch_geometric.data import HeteroData


class KnowledgeGraph:
    """Node tables by type and edge tables by relation `(source_type, relation, target_type)`. Immutable.

    Every edge has a `weight` (positive strength, 1 when the source gives none), a `sign` (+1 activates, −1
    represses, 0 unknown), a `confidence` in its source's own measure (NaN where it gives none) and an `origin`,
    the name of the knowledge source it came from. One pair of nodes may stand in several origins; each origin
    keeps its own values, so that `drop_source` leaves exactly what the other sources say. Within one origin
    duplicate edges merge (largest weight, majority sign) and self loops drop, both counted in `account`.

    Args:
        nodes: node type → table indexed by node name (or an iterable of names).
        edges: relation → table with columns `source` and `target` (node names) and optionally `weight`,
            `sign`, `confidence`, `origin`.
        account: one mapping a source, what was read and what became of it; carried along by every operation.
        features: node type → name → float array `[nodes, channels]`, rows as in the node table, NaN where a node
            has no such feature.

    Attributes:
        account: what was read from each source and what became of every row; see `report()`.
        history: the operations since, with the numbers of edges before and after.

    Raises:
        InputError: an edge that names an unknown node, a duplicate node, a weight that is not finite.

    Example:
        >>> kg = KnowledgeGraph({"gene": ["A", "B"]},
        ...                     {("gene", "regulates", "gene"): pd.DataFrame({"source": ["A"], "target": ["B"]})})
        >>> kg
        KnowledgeGraph(gene: 2; gene–regulates–gene: 1)
    """

    def __init__(
        self,
        nodes: Mapping[str, pd.DataFrame | Iterable[str]],
        edges: Mapping[Relation, pd.DataFrame],
        account: Iterable[Mapping[str, Any]] = (),
        features: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        tables = {kind: _node_table(kind, table) for kind, table in nodes.items()}
        encoded = {relation: encode(tables, relation, table) for relation, table in edges.items()}
        self._fill(tables, encoded, account, (), features or {})

    def _fill(
        self,
        nodes: Mapping[str, pd.DataFrame],
        edges: dict[Relation, pd.DataFrame],
        account: Iterable[Mapping[str, Any]],
        history: Iterable[Mapping[str, Any]],
        features: Mapping[str, Mapping[str, np.ndarray]],
    ) -> None:
        """Collapse encoded edges and book what merged and dropped. Empties `edges`, so that memory is held once."""
        self._nodes = dict(nodes)
        self._edges: dict[Relation, pd.DataFrame] = {}
        self._features = _check_features(self._nodes, features)
        self.account: tuple[dict[str, Any], ...] = tuple(dict(record) for record in account)
        self.history: tuple[dict[str, Any], ...] = tuple(dict(record) for record in history)
        for relation in list(edges):
            self._edges[relation], counts = collapse(edges.pop(relation), drop_loops=relation[0] == relation[2])
            self._book("–".join(relation), counts)
        for record in self.account:
            for count in ("kept", "merged", "self_loops"):
                record.setdefault(count, 0)
            record.setdefault("dropped", {})

    @classmethod
    def _from_codes(
        cls,
        nodes: Mapping[str, pd.DataFrame],
        edges: dict[Relation, pd.DataFrame],
        account: Iterable[Mapping[str, Any]] = (),
        history: Iterable[Mapping[str, Any]] = (),
        features: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    ) -> KnowledgeGraph:
        """Take tables whose ends are row numbers of the node tables, duplicates and self loops among them; empty it."""
        graph = cls.__new__(cls)
        graph._fill(nodes, edges, account, history, features or {})
        return graph

    # reading

    @property
    def node_types(self) -> list[str]:
        return list(self._nodes)

    @property
    def relations(self) -> list[Relation]:
        return list(self._edges)

    @property
    def origins(self) -> list[str]:
        """Names of the knowledge sources that edges came from, sorted."""
        return sorted({str(name) for table in self._edges.values() for name in table["origin"].cat.categories})

    def nodes(self, node_type: str) -> pd.DataFrame:
        """Return a copy of the node table, indexed by node name."""
        return self._node_table(node_type).copy()

    def features(self, node_type: str) -> dict[str, np.ndarray]:
        """Return the node features by name: float32 `[nodes, channels]`, NaN rows where a node has none."""
        self._node_table(node_type)
        return {name: matrix.copy() for name, matrix in self._features.get(node_type, {}).items()}

    def edges(self, relation: Relation, *, by_origin: bool = False) -> pd.DataFrame:
        """Return the edges of a relation as `source, target, weight, sign, confidence, origin`, names for nodes.

        One row a pair of nodes: the largest weight and confidence, the majority sign (0 when tied), the origins
        joined by `|`. With `by_origin=True` one row a pair and origin, as stored.
        """
        table = self._table(relation)
        return named(table if by_origin else combine_origins(table), relation, self._nodes)

    def edge_arrays(self, relation: Relation) -> pd.DataFrame:
        """Return what `edges` returns with row numbers of the node tables instead of names."""
        return combine_origins(self._table(relation))

    summary = report.summary
    report = report.report

    def __repr__(self) -> str:
        nodes = ", ".join(f"{kind}: {len(table)}" for kind, table in self._nodes.items())
        edges = ", ".join(f"{'–'.join(rel)}: {len(combine_origins(table))}" for rel, table in self._edges.items())
        return f"KnowledgeGraph({nodes}; {edges})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KnowledgeGraph):
            return NotImplemented
        mine, theirs = self._features, other._features
        return (
            self._nodes.keys() == other._nodes.keys()
            and self._edges.keys() == other._edges.keys()
            and all(self._nodes[kind].equals(other._nodes[kind]) for kind in self._nodes)
            and all(self._edges[relation].equals(other._edges[relation]) for relation in self._edges)
            and {(kind, name) for kind in mine for name in mine[kind]}
            == {(kind, name) for kind in theirs for name in theirs[kind]}
            and all(np.array_equal(mine[k][n], theirs[k][n], equal_nan=True) for k in mine for n in mine[k])
        )

    __hash__ = None  # type: ignore[assignment]

    # operations: each returns a new graph; written out in operations.py, structure.py, randomize.py, identifiers.py

    @staticmethod
    def merge(graphs: Iterable[KnowledgeGraph]) -> KnowledgeGraph:
        """Unite graphs: nodes by type and name, edges by relation, pair and origin. Same as `a | b | c`."""
        return operations.merge(list(graphs))

    def __or__(self, other: KnowledgeGraph) -> KnowledgeGraph:
        return operations.merge([self, other])

    subset = operations.subset
    filter = operations.filter
    drop_source = operations.drop_source
    only_sources = operations.only_sources
    undirected = structure.undirected
    reverse = structure.reverse
    nearest = structure.nearest
    largest_component = structure.largest_component
    with_features = structure.with_features
    with_node_column = structure.with_node_column
    rewire = randomize.rewire
    randomize_edges = randomize.randomize_edges
    drop_edges = randomize.drop_edges
    add_random_edges = randomize.add_random_edges

    def map_genes(self, genes: Any, to: str = "symbol", *, keep_unknown: bool = False) -> KnowledgeGraph:
        """Rename genes to one namespace; see `kgnn.graph.identifiers.map_genes`."""
        from kgnn.graph.identifiers import map_genes

        return map_genes(self, genes, to, keep_unknown=keep_unknown)

    # out

    def to_hetero(self) -> HeteroData:
        """Return a PyG `HeteroData`; see `kgnn.graph.hetero.to_hetero`."""
        from kgnn.graph.hetero import to_hetero

        return to_hetero(self)

    def to_networkx(self) -> nx.MultiDiGraph:
        """Return a networkx graph; see `kgnn.graph.export.to_networkx`."""
        from kgnn.graph.export import to_networkx

        return to_networkx(self)

    def to_scipy(self, relation: Relation, *, signed: bool = False) -> sparse.csr_array:
        """Return a relation as a sparse matrix [sources, targets] of weights, times the sign if `signed`."""
        from kgnn.graph.export import to_scipy

        return to_scipy(self, relation, signed=signed)

    def to_kgx(self, path: str | Path) -> None:
        """Write KGX files `nodes.tsv` and `edges.tsv` into the folder `path`; see `kgnn.graph.export.to_kgx`."""
        from kgnn.graph.export import to_kgx

        to_kgx(self, path)

    def save(self, path: str | Path) -> None:
        """Write Parquet tables and `manifest.json` into the folder `path`, whole or not at all."""
        from kgnn.graph.storage import save

        save(self, path)

    @staticmethod
    def load(path: str | Path) -> KnowledgeGraph:
        """Read a folder that `save` wrote; raises `InputError` for a foreign, truncated or newer one."""
        from kgnn.graph.storage import load

        return load(path)

    # helpers

    def _derive(
        self,
        operation: str,
        *,
        nodes: Mapping[str, pd.DataFrame] | None = None,
        edges: Mapping[Relation, pd.DataFrame] | None = None,
        features: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        **details: Any,
    ) -> KnowledgeGraph:
        """Make a new graph with some parts replaced, and note the operation in its history."""
        graph = type(self).__new__(type(self))
        graph._nodes = dict(self._nodes if nodes is None else nodes)
        graph._edges = dict(self._edges if edges is None else edges)
        graph._features = _check_features(graph._nodes, self._features if features is None else features)
        graph.account = tuple(dict(record) for record in self.account)
        before, after = (sum(map(len, g._edges.values())) for g in (self, graph))
        note = {"operation": operation, **details, "edges_before": before, "edges_after": after}
        graph.history = (*self.history, note)
        return graph

    def _book(self, relation: str, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Add what was merged and dropped to the sources' records, and take it from what they kept."""
        table = next(table for key, table in self._edges.items() if "–".join(key) == relation)
        kept = table["origin"].value_counts()
        records = [record for record in self.account if record.get("relation") == relation]
        for record in records:
            if "kept" not in record:
                same = [r for r in records if r["origin"] == record["origin"] and "kept" not in r]
                record["kept"] = int(kept.get(record["origin"], 0)) if same[0] is record else 0
                for reason, n in counts.get(record["origin"], {}).items():
                    record[reason] = record.get(reason, 0) + n
            elif (n := counts.get(record["origin"], {}).get("merged", 0)) and record["kept"]:
                moved = min(n, record["kept"])
                record["merged"] = record.get("merged", 0) + moved
                record["kept"] -= moved
                counts = dict(counts) | {record["origin"]: {"merged": n - moved}}

    def _node_table(self, node_type: str) -> pd.DataFrame:
        if node_type not in self._nodes:
            raise InputError(f"no node type {node_type!r} in the graph; it has {', '.join(self._nodes)}")
        return self._nodes[node_type]

    def _table(self, relation: Relation) -> pd.DataFrame:
        relation = tuple(relation)  # type: ignore[assignment]
        if relation not in self._edges:
            known = ", ".join(map(str, self._edges)) or "none"
            raise InputError(f"no relation {relation} in the graph; it has {known}")
        return self._edges[relation]


def _node_table(kind: str, table: pd.DataFrame | Iterable[str]) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(index=pd.Index([str(name) for name in table], dtype=object))
    table = table.rename_axis("name")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{kind} {twice!r} stands twice among the nodes; node names must be unique")
    return table


def _check_features(
    nodes: Mapping[str, pd.DataFrame], features: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    checked: dict[str, dict[str, np.ndarray]] = {}
    for kind, named_matrices in features.items():
        for name, matrix in named_matrices.items():
            matrix = np.asarray(matrix, dtype=np.float32)
            if kind not in nodes or matrix.ndim != 2 or len(matrix) != len(nodes[kind]):
                rows = len(nodes[kind]) if kind in nodes else "no"
                raise InputError(f"feature {name!r} has the shape {matrix.shape}; the graph has {rows} {kind} nodes")
            checked.setdefault(kind, {})[name] = matrix
    return checked
