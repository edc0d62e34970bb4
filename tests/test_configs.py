"""The ready configurations for public data, on small files of the same shape."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from benchmarks.prepare import prepare
from kgnn.benchmark import read_config, run_benchmark
from kgnn.errors import InputError
from kgnn.evaluation.headline import POINTS
from kgnn.graph import load_table

pytestmark = pytest.mark.usefixtures("few_steps")

CONFIGS = sorted(path for path in Path("benchmarks/configs").glob("*20*.toml"))


def counts(labels, n_genes=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.gamma(2, 2, n_genes), (len(labels), n_genes))
    adata = AnnData(sparse.csr_matrix(x, dtype=np.float32), obs=pd.DataFrame({"perturbation": labels}))
    adata.obs_names = [f"c{number}" for number in range(len(labels))]
    adata.var_names = [f"GENE{number}" for number in range(n_genes)]
    return adata


def test_labels_become_conditions_and_every_dropped_cell_is_counted():
    labels = ["control"] * 30 + ["GENE1_GENE2"] * 25 + ["GENE2_control"] * 25 + ["GENE3"] * 5 + [None, "*"]
    screen, dropped = prepare(counts(labels), separator="_", n_genes=10, min_cells=20)
    assert screen.obs["condition"].value_counts().to_dict() == {"control": 30, "GENE1+GENE2": 25, "GENE2": 25}
    assert dropped == {"without a label": 2, "of conditions with too few cells": 5}
    assert {"GENE1", "GENE2"} <= set(screen.var_names)
    assert screen.n_vars <= 12
    assert np.expm1(screen.X.toarray()).sum() > 0
    guides = counts(["62(mod)_pBA581"] * 25 + ["OST4_pDS353"] * 25)
    screen, _ = prepare(guides, control=r"62\(mod\).*", strip="_p.*")
    assert set(screen.obs["condition"]) == {"control", "OST4"}
    with pytest.raises(InputError, match="matches the control pattern"):
        prepare(counts(["GENE1"] * 25))
    with pytest.raises(InputError, match="no column 'guide'"):
        prepare(counts(["GENE1"]), column="guide")


def test_perturbed_cells_do_not_choose_the_genes():
    labels = ["control"] * 60 + ["GENE1"] * 30 + ["GENE2"] * 30
    adata = counts(labels, n_genes=60)
    chosen = set(prepare(adata, n_genes=20)[0].var_names)
    other = adata.copy()
    x = other.X.toarray()
    x[60:, 40:] = np.random.default_rng(1).poisson(1, (60, 20)) * np.random.default_rng(2).choice([0, 40], (60, 20))
    other.X = sparse.csr_matrix(x)
    assert set(prepare(other, n_genes=20)[0].var_names) == chosen
    x = adata.X.toarray()
    x[:60, 40:] = np.random.default_rng(1).poisson(1, (60, 20)) * np.random.default_rng(2).choice([0, 40], (60, 20))
    other.X = sparse.csr_matrix(x)
    assert set(prepare(other, n_genes=20)[0].var_names) != chosen  # control cells do


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_ready_configuration_runs_on_a_small_file(path, tmp_path):
    config = read_config(path)
    pairs = config["splits"][0]["kind"] == "simulation"
    names = [f"GENE{number}" for number in range(12)]
    names += [f"GENE{a}_GENE{a + 1}" for a in range(11)] if pairs else []
    labels = ["control"] * 12 + [name for name in names for _ in range(6)]
    screen, _ = prepare(counts(labels), separator="_", min_cells=5)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    rng = np.random.default_rng(0)
    ring = np.stack([np.arange(40), (np.arange(40) + 1) % 40])
    ends = np.concatenate([ring, rng.integers(40, size=(2, 40))], axis=1)
    table = pd.DataFrame({"source": ends[0], "target": ends[1]}).map("GENE{}".format)
    load_table(table, relation="regulates", origin="small").save(tmp_path / "kg")
    config["datasets"][0] |= {"path": str(tmp_path / "screen.h5ad"), "graph": str(tmp_path / "kg")}
    config["seeds"], config["tuning_budget"], config["crossed"] = [0], 1, int(pairs)  # crossed: two more fits
    for model in config["models"]:
        if "fit" in model:
            model["fit"] |= {"max_epochs": 1}
    scores = run_benchmark(config, tmp_path / "out")
    assert set(scores["model"]) == {*POINTS, *(model["name"] for model in config["models"])}
    assert (tmp_path / "out/report.html").exists()


def test_there_is_a_configuration_for_each_public_screen():
    assert [path.stem for path in CONFIGS] == [
        "adamson2016",
        "dixit2016",
        "norman2019",
        "replogle2022_k562_essential",
        "replogle2022_rpe1",
    ]
