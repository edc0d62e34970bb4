"""From columns of names, batch by batch, to the graph of one relation: tens of millions of edges fit in memory."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kgnn.errors import DataWarning, InputError
from kgnn.graph.edges import Relation, mirror, table_of
from kgnn.graph.identifiers import LOOKS
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.tables import GraphTables
from kgnn.names import as_names, warn_if_damaged

IDS = ("Ensembl gene ids", "Entrez numbers")


class Names:
    """Number names in the order in which they come."""

    def __init__(self) -> None:
        self.code: dict[str, int] = {}

    def codes(self, values: Any) -> np.ndarray:
        """Return the numbers of a column of names (Arrow, pandas or NumPy), −1 for a missing or blank one."""
        if not isinstance(values, pa.Array | pa.ChunkedArray):
            values = pa.array(as_names(values), pa.string())
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
        words = as_names(values.dictionary.to_pylist())
        new = np.array([self.code.setdefault(word, len(self.code)) if word else -1 for word in words] + [-1], np.int32)
        return new[values.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)]

    def sorted(self) -> tuple[list[str], np.ndarray]:
        """Return the names in alphabetical order, and each old number's new one."""
        names = sorted(self.code)
        new = np.empty(len(names), np.int32)
        new[[self.code[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return names, new


class EdgeCollector:
    """Gather the edges of one relation batch by batch, as numbers: 17 bytes an edge."""

    def __init__(self, relation: Relation, names: dict[str, Names] | None = None) -> None:
        self.relation = relation
        self.names = {} if names is None else names
        self.rows_read = 0
        self.nameless = 0
        self._parts: list[list[np.ndarray]] = []

    def add(
        self,
        source: Any,
        target: Any,
        weight: np.ndarray | float = 1.0,
        sign: np.ndarray | int = 0,
        confidence: np.ndarray | float = np.nan,
    ) -> None:
        """Add rows; those without a source or a target are counted and left out."""
        ends = [
            self.names.setdefault(kind, Names()).codes(column)
            for kind, column in ((self.relation[0], source), (self.relation[2], target))
        ]
        named = (ends[0] >= 0) & (ends[1] >= 0)
        self.rows_read += len(named)
        self.nameless += int((~named).sum())
        values = [
            np.broadcast_to(np.asarray(value, kind), named.shape)[named]
            for value, kind in ((weight, np.float32), (sign, np.int8), (confidence, np.float32))
        ]
        self._parts.append([ends[0][named], ends[1][named], *values])

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return source, target, weight, sign, confidence of all edges, and forget the batches."""
        kinds = (np.int32, np.int32, np.float32, np.int8, np.float32)
        columns = []
        for kind in kinds:  # a batch's column is let go as soon as it is copied
            columns.append(np.concatenate([np.array([], kind), *(part.pop(0) for part in self._parts)]))
        self._parts = []
        return tuple(columns)

    def graph(
        self,
        origin: str,
        *,
        label: str,
        undirected: bool = False,
        dropped: dict[str, int] | None = None,
        **record: Any,
    ) -> KnowledgeGraph:
        """Return the graph of what was gathered; nodes in alphabetical order."""
        dropped = dict(dropped or {})
        if self.nameless:
            dropped["no source or target"] = self.nameless
        source, target, weight, sign, confidence = self.columns()
        if not len(source):
            reasons = "; ".join(f"{reason}: {n}" for reason, n in dropped.items())
            raise InputError(f"{label}: no edge left to load ({reasons or 'no rows'}); check the file and the filters")
        nodes, new = {}, {}
        for kind in dict.fromkeys((self.relation[0], self.relation[2])):
            names, new[kind] = self.names[kind].sorted()
            nodes[kind] = pd.DataFrame(index=pd.Index(names, dtype=object, name="name"))
            if kind == "gene":
                check_genes(names, label)
        source, target = new[self.relation[0]][source], new[self.relation[2]][target]
        edges = {self.relation: table_of(source, target, origin, weight, sign, confidence)}
        del source, target, weight, sign, confidence
        record = {"path": label, "rows_read": self.rows_read, "added": 0, **record, "dropped": dropped}
        record = {"origin": origin, "relation": "–".join(self.relation), **record}
        tables = GraphTables.collapsed(nodes, edges, [record])
        if undirected:
            forward, (booked,) = tables.edges[self.relation], tables.account
            both = mirror(forward)
            booked = booked | {"added": booked["added"] + len(both) - len(forward), "kept": len(both)}
            tables = replace(tables, edges={self.relation: both}, account=(booked,))
        return KnowledgeGraph.of(tables)


def graph_of(
    edges: pd.DataFrame, relation: Relation, origin: str, *, label: str, rows_read: int, **record: Any
) -> KnowledgeGraph:
    """Make a graph of one relation from a table of names with `source`, `target` and perhaps more columns."""
    collector = EdgeCollector(relation)
    values = {name: edges[name].to_numpy() for name in ("weight", "sign", "confidence") if name in edges}
    collector.add(edges["source"], edges["target"], **values)
    return collector.graph(origin, label=label, **{"rows_read": rows_read, **record})


def check_genes(names: Iterable[Any], label: str) -> None:
    """Warn (`DataWarning`) of genes' names that a program has damaged, and of mixed namespaces.

    Mixed: at least a twentieth of the genes are ids and at least a twentieth are not.
    """
    names = [name for name in as_names(list(names)) if name is not None]
    warn_if_damaged(names, label)
    for kind in IDS:
        ids = sum(bool(re.fullmatch(LOOKS[kind], name)) for name in names)
        if min(ids, len(names) - ids) >= max(2, len(names) / 20):
            warnings.warn(
                f"{label}: mixed namespaces: {ids} of {len(names)} genes are {kind}, the others are not; "
                "give all genes one namespace with map_genes",
                DataWarning,
                stacklevel=3,
            )
