"""Models on disk: `config.json`, `arrays.safetensors`, `controls.safetensors`, `var.parquet`; no pickle."""

from collections.abc import Callable, Mapping
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
from kgnn.files import as_path, json_text, read_json
from kgnn.folders import read_folder
from kgnn.graph import KnowledgeGraph
from kgnn.schema import check_schema
from kgnn.version import __version__

KIND = "model"
FORMAT = "kgnn.model"
FORMAT_VERSION = 3  # before, GEARS and its like had no links of genes that share other nodes
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
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "versions": versions}
    (folder / CONFIG).write_text(json_text(head | dict(config)), encoding="utf-8")


def read_model(path: str | Path, readers: Mapping[str, Callable[[Path, dict[str, Any]], Any]]) -> Any:
    """Return what the reader of a saved model's kind makes of its folder and configuration.

    Raises:
        InputError: a missing, foreign or damaged folder; a model of another kind than these.
    """

    def read(folder: Path) -> Any:
        config = load_config(folder)
        if config["model"] not in readers:
            raise InputError(f"{path}: holds a {config['model']!r} model; use kgnn.load_model")
        return readers[config["model"]](folder, config)

    return read_folder(path, KIND, read)


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
    return check_schema(config, {"model": str}, str(path / CONFIG))


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], sparse.csr_matrix]:
    """Read a model's arrays, all of numbers, and its control cells."""
    loaded = []
    for name in (ARRAYS, CONTROLS):
        file = Path(path) / name
        try:
            loaded.append(load_file(file))
        except FileNotFoundError:
            raise InputError(f"{file}: missing; the folder is incomplete, save the model again") from None
        except SafetensorError as error:
            raise InputError(f"{file}: damaged or cut short ({error}); save the model again") from None
        for part, value in loaded[-1].items():
            if value.dtype.kind == "f" and np.isnan(value).any():  # infinities may be a mask of one's own
                raise InputError(f"{file}: {part} holds what is no number; fit the model again")
    arrays, cells = loaded
    shape = cells.get("shape", np.array([]))
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise InputError(f"{Path(path) / CONTROLS}: has no shape; save the model again")
    return arrays, csr_of(cells, (int(shape[0]), int(shape[1])), f"{Path(path) / CONTROLS}")


def csr_of(parts: Mapping[str, np.ndarray], shape: tuple[int, int], where: str, prefix: str = "") -> sparse.csr_matrix:
    """The sparse matrix of `data`, `indices`, `indptr`, every place of which is inside it: SciPy trusts them.

    Raises:
        InputError: names the file.
    """
    names = [f"{prefix}{name}" for name in ("data", "indices", "indptr")]
    lost = [name for name in names if name not in parts]
    if lost:
        raise InputError(f"{where}: lacks {lost[0]}; save the model again")
    data, indices, indptr = (parts[name] for name in names)
    fits = (
        min(shape) >= 0
        and data.shape == indices.shape
        and data.ndim == 1
        and indptr.shape == (shape[0] + 1,)
        and all(part.dtype.kind in "iu" for part in (indices, indptr))
        and indptr[0] == 0
        and indptr[-1] == len(data)
        and bool((np.diff(indptr.astype(np.int64)) >= 0).all())
        and (not len(indices) or bool(0 <= indices.min() <= indices.max() < shape[1]))
        and data.dtype in (np.float32, np.float64)  # SciPy has no 16 bits, and says so only when the matrix is cut
        and bool(np.isfinite(data).all())
    )
    if not fits:
        raise InputError(f"{where}: is no sparse matrix of {shape[0]} × {shape[1]}; save the model again")
    return sparse.csr_matrix((data, indices, indptr), shape)


def check_array(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], where: str, kind: str = "f"
) -> Any:
    """Return the array `name`, finite, of a shape and a kind of numbers (`f` or `i`).

    Raises:
        InputError: missing, or another one.
    """
    found = arrays.get(name)
    if found is None or found.shape != shape or found.dtype.kind != kind or not np.isfinite(found).all():
        what = "none" if found is None else f"{found.dtype} {list(found.shape)}"
        raise InputError(f"{where}: {name} must be finite numbers {list(shape)}, and is {what}; save the model again")
    return found


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
        told = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path}: weights and configuration do not fit: {told} Fit again, or take the kgnn that wrote it"
        ) from None
    network.eval()


def load_graph(path: str | Path) -> KnowledgeGraph | None:
    """Read a model's graph, where it has one."""
    folder = Path(path) / GRAPH
    return KnowledgeGraph.load(folder) if folder.exists() else None
