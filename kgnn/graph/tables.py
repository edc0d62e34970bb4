"""The plain value behind `KnowledgeGraph`: node tables, edges as numbers, features, and what became of every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.edges import Relation, collapse, combine_origins, encode, named, triple
from kgnn.names import all_named, name_hashes
from kgnn.parts import expect

Nodes = Mapping[str, pd.DataFrame | Iterable[str]]
Features = Mapping[str, Mapping[str, np.ndarray]]
Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, eq=False, repr=False)
class GraphTables:
    """A typed graph as tables. What is derived from it shares what did not change: change nothing in place.

    Attributes:
        nodes: node type → table indexed by node name.
        edges: relation → edge table of `kgnn.graph.edges`, one row a pair of nodes and origin, sorted.
        features: node type → name → float32 `[nodes, channels]`.
        account: one record a source and relation: what was read and what became of every row.
        history: the operations since, with the numbers of edges before and after.
        cells: source (an origin of edges, or a feature's name) → sorted uint64 hashes of the names of the cells that it
            was made from; they go with the source's last edge.
        provenance: source → its `licence` and `version`, as far as they are known; they go with it too.

    Raises:
        InputError: a feature that is not `[nodes, channels]`; a node type that torch's modules cannot be named by.
    """

    nodes: dict[str, pd.DataFrame]
    edges: dict[Relation, pd.DataFrame]
    features: dict[str, dict[str, np.ndarray]]
    account: tuple[dict[str, Any], ...]
    history: tuple[dict[str, Any], ...]
    cells: dict[str, np.ndarray] = field(default_factory=dict)
    provenance: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in self.nodes:
            if not isinstance(kind, str) or not kind or "." in kind:
                raise InputError(f"node type {kind!r}: give a text without '.', which torch's modules forbid: GO_term")
        object.__setattr__(self, "features", _check_features(self.nodes, self.features))
        there = self.sources
        for part in ("cells", "provenance"):
            object.__setattr__(self, part, {name: x for name, x in getattr(self, part).items() if name in there})

    @classmethod
    def collapsed(
        cls,
        nodes: Mapping[str, pd.DataFrame],
        edges: dict[Relation, pd.DataFrame],
        account: Records = (),
        history: Records = (),
        features: Features | None = None,
        cells: Mapping[str, np.ndarray] | None = None,
        provenance: Mapping[str, dict[str, str]] | None = None,
    ) -> GraphTables:
        """Merge the duplicates among encoded edges and drop self loops, both booked in the account.

        Empties `edges`, so that memory is held once.
        """
        records = [dict(record) for record in account]
        tables: dict[Relation, pd.DataFrame] = {}
        for relation in list(edges):
            tables[relation], counts = collapse(edges.pop(relation), drop_loops=relation[0] == relation[2])
            _book(records, relation, tables[relation], counts)
        for record in records:
            record |= {"kept": 0, "merged": 0, "self_loops": 0, "dropped": {}} | record
        parts = dict(nodes), tables, features or {}, tuple(records), tuple(map(dict, history))
        return cls(*parts, cells=dict(cells or {}), provenance=dict(provenance or {}))  # type: ignore[arg-type]

    @classmethod
    def encoded(
        cls, nodes: Nodes, edges: Mapping[Relation, pd.DataFrame], account: Records, features: Features | None
    ) -> GraphTables:
        """Take nodes and edges by name; see `KnowledgeGraph`."""
        expect(nodes, Mapping, "nodes (type → names)")
        expect(edges, Mapping, "edges (relation → table)")
        tables = _check_nodes(nodes)
        codes = {relation: encode(tables, triple(relation), table) for relation, table in edges.items()}
        return cls.collapsed(tables, codes, account, features=features)

    @classmethod
    def of_relation(
        cls, nodes: Nodes, relation: Relation, table: pd.DataFrame, origin: str, **record: Any
    ) -> GraphTables:
        """Take the encoded edges of one relation from one source, and the source's record in the account."""
        record = {"origin": origin, "relation": "–".join(relation), **record}
        return cls.collapsed(_check_nodes(nodes), {relation: table}, [record])

    def derive(
        self,
        operation: str,
        *,
        nodes: Mapping[str, pd.DataFrame] | None = None,
        edges: Mapping[Relation, pd.DataFrame] | None = None,
        features: Features | None = None,
        **details: Any,
    ) -> GraphTables:
        """Replace some parts, and note the operation in the history."""
        changed = {"nodes": nodes, "edges": edges, "features": features}
        result = replace(self, **{name: part for name, part in changed.items() if part is not None})  # type: ignore[arg-type]
        before, after = (sum(map(len, tables.edges.values())) for tables in (self, result))
        note = {"operation": operation, **details, "edges_before": before, "edges_after": after}
        return replace(result, account=tuple(map(dict, self.account)), history=(*self.history, note))

    def made_from(self, origin: str, *cells: Iterable[str] | np.ndarray) -> GraphTables:
        """Note the cells that a source was made from, by name or by hash, beside those noted before."""
        found = [np.asarray(seen if getattr(seen, "dtype", None) == np.uint64 else name_hashes(seen)) for seen in cells]
        return replace(self, cells=united([self.cells, *({origin: seen} for seen in found)]))

    @property
    def sources(self) -> set[str]:
        """Names of what edges came from, and of features."""
        return {*self.origins, *(name for matrices in self.features.values() for name in matrices)}

    @property
    def origins(self) -> list[str]:
        """Names of the knowledge sources that edges came from, sorted."""
        return sorted({str(name) for table in self.edges.values() for name in table["origin"].cat.categories})

    def node_table(self, node_type: str) -> pd.DataFrame:
        """Return the table of a node type, or raise `InputError`."""
        if node_type not in self.nodes:
            raise InputError(f"no node type {node_type!r} in the graph; it has {', '.join(self.nodes)}")
        return self.nodes[node_type]

    def table(self, relation: Relation) -> pd.DataFrame:
        """Return the encoded edges of a relation, one row a pair and origin, or raise `InputError`."""
        relation = triple(relation)
        if relation not in self.edges:
            known = ", ".join(map(str, self.edges)) or "none"
            raise InputError(f"no relation {relation} in the graph; it has {known}")
        return self.edges[relation]

    def pairs(self, relation: Relation) -> pd.DataFrame:
        """Return the encoded edges of a relation, one row a pair, its origins combined."""
        return combine_origins(self.table(relation))

    def named(self, relation: Relation, *, by_origin: bool = False) -> pd.DataFrame:
        """Return the edges of a relation with names for nodes, one row a pair, or a pair and origin."""
        return named(self.table(relation) if by_origin else self.pairs(relation), relation, self.nodes)

    def take_nodes(
        self, rows: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, np.ndarray]]]:
        """Return the node tables and features of the rows `rows[type]`; types that are not named stay whole."""
        nodes = {kind: table.iloc[rows[kind]] if kind in rows else table for kind, table in self.nodes.items()}
        features = {
            kind: {name: matrix[rows[kind]] if kind in rows else matrix for name, matrix in matrices.items()}
            for kind, matrices in self.features.items()
        }
        return nodes, features

    def __eq__(self, other: object) -> bool:
        """Whether nodes, edges and features are the same; where they came from aside."""
        if not isinstance(other, GraphTables):
            return NotImplemented
        mine, theirs = self.features, other.features
        return (
            self.nodes.keys() == other.nodes.keys()
            and self.edges.keys() == other.edges.keys()
            and all(self.nodes[kind].equals(other.nodes[kind]) for kind in self.nodes)
            and all(self.edges[relation].equals(other.edges[relation]) for relation in self.edges)
            and {(kind, name) for kind in mine for name in mine[kind]}
            == {(kind, name) for kind in theirs for name in theirs[kind]}
            and all(np.array_equal(mine[k][n], theirs[k][n], equal_nan=True) for k in mine for n in mine[k])
        )


