"""Knowledge graphs in the exchange format KGX: a table of nodes and a table of edges."""

from pathlib import Path

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.sources.reading import check_columns, numbers, origin_of, read_table


def load_kgx(
    nodes: str | Path, edges: str | Path, *, use_names: bool = False, origin: str | None = None
) -> KnowledgeGraph:
    """Read KGX TSV files (github.com/biolink/kgx), as Monarch, RTX-KG2 and others hand them out.

    Nodes: `id`, `category` (`biolink:Gene`; the first of several, joined by `|`, names the node type in lower case,
    words joined by `_`: `gene`, `cell_type`), perhaps `name` and more columns, which stay. Edges: `subject`,
    `predicate` (`biolink:regulates` → relation `regulates`), `object`; perhaps `weight`, `sign`, `confidence`, and
    `knowledge_source` or `primary_knowledge_source`, which is the edge's origin. An edge whose end is not among the
    nodes is dropped and counted.

    Args:
        nodes, edges: the two files, .gz too.
        use_names: genes are called by the column `name` instead of `id`.
        origin: name of the source where the edges do not tell theirs; by default the edge file's name.

    Raises:
        InputError: missing file or column, an id that stands twice, a weight that is not a number (line).
    """
    node_table, node_label = read_table(existing_file(nodes), separator="\t")
    edge_table, edge_label = read_table(existing_file(edges), separator="\t")
    check_columns(node_table, ["id", "category"], node_label, "a KGX node table")
    check_columns(edge_table, ["subject", "predicate", "object"], edge_label, "a KGX edge table")
    for column in ("id", "category"):
        if node_table[column].isna().any():
            row = int(np.argmax(node_table[column].isna()))
            raise InputError(f"{node_label}:{row + 2}: no {column}; correct the row or leave it out")
    twice = node_table["id"].duplicated()
    if twice.any():
        row = int(np.argmax(twice))
        raise InputError(f"{node_label}:{row + 2}: the id {node_table['id'].iloc[row]!r} stands twice; remove one row")
    kind = node_table["category"].str.split("|").str[0].map(_plain)
    name = node_table["id"]
    if use_names:
        check_columns(node_table, ["name"], node_label, "a KGX node table read with use_names")
        name = name.where((kind != "gene") | node_table["name"].isna(), node_table["name"])
    tables = {}
    for node_type, part in node_table.groupby(kind, sort=False):
        table = part.drop(columns=["category"]).rename(columns={"name": "label"}).dropna(axis=1, how="all")
        table.index = pd.Index(name[part.index], dtype=object)
        table = table.drop(columns="id") if not use_names else table
        tables[str(node_type)] = table[~table.index.duplicated()]

    where = pd.Series(np.arange(len(node_table)), index=node_table["id"])
    ends = {side: where.reindex(edge_table[side]).to_numpy() for side in ("subject", "object")}
    known = ~np.isnan(ends["subject"]) & ~np.isnan(ends["object"]) & edge_table["predicate"].notna().to_numpy()
    source, target = (ends[side][known].astype(int) for side in ("subject", "object"))
    rows = edge_table[known].reset_index(drop=True)
    lines = np.flatnonzero(known) + 2
    values = {}
    for column in ("weight", "sign", "confidence"):
        if column in rows and rows[column].notna().any():
            filled = rows[[column]].fillna({column: "1" if column == "weight" else "0"})
            values[column] = numbers(filled, column, edge_label, first=int(lines[0]) if len(lines) else 2)
            if column == "confidence":
                values[column] = np.where(rows[column].isna(), np.nan, values[column])
    sign = values.get("sign", np.where(values.get("weight", np.ones(len(rows))) < 0, -1, 0))
    origin = origin or origin_of(edges)
    told = next((c for c in ("knowledge_source", "primary_knowledge_source") if c in rows), None)
    table = pd.DataFrame(
        {
            "source": name.to_numpy()[source],
            "target": name.to_numpy()[target],
            "weight": np.abs(values.get("weight", np.ones(len(rows)))),
            "sign": np.sign(sign),
            "confidence": values.get("confidence", np.full(len(rows), np.nan)),
            "origin": origin if told is None else rows[told].fillna(origin),
        }
    )
    triples = pd.MultiIndex.from_arrays(
        [kind.to_numpy()[source], rows["predicate"].map(lambda text: str(text).split(":")[-1]), kind.to_numpy()[target]]
    )
    groups = {key: table.iloc[index] for key, index in table.groupby(triples).indices.items()} if len(table) else {}
    account = [
        {
            "origin": str(source_name),
            "relation": "–".join(key),
            "path": edge_label,
            "rows_read": len(part),
            "unit": "edges",
            "dropped": {},
        }
        for key, whole in groups.items()
        for source_name, part in whole.groupby("origin")
    ]
    if not known.all():
        lost = int((~known).sum())
        record = {"origin": origin, "relation": "edges without ends", "path": edge_label, "rows_read": lost, "kept": 0}
        account.append(record | {"unit": "edges", "dropped": {"an end is not among the nodes, or no predicate": lost}})
    return KnowledgeGraph(tables, groups, account)


def _plain(category: str) -> str:
    word = str(category).split(":")[-1]
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word).strip("_") or "node"
