"""A user's own graph as a table: CSV, TSV, Parquet or a DataFrame."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph


def load_table(
    table: str | Path | pd.DataFrame,
    *,
    source: str = "source",
    target: str = "target",
    relation: str = "interacts",
    weight: str | None = None,
    sign: str | None = None,
    source_type: str = "gene",
    target_type: str = "gene",
    undirected: bool = False,
    origin: str | None = None,
) -> KnowledgeGraph:
    """Read a table of edges, one row an edge.

    Args:
        table: path ending in .csv, .tsv, .txt (tab-separated), .parquet, the text formats also .gz; or a DataFrame.
        source, target: columns that hold the node names.
        relation: name of the relation; its triple is `(source_type, relation, target_type)`.
        weight: column of edge weights, finite numbers; by default the column `weight` where there is one, else 1. Of
            a negative weight the size is the weight, and its sign the edge's sign where there is no sign column.
        sign: column of signs, numbers of which only the sign counts; by default `sign` where there is one, else 0.
        source_type, target_type: node types.
        undirected: add every edge in the other direction too.
        origin: name of this source in the graph; by default the file's name without its ending, or `table`.

    Returns:
        A graph with one relation. Rows without a source or target are dropped; self loops are dropped, duplicate
        rows merged; all are counted in `summary()`.

    Raises:
        InputError: missing file or column, a weight or sign that is not a finite number (with file and line), no
            edge left.
    """
    frame, label = read_table(table)
    if origin is None:
        origin = "table" if isinstance(table, pd.DataFrame) else Path(table).name.split(".")[0]
    weight = "weight" if weight is None and "weight" in frame else weight
    sign = "sign" if sign is None and "sign" in frame else sign
    for column in (source, target, weight, sign):
        if column is not None and column not in frame:
            raise InputError(f"{label}: no column {column!r}; the columns are {', '.join(map(str, frame.columns))}")

    strength = numbers(frame, weight, label) if weight else pd.Series(1.0, index=frame.index)
    direction = numbers(frame, sign, label) if sign else strength.where(strength < 0, 0)

    rows_read = len(frame)
    named = frame[source].notna() & frame[target].notna()
    edges = pd.DataFrame(
        {
            "source": frame[source][named].astype(str).str.strip(),
            "target": frame[target][named].astype(str).str.strip(),
            "weight": strength[named].abs(),
            "sign": np.sign(direction[named]),
        }
    )
    edges = edges[(edges["source"] != "") & (edges["target"] != "")]
    if edges.empty:
        raise InputError(f"{label}: no row names both a {source!r} and a {target!r}; there is no edge to load")
    dropped = {"no source or target": rows_read - len(edges)} if rows_read > len(edges) else {}
    if undirected:
        reverse = edges.rename(columns={"source": "target", "target": "source"})[edges.columns].drop_duplicates()
        written = pd.MultiIndex.from_frame(reverse).isin(pd.MultiIndex.from_frame(edges))
        edges = pd.concat([edges, reverse[~written]])  # only the file's own rows count as duplicates
    return one_relation(
        edges, (source_type, relation, target_type), origin, path=label, rows_read=rows_read, dropped=dropped
    )


def one_relation(
    edges: pd.DataFrame,
    relation: tuple[str, str, str],
    origin: str,
    *,
    dropped: dict[str, int],
    **record: Any,
) -> KnowledgeGraph:
    """Make a graph of one relation from a table of names; nodes in alphabetical order."""
    if relation[0] == relation[2]:
        nodes = {relation[0]: sorted(set(edges["source"]) | set(edges["target"]))}
    else:
        nodes = {relation[0]: sorted(set(edges["source"])), relation[2]: sorted(set(edges["target"]))}
    record = {"origin": origin, "relation": relation[1], **record, "dropped": dropped}
    return KnowledgeGraph(nodes, {relation: edges.assign(origin=origin)}, [record])


def read_table(table: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a table and the name to use for it in messages. Text columns stay text, to report them by line."""
    if isinstance(table, pd.DataFrame):
        return table.reset_index(drop=True), "table"
    path = existing_file(table)
    kind = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    try:
        if kind == "parquet":
            return pd.read_parquet(path), str(path)
        if kind in ("csv", "tsv", "txt"):
            separator = "," if kind == "csv" else "\t"
            frame = pd.read_csv(
                path, sep=separator, dtype=str, skip_blank_lines=False, keep_default_na=False, na_values=[""]
            )
            return frame, str(path)
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as a {kind} table: {error}") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: holds no table; the first line must name the columns") from None
    raise InputError(f"{path}: unknown kind of table; give .csv, .tsv, .txt, .parquet, or a DataFrame")


def numbers(frame: pd.DataFrame, column: str, label: str) -> pd.Series:
    """Return a column as finite numbers, or say which line is not one."""
    values = pd.to_numeric(frame[column], errors="coerce").astype(float)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        where = f"{label}, row {row}" if label == "table" else f"{label}:{row + 2}"
        raw = frame[column].iloc[row]
        what = "is missing" if pd.isna(raw) else f"{raw!r} is not a finite number"
        raise InputError(f"{where}: {column} {what}; correct the row or leave it out")
    return values