def united(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Unite records of cells, source by source: sorted, each cell once."""
    result: dict[str, np.ndarray] = {}
    for part in parts:
        for name, seen in part.items():
            result[name] = np.union1d(result.get(name, np.array([], np.uint64)), seen)
    return result


def _book(
    account: list[dict[str, Any]], relation: Relation, table: pd.DataFrame, counts: Mapping[str, Mapping[str, int]]
) -> None:
    """Add what was merged and dropped to the sources' records, and take it from what they kept."""
    kept = table["origin"].value_counts()
    for record in account:
        if record.get("relation") != "–".join(relation):
            continue
        if "kept" not in record:
            record["kept"] = int(kept.get(record["origin"], 0))
            for reason, n in counts.get(record["origin"], {}).items():
                record[reason] = record.get(reason, 0) + n
        elif (n := counts.get(record["origin"], {}).get("merged", 0)) and record["kept"]:
            moved = min(n, record["kept"])
            record["merged"] = record.get("merged", 0) + moved
            record["kept"] -= moved
            counts = dict(counts) | {record["origin"]: {"merged": n - moved}}


def _check_nodes(nodes: Nodes) -> dict[str, pd.DataFrame]:
    checked = {}
    for kind, table in nodes.items():
        names = table.index if isinstance(table, pd.DataFrame) else table
        index = pd.Index(all_named(names, f"names of {kind} nodes"), dtype=object)
        table = table.set_axis(index) if isinstance(table, pd.DataFrame) else pd.DataFrame(index=index)
        checked[kind] = table.rename_axis("name")
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()][0]
            raise InputError(f"{kind} {twice!r} stands twice among the nodes; node names must be unique")
    return checked


def _check_features(nodes: Mapping[str, pd.DataFrame], features: Features) -> dict[str, dict[str, np.ndarray]]:
    checked: dict[str, dict[str, np.ndarray]] = {}
    for kind, matrices in features.items():
        for name, matrix in matrices.items():
            try:
                matrix = matrix.detach().cpu() if hasattr(matrix, "detach") else matrix
                matrix = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise InputError(f"feature {name!r} of {kind} nodes is not all numbers: {error}") from None
            if kind not in nodes or matrix.ndim != 2 or len(matrix) != len(nodes[kind]):
                rows = len(nodes[kind]) if kind in nodes else "no"
                raise InputError(f"feature {name!r} has the shape {matrix.shape}; the graph has {rows} {kind} nodes")
            checked.setdefault(kind, {})[name] = matrix
    return checked
