"""A `KnowledgeGraph` on disk: Parquet tables and a JSON manifest in one folder."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

import kgnn
from kgnn.errors import InputError
from kgnn.files import new_folder, read_json, write_json
from kgnn.graph.knowledge_graph import EDGE_COLUMNS, KnowledgeGraph

FORMAT = "kgnn.KnowledgeGraph"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


def save(graph: KnowledgeGraph, path: str | Path) -> None:
    """Write the graph; see `KnowledgeGraph.save`."""
    with new_folder(path, MANIFEST) as folder:
        nodes, edges = [], []
        for number, (kind, table) in enumerate(graph._nodes.items()):
            file = f"nodes_{number}.parquet"
            table.to_parquet(folder / file)
            nodes.append({"type": kind, "file": file, "rows": len(table)})
        for number, (relation, table) in enumerate(graph._edges.items()):
            file = f"edges_{number}.parquet"
            table.astype({"origin": "category"}).to_parquet(folder / file, index=False)
            edges.append({"relation": list(relation), "file": file, "rows": len(table)})
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kgnn": kgnn.__version__,
            "nodes": nodes,
            "edges": edges,
            "account": list(graph.account),
        }
        write_json(folder / MANIFEST, manifest)


def load(path: str | Path) -> KnowledgeGraph:
    """Read a graph; see `KnowledgeGraph.load`."""
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path}: not a knowledge graph folder (no {MANIFEST}); make one with KnowledgeGraph.save")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path / MANIFEST}: not the manifest of a knowledge graph; give the folder that was saved")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{path}: format version {manifest.get('format_version')} is not readable; update kgnn")
    nodes, edges = {}, {}
    try:
        for entry in manifest["nodes"]:
            nodes[entry["type"]] = _read(path / entry["file"], entry["rows"])
        for entry in manifest["edges"]:
            table = _read(path / entry["file"], entry["rows"])[EDGE_COLUMNS]
            edges[tuple(entry["relation"])] = table.assign(origin=table["origin"].astype(object))
        account = manifest["account"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the manifest or a table lacks {error}; save the graph again") from None
    for (source_type, _, target_type), table in edges.items():
        for column, kind in (("source", source_type), ("target", target_type)):
            if kind not in nodes or not table[column].between(0, len(nodes[kind]) - 1).all():
                raise InputError(f"{path}: edges point outside the {kind} table; save the graph again")
    return KnowledgeGraph._from_parts(nodes, edges, account)


def _read(file: Path, rows: int) -> pd.DataFrame:
    try:
        table = pd.read_parquet(file)
    except FileNotFoundError:
        raise InputError(f"{file}: missing; the folder is incomplete, save the graph again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: damaged or cut short ({str(error).splitlines()[0]}); save the graph again") from None
    if len(table) != rows:
        raise InputError(f"{file}: {len(table)} rows where the manifest says {rows}; save the graph again")
    return table
