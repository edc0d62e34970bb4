"""`KnowledgeGraph`, the one container for typed prior knowledge."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph import (
    export,
    identifiers,
    licences,
    mappings,
    operations,
    randomize,
    report,
    storage,
    structure,
    validate,
)
from kgnn.graph.edges import Relation
from kgnn.graph.tables import GraphTables
from kgnn.names import listed

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

P = ParamSpec("P")
T = TypeVar("T")


def _operation(
    function: Callable[Concatenate[GraphTables, P], GraphTables],
) -> Callable[Concatenate[KnowledgeGraph, P], KnowledgeGraph]:
    """Make a method of a function that returns other tables."""

    @wraps(function)
    def method(self: KnowledgeGraph, *args: P.args, **options: P.kwargs) -> KnowledgeGraph:
        return self.of(function(self.tables, *args, **options))

    method.__signature__ = inspect.signature(function).replace(return_annotation="KnowledgeGraph")  # type: ignore[attr-defined]
    return method


def _answer(function: Callable[Concatenate[GraphTables, P], T]) -> Callable[Concatenate[KnowledgeGraph, P], T]:
    """Make a method of a function that says something about the tables, or writes them."""

    @wraps(function)
    def method(self: KnowledgeGraph, *args: P.args, **options: P.kwargs) -> T:
        return function(self.tables, *args, **options)

    return method


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
        tables: nodes, edges, features, account and history as plain tables, for functions that work on numbers.
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
        self.tables = GraphTables.encoded(nodes, edges, account, features)

    @classmethod
    def of(cls, tables: GraphTables) -> Self:
        """Make a graph of tables whose edges are numbers already."""
        graph = cls.__new__(cls)
        graph.tables = tables
        return graph

    # reading

    @property
    def account(self) -> tuple[dict[str, Any], ...]:
        return self.tables.account

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        return self.tables.history

    @property
    def node_types(self) -> list[str]:
        return list(self.tables.nodes)

    @property
    def relations(self) -> list[Relation]:
        return list(self.tables.edges)

    @property
    def origins(self) -> list[str]:
        """Names of the knowledge sources that edges came from, sorted."""
        return self.tables.origins

    @property
    def cells(self) -> dict[str, np.ndarray]:
        """Source → hashes of the names of the cells that it was made from, sorted uint64; see `with_cells`."""
        return dict(self.tables.cells)

    @property
    def provenance(self) -> dict[str, dict[str, str]]:
        """Source → its `licence` and `version`, as far as they are told; see `with_source`."""
        return {name: dict(known) for name, known in self.tables.provenance.items()}

    def nodes(self, node_type: str) -> pd.DataFrame:
        """Return a copy of the node table, indexed by node name."""
        return self.tables.node_table(node_type).copy()

    def features(self, node_type: str) -> dict[str, np.ndarray]:
        """Return the node features by name: float32 `[nodes, channels]`, NaN rows where a node has none."""
        self.tables.node_table(node_type)
        return {name: matrix.copy() for name, matrix in self.tables.features.get(node_type, {}).items()}

    def edges(self, relation: Relation, *, by_origin: bool = False) -> pd.DataFrame:
        """Return the edges of a relation as `source, target, weight, sign, confidence, origin`, names for nodes.

        One row a pair of nodes: the largest weight and confidence, the majority sign (0 when tied), the origins
        joined by `|`. With `by_origin=True` one row a pair and origin, as stored.
        """
        return self.tables.named(relation, by_origin=by_origin)

    def edge_arrays(self, relation: Relation) -> pd.DataFrame:
        """Return what `edges` returns with row numbers of the node tables instead of names."""
        return self.tables.pairs(relation)

    summary = _answer(report.summary)
    report = _answer(report.report)
    validate = _answer(validate.validate)

    def __repr__(self) -> str:
        nodes = ", ".join(f"{kind}: {len(table)}" for kind, table in self.tables.nodes.items())
        edges = ", ".join(f"{'–'.join(relation)}: {len(self.tables.pairs(relation))}" for relation in self.relations)
        return f"KnowledgeGraph({nodes}; {edges})"

    def __eq__(self, other: object) -> bool:
        return self.tables == other.tables if isinstance(other, KnowledgeGraph) else NotImplemented

    # operations: each returns a new graph

    @staticmethod
    def merge(graphs: Iterable[KnowledgeGraph]) -> KnowledgeGraph:
        """Unite graphs: nodes by type and name, edges by relation, pair and origin. Same as `a | b | c`."""
        graphs = listed(graphs, "graphs")
        for graph in graphs:
            if not isinstance(graph, KnowledgeGraph):
                raise InputError(f"{type(graph).__name__} among the graphs to merge; give KnowledgeGraphs")
        return KnowledgeGraph.of(operations.merge([graph.tables for graph in graphs]))

    def __or__(self, other: KnowledgeGraph) -> KnowledgeGraph:
        return KnowledgeGraph.merge([self, other])

    subset = _operation(operations.subset)
    filter = _operation(operations.filter)
    drop_source = _operation(operations.drop_source)
    only_sources = _operation(operations.only_sources)
    with_source = _operation(licences.with_source)
    only_licences = _operation(operations.only_licences)
    undirected = _operation(structure.undirected)
    reverse = _operation(structure.reverse)
    nearest = _operation(structure.nearest)
    largest_component = _operation(structure.largest_component)
    with_features = _operation(structure.with_features)
    with_node_column = _operation(structure.with_node_column)
    with_cells = _operation(structure.with_cells)
    rewire = _operation(randomize.rewire)
    randomize_edges = _operation(randomize.randomize_edges)
    drop_edges = _operation(randomize.drop_edges)
    add_random_edges = _operation(randomize.add_random_edges)
    permute = _operation(randomize.permute)
    permute_features = _operation(randomize.permute_features)
    randomize_features = _operation(randomize.randomize_features)
    map_genes = _operation(identifiers.map_genes)
    map_nodes = _operation(mappings.map_nodes)

    # out

    to_networkx = _answer(export.to_networkx)
    to_scipy = _answer(export.to_scipy)
    to_kgx = _answer(export.to_kgx)
    save = _answer(storage.save)

    def to_hetero(self) -> HeteroData:
        """Return a PyG `HeteroData`; see `kgnn.graph.hetero.to_hetero`."""
        from kgnn.graph.hetero import to_hetero  # PyG takes seconds to import

        return to_hetero(self.tables)

    @staticmethod
    def load(path: str | Path) -> KnowledgeGraph:
        """Read a folder that `save` wrote; raises `InputError` for a foreign, truncated or newer one."""
        return KnowledgeGraph.of(storage.load(path))
