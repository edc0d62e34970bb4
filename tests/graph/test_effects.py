"""Strengths of edges against scikit-learn and against systems whose strengths are known."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.linear_model import Ridge

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph import estimate_effects, load_table
from kgnn.graph.effects import EFFECT, edge_strengths

EDGES = pd.DataFrame({"source": ["A", "B", "A"], "target": ["C", "C", "D"]})


def cells(n=4_000, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(n)
    b = 0.8 * a + rng.standard_normal(n)  # goes along with a, and acts the other way
    c = 1.0 * a - 1.0 * b + 0.3 * rng.standard_normal(n)
    d = -0.7 * a + rng.standard_normal(n)
    adata = AnnData(np.stack([a, b, c, d], 1).astype(np.float32))
    adata.var_names = list("ABCD")
    return adata


def strengths(graph):
    table = graph.edges(EFFECT)
    return dict(zip(table["source"] + table["target"], table["weight"] * table["sign"], strict=True))


def test_strengths_are_ridge_coefficients_on_all_regulators_at_once():
    adata = cells()
    found = strengths(estimate_effects(load_table(EDGES, relation="regulates"), adata, ridge=0.1))
    z = (adata.X - adata.X.mean(0)) / adata.X.std(0)
    model = Ridge(alpha=0.1 * len(z), fit_intercept=False).fit(z[:, :2], z[:, 2])
    assert found["AC"] == pytest.approx(model.coef_[0], rel=1e-4)
    assert found["BC"] == pytest.approx(model.coef_[1], rel=1e-4)
    assert found["AC"] > 0 > found["BC"]
    assert found["AD"] < 0


def test_only_variation_within_a_group_counts():
    adata = cells()
    adata.obs["condition"] = np.repeat(["x", "y"], adata.n_obs // 2)
    shifted = adata.copy()
    shifted.X[: adata.n_obs // 2] += np.array([9, -9, 9, 9], dtype=np.float32)
    kg = load_table(EDGES, relation="regulates")
    first = strengths(estimate_effects(kg, adata, groupby="condition"))
    second = strengths(estimate_effects(kg, shifted, groupby="condition"))
    for edge, value in first.items():
        assert second[edge] == pytest.approx(value, abs=2e-3)


def test_a_time_course_tells_who_moves_whom():
    rng = np.random.default_rng(1)
    rows, time, series = [], [], []
    for run in range(20):
        x = rng.standard_normal(2)
        for step in range(30):
            rows.append(x.copy())
            time.append(float(step))
            series.append(str(run))
            x = np.array([0.9 * x[0], x[1] + 0.5 * (-x[0] - x[1])]) + 0.1 * rng.standard_normal(2)
    adata = AnnData(np.array(rows, dtype=np.float32))
    adata.var_names = ["A", "D"]
    adata.obs["time"], adata.obs["series"] = time, series
    kg = load_table(pd.DataFrame({"source": ["A"], "target": ["D"]}), relation="regulates")
    assert strengths(estimate_effects(kg, adata, groupby="series", time_key="time"))["AD"] < 0


def test_similarities_take_no_part_and_the_own_level_is_left_out():
    kg = KnowledgeGraph(
        {"gene": ["A", "B"]}, {("gene", "coexpressed", "gene"): pd.DataFrame({"source": ["A"], "target": ["B"]})}
    )
    with pytest.raises(InputError, match="no directed gene–gene edge"):
        estimate_effects(kg, cells())
    x = np.random.default_rng(0).standard_normal((200, 2))
    y = np.stack([x[:, 0], 0.5 * x[:, 0] - 0.9 * x[:, 1]], 1)
    found = edge_strengths(np.array([0]), np.array([1]), x, y, ridge=1e-9)
    assert found == pytest.approx([0.5], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [({"groupby": "line"}, "no column 'line'"), ({"time_key": "hour"}, "no column 'hour'")],
)
def test_unknown_columns_are_named(change, match):
    with pytest.raises(InputError, match=match):
        estimate_effects(load_table(EDGES, relation="regulates"), cells(10), **change)
    with pytest.raises(InputError, match="too few"):
        estimate_effects(load_table(EDGES, relation="regulates"), cells(2))
    adata = cells(5)
    adata.obs["t"], adata.obs["g"] = 0.0, list("abcde")
    with pytest.raises(InputError, match="two time points"):
        estimate_effects(load_table(EDGES, relation="regulates"), adata, groupby="g", time_key="t")


def test_entries_in_two_halves_are_one_value():
    from scipy import sparse

    x = sparse.csr_matrix(np.abs(cells(60).X))
    halves = sparse.csr_matrix((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), x.indptr * 2), shape=x.shape)
    kg = load_table(EDGES, relation="regulates")
    split, whole = (estimate_effects(kg, AnnData(m, var=pd.DataFrame(index=list("ABCD")))) for m in (halves, x))
    pd.testing.assert_frame_equal(split.edges(EFFECT), whole.edges(EFFECT))
