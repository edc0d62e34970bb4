"""Predicted means and cells against hand calculation, SciPy, scanpy and cell-eval."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from kgnn import PerturbationModel
from kgnn.errors import DataWarning
from kgnn.models import Changes, Predictor


class Told(Predictor):
    """Predicts the changes [genes] that it is told; variances where it is told some."""

    uses_graph = False

    def __init__(self, *, change=(), variance=None):
        self.change, self.variance = change, variance

    def fit(self, data, *, seed=0):
        self.genes = data.screen.genes

    def predict(self, conditions, start):
        rows = np.array([self.change if name else np.zeros(len(start.mean)) for name in conditions], dtype=float)
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
