"""A `KnowledgeGraph` on disk: Parquet tables, feature arrays and a JSON manifest in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import json_text, read_json
from kgnn.folders import new_folder, read_folder
from kgnn.graph.edges import COLUMNS, sides, tidy_origins
from kgnn.graph.tables import GraphTables
from kgnn.schema import check_schema
from kgnn.version import __version__

FORMAT = "kgnn.KnowledgeGraph"
FORMAT_VERSION = 2  # 1 had neither confidences, features nor a history
MANIFEST, KIND = "manifest.json", "graph"
SCHEMA = {
    "nodes": [{"type": str, "file": str, "rows": int}],
    "edges": [{"relation": [str], "file": str, "rows": int}],
    "features": [{"type": str, "name": str, "file": str}],
    "cells": [{"origin": str, "file": str, "cells": int}],
    "provenance": {str: {str: str}},
    "account": [{str: object}],
    "history": [{str: object}],
}


def save(graph: GraphTables, path: str | Path, extra: Mapping[str, Any] | None = None) -> None:
    """Write Parquet tables and `manifest.json` into the folder `path`, whole or not at all.

    `extra` goes into the manifest.
    """
    with new_folder(path, KIND) as folder:
        nodes: list[dict] = []
        edges: list[dict] = []
        features: list[dict] = []
        for number, (kind, table) in enumerate(graph.nodes.items()):
            file = f"nodes_{number}.parquet"
            table.to_parquet(folder / file, write_page_checksum=True)
            nodes.append({"type": kind, "file": file, "rows": len(table)})
            for name, matrix in graph.features.get(kind, {}).items():
                file = f"features_{len(features)}.npy"
                np.save(folder / file, matrix)
                features.append({"type": kind, "name": name, "file": file})
        for number, (relation, table) in enumerate(graph.edges.items()):
            file = f"edges_{number}.parquet"
            table.to_parquet(folder / file, index=False, write_page_checksum=True)
            edges.append({"relation": list(relation), "file": file, "rows": len(table)})
        cells: list[dict] = []
        for origin, hashes in graph.cells.items():
            file = f"cells_{len(cells)}.npy"
            np.save(folder / file, hashes)
            cells.append({"origin": origin, "file": file, "cells": len(hashes)})
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kgnn": __version__,
            "nodes": nodes,
            "edges": edges,
            "features": features,
            "cells": cells,
            "provenance": graph.provenance,
            "account": list(graph.account),
            "history": list(graph.history),
        }
        (folder / MANIFEST).write_text(json_text(manifest | dict(extra or {})), encoding="utf-8")


def load(path: str | Path) -> GraphTables:
    """Read a graph; see `KnowledgeGraph.load`."""
    return read_folder(path, KIND, _load)


def _load(path: Path) -> GraphTables:
    manifest = _manifest(path)
    nodes = {entry["type"]: _read(path, entry) for entry in manifest["nodes"]}
    for kind, table in nodes.items():
        if not table.index.is_unique:
            raise InputError(f"{path}: a name stands twice among the {kind} nodes; save the graph again")
    edges: dict[Any, pd.DataFrame] = {}
    for entry in manifest["edges"]:
        edges[_relation(path, entry, nodes)] = _edges(path, entry, nodes)
    features: dict[str, dict[str, np.ndarray]] = {}
    for entry in manifest["features"]:
        features.setdefault(entry["type"], {})[entry["name"]] = _read_array(path, entry)
    cells = {entry["origin"]: _read_array(path, entry) for entry in manifest["cells"]}
    account, history, known = manifest["account"], manifest["history"], manifest["provenance"]
    return GraphTables.collapsed(nodes, edges, account, history, features, cells, known)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Return the manifest of a saved graph, or raise `InputError` when the folder is none of ours."""
    return read_folder(path, KIND, _manifest)


def _manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path / MANIFEST}: not the manifest of a knowledge graph; give the folder that was saved")
    if manifest.get("format_version") != FORMAT_VERSION:
        version = manifest.get("format_version")
        raise InputError(f"{path}: format version {version}, this kgnn reads {FORMAT_VERSION}; build the graph again")
    return check_schema(manifest, SCHEMA, str(path / MANIFEST))


def _relation(path: Path, entry: Mapping[str, Any], nodes: Mapping[str, Any]) -> tuple[str, ...]:
    relation = tuple(entry["relation"])
    if len(relation) != 3 or relation[0] not in nodes or relation[2] not in nodes:
        raise InputError(f"{path / MANIFEST}: relation {relation} is none between its node types; save the graph again")
    return relation


def _edges(path: Path, entry: Mapping[str, Any], nodes: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """An edge table whose numbers are those of nodes, and whose weights are numbers."""
    table = _read(path, entry)
    lost = [name for name in COLUMNS if name not in table]
    if lost:
        raise InputError(f"{path / entry['file']}: no column {lost[0]!r}; save the graph again")
    for column, kind in sides(entry["relation"]):
        whole = table[column].dtype.kind in "iu"
        if not whole or not table[column].between(0, len(nodes[kind]) - 1).all():
            raise InputError(f"{path / entry['file']}: edges point outside the {kind} table; save the graph again")
    if not np.isfinite(table["weight"].to_numpy(np.float64)).all() or not table["sign"].isin([-1, 0, 1]).all():
        raise InputError(f"{path / entry['file']}: a weight or sign is none; save the graph again")
    return tidy_origins(table[COLUMNS].astype({"origin": "category"}))


def _read(path: Path, entry: Mapping[str, Any]) -> pd.DataFrame:
    file = _inside(path, entry)
    try:
        table = pd.read_parquet(file, page_checksum_verification=True)
    except Exception as error:  # what pandas left in the file about itself may be damaged in many ways
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file}: damaged or cut short ({what}); save the graph again") from None
    if len(table) != entry["rows"]:
        raise InputError(f"{file}: {len(table)} rows where the manifest says {entry['rows']}; save the graph again")
    return table


def _read_array(path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    file = _inside(path, entry)
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise InputError(f"{file}: missing, damaged or cut short ({error}); save the graph again") from None
    if "cells" in entry and (array.shape != (entry["cells"],) or array.dtype != np.uint64):
        raise InputError(f"{file}: shape {array.shape} where the manifest says {entry['cells']}; save the graph again")
    return array


def _inside(path: Path, entry: Mapping[str, Any]) -> Path:
    """A file of the folder, none elsewhere."""
    file = path / entry["file"]
    if file.parent != path or not file.is_file():
        raise InputError(f"{file}: missing; the folder is incomplete, save the graph again")
    return file
