"""A user's own graph as a table: CSV, TSV, Parquet or a DataFrame."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kgnn.errors import InputError
from kgnn.files import existing_file, is_parquet
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.options import as_signs
from kgnn.graph.reading import (
    numbers,
    origin_of,
    parquet_batches,
    place,
    table_batches,
    text_lines,
    unique_columns,
)
from kgnn.graph.sources.collect import EdgeCollector
from kgnn.parts import check_number


def load_table(
    table: str | Path | pd.DataFrame,
    *,
    source: str = "source",
    target: str = "target",
    relation: str = "interacts",
    weight: str | None = None,
    sign: str | None = None,
    confidence: str | None = None,
    source_type: str = "gene",
    target_type: str = "gene",
    undirected: bool = False,
    min_weight: float | None = None,
    origin: str | None = None,
) -> KnowledgeGraph:
    """Read a table of edges, one row an edge. Files are read in pieces: 17 bytes an edge stay in memory.

    Args:
        table: path ending in .csv, .tsv, .txt (tab-separated) or .parquet, the text formats also .gz; or a DataFrame.
        source, target: columns that hold the node names.
        relation: name of the relation; its triple is `(source_type, relation, target_type)`.
        weight: column of edge weights, finite numbers; by default the column `weight` where there is one, else 1. Of
            a negative weight the size is the weight, and its sign the edge's sign where there is no sign column.
        sign: column of signs: numbers of which only the sign counts, or words such as `activation`, `repression`,
            `unknown`; an empty field is unknown. By default `sign` where there is one, else 0.
        confidence: column of numbers, the larger the surer.
        source_type, target_type: node types.
        undirected: add every edge in the other direction too.
        min_weight: leave out rows of a smaller |weight|, counted; they need no memory.
        origin: name of this source in the graph; by default the file's name without its ending, or `table`.

    Returns:
        A graph with one relation. Rows without a source or target are dropped; self loops are dropped, duplicate
        rows merged; all are counted in `summary()`. A `DataWarning` says when genes of several namespaces are mixed.

    Raises:
        InputError: missing file or column, a weight or sign that is not a finite number (with file and line), no
            edge left.
    """
    names, batches, label = _batches(table)
    weight = "weight" if weight is None and "weight" in names else weight
    sign = "sign" if sign is None and "sign" in names else sign
    wanted = [column for column in dict.fromkeys((source, target, weight, sign, confidence)) if column is not None]
    for column in wanted:
        if column not in names:
            raise InputError(f"{label}: no column {column!r}; the columns are {', '.join(map(str, names))}")

    if min_weight is not None:
        check_number(min_weight, f"{label}: min_weight", 0)
        if weight is None:
            raise InputError(f"{label}: no column of weights to compare min_weight with; name it by weight=")
    collector = EdgeCollector((source_type, relation, target_type))
    light = 0
    for first, batch in batches(wanted):
        values = _columns(batch, [column for column in (weight, sign, confidence) if column is not None])
        strength = numbers(values, weight, label, first=first) if weight else np.ones(len(values))
        direction = _signs(values[sign], label, first) if sign else np.where(strength < 0, -1, 0)
        surety = numbers(values, confidence, label, first=first) if confidence else np.full(len(values), np.nan)
        ends = [batch[source], batch[target]]
        if min_weight is not None:
            keep = np.abs(strength) >= min_weight
            light += int((~keep).sum())
            ends = [end.filter(pa.array(keep)) if isinstance(end, pa.Array) else end[keep] for end in ends]
            strength, direction, surety = strength[keep], direction[keep], surety[keep]
        collector.add(ends[0], ends[1], np.abs(strength), np.sign(direction), surety)
    collector.rows_read += light
    return collector.graph(
        origin or origin_of(table),
        label=label,
        undirected=undirected,
        dropped={"weight too small": light} if light else {},
        **({"confidence": f"column {confidence}"} if confidence else {}),
    )


def _signs(column: pd.Series, label: str, first: int) -> np.ndarray:
    return as_signs(column, lambda row: place(label, row, first))


def _batches(table: str | Path | pd.DataFrame) -> tuple[list[str], Any, str]:
    """Return the column names, a function that yields (first line, batch) of chosen columns, and a label."""
    if isinstance(table, pd.DataFrame):
        return list(unique_columns(table).columns), lambda wanted: [(0, table[wanted].reset_index(drop=True))], "table"
    path = existing_file(table)
    if is_parquet(path):
        names: list[str] = next((batch.schema.names for _, batch in parquet_batches(path)), [])
        return names, lambda wanted: parquet_batches(path, wanted), str(path)
    batches = table_batches(path)
    try:
        names = next(batches)[1].schema.names
    except StopIteration:
        raise InputError(f"{path}: no rows below the header {next(text_lines(path))[1][:80]!r}") from None
    return names, lambda wanted: table_batches(path, columns=wanted), str(path)


def _columns(batch: Any, wanted: list[str]) -> pd.DataFrame:
    """The number columns as pandas sees them; names stay in Arrow."""
    if isinstance(batch, pd.DataFrame):
        return batch
    return pd.DataFrame({name: batch[name].to_pandas() for name in wanted}, index=range(len(batch)))
