"""The account of a graph: what was read, what became of every row, and what the graph looks like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kgnn.graph.edges import pair_keys, sides
from kgnn.graph.identifiers import looks_like
from kgnn.graph.structure import component_labels
from kgnn.graph.tables import GraphTables
from kgnn.names import all_named

SHOWN = ["relation", "origin", "edges", "positive", "negative", "unsigned", "weight_median"]


def summary(graph: GraphTables) -> pd.DataFrame:
    """Return one row a relation and origin: edges, nodes, signs, weights, what loading merged and dropped, licence."""
    records: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in graph.account:
        records.setdefault((record["relation"], record["origin"]), []).append(record)
    rows = []
    for relation, table in graph.edges.items():
        name = "–".join(relation)
        booked = {origin for key, origin in records if key == name}
        for origin in sorted(booked | set(table["origin"].cat.categories)):
            part = table[(table["origin"] == origin).to_numpy()]
            read = records.get((name, origin), [])
            sign, weight = part["sign"].to_numpy(), part["weight"]
            dropped: dict[str, int] = {}
            for record in read:
                for reason, n in record["dropped"].items():
                    dropped[reason] = dropped.get(reason, 0) + n
            rows.append(
                {
                    "relation": name,
                    "origin": origin,
                    "edges": len(part),
                    "sources": part["source"].nunique(),
                    "targets": part["target"].nunique(),
                    "positive": int((sign > 0).sum()),
                    "negative": int((sign < 0).sum()),
                    "unsigned": int((sign == 0).sum()),
                    "weight_min": float(weight.min()),
                    "weight_median": float(weight.median()),
                    "weight_max": float(weight.max()),
                    "rows_read": sum(r["rows_read"] for r in read) if read else None,
                    "unit": read[0].get("unit", "rows") if read else None,
                    "kept": sum(r.get("kept", 0) for r in read),
                    "merged": sum(r.get("merged", 0) for r in read),
                    "self_loops": sum(r.get("self_loops", 0) for r in read),
                    "dropped": "; ".join(f"{reason}: {n}" for reason, n in dropped.items()),
                    "licence": graph.provenance.get(origin, {}).get("licence"),
                    "version": graph.provenance.get(origin, {}).get("version"),
                }
            )
    return pd.DataFrame(rows)


@dataclass(repr=False)
class Report:
    """What `KnowledgeGraph.report` returns. Prints as text, shows as tables in a notebook.

    Attributes:
        nodes: node type → number of nodes.
        sources: one row a relation and origin, as `summary()`.
        degrees: one row a relation and side (`out` of sources, `in` of targets): nodes with an edge, nodes without,
            and the mean, median, 99th percentile and maximum of edges a node that has some.
        overlap: one row a relation and pair of origins: pairs of nodes in both, and their share of the smaller one
            and of the union (Jaccard).
        components: number of weakly connected components over all relations, nodes in the largest, lone nodes.
        coverage: if genes were given, one row a relation (and one for all): how many of them have an edge.
        namespace: what most gene names look like.
        account: what was read, one record a source and relation.
        history: operations since, with the numbers of edges before and after.
    """

    nodes: dict[str, int]
    sources: pd.DataFrame
    degrees: pd.DataFrame
    overlap: pd.DataFrame
    components: dict[str, int]
    coverage: pd.DataFrame
    namespace: str = ""
    account: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and dictionaries, ready for JSON (NaN stays NaN)."""
        tables = ("sources", "degrees", "overlap", "coverage")
        values = {name: getattr(self, name) for name in ("nodes", "namespace", "components", "account", "history")}
        return values | {name: getattr(self, name).to_dict("records") for name in tables}

    def reading(self) -> list[str]:
        """Return one line a record of the account: rows read, kept, merged, dropped and why."""
        return [_sentence(record) for record in self.account]

    def _licences(self) -> list[str]:
        if not len(self.sources) or self.sources[["licence", "version"]].isna().all(axis=None):
            return []
        told = self.sources[["origin", "licence", "version"]].drop_duplicates("origin")
        return [
            f"{origin}: {licence or 'no licence told'}{f', version {version}' if version else ''}"
            for origin, licence, version in told.itertuples(index=False)
        ]

    def _parts(self) -> list[tuple[str, Any]]:
        parts = [
            ("nodes", ", ".join(f"{n:,} {kind}" for kind, n in self.nodes.items())),
            ("genes look like", self.namespace),
            ("components", ", ".join(f"{what}: {n:,}" for what, n in self.components.items())),
            ("read", self.reading()),
            ("done since", [" ".join(f"{key}={value}" for key, value in note.items()) for note in self.history]),
            ("sources", self.sources[SHOWN] if len(self.sources) else []),
            ("licences", self._licences()),
            ("degrees", self.degrees),
            ("overlap", self.overlap),
            ("coverage", self.coverage),
        ]
        return [(title, content) for title, content in parts if len(content)]

    def __str__(self) -> str:
        text = []
        for title, content in self._parts():
            if isinstance(content, pd.DataFrame):
                content = content.to_string(index=False)
            lines = content if isinstance(content, list) else content.splitlines()
            text += [f"{title}:", *(f"  {line}" for line in lines)]
        return "\n".join(text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        html = ""
        for title, content in self._parts():
            if isinstance(content, pd.DataFrame):
                html += f"<p><b>{title}</b></p>{content.to_html(index=False)}"
            else:
                html += f"<p><b>{title}</b>: {content if isinstance(content, str) else '<br>'.join(content)}</p>"
        return html


def report(graph: GraphTables, genes: Iterable[str] | None = None) -> Report:
    """Return the account of the graph: sources, degrees, components, overlap of sources, coverage.

    Args:
        genes: for the coverage: the data's genes (`adata.var_names`), in the graph's namespace.

    Example:
        >>> print(kg.report(adata.var_names))
    """
    labels = component_labels(graph)
    joined = np.concatenate([np.array([], np.int64), *labels.values()])
    sizes = np.bincount(joined) if len(joined) else np.array([], np.int64)
    return Report(
        nodes={kind: len(table) for kind, table in graph.nodes.items()},
        sources=summary(graph),
        degrees=_degrees(graph),
        overlap=_overlap(graph),
        components={
            "number": len(sizes),
            "nodes in the largest": int(sizes.max(initial=0)),
            "nodes without an edge": int((sizes == 1).sum()),
        },
        coverage=pd.DataFrame() if genes is None else _coverage(graph, all_named(genes, "genes")),
        namespace=looks_like(graph.nodes["gene"].index) if "gene" in graph.nodes else "",
        account=[dict(record) for record in graph.account],
        history=[dict(note) for note in graph.history],
    )


def _sentence(record: dict[str, Any]) -> str:
    counts = {
        "edges added": record.get("added", 0),
        "merged": record.get("merged", 0),
        "self loops": record.get("self_loops", 0),
    }
    counts |= record["dropped"]
    rest = "".join(f"; {reason}: {n:,}" for reason, n in counts.items() if n)
    kept = f"{record['kept']:,}{' edges' if '–' in record['relation'] else ''} kept"
    read = f"{record['rows_read']:,} {record.get('unit', 'rows')} read"
    return f"{record['origin']}, {record['relation']}: {read}; {kept}{rest}"


def _degrees(graph: GraphTables) -> pd.DataFrame:
    rows = []
    for relation in graph.edges:
        table = graph.pairs(relation)
        for side, column, kind in (("out", "source", relation[0]), ("in", "target", relation[2])):
            degree = np.bincount(table[column], minlength=len(graph.nodes[kind]))
            some = degree[degree > 0]
            rows.append(
                {
                    "relation": "–".join(relation),
                    "side": side,
                    "nodes": len(some),
                    "without": int((degree == 0).sum()),
                    "mean": float(some.mean()) if len(some) else 0.0,
                    "median": float(np.median(some)) if len(some) else 0.0,
                    "p99": float(np.percentile(some, 99)) if len(some) else 0.0,
                    "max": int(degree.max(initial=0)),
                }
            )
    return pd.DataFrame(rows)


def _overlap(graph: GraphTables) -> pd.DataFrame:
    rows = []
    for relation, table in graph.edges.items():
        keys, codes = pair_keys(table), table["origin"].cat.codes.to_numpy()
        parts = {name: keys[codes == code] for code, name in enumerate(table["origin"].cat.categories)}
        for (a, first), (b, second) in combinations(parts.items(), 2):
            both = len(np.intersect1d(first, second, assume_unique=True))
            rows.append(
                {
                    "relation": "–".join(relation),
                    "origin": a,
                    "other": b,
                    "shared": both,
                    "of_smaller": both / min(len(first), len(second)),
                    "jaccard": both / (len(first) + len(second) - both),
                }
            )
    return pd.DataFrame(rows)


def _coverage(graph: GraphTables, genes: list[str]) -> pd.DataFrame:
    wanted = pd.Index(genes, dtype=object).unique()
    index = graph.node_table("gene").index
    linked = {}
    for relation, table in graph.edges.items():
        ends = [table[c] for c, kind in sides(relation) if kind == "gene"]
        if ends:
            linked["–".join(relation)] = index[np.unique(np.concatenate(ends))]
    everything = pd.Index(np.concatenate([names.to_numpy() for names in linked.values()])) if linked else index[:0]
    rows = {"known to the graph": index, "linked in any relation": everything} | linked
    covered = [wanted.isin(known) for known in rows.values()]
    counts = {"covered": [int(hit.sum()) for hit in covered], "of": len(wanted)}
    return pd.DataFrame({"genes": list(rows), **counts, "share": [hit.mean() for hit in covered]})
