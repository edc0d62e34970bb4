"""A `KnowledgeGraph` on disk: Parquet tables, feature arrays and a JSON manifest in one folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import as_path, new_folder, read_json, write_json
from kgnn.graph.edges import COLUMNS, sides, tidy_origins
from kgnn.graph.tables import GraphTables
from kgnn.version import __version__

FORMAT = "kgnn.KnowledgeGraph"
FORMAT_VERSION = 2  # 1 had neither confidences, features nor a history
MANIFEST = "manifest.json"


def save(graph: GraphTables, path: str | Path, extra: Mapping[str, Any] | None = None) -> None:
    """Write Parquet tables and `manifest.json` into the folder `path`, whole or not at all.

    `extra` goes into the manifest.
    """
    with new_folder(path, MANIFEST) as folder:
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
        write_json(folder / MANIFEST, manifest | dict(extra or {}))


def load(path: str | Path) -> GraphTables:
    """Read a graph; see `KnowledgeGraph.load`."""
    path = as_path(path)
    manifest = read_manifest(path)
    nodes: dict[str, pd.DataFrame] = {}
    edges: dict[Any, pd.DataFrame] = {}
    features: dict[str, dict[str, np.ndarray]] = {}
    try:
        for entry in manifest["nodes"]:
            nodes[entry["type"]] = _read(path / entry["file"], entry["rows"])
        for entry in manifest["edges"]:
            table = _read(path / entry["file"], entry["rows"])[COLUMNS]
            edges[tuple(entry["relation"])] = tidy_origins(table.astype({"origin": "category"}))
        for entry in manifest["features"]:
            features.setdefault(entry["type"], {})[entry["name"]] = _read_array(path / entry["file"])
        cells = {  # graphs saved by older versions say nothing of cells, nor of licences
            entry["origin"]: _read_array(path / entry["file"], entry["cells"]) for entry in manifest.get("cells", [])
        }
        known = {
            origin: {what: str(value) for what, value in told.items()}
            for origin, told in manifest.get("provenance", {}).items()
        }
        account, history = manifest["account"], manifest["history"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the manifest or a table lacks {error}; save the graph again") from None
    for relation, table in edges.items():
        for column, kind in sides(relation):
            if kind not in nodes or not table[column].between(0, len(nodes[kind]) - 1).all():
                raise InputError(f"{path}: edges point outside the {kind} table; save the graph again")
    return GraphTables.collapsed(nodes, edges, account, history, features, cells, known)


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a saved graph, or raise `InputError` when the folder is none of ours."""
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path}: not a knowledge graph folder (no {MANIFEST}); make one with KnowledgeGraph.save")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path / MANIFEST}: not the manifest of a knowledge graph; give the folder that was saved")
    if manifest.get("format_version") != FORMAT_VERSION:
        version = manifest.get("format_version")
        raise InputError(f"{path}: format version {version}, this kgnn reads {FORMAT_VERSION}; build the graph again")
    return manifest


def _read(file: Path, rows: int) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: missing; the folder is incomplete, save the graph again")
    try:
        table = pd.read_parquet(file, page_checksum_verification=True)
    except Exception as error:  # what pandas left in the file about itself may be damaged in many ways
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file}: damaged or cut short ({what}); save the graph again") from None
    if len(table) != rows:
        raise InputError(f"{file}: {len(table)} rows where the manifest says {rows}; save the graph again")
    return table


def _read_array(file: Path, rows: int | None = None) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file}: missing, damaged or cut short ({error}); save the graph again") from None
    if rows is not None and array.shape != (rows,):
        raise InputError(f"{file}: shape {array.shape} where the manifest says {rows}; save the graph again")
    return array
