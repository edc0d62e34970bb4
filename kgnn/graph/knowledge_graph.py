"""`KnowledgeGraph`, the one container for typed prior knowledge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Relation = tuple[str, str, str]
EDGE_COLUMNS = ["source", "target", "weight", "sign", "origin"]


class KnowledgeGraph:
    """Node tables by type and edge tables by relation `(source_type, relation, target_type)`. Immutable.

    Every edge has a `weight` (positive strength, 1 when the source gives none), a `sign` (+1 activates, −1
    represses, 0 unknown) and an `origin`, the name of the knowledge source it came from. One pair of nodes may
    stand in several origins; each origin keeps its own weight and sign, so that `drop_source` leaves exactly
    what the other sources say. Within one origin duplicate edges merge (largest weight, majority sign) and self
    loops drop, both counted in `account`.

    Args:
        nodes: node type → table indexed by node name (or an iterable of names).
        edges: relation → table with columns `source` and `target` (node names) and optionally `weight`,
            `sign`, `origin`.
        account: one mapping a source, what was read and what became of it; carried along by every operation.

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
        account: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._nodes = {kind: _node_table(kind, table) for kind, table in nodes.items()}
        self._edges: dict[Relation, pd.DataFrame] = {}
        self.account: tuple[dict[str, Any], ...] = tuple(dict(record) for record in account)
        for relation, table in edges.items():
            encoded = _encode(self._nodes, relation, table)
            self._edges[relation], counts = _collapse(encoded, loops_possible=relation[0] == relation[2])
            for origin, count in counts.items():
                self._book(origin, relation[1], count)

    @classmethod
    def _from_parts(
        cls,
        nodes: Mapping[str, pd.DataFrame],
        edges: Mapping[Relation, pd.DataFrame],
        account: Iterable[Mapping[str, Any]],
    ) -> KnowledgeGraph:
        """Take tables that are already checked and encoded (edge ends as row numbers of the node tables)."""
        graph = cls.__new__(cls)
        graph._nodes, graph._edges = dict(nodes), dict(edges)
        graph.account = tuple(dict(record) for record in account)
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
        return sorted({origin for table in self._edges.values() for origin in table["origin"].unique()})

    def nodes(self, node_type: str) -> pd.DataFrame:
        """Return a copy of the node table, indexed by node name."""
        if node_type not in self._nodes:
            raise InputError(f"no node type {node_type!r} in the graph; it has {', '.join(self._nodes)}")
        return self._nodes[node_type].copy()

    def edges(self, relation: Relation, *, by_origin: bool = False) -> pd.DataFrame:
        """Return the edges of a relation as `source, target, weight, sign, origin`, names for nodes.

        One row a pair of nodes: the largest weight, the majority sign (0 when tied), the origins joined by
        `|`. With `by_origin=True` one row a pair and origin, as stored.
        """
        table = self._table(relation)
        if not by_origin:
            table = combine_origins(table)
        source, target = (self._nodes[relation[side]].index for side in (0, 2))
        return pd.DataFrame(
            {
                "source": source.to_numpy()[table["source"]],
                "target": target.to_numpy()[table["target"]],
                **{column: table[column].to_numpy() for column in EDGE_COLUMNS[2:]},
            }
        )

    def edge_arrays(self, relation: Relation) -> pd.DataFrame:
        """Return what `edges` returns with row numbers of the node tables instead of names."""
        return combine_origins(self._table(relation))

    def summary(self) -> pd.DataFrame:
        """Return one row a relation and origin: edges, nodes, signs, weights, and what loading dropped."""
        records = {(record.get("origin"), record.get("relation")): record for record in self.account}
        rows = []
        for relation, table in self._edges.items():
            booked = {str(origin) for origin, name in records if name == relation[1]}
            for origin in sorted(booked | set(table["origin"])):
                part = table[table["origin"] == origin]
                record = records.get((origin, relation[1]), {})
                dropped = record.get("dropped", {})
                rows.append(
                    {
                        "relation": "–".join(relation),
                        "origin": origin,
                        "edges": len(part),
                        "sources": part["source"].nunique(),
                        "targets": part["target"].nunique(),
                        "positive": int((part["sign"] > 0).sum()),
                        "negative": int((part["sign"] < 0).sum()),
                        "unsigned": int((part["sign"] == 0).sum()),
                        "weight_min": float(part["weight"].min()),
                        "weight_median": float(part["weight"].median()),
                        "weight_max": float(part["weight"].max()),
                        "rows_read": record.get("rows_read"),
                        "merged": record.get("merged", 0),
                        "self_loops": record.get("self_loops", 0),
                        "dropped": "; ".join(f"{reason}: {n}" for reason, n in dropped.items()),
                    }
                )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        nodes = ", ".join(f"{kind}: {len(table)}" for kind, table in self._nodes.items())
        edges = ", ".join(f"{'–'.join(rel)}: {len(self.edge_arrays(rel))}" for rel in self._edges)
        return f"KnowledgeGraph({nodes}; {edges})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KnowledgeGraph):
            return NotImplemented
        return (
            self._nodes.keys() == other._nodes.keys()
            and self._edges.keys() == other._edges.keys()
            and all(self._nodes[kind].equals(other._nodes[kind]) for kind in self._nodes)
            and all(self._edges[relation].equals(other._edges[relation]) for relation in self._edges)
        )

    __hash__ = None  # type: ignore[assignment]

    # operations: each returns a new graph

    @staticmethod
    def merge(graphs: Iterable[KnowledgeGraph]) -> KnowledgeGraph:
        """Unite graphs: nodes by type and name, edges by relation, pair and origin. Same as `a | b | c`."""
        from kgnn.graph.operations import merge

        return merge(list(graphs))

    def __or__(self, other: KnowledgeGraph) -> KnowledgeGraph:
        return KnowledgeGraph.merge([self, other])

    def subset(self, names: Iterable[str], node_type: str = "gene") -> KnowledgeGraph:
        """Keep the nodes of `node_type` that are in `names` (in that order) and the edges between kept nodes."""
        from kgnn.graph.operations import subset

        return subset(self, names, node_type)

    def drop_source(self, *origins: str) -> KnowledgeGraph:
        """Remove all that the named knowledge sources contributed; nodes stay.

        Raises:
            InputError: no such source in the graph.
        """
        self._check_origins(origins)
        return self._keep(lambda table: ~table["origin"].isin(origins))

    def only_sources(self, *origins: str) -> KnowledgeGraph:
        """Keep only the edges that the named knowledge sources contributed; nodes stay."""
        self._check_origins(origins)
        return self._keep(lambda table: table["origin"].isin(origins))

    def rewire(self, seed: int, swaps: int = 10) -> KnowledgeGraph:
        """Scramble who is linked to whom, keeping every node's in- and out-degree in every relation.

        Args:
            seed: same seed, same graph.
            swaps: rounds of target swaps; each round proposes one swap for every edge (Maslov & Sneppen 2002).

        Weights, signs and origins travel with the edge's source end. See `kgnn.graph.operations.rewire`.
        """
        from kgnn.graph.operations import rewire

        return rewire(self, seed, swaps)

    def to_hetero(self) -> HeteroData:
        """Return a PyG `HeteroData`: `node_id`, `num_nodes`, `edge_index` [2, edges], `edge_weight`, `edge_sign`."""
        from kgnn.graph.hetero import to_hetero

        return to_hetero(self)

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

    def _book(self, origin: str, relation: str, count: Mapping[str, int]) -> None:
        """Add what was merged and dropped to the source's first record in the account."""
        for record in self.account:
            if (record.get("origin"), record.get("relation")) == (origin, relation):
                for reason, n in count.items():
                    record[reason] = record.get(reason, 0) + n
                return

    def _table(self, relation: Relation) -> pd.DataFrame:
        relation = tuple(relation)  # type: ignore[assignment]
        if relation not in self._edges:
            known = ", ".join(map(str, self._edges)) or "none"
            raise InputError(f"no relation {relation} in the graph; it has {known}")
        return self._edges[relation]

    def _check_origins(self, origins: Iterable[str]) -> None:
        unknown = sorted(set(origins) - set(self.origins))
        if unknown:
            raise InputError(f"no source {unknown[0]!r} in the graph; it has {', '.join(self.origins) or 'none'}")

    def _keep(self, choose: Any) -> KnowledgeGraph:
        tables = {rel: table[choose(table)].reset_index(drop=True) for rel, table in self._edges.items()}
        edges = {rel: table for rel, table in tables.items() if len(table)}
        left = {(origin, rel[1]) for rel, table in edges.items() for origin in table["origin"].unique()}
        account = [record for record in self.account if (record.get("origin"), record.get("relation")) in left]
        return KnowledgeGraph._from_parts(self._nodes, edges, account)


