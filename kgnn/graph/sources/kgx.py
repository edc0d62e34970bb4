"""Knowledge graphs in the exchange format KGX: a table of nodes and a table of edges."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.biolink import node_type
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.options import as_signs
from kgnn.graph.reading import check_columns, numbers, origin_of, place, read_table
from kgnn.graph.sources.collect import check_genes


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
    kind = node_table["category"].str.split("|").str[0].map(_node_type)
    name = node_table["id"]
    if use_names:
        check_columns(node_table, ["name"], node_label, "a KGX node table read with use_names")
        name = name.where((kind != "gene") | node_table["name"].isna(), node_table["name"])
    tables = {}
    for kind_name, part in node_table.groupby(kind, sort=False):
        table = part.drop(columns="category").rename(columns={"name": "label"}).dropna(axis=1, how="all")
        table = table.set_index(pd.Index(name[part.index], dtype=object))
        tables[str(kind_name)] = table[~table.index.duplicated()].drop(columns=[] if use_names else "id")

    check_genes(tables["gene"].index if "gene" in tables else [], node_label)
    where = pd.Series(np.arange(len(node_table)), index=node_table["id"])
    source, target = (where.reindex(edge_table[side]).to_numpy(np.float64) for side in ("subject", "object"))
    known = ~np.isnan(source) & ~np.isnan(target) & edge_table["predicate"].notna().to_numpy()
    values = _values(edge_table, edge_label, origin or origin_of(edges))[known]
    source, target = source[known].astype(int), target[known].astype(int)
    values = values.assign(source=name.to_numpy()[source], target=name.to_numpy()[target])
    predicate = edge_table["predicate"][known].map(lambda text: str(text).split(":")[-1])
    triples = pd.MultiIndex.from_arrays([kind.to_numpy()[source], predicate, kind.to_numpy()[target]])
    rows = values.groupby(triples).indices if len(values) else {}
    groups = {key: values.iloc[index] for key, index in rows.items()}
    account: list[dict[str, Any]] = [
        {"origin": str(told), "relation": "–".join(key), "path": edge_label, "rows_read": len(part), "unit": "edges"}
        for key, whole in groups.items()
        for told, part in whole.groupby("origin")
    ]
    if not known.all():
        lost = int((~known).sum())
        record = {"origin": origin or origin_of(edges), "relation": "edges without ends", "path": edge_label}
        dropped = {"an end is not among the nodes, or no predicate": lost}
        account.append({**record, "rows_read": lost, "unit": "edges", "kept": 0, "dropped": dropped})
    return KnowledgeGraph(tables, groups, account)


def _values(edges: pd.DataFrame, label: str, origin: str) -> pd.DataFrame:
    """Return weight, sign, confidence and origin of every row, with what stands for a missing one."""
    missing = {"weight": 1.0, "sign": 0, "confidence": np.nan}
    values = pd.DataFrame(missing, index=edges.index)
    for column in ("weight", "confidence"):
        if column in edges:
            some = edges[column].notna().to_numpy()
            filled = edges[[column]].where(some[:, None], "0")
            values[column] = np.where(some, numbers(filled, column, label), values[column])
    values["sign"] = np.where(values["weight"] < 0, -1, 0)
    if "sign" in edges:
        values["sign"] = as_signs(edges["sign"], lambda row: place(label, row))
    values["weight"] = values["weight"].abs()
    told = next((name for name in ("knowledge_source", "primary_knowledge_source") if name in edges), None)
    values["origin"] = origin if told is None else edges[told].fillna(origin)
    return values


def _node_type(category: str) -> str:
    text = str(category)
    return node_type(text if ":" in text else f"biolink:{text}") or "node"
