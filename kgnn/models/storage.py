"""Models on disk: `config.json`, `arrays.safetensors`, `controls.safetensors`, `var.parquet`; no pickle."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse
from torch import Tensor, nn

from kgnn.errors import InputError
from kgnn.files import as_path, read_json, write_json
from kgnn.graph import KnowledgeGraph
from kgnn.version import __version__

FORMAT = "kgnn.model"
FORMAT_VERSION = 2  # 1 had neither groups, coverage nor origin
CONFIG, ARRAYS, CONTROLS, VAR, GRAPH = (
    "config.json",
    "arrays.safetensors",
    "controls.safetensors",
    "var.parquet",
    "graph",
)


def write_model(
    folder: Path,
    config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    controls: sparse.csr_matrix | None,
    graph: KnowledgeGraph | None,
    var: pd.DataFrame | None = None,
) -> None:
    """Write a model's files into an empty folder; var: what is kept of the genes, plain columns."""
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / ARRAYS)
    controls = sparse.csr_matrix((0, 0), dtype=np.float32) if controls is None else controls
    parts = {"data": controls.data, "indices": controls.indices, "indptr": controls.indptr}
    save_file(parts | {"shape": np.array(controls.shape)}, folder / CONTROLS)
    if graph is not None:
        graph.save(folder / GRAPH)
    if var is not None:
        var.to_parquet(folder / VAR, index=False)
    versions = {
        "kgnn": __version__,
        "torch": version("torch"),
        "torch_geometric": version("torch_geometric"),
    }
    write_json(
        folder / CONFIG,
        {"format": FORMAT, "format_version": FORMAT_VERSION, "versions": versions} | dict(config),
    )


def load_config(path: str | Path) -> dict[str, Any]:
    """Read and check a model's `config.json`."""
    path = as_path(path)
    if not (path / CONFIG).is_file():
        raise InputError(f"{path}: not a model folder (no {CONFIG}); make one with the model's save")
    config = read_json(path / CONFIG)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{path / CONFIG}: not the configuration of a kgnn model; give the folder that was saved")
    if config.get("format_version") != FORMAT_VERSION:
        version_there = config.get("format_version")
        raise InputError(
            f"{path}: format version {version_there} is not readable, this kgnn reads {FORMAT_VERSION}; fit again, or "
            "take the kgnn that wrote it"
        )
    return config


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], sparse.csr_matrix]:
    """Read a model's arrays and its control cells."""
    loaded = []
    for name in (ARRAYS, CONTROLS):
        file = Path(path) / name
        try:
            loaded.append(load_file(file))
        except FileNotFoundError:
            raise InputError(f"{file}: missing; the folder is incomplete, save the model again") from None
        except SafetensorError as error:
            raise InputError(f"{file}: damaged or cut short ({error}); save the model again") from None
    arrays, cells = loaded
    controls = sparse.csr_matrix((cells["data"], cells["indices"], cells["indptr"]), tuple(cells["shape"]))
    return arrays, controls


def load_var(path: str | Path, genes: pd.Index) -> pd.DataFrame:
    """Read what a model keeps of its genes, [genes, columns]."""
    file = Path(path) / VAR
    if not file.is_file():
        raise InputError(f"{file}: missing; the folder is incomplete, save the model again")
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise InputError(f"{file}: damaged or cut short ({error}); save the model again") from None
    if len(table) != len(genes) and len(table.columns):
        raise InputError(f"{file}: {len(table)} rows for {len(genes)} genes; save the model again")
    return table.set_axis(genes, axis=0) if len(table.columns) else pd.DataFrame(index=genes)


def load_weights(network: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Put saved weights into a network and set it to evaluation; weights that do not fit are an error."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path}: weights and configuration do not fit: {str(error).splitlines()[-1]}") from None
    network.eval()


def load_graph(path: str | Path) -> KnowledgeGraph | None:
    """Read a model's graph, where it has one."""
    folder = Path(path) / GRAPH
    return KnowledgeGraph.load(folder) if folder.exists() else None
