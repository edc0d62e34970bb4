"""Folders of every kind, what each answers, and processes of one's own."""

import hashlib
import json
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.benchmark import run_benchmark
from kgnn.data import simulate, simulate_atlas
from kgnn.evaluation.runs import KIND, RUN, SCORES
from kgnn.files import read_json
from kgnn.folders import read_folder
from kgnn.graph import KnowledgeGraph, load_table
from kgnn.models import CellModel, LinkModel, PerturbationModel, load_model

ASKED = ["G001", "G003+G004"]
Answer = Callable[[Path], bytes]


def screen() -> Any:
    """A simulated screen without what only its simulation knows."""
    adata = simulate(n_genes=60, n_singles=12, n_pairs=4, cells_per_condition=20, seed=0)
    del adata.varm["true_delta"]
    return adata


def network(adata: Any) -> KnowledgeGraph:
    table = np.random.default_rng(0).normal(size=(adata.n_vars, 3))
    kg = load_table(adata.uns["network"], relation="regulates", origin="network")
    return kg.with_features("own", pd.DataFrame(table, adata.var_names))


def digest(*parts: Any) -> bytes:
    return hashlib.sha256(pickle.dumps(parts)).digest()


def of_graph(path: Path) -> bytes:
    kg = KnowledgeGraph.load(path)
    edges = [kg.edges(relation).to_numpy().tolist() for relation in kg.relations]
    features = [matrix.tobytes() for of_type in kg.tables.features.values() for matrix in of_type.values()]
    names = [list(kg.nodes(kind).index) for kind in kg.node_types]
    return digest(kg.relations, edges, names, features, kg.account, kg.history)


def of_model(path: Path) -> bytes:
    model = load_model(path)
    found, cells = model.predict(ASKED), model.predict(ASKED, n_cells=5)
    arrays = [found.X.tobytes(), *(layer.tobytes() for layer in found.layers.values()), _dense(cells.X).tobytes()]
    return digest(arrays, list(found.var_names), json.dumps(found.uns["kgnn"], default=str), list(model.history_))


def _dense(x: Any) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def of_cells(path: Path) -> bytes:
    model = CellModel.load(path)
    adata = simulate_atlas(n_genes=40, branches=(2, 2), cells_per_type=3)
    found = model.annotate(adata)
    return digest(found.to_numpy().tolist(), model.gene_embeddings().to_numpy().tobytes())


def of_links(path: Path) -> bytes:
    model = LinkModel.load(path)
    found = model.predict(("gene", "regulates", "gene"), source="G001", k=10)
    return digest(found.to_numpy().tolist(), json.dumps(model.fitted_.history))


def of_run(path: Path) -> bytes:
    return read_folder(path, KIND, lambda run: digest((run / SCORES).read_bytes(), read_json(run / RUN)))


def make(folder: Path) -> dict[str, tuple[Path, Answer]]:
    """One folder of every kind, and how it is read and used."""
    adata = screen()
    kg = network(adata)
    kg.save(folder / "graph")
    made: dict[str, tuple[Path, Answer]] = {"graph": (folder / "graph", of_graph)}
    options: dict[str, dict[str, Any]] = {"gears": {"channels": 4}, "cpa": {"channels": 4}}
    for name in ("kg", "gears", "cpa", "set_kernel_ridge", "linear"):
        fit = {"max_epochs": 1, "enable_progress_bar": False} if name in options else {}
        graph = None if name == "linear" else kg
        PerturbationModel(graph, encoder=name, **options.get(name, {})).fit(adata, **fit).save(folder / name)
        made[name] = folder / name, of_model
    atlas = simulate_atlas(n_genes=40, branches=(2, 2), cells_per_type=15)
    fit = {"max_epochs": 1, "enable_progress_bar": False}
    CellModel(classes=["cell_type"], channels=8, heads=2).fit(atlas, **fit).save(folder / "cells")
    made["cells"] = folder / "cells", of_cells
    LinkModel(kg, channels=4).fit(max_epochs=2).save(folder / "links")
    made["links"] = folder / "links", of_links
    adata.write_h5ad(folder / "screen.h5ad")
    benchmark(folder, "screen.h5ad", folder / "out", "random_condition")
    made["run"] = next((folder / "out" / "runs").glob("*/*/mean")), of_run
    return made


def benchmark(folder: Path, data: str, out: Path, kind: str) -> Any:
    settings = {"datasets": [{"name": "sim", "path": str(folder / data)}], "splits": [{"kind": kind}], "crossed": 0}
    return run_benchmark(settings | {"models": [{"type": "mean"}]}, out, report=lambda text: None)


def forked(work: Callable[[], Iterator[str]]) -> tuple[list[str], int]:
    """Run in a process of its own; what it told, and how it ended."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        status = 1
        try:
            with os.fdopen(into, "w") as pipe:
                for text in work():
                    pipe.write(json.dumps(text) + "\n")
                    pipe.flush()
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(into)
    with os.fdopen(out) as pipe:
        told = [json.loads(line) for line in pipe]
    return told, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
