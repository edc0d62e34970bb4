"""Predicted means and cells against hand calculation, SciPy, scanpy and cell-eval."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import kgnn
from kgnn import PerturbationModel
from kgnn.errors import DataWarning, InputError
from kgnn.models import Changes, Predictor, load_model
from kgnn.models.perturbation.origin import Origin
from tests.folders import sealed_again


class Told(Predictor):
    """Predicts the changes [genes] that it is told; variances where it is told some."""

    uses_graph = False

    def __init__(self, *, change=(), variance=None):
        self.change, self.variance = change, variance

    def fit(self, data, *, seed=0):
        self.genes = data.screen.genes

    def predict(self, conditions, start):
        rows = np.tile(np.asarray(self.change, float), (len(conditions), 1))  # of control too, as GEARS does
        variance = None if self.variance is None else np.tile(np.asarray(self.variance, float), (len(conditions), 1))
        return Changes(rows, variance)

    def state(self):
        return {}, {}

    def restore(self, known, config, arrays):
        pass


def screen_of(cells, controls):
    """Two conditions of the same cells, and control cells."""
    cells, controls = np.asarray(cells, np.float32), np.asarray(controls, np.float32)
    labels = ["A"] * len(cells) + ["B"] * len(cells) + ["control"] * len(controls)
    adata = AnnData(
        np.vstack([cells, cells, controls]),
        obs=pd.DataFrame({"condition": labels}, index=[f"cell{n}" for n in range(len(labels))]),
    )
    adata.var_names = [f"g{number}" for number in range(adata.n_vars)]
    return adata


def told(change, adata, **options):
    return PerturbationModel(encoder=Told, change=list(change), **options).fit(adata)


def test_means_do_not_fall_below_zero_where_the_data_do_not():
    adata = screen_of([[0, 1.5, 2]], [[1, 2, 0], [3, 0, 0]])
    model = told([-5.0, 0.5, -0.1], adata)
    prediction = model.predict(["A", "control"])
    np.testing.assert_allclose(prediction.X, [[0, 1.5, 0], [2, 1, 0]])
    np.testing.assert_allclose(prediction.layers["delta"], [[-2, 0.5, 0], [0, 0, 0]])
    cells = model.predict("A", n_cells=7)
    np.testing.assert_allclose(cells.layers["delta"], np.tile([[-2, 0.5, 0]], (7, 1)))


@pytest.mark.parametrize("where", ["cells", "controls"])
def test_means_of_scaled_data_are_left_as_they_are(where, tmp_path):
    cells, controls = [[0.5, 1, 2]], [[1, 2, 0], [3, 0, 0]]
    (cells if where == "cells" else controls)[0][1] = -1
    with pytest.warns(DataWarning, match="looks scaled"):
        model = told([-5.0, 0.5, -0.1], screen_of(cells, controls))
    model.save(tmp_path / "m")
    for each in (model, PerturbationModel.load(tmp_path / "m", encoder=Told)):
        prediction = each.predict("A")
        np.testing.assert_allclose(prediction.layers["delta"], [[-5.0, 0.5, -0.1]], rtol=1e-6)
        np.testing.assert_allclose(prediction.X, np.mean(controls, 0)[None] + [[-5.0, 0.5, -0.1]], rtol=1e-6)
        drawn = each.predict("A", n_cells=2).X - [-5.0, 0.5, -0.1]
        np.testing.assert_allclose(np.sort(drawn, 0), np.sort(controls, 0), atol=1e-6, err_msg="cells moved by it")


def test_cells_have_the_predicted_mean_and_keep_zeros():
    rng = np.random.default_rng(0)
    cells, controls = (np.log1p(rng.poisson([0.3, 0.5, 2.0, 0.1], (n, 4)) * 1.5) for n in (10, 50))
    change = np.array([0.2, -0.1, 0.0, -9.0])
    model = told(change, screen_of(cells, controls))
    mean, found = model.predict("A").X[0], model.predict(["A", "B"], n_cells=20_000, seed=1)
    assert found.n_obs == 40_000
    assert found.obs["condition"].value_counts().to_dict() == {"A": 20_000, "B": 20_000}
    for name in "AB":
        x = found[found.obs["condition"] == name].X
        np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.02)
        assert (x >= 0).all()
        assert set(x[:, 2]) == set(controls.astype(np.float32)[:, 2]), "no change: the control cells' values"
        assert (x[:, 3] == 0).all()
        assert ((x == 0).mean(axis=0)[:2] > 0.4).all()
    again = model.predict(["A", "B"], n_cells=20_000, seed=1)
    np.testing.assert_array_equal(again.X, found.X)
    assert (model.predict(["A", "B"], n_cells=20_000, seed=2).X != found.X).any()
    with pytest.raises(InputError, match="n_cells = 0; it must be a whole number of 1 or more"):
        model.predict("A", n_cells=0)
    below = screen_of(cells, controls)[20:].copy()
    below.X = below.X - 5
    with pytest.raises(InputError, match=r"scale|negative"):
        model.predict("A", n_cells=2, control_cells=below)


def test_each_cell_is_made_of_another_control_cell_as_far_as_they_reach():
    controls = np.diag(np.arange(1, 7)) + 0.5
    model = told(np.zeros(6), screen_of(controls, controls))
    cells = model.predict(["A", "B"], n_cells=6).X
    for part in (cells[:6], cells[6:]):
        np.testing.assert_array_equal(np.sort(part.argmax(axis=1)), np.arange(6))
        assert {tuple(row) for row in part} == {tuple(row) for row in controls.astype(np.float32)}


def test_cells_of_values_that_are_no_logarithms_are_drawn_as_such():
    rng = np.random.default_rng(0)
    controls = rng.gamma(5, 100, (30, 2)) + 1
    with pytest.warns(DataWarning, match="no logarithm"):
        model = told([500.0, -250.0], screen_of(controls, controls))
    cells = model.predict("A", n_cells=30).X
    factors = np.sort(cells[:, 0]) / np.sort(controls[:, 0])
    np.testing.assert_allclose(factors, 1 + 500 / controls[:, 0].mean(), rtol=0.01, err_msg="all have it: multiplied")


def test_predictions_tell_where_they_come_from(tmp_path, small_kg):
    rng = np.random.default_rng(0)
    cells, controls = (np.log1p(rng.poisson(1.0, (n, 4)) * 1.5) for n in (4, 9))
    adata = screen_of(cells, controls)
    adata.var_names = ["A", "B", "C", "D"]
    adata.var["symbol"] = ["a", "b", "c", None]
    adata.var["kind"] = pd.Categorical(["x", "y", "x", "x"])
    adata.var["mean"], adata.var["chosen"] = [0.5, 1.5, np.nan, 2.0], [True, False, True, True]
    adata.var["number"] = np.array([1, 2, 3, 4], dtype=np.int32)
    adata.var["control_mean"] = 7.0
    adata.var["seen"] = pd.to_datetime(["2020-01-01"] * 4)
    adata.var["list"] = pd.Series([[1], [2], [3], [4]], index=adata.var_names)
    parts = {"kind": "random_condition", "seed": 3, "train": ["A", "B"], "val": [], "test": []}
    model = PerturbationModel(small_kg).fit(adata, parts)
    model.save(tmp_path / "m")
    kinds = {file.suffix for file in (tmp_path / "m").iterdir() if file.is_file()}
    assert kinds == {".json", ".safetensors", ".parquet"}
    assert isinstance(model.predict("C").obs["condition"].dtype, pd.CategoricalDtype)
    for each in (model, load_model(tmp_path / "m")):
        for n_cells in (None, 3):
            each.predict(["C", "control"], n_cells=n_cells).write_h5ad(tmp_path / "p.h5ad")
            found = read_h5ad(tmp_path / "p.h5ad")
            assert list(found.var) == ["symbol", "kind", "mean", "chosen", "number", "control_mean"]
            assert found.var["symbol"].tolist() == ["a", "b", "c", ""]
            assert found.var["kind"].tolist() == ["x", "y", "x", "x"]
            np.testing.assert_array_equal(found.var["mean"], [0.5, 1.5, np.nan, 2.0])
            assert (found.var["chosen"].dtype, found.var["number"].dtype) == (bool, np.int32)
            np.testing.assert_allclose(found.var["control_mean"], controls.mean(axis=0), rtol=1e-5)
            assert isinstance(found.obs["condition"].dtype, pd.CategoricalDtype)
            told = found.uns["kgnn"]
            assert (told["kgnn"], told["encoder"], told["scale"]) == (kgnn.__version__, "kg", "log")
            assert told["graph"]["nodes"] == {"gene": 4, "cell_type": 2}
            assert told["graph"]["edges"] == {
                "cell_type is_a cell_type": 1,
                "gene coexpressed gene": 1,
                "gene regulates gene": 3,
            }
            canonical = parts | {"unused": [], "subgroups": {}}
            of_text = hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
            sizes = {"train": 2, "val": 0, "test": 0}
            assert told["split"] == sizes | {"kind": "random_condition", "seed": 3, "sha256": of_text}
    (tmp_path / "m" / "var.parquet").write_bytes(b"PAR1")
    sealed_again(tmp_path / "m")
    with pytest.raises(InputError, match=r"var.parquet: damaged or cut short"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "var.parquet").unlink()
    with pytest.raises(InputError, match=r"var.parquet: missing"):
        load_model(tmp_path / "m")


def test_the_hash_of_a_graph_is_that_of_its_content(small_kg, tmp_path):
    def hash_of(kg):
        return Origin.of(pd.DataFrame(), encoder="kg", kg=kg, split=None, scale="log").facts["graph"]["sha256"]

    small_kg.save(tmp_path / "kg")
    assert hash_of(kgnn.KnowledgeGraph.load(tmp_path / "kg")) == hash_of(small_kg)
    assert len({hash_of(kg) for kg in (small_kg, small_kg.drop_source("one"), small_kg.subset(["A", "B", "C"]))}) == 3
    assert Origin.of(pd.DataFrame(), encoder="mean", kg=None, split=None, scale="log").facts["graph"] == {}