def combine_origins(table: pd.DataFrame) -> pd.DataFrame:
    """One row a pair: largest weight, majority sign, origins joined by `|`."""
    if not table.duplicated(["source", "target"]).any():
        return table.copy()
    grouped = table.groupby(["source", "target"], sort=False)
    combined = grouped.agg(weight=("weight", "max"), sign=("sign", "sum"), origin=("origin", "|".join)).reset_index()
    combined["sign"] = np.sign(combined["sign"]).astype(np.int8)
    return combined


def _node_table(kind: str, table: pd.DataFrame | Iterable[str]) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(index=pd.Index([str(name) for name in table], dtype=object))
    table = table.rename_axis("name")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{kind} {twice!r} stands twice among the nodes; node names must be unique")
    return table


def _encode(nodes: Mapping[str, pd.DataFrame], relation: Relation, table: pd.DataFrame) -> pd.DataFrame:
    """Check an edge table of names and replace the names by row numbers."""
    missing = [column for column in ("source", "target") if column not in table]
    if missing:
        raise InputError(f"edges of {relation} lack the column {missing[0]!r}; they have {', '.join(table.columns)}")
    columns: dict[str, Any] = {}
    for column, kind in (("source", relation[0]), ("target", relation[2])):
        if kind not in nodes:
            raise InputError(f"relation {relation} needs nodes of type {kind!r}; the graph has {', '.join(nodes)}")
        codes = nodes[kind].index.get_indexer(table[column])
        if (codes < 0).any():
            name = table[column].iloc[int(np.argmax(codes < 0))]
            raise InputError(f"an edge of {relation} names the unknown {kind} {name!r}; add it to the nodes first")
        columns[column] = codes.astype(np.int32)
    weight = np.asarray(table["weight"] if "weight" in table else np.ones(len(table)), dtype=np.float32)
    if not np.isfinite(weight).all():
        row = int(np.argmin(np.isfinite(weight)))
        pair = f"{table['source'].iloc[row]}→{table['target'].iloc[row]}"
        raise InputError(f"edge {pair} of {relation} has the weight {weight[row]}; weights must be finite")
    columns["weight"] = weight
    columns["sign"] = np.sign(np.asarray(table["sign"] if "sign" in table else np.zeros(len(table)))).astype(np.int8)
    columns["origin"] = np.asarray(table["origin"] if "origin" in table else ["unnamed"] * len(table), dtype=object)
    return pd.DataFrame(columns)


def _collapse(table: pd.DataFrame, *, loops_possible: bool) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Drop self loops, merge duplicates within an origin; return the table and the counts an origin."""
    keys = ["source", "target", "origin"]
    counts: dict[str, dict[str, int]] = {}
    loops = (table["source"] == table["target"]) if loops_possible else pd.Series(False, index=table.index)
    for reason, rows in (("self_loops", loops), ("merged", table[~loops].duplicated(keys))):
        for origin, n in table.loc[rows[rows].index, "origin"].value_counts().items():
            counts.setdefault(str(origin), {})[reason] = int(n)
    table = table[~loops]
    if table.duplicated(keys).any():
        table = table.groupby(keys, sort=False).agg(weight=("weight", "max"), sign=("sign", "sum")).reset_index()
        table["sign"] = np.sign(table["sign"]).astype(np.int8)
    table = table.sort_values(keys, kind="stable", ignore_index=True)
    return table[EDGE_COLUMNS], counts
