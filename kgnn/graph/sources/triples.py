"""A whole knowledge graph in one table: many relations and node types, a row an edge."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kgnn.errors import DataWarning, InputError
from kgnn.files import existing_file, is_parquet
from kgnn.graph.edges import Relation, concat, table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.reading import (
    column_names,
    fields_of,
    first_fields,
    numbers,
    origin_of,
    parquet_batches,
    read_table,
    table_batches,
    text_lines,
    unique_columns,
)
from kgnn.graph.sources.collect import check_genes
from kgnn.graph.sources.triple_layouts import Layout, Link, Node, layout_of, nodes_of
from kgnn.graph.tables import GraphTables
from kgnn.names import as_names

LARGE = 1 << 20  # rows
SEPARATOR = "\x1f"  # of the texts of several columns that are read as one
Batches = Callable[[list[str]], Iterator[tuple[int, Any]]]


def load_triples(
    table: str | Path | pd.DataFrame,
    *,
    source: str | None = None,
    target: str | None = None,
    relation: str | None = None,
    source_type: str | None = None,
    target_type: str | None = None,
    weight: str | None = None,
    origin: str | None = None,
    nodes: str | Path | pd.DataFrame | None = None,
) -> KnowledgeGraph:
    """Read a table of triples with many relations and node types. Files are read in pieces: 12 bytes a row are kept.

    Read without naming columns: PrimeKG's `kg.csv` (Chandak et al., Sci Data 2023), or its `edges.csv` with `nodes`;
    OptimusKG's `edges.parquet`; Hetionet's `edges.sif.gz` (Himmelstein et al., eLife 2017); DRKG's `drkg.tsv`;
    OpenBioLink's `edges.csv` and samples (Breit et al., Bioinformatics 2020); and columns called `source, relation,
    target` or `head, relation, tail`, perhaps with `source_type, target_type`. Edges run as written; PrimeKG holds
    each one in both directions.

    Node types and relations are written in lower case with `_` for blanks; `gene/protein`, `Gene`, `biolink:Gene` are
    all `gene`. Genes are called by their symbols where the table or `nodes` has them (their ids stay in the column
    `id`), else by their ids; other nodes by their ids with the name of the database (`MONDO:0005044`), and their names
    are in the column `label`. DRKG's and OpenBioLink's rows tell their origins.

    Args:
        table: CSV, TSV or SIF, also .gz, Parquet, or a DataFrame.
        source, target, relation: columns of names and of relations, where the layout is none of these.
        source_type, target_type: columns of node types; without them all nodes are genes.
        weight: column of finite numbers; by default `weight` where there is one, else 1. Of a negative one the size is
            the weight, and its sign the edge's sign.
        origin: name of this source in the graph, or the column that tells each row's, by default `origin` where there
            is one; of rows without one the layout's name, or the file's without its ending.
        nodes: table of nodes: Hetionet's `nodes.tsv` (id, name, kind), OptimusKG's `nodes.parquet` (id, label,
            properties), PrimeKG's and OpenBioLink's `nodes.csv`, or one with `id`, `kind` and `name`.

    Returns:
        A graph of all node types and relations. Rows without an end or a relation, and OpenBioLink's negative samples,
        are dropped; all are counted in `summary()`, and the relations' own names stand in `account`.

    Raises:
        InputError: missing file or column, an unknown layout, a weight that is not a finite number (file and line), no
            edge left. Several ids of one symbol are a `DataWarning`.
    """
    columns, batches, label = _opened(table)
    layout = layout_of(columns, (source, relation, target), (source_type, target_type), label)
    if layout.header and (label == "table" or is_parquet(label)):
        raise InputError(
            f"{label}: the first row stands where the columns' names belong; read {layout.name}'s own file"
        )
    header = layout.header or columns
    own = "origin" if origin is None else origin
    layout = replace(layout, origin=own) if layout.origin is None and own in header else layout
    weight = weight or ("weight" if "weight" in header and not layout.name else None)
    wanted = list(dict.fromkeys(filter(None, (*layout.source, *layout.target, *layout.link, weight, layout.negative))))
    for column in wanted:
        if column not in header:
            raise InputError(f"{label}: no column {column!r}; the columns are {', '.join(header[:12])}")
    gathered = _Gathered(layout, {} if nodes is None else _known(nodes))
    for first, batch in batches(wanted, layout.header):
        gathered.add(batch, weight, label, first)
    name = layout.name if origin in (None, layout.origin) else origin
    return gathered.graph(name or origin_of(table), label)


def _opened(table: str | Path | pd.DataFrame) -> tuple[list[str], Any, str]:
    """Return the names of the columns (or the first row), what yields (first line, batch) of columns, and a label."""
    if isinstance(table, pd.DataFrame):
        names = column_names(table.columns)
        frame = unique_columns(table.set_axis(names, axis=1))
        return names, lambda wanted, header: [(0, frame[wanted].reset_index(drop=True))], "table"
    path = existing_file(table)
    if is_parquet(path):
        names = next((batch.schema.names for _, batch in parquet_batches(path)), [])
        return names, lambda wanted, header: _large(parquet_batches(path, wanted)), str(path)
    line = next((line for _, line in text_lines(path)), "")
    separator = "\t" if "\t" in line else ","
    names = column_names(fields_of(line, separator, f"{path}:1"))

    def batches(wanted: list[str], header: list[str] | None) -> Iterator[tuple[int, Any]]:
        return _large(table_batches(path, separator=separator, header=header, columns=wanted))

    return names, batches, str(path)


def _large(batches: Iterable[tuple[int, pa.RecordBatch]]) -> Iterator[tuple[int, pa.Table]]:
    """Put batches together: each brings most of the nodes, which are looked up once a batch."""
    held: list[tuple[int, pa.RecordBatch]] = []
    for batch in batches:
        held.append(batch)
        if sum(len(part) for _, part in held) >= LARGE:
            yield held[0][0], pa.Table.from_batches([part for _, part in held])
            held = []
    if held:
        yield held[0][0], pa.Table.from_batches([part for _, part in held])


def _known(nodes: str | Path | pd.DataFrame) -> Mapping[str, Node]:
    if isinstance(nodes, pd.DataFrame) or is_parquet(nodes):
        return nodes_of(*read_table(nodes))
    fields = first_fields(existing_file(nodes))
    if len(fields) == 2 and ":" in fields[0]:  # OpenBioLink's has no header line
        return nodes_of(*read_table(nodes, separator="\t", header=["id", "kind"]))
    return nodes_of(*read_table(nodes, separator="\t" if len(fields) > 1 else ","))


class _Gathered:
    """The rows read so far as numbers, and what their numbers stand for."""

    def __init__(self, layout: Layout, known: Mapping[str, Node]) -> None:
        self.layout = layout
        self.known = known
        self.nodes: dict[tuple[str, str], int] = {}  # (type, name)
        self.told: list[Node] = []
        self.links: dict[Link, int] = {}
        self.written: dict[str, dict[str, None]] = {}  # relation → what the table calls it
        self.shared: dict[str, None] = {}
        self.dropped: dict[str, int] = {}
        self._numbers: dict[str, Callable[[list[str]], int]] = {
            "source": partial(self._node, side=0),
            "target": partial(self._node, side=1),
            "link": self._link,
        }
        self._seen: dict[str, dict[str, int]] = {name: {} for name in self._numbers}
        self._parts: list[pd.DataFrame] = []

    def add(self, batch: Any, weight: str | None, label: str, first: int) -> None:
        """Take the rows of a batch."""
        layout = self.layout
        if layout.negative is not None:
            keep = pc.fill_null(pc.not_equal(batch[layout.negative], "0"), True)
            self._count("negative sample", len(batch) - pc.sum(keep).as_py() if len(batch) else 0)
            batch = batch.filter(keep)
        codes = {
            name: _codes(batch, getattr(layout, name), self._seen[name], number)
            for name, number in self._numbers.items()
        }
        rows = pd.DataFrame(codes)
        if weight is not None:
            column = batch[weight] if isinstance(batch, pd.DataFrame) else batch[weight].to_pandas()
            values = numbers(pd.DataFrame({weight: column}), weight, label, first=first)
            rows["weight"] = values.astype(np.float32)
        ends = (rows["source"] >= 0) & (rows["target"] >= 0)
        keep = ends & (rows["link"] >= 0)
        self._count("no source or target", int((~ends).sum()))
        self._count("no relation", int((ends & ~keep).sum()))
        self._parts.append(rows if keep.all() else rows[keep])

    def _count(self, reason: str, n: int) -> None:
        if n:
            self.dropped[reason] = self.dropped.get(reason, 0) + n

    def _node(self, parts: list[str], side: int) -> int:
        node = self.known.get(parts[-1]) or self.layout.node(parts, side)
        if not node.name or not node.kind:
            return -1
        number = self.nodes.setdefault((node.kind, node.name), len(self.nodes))
        if number == len(self.told):
            self.told.append(node)
        elif node.id and node.id != self.told[number].id:
            self.shared[node.name] = None
        return number

    def _link(self, parts: list[str]) -> int:
        link = self.layout.relation_of(parts[0])
        if not link.relation:
            return -1
        if any(parts[1:]):
            link = link._replace(origin=parts[1])
        self.written.setdefault(link.relation, {})[parts[0]] = None
        return self.links.setdefault(link, len(self.links))

    def graph(self, origin: str, label: str) -> KnowledgeGraph:
        """Return the graph of all rows; nodes in alphabetical order."""
        rows = pd.concat(self._parts, ignore_index=True) if self._parts else pd.DataFrame()
        self._parts = []
        if not len(rows):
            reasons = "; ".join(f"{reason}: {n}" for reason, n in self.dropped.items()) or "no rows"
            raise InputError(f"{label}: no edge left to load ({reasons}); check the file and the columns")
        if self.shared:
            some = ", ".join(list(self.shared)[:5])
            text = f"{label}: {len(self.shared)} gene symbols belong to several ids, which are one node now ({some})"
            warnings.warn(f"{text}; give the genes as ids if they must stay apart", DataWarning, stacklevel=3)
        nodes, row = self._numbered()
        if "gene" in nodes:
            check_genes(nodes["gene"].index, label)
        edges, account = self._grouped(rows, list(nodes), row, origin, label)
        if self.dropped:
            n = sum(self.dropped.values())
            record = {"origin": origin, "relation": "other rows", "path": label, "rows_read": n}
            account.append(record | {"kept": 0, "dropped": self.dropped})
        return KnowledgeGraph.of(GraphTables.collapsed(nodes, edges, account))

    def _numbered(self) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
        """Return the tables of the types, and each node's row in the table of its type."""
        of_kind: dict[str, list[int]] = {}
        for number, node in enumerate(self.told):
            of_kind.setdefault(node.kind, []).append(number)
        row, nodes = np.empty(len(self.told), np.int32), {}
        for kind, own in of_kind.items():
            own.sort(key=lambda number: self.told[number].name)
            row[own] = np.arange(len(own))
            names = [self.told[number].name for number in own]
            nodes[kind] = pd.DataFrame(index=pd.Index(names, dtype=object, name="name"))
            for column in ("label", "id"):
                values = [getattr(self.told[number], column) or None for number in own]
                if any(values) and values != names:
                    nodes[kind][column] = values
        return nodes, row

    def _grouped(
        self, rows: pd.DataFrame, kinds: list[str], row: np.ndarray, origin: str, label: str
    ) -> tuple[dict[Relation, pd.DataFrame], list[dict[str, Any]]]:
        """Part the rows by relation and origin."""
        kind = np.array([kinds.index(node.kind) for node in self.told], np.int16)
        links, parts, account = list(self.links), dict[Relation, list[pd.DataFrame]](), []
        sizes = len(kinds), len(links), len(kinds)
        group = np.ravel_multi_index((kind[rows["source"]], rows["link"].to_numpy(), kind[rows["target"]]), sizes)
        for key, place in sorted(rows.groupby(group).indices.items()):
            a, number, b = np.unravel_index(key, sizes)
            relation = (kinds[a], links[number].relation, kinds[b])
            named, here = links[number].origin or origin, rows.take(place)
            weight = here["weight"].to_numpy() if "weight" in here else np.ones(len(here), np.float32)
            ends = row[here["source"]], row[here["target"]]
            table = table_of(*ends, named, np.abs(weight), np.where(weight < 0, -1, 0))
            parts.setdefault(relation, []).append(table)
            record = {"origin": named, "relation": "–".join(relation), "path": label, "rows_read": len(here)}
            account.append(record | {"called": "|".join(self.written[links[number].relation])})
        return {relation: concat(tables) for relation, tables in parts.items()}, account


def _codes(batch: Any, columns: Sequence[str], known: dict[str, int], number: Callable[..., int]) -> np.ndarray:
    """Number the rows of a batch by the texts of some columns; those of each kind of row are looked at once."""
    texts = [_text(batch[column]) for column in columns]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, SEPARATOR, null_handling="replace")
    encoded = pc.fill_null(joined, "").dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    words = encoded.dictionary.to_pylist()
    for word in words:
        if word not in known:
            known[word] = number([part.strip() for part in word.split(SEPARATOR, len(columns) - 1)])
    codes = np.array([known[word] for word in words], np.int32)
    return codes[encoded.indices.to_numpy(zero_copy_only=False)]


def _text(column: Any) -> Any:
    """Return a column (Arrow or pandas) as Arrow text; numbers as `as_name` writes them."""
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return pa.array(as_names(column), pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        return pa.array(as_names(column.to_pylist()), pa.string())
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        raise InputError(f"names and relations are texts or numbers, not {column.type}; name other columns") from None
