"""Where predictions come from: what a fitted model tells of itself in `uns`, and of the genes in `var`."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kgnn.expression import Scale
from kgnn.graph import KnowledgeGraph
from kgnn.version import __version__


class Origin(NamedTuple):
    """Columns of the training data's `var`, [genes, columns]; what the model was made of, plain values; and hashes of
    the cells that its graph was made from, by source (`KnowledgeGraph.cells`)."""

    var: pd.DataFrame
    facts: dict[str, Any]
    cells: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        var: pd.DataFrame,
        *,
        encoder: str,
        kg: KnowledgeGraph | None,
        split: Mapping[str, Any] | None,
        scale: Scale,
    ) -> Origin:
        """That of a fit.

        `facts`: `kgnn`, the version; `encoder`; `scale` of the training data; `graph`, its SHA-256, numbers of nodes a
        type and of edges a relation, origins (empty without one); `split`, its SHA-256, kind, seed, numbers of
        conditions (empty without one).
        """
        facts = {"kgnn": __version__, "encoder": encoder, "scale": scale}
        return cls(plain_columns(var), facts | {"graph": _of_graph(kg), "split": _of_split(split)}, cells_of(kg))

    def uns(self) -> dict[str, Any]:
        """What predictions carry in `uns["kgnn"]`; `cells` only where the graph was made from some."""
        return copy.deepcopy(self.facts) | ({"cells": dict(self.cells)} if self.cells else {})


def cells_of(kg: KnowledgeGraph | None) -> dict[str, np.ndarray]:
    """Source → hashes of the cells that it was made from, under names that an H5AD file can hold."""
    return {} if kg is None else {name.replace("/", "|"): seen for name, seen in kg.cells.items()}


def plain_columns(var: pd.DataFrame) -> pd.DataFrame:
    """The columns of numbers, truth values and texts; others, such as dates and lists, are left out."""
    kept = {}
    for place, name in enumerate(var.columns):
        column = var.iloc[:, place]
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(column.cat.categories.dtype if column.notna().all() else object)
        if pd.api.types.is_bool_dtype(column) or column.dtype.kind in "iuf":
            kept[str(name)] = column.to_numpy(column.dtype if isinstance(column.dtype, np.dtype) else object)
        elif column.map(lambda value: isinstance(value, str) or value is None or value is np.nan).all():
            kept[str(name)] = column.fillna("").astype(object).to_numpy()
    return pd.DataFrame(kept, index=pd.Index(var.index.astype(str), dtype=object))


def _of_graph(kg: KnowledgeGraph | None) -> dict[str, Any]:
    if kg is None:
        return {}
    digest, edges = hashlib.sha256(), {}
    for node_type in sorted(kg.node_types):
        digest.update(json.dumps([node_type, list(map(str, kg.nodes(node_type).index))]).encode())
    for relation in sorted(kg.relations):
        table = kg.edge_arrays(relation)
        digest.update(json.dumps(relation).encode())
        for column in ("source", "target", "weight", "sign"):
            digest.update(np.ascontiguousarray(table[column]).tobytes())
        edges[" ".join(relation).replace("/", "|")] = len(table)
    nodes = {name.replace("/", "|"): len(kg.nodes(name)) for name in kg.node_types}
    return {"sha256": digest.hexdigest(), "nodes": nodes, "edges": edges, "origins": ", ".join(map(str, kg.origins))}


def _of_split(split: Mapping[str, Any] | None) -> dict[str, Any]:
    if split is None:
        return {}
    text = json.dumps(split, sort_keys=True, default=str)
    sizes = {part: len(split[part]) for part in ("train", "val", "test") if part in split}
    named = {key: split[key] for key in ("kind", "seed") if split.get(key) is not None}
    return named | sizes | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
