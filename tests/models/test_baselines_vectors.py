"""Nearest neighbours and ridge regression on gene vectors, against scikit-learn and by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kgnn import KnowledgeGraph, PerturbationModel
from kgnn.data import simulate
from kgnn.errors import DataWarning, InputError
from kgnn.graph import embed_graph
from kgnn.metrics import evaluate
from kgnn.models import KNOWLEDGE_BASELINES, load_model, make_model
from kgnn.models.baselines.ridge import RIDGES, leave_one_out
from kgnn.models.baselines.vectors import choose_k, graph_vectors, mean_of, nearest, reduced

NAMES = ("knn", "embedding_ridge")


@pytest.fixture(scope="module")
def adata():
    return simulate(n_genes=120, n_singles=24, n_pairs=8, cells_per_condition=12, n_controls=60, seed=5)


@pytest.fixture(scope="module")
def parts(adata):
    names = sorted(set(adata.obs["condition"].astype(str).str.replace("+ctrl", "")) - {"control"})
    test = names[::5]
    return {"train": [name for name in names if name not in test], "val": [], "test": test}


@pytest.fixture(scope="module")
def table(adata):
    """Random vectors of all genes but two of training, with columns of different size."""
    rng = np.random.default_rng(1)
    values = rng.normal(3, 1, (120, 12)) * np.arange(1, 13)
    return pd.DataFrame(values, adata.var_names).drop(["G001", "G004"])


@pytest.fixture(scope="module")
def known(adata, parts):
    """Changes of the training conditions straight from the cells, [conditions, genes]."""
    x, labels = adata.X.toarray().astype(float), adata.obs["condition"].astype(str).to_numpy()
    control = x[labels == "control"].mean(axis=0)
    return control, np.array([x[labels == name].mean(axis=0) - control for name in parts["train"]])


def embedded(table, names):
    """Sums of scaled and rotated vectors, [conditions, components]."""
    pipeline = make_pipeline(StandardScaler(), PCA(min(100, len(table) - 1, table.shape[1])))
    rows = pd.DataFrame(pipeline.fit_transform(table.to_numpy()), table.index)
    return np.array(
        [sum((rows.loc[g] for g in name.split("+") if g in rows.index), 0 * rows.iloc[0]) for name in names]
    )


def delta(model, names):
    return model.predict(names).layers["delta"]


def has(table, names):
    return np.array([bool(set(name.split("+")) & set(table.index)) for name in names])


def test_knn_is_scikit_learn_s(adata, parts, table, known):
    """A grid search of KNeighborsRegressor over the same folds; conditions without a vector get the mean."""
    control, change = known
    train, test = has(table, parts["train"]), [name for name in parts["test"] if has(table, [name])[0]]
    points = embedded(table, parts["train"])[train]
    grid = {"n_neighbors": [k for k in (1, 2, 5, 10, 20) if k <= len(points) - -(-len(points) // 5)]}
    folds = KFold(5, shuffle=True, random_state=7)
    search = GridSearchCV(
        KNeighborsRegressor(), grid, cv=folds, scoring=lambda m, x, y: -np.square(m.predict(x) - y).sum()
    )
    search.fit(points, change[train])
    model = make_model("knn", vectors=table).fit(adata, parts, seed=7)
    assert model.predictor_.k_.tolist() == [search.best_params_["n_neighbors"]]
    expected = np.maximum(search.predict(embedded(table, test)), -control)
    np.testing.assert_allclose(delta(model, test), expected, atol=1e-5)
    assert train.sum() < len(train), "not all training conditions have a vector"
    with pytest.warns(DataWarning, match="1 perturbed genes have no vector: NEW; nor were they perturbed in training"):
        found = delta(model, ["NEW", *test[:1], "NEW+" + test[0]])
    np.testing.assert_allclose(found[0], np.maximum(change.mean(axis=0), -control), atol=1e-5)
    np.testing.assert_allclose(found[1], found[2], atol=1e-6)
    delta(model, "NEW")  # told once


def test_the_numbers_of_neighbours_that_are_tried():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 2))
    wave = np.sin(points[:, :1] * 0.1)
    noisy = wave + rng.normal(size=(200, 1)) * 5
    assert choose_k(points, noisy, 0) in (20, 40, 60, 80, 100), "160 conditions are left by a fold"
    assert choose_k(points, wave, 0) == 20, "where 100 are left no fewer are tried"
    assert choose_k(points[:40], wave[:40], 0) in (1, 2, 5), "few and exact: the nearest say it"
    assert choose_k(points[:2], wave[:2], 0) == 1


def test_the_folds_are_drawn_by_the_seed():
    rng = np.random.default_rng(3)
    points, chosen = rng.normal(size=(30, 2)), set()
    values = points @ rng.normal(size=(2, 3)) + rng.normal(size=(30, 3))
    for seed in range(8):
        folds = KFold(5, shuffle=True, random_state=seed)
        search = GridSearchCV(
            KNeighborsRegressor(), {"n_neighbors": [1, 2, 5, 10, 20]}, cv=folds, scoring="neg_mean_squared_error"
        )
        chosen.add(choose_k(points, values, seed))
        assert choose_k(points, values, seed) == search.fit(points, values).best_params_["n_neighbors"]
    assert len(chosen) > 1


def test_conditions_without_a_vector_choose_nothing():
    """Of 45 training conditions 30 have no vector; they would choose other numbers of neighbours."""
    adata, vectors = latent_screen()
    parts = {"train": list(vectors.index[:45]), "val": [], "test": list(vectors.index[45:])}
    some = vectors.iloc[30:]
    with pytest.warns(DataWarning, match="15 of the 45 perturbed genes of training are in the table of vectors"):
        model = make_model("knn", vectors=some).fit(adata, parts).predictor_
    points = pd.DataFrame(reduced(some.to_numpy(), 0), some.index).reindex(parts["train"]).fillna(0).to_numpy()
    assert model.k_[0] == choose_k(points[30:], model.delta_[30:], 0) != choose_k(points, model.delta_, 0)


def test_nearest_and_means_by_hand():
    points, of = np.array([[0.0], [5.0]]), np.array([[4.0], [1.0], [-1.0], [6.0]])
    order = nearest(points, of)
    assert order.tolist() == [[1, 2, 0, 3], [0, 3, 1, 2]], "of points equally near the first"
    np.testing.assert_allclose(mean_of(order[:, :2], of), [[0.0], [5.0]])
    np.testing.assert_allclose(mean_of(order[:, :3], of), [[4 / 3], [11 / 3]])


def test_embedding_ridge_is_scikit_learn_s(adata, parts, table, known):
    control, change = known
    points, mean = embedded(table, parts["train"]), change.mean(axis=0)
    scale = np.square(points).sum(axis=1).mean()
    errors = []
    for ridge in RIDGES * scale:
        found = 0.0
        for out in range(len(points)):
            rest = np.arange(len(points)) != out
            left = change[rest].mean(axis=0)
            one = Ridge(ridge, fit_intercept=False).fit(points[rest], change[rest] - left)
            found += np.square(change[out] - left - one.predict(points[out : out + 1])[0]).sum()
        errors.append(found)
    ridge = (RIDGES * scale)[int(np.argmin(errors))]
    model = make_model("embedding_ridge", vectors=table).fit(adata, parts)
    np.testing.assert_allclose(model.predictor_.ridge_, [ridge])
    whole = Ridge(ridge, fit_intercept=False).fit(points, change - mean)
    expected = np.maximum(whole.predict(embedded(table, parts["test"])) + mean, -control)
    np.testing.assert_allclose(delta(model, parts["test"]), expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore::kgnn.errors.DataWarning")
def test_a_gene_without_a_vector_gets_the_mean(adata, parts, table, known):
    control, change = known
    for name in NAMES:
        model = make_model(name, vectors=table).fit(adata, parts)
        np.testing.assert_allclose(
            delta(model, ["NEW", "NEW+OLD"]), np.tile(np.maximum(change.mean(axis=0), -control), (2, 1)), atol=1e-5
        )


def test_leave_one_out_by_leaving_out():
    rng = np.random.default_rng(0)
    points, values = rng.normal(size=(9, 3)), rng.normal(size=(9, 4)) + 2
    points[4] = 0
    kernel = points @ points.T
    for ridge, found in zip((0.01, 1.0, 100.0), leave_one_out(kernel, values, (0.01, 1.0, 100.0)), strict=True):
        for out in range(9):
            rest = np.arange(9) != out
            mean = values[rest].mean(axis=0)
            model = KernelRidge(alpha=ridge, kernel="precomputed").fit(kernel[np.ix_(rest, rest)], values[rest] - mean)
            predicted = mean + model.predict(kernel[out : out + 1, rest])[0]
            np.testing.assert_allclose(found[out], values[out] - predicted, atol=1e-9)


def test_reduced_takes_missing_values_at_the_mean():
    values = np.random.default_rng(0).normal(size=(30, 4)) + 5
    filled = values.copy()
    values[3, 2:] = np.nan
    rest = np.delete(np.arange(30), 3)
    filled[3, 2:] = values[rest][:, 2:].mean(axis=0)
    scale = np.where(np.isnan(values[3]), values[rest].std(axis=0), values.std(axis=0))
    standard = (filled - filled.mean(axis=0)) / scale
    _, singular, _ = np.linalg.svd(standard, full_matrices=False)
    found = reduced(values, 0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), singular)
    np.testing.assert_allclose(found @ found.T, standard @ standard.T, atol=1e-9)
    assert reduced(np.random.default_rng(0).normal(size=(300, 150)), 0).shape == (300, 100)
    assert reduced(np.random.default_rng(0).normal(size=(5, 150)), 0).shape == (5, 4)
    with pytest.raises(InputError, match="3 genes × 2 dimensions tell no gene from another"):
        reduced(np.ones((3, 2)), 0)


def test_vectors_of_the_graph(small_kg):
    features = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]}, ["A", "B"])
    both = small_kg.with_features("f", features).with_features("g", pd.DataFrame({"z": [5.0, 6.0]}, ["B", "D"]))
    found = graph_vectors(both, 0)
    assert found.index.tolist() == ["A", "B", "D"], "C has neither"
    np.testing.assert_array_equal(found, [[1, 3, np.nan], [2, 4, 5], [np.nan, np.nan, 6]])
    spectral = graph_vectors(small_kg, 0)
    pd.testing.assert_frame_equal(spectral, embed_graph(small_kg, "spectral", dim=4, whole=True, tau=1.0))
    for kg in (None, KnowledgeGraph({"gene": ["A", "B", "C"]}, {})):
        with pytest.raises(InputError, match="no gene vectors: give a table or its file as vectors="):
            graph_vectors(kg, 0)


def test_a_file_is_the_same_as_its_table(adata, parts, table, tmp_path):
    small = table.astype(np.float32)
    small.columns = [f"d{column}" for column in small]
    small.to_parquet(tmp_path / "vectors.parquet")
    found = [make_model("knn", vectors=given).fit(adata, parts) for given in (small, tmp_path / "vectors.parquet")]
    np.testing.assert_array_equal(*(delta(model, parts["test"]) for model in found))
    found[1].save(tmp_path / "m")
    (tmp_path / "vectors.parquet").unlink()
    again = load_model(tmp_path / "m")
    np.testing.assert_array_equal(delta(again, parts["test"]), delta(found[1], parts["test"]))
    assert again.options == {"vectors": str(tmp_path / "vectors.parquet")}


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_keeps_its_table(adata, parts, table, tmp_path, name):
    """Bit for bit, without pickle; and it can be fitted again."""
    model = make_model(name, vectors=table).fit(adata, parts)
    model.save(tmp_path / "m")
    assert "vectors" not in json.loads((tmp_path / "m" / "config.json").read_text())["options"]
    again = load_model(tmp_path / "m")
    assert not again.uses_graph
    expected = delta(model, parts["test"])
    np.testing.assert_array_equal(delta(again, parts["test"]), expected)
    assert again.options["vectors"].index.equals(table.index)
    np.testing.assert_array_equal(again.options["vectors"], table)
    np.testing.assert_array_equal(delta(again.fit(adata, parts), parts["test"]), expected)
    again.save(tmp_path / "twice")
    np.testing.assert_array_equal(delta(load_model(tmp_path / "twice"), parts["test"]), expected)


def test_tables_that_cannot_be_used(adata, parts, table, tmp_path):
    odd = table.copy()
    odd.loc["G002"] = np.inf
    for wrong, match in (
        (odd, "vectors: 1 genes, first 'G002', have values that are not finite"),
        (pd.concat([table, table.iloc[:1]]), "gene 'G000' stands twice"),
        (table.assign(name="x"), "column 'name' holds"),
        ([1, 2], "vectors: list; give a table"),
    ):
        with pytest.raises(InputError, match=match):
            PerturbationModel(encoder="knn", vectors=wrong)
    elsewhere = table.set_axis([f"X{number}" for number in range(len(table))])
    with pytest.raises(InputError, match=r"none of the .* perturbed genes of training is in the table of vectors"):
        make_model("knn", vectors=elsewhere).fit(adata, parts)
    with pytest.raises(InputError, match="nothing"):
        make_model("knn", vectors=tmp_path / "nothing.parquet").fit(adata, parts)
    for name in KNOWLEDGE_BASELINES:
        with pytest.raises(InputError, match="encoder='mean'"):
            make_model(name).fit(adata, parts)
    single = next(name for name in parts["train"] if name in table.index)
    one = table.loc[[single, *(gene for gene in table.index if not any(gene in name for name in parts["train"]))]]
    few = {"train": [single, *(name for name in parts["train"] if single not in name)], "val": [], "test": []}
    with (
        pytest.raises(InputError, match=r"fewer than two of the .* all others have no vector"),
        pytest.warns(DataWarning, match=r"1 of the .* perturbed genes of training is in the table of vectors"),
    ):
        make_model("knn", vectors=one).fit(adata, few)


def latent_screen(seed=0, n_conditions=60, n_genes=30, n_cells=10):
    """Cells whose perturbed genes' vectors [conditions, 3] decide what they do, and the vectors."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_conditions, 3))
    change = np.tanh(z @ rng.normal(size=(3, n_genes)))
    names = [f"P{number:02d}" for number in range(n_conditions)]
    of_cell = np.repeat(np.arange(n_conditions + 1), n_cells)
    mean = 3 + np.vstack([change, np.zeros(n_genes)])
    adata = AnnData((mean[of_cell] + 0.3 * rng.normal(size=(len(of_cell), n_genes))).clip(0).astype(np.float32))
    adata.var_names = [f"M{number:02d}" for number in range(n_genes)]
    adata.obs["condition"] = np.array([*names, "control"])[of_cell]
    return adata, pd.DataFrame(z, names)


@pytest.mark.parametrize("name", NAMES)
def test_permuted_vectors_are_at_chance(name):
    """Where vectors decide what a perturbation does they predict unseen genes; those of other genes do not."""
    adata, vectors = latent_screen()
    parts = {"train": list(vectors.index[:45]), "val": [], "test": list(vectors.index[45:])}
    shuffled = vectors.set_axis(np.random.default_rng(0).permutation(vectors.index))
    found = [make_model(name, vectors=v).fit(adata, parts).predict(parts["test"]) for v in (vectors, shuffled)]
    scores = [evaluate(prediction, adata, parts)["pearson_centred"].mean() for prediction in found]
    assert scores[0] > 0.7
    assert abs(scores[1]) < 0.25
