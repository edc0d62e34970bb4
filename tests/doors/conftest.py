"""One screen at every door: genes GENE0 … GENE39, GENE0 … GENE7 perturbed (12 cells each), 36 control cells."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from kgnn import KnowledgeGraph, PerturbationModel
from kgnn.controls import ablate
from kgnn.data import leave_one_out, read_screen, split, training_cells
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table
from kgnn.metrics import evaluate, explained_share, noise_ceiling

GENES = [f"GENE{i}" for i in range(40)]
PERTURBED = GENES[:8]


def make_screen(seed=0):
    rng = np.random.default_rng(seed)
    level = rng.gamma(2, 0.8, 40)
    effect = rng.normal(0, 0.5, (8, 40)) * (rng.random((8, 40)) < 0.3)
    labels = np.repeat(["control", *PERTURBED], [36, *[12] * 8])
    change = np.vstack([np.zeros((1, 40)), effect])[np.repeat(np.arange(9), [36, *[12] * 8])]
    x = rng.normal(level + change, 0.2).clip(0) * (rng.random((132, 40)) > 0.1)
    adata = AnnData(x.astype(np.float32), obs=pd.DataFrame({"condition": labels}, index=[f"c{i}" for i in range(132)]))
    adata.var_names = GENES
    return adata


@pytest.fixture
def screen():
    return make_screen()


@pytest.fixture(scope="session")
def kg():
    """GENEi → GENEi+1, GENEi+5."""
    edges = [(GENES[i], GENES[(i + step) % 40]) for i in range(40) for step in (1, 5)]
    return load_table(pd.DataFrame(edges, columns=["source", "target"]), relation="regulates")


@pytest.fixture(scope="session")
def parts():
    return {"kind": "given", "seed": 0, "train": PERTURBED[:5], "val": [PERTURBED[5]], "test": PERTURBED[6:],
            "unused": [], "subgroups": {}}  # fmt: skip


@pytest.fixture(scope="session")
def prediction(kg, parts):
    return PerturbationModel(kg).fit(make_screen(), parts).predict(parts["test"])


@pytest.fixture
def doors(kg, parts, prediction, tmp_path, monkeypatch):
    """What takes the cells of a screen: name → function of them."""

    def command(adata, *arguments):
        from kgnn.cli.main import app

        adata.write_h5ad(tmp_path / "screen.h5ad")
        app([*map(str, arguments)], standalone_mode=False)

    kg.save(tmp_path / "graph")
    quick = {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}
    return {
        "read_screen": read_screen,
        "fit of kg": lambda a: PerturbationModel(kg).fit(a, parts),
        "fit of gears": lambda a: PerturbationModel(kg, encoder="gears", channels=8).fit(a, parts, **quick),
        "fit of mean": lambda a: PerturbationModel(encoder="mean").fit(a, parts),
        "split": lambda a: split(a, "random_condition"),
        "leave_one_out": leave_one_out,
        "training_cells": lambda a: training_cells(a, parts),
        "evaluate": lambda a: evaluate(prediction, a, parts),
        "noise_ceiling": lambda a: noise_ceiling(a, n_repeats=1),
        "explained_share": lambda a: explained_share(prediction, a),
        "ablate": lambda a: ablate(kg, a, parts, kinds=["true"], seeds=[0]),
        "kgnn train": lambda a: command(
            a, "train", tmp_path / "screen.h5ad", "-o", tmp_path / "m", "--split", "random_condition",
            "--graph", tmp_path / "graph",
        ),
    }  # fmt: skip


def told(function, *arguments):
    """Texts of the `DataWarning`s of a call; that of an `InputError` begins with 'refused: '."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function(*arguments)
        except InputError as error:
            return [f"refused: {error}"]
    return [str(warning.message) for warning in caught if issubclass(warning.category, DataWarning)]


def relabelled(adata, **labels):
    """The screen with other labels: `GENE0="GENE0_sg1"`."""
    adata = adata.copy()
    adata.obs["condition"] = adata.obs["condition"].astype(str).replace(labels)
    return adata


def renamed_graph(kg, names):
    edges = kg.edges(("gene", "regulates", "gene"))
    table = pd.DataFrame({side: edges[side].map(names) for side in ("source", "target")})
    return KnowledgeGraph(
        {"gene": sorted({*table["source"], *table["target"]})}, {("gene", "regulates", "gene"): table}
    )
