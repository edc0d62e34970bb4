import warnings

import anndata
import dask.array
import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import rankdata

from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_coexpression
from kgnn.graph.sources import coexpression
from tests.peer_code import cell_gears

RELATION = ("gene", "coexpressed", "gene")


def cells(seed: int, n_cells: int = 30, n_genes: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.5, (n_cells, n_genes)).astype(float)
    x[:, 1] = x[:, 0] * 2 + rng.poisson(0.3, n_cells)
    x[:, 2] = 9 - x[:, 0]
    x[:, 3] = 4.0  # constant
    return np.log1p(np.maximum(x, 0))


def adata_of(x, names=None):
    adata = AnnData(x)
    adata.var_names = names or [f"G{i}" for i in range(x.shape[1])]
    return adata


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([2, 4, 100]), st.sampled_from([1, 3, None]), st.sampled_from([0.2, 0.4]))
def test_edges_are_the_strongest_numpy_correlations(seed, block, k, threshold):
    x = cells(seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.nan_to_num(np.corrcoef(x, rowvar=False))
    np.fill_diagonal(r, 0)
    expected = {}
    for target in range(x.shape[1]):
        order = np.argsort(-np.abs(r[target]), kind="stable")[:k]
        expected |= {(f"G{s}", f"G{target}"): r[target, s] for s in order if abs(r[target, s]) > threshold}
    for matrix in (x, sparse.csr_matrix(x), sparse.csc_matrix(x)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coexpression, "ENTRIES", block * 9)
            patch.setattr(coexpression, "DENSE", 7 * 9)
            kg = load_coexpression(adata_of(matrix), threshold=threshold, k=k)
        edges = kg.edges(RELATION)
        found = {(e.source, e.target): e.weight * e.sign for e in edges.itertuples()}
        assert found == pytest.approx(expected, abs=1e-5)


def test_gears_own_function_gives_the_same_graph(tmp_path):
    """cell-gears keeps 21 with the self loop; without it the graph is the same."""
    utils = cell_gears("utils")
    adata = adata_of(sparse.csr_matrix(cells(5, 60, 40)))
    adata.obs["condition"] = "ctrl"
    adata.var["gene_name"] = adata.var_names
    (tmp_path / "data").mkdir()
    theirs = utils.get_coexpression_network_from_train(
        adata, 0.2, 5, str(tmp_path), "data", "simulation", 1, 0.75, {"train": ["ctrl"]}
    )
    theirs = theirs[theirs["source"] != theirs["target"]]
    ours = load_coexpression(adata, threshold=0.2, k=5).edges(RELATION)
    assert {(e.source, e.target): e.weight for e in ours.itertuples()} == pytest.approx(
        {(e.source, e.target): e.importance for e in theirs.itertuples()}, abs=1e-5
    )


def test_layers_constant_genes_and_all_nodes():
    adata = adata_of(np.zeros((30, 9)))
    adata.layers["logs"] = cells(0)
    kg = load_coexpression(adata, layer="logs")
    assert kg.nodes("gene").index.tolist() == [f"G{i}" for i in range(9)]
    assert kg.account[0]["dropped"] == {"constant genes": 1}
    assert len(load_coexpression(adata).edges(RELATION)) == 0


def test_bad_data_is_refused():
    with pytest.raises(InputError, match="2 cells are too few"):
        load_coexpression(adata_of(cells(0)[:2]))
    with pytest.raises(InputError, match="'A' stands twice"):
        load_coexpression(adata_of(cells(0)[:, :2], ["A", "A"]))
    x = cells(0)
    x[3, 5] = np.nan
    with pytest.raises(InputError, match="'G5' has NaN"):
        load_coexpression(adata_of(x))


# other correlations, groups, forms of the data


def as_matrix(kg, names):
    edges = kg.edges(RELATION)
    r = np.zeros((len(names), len(names)))
    index = {name: i for i, name in enumerate(names)}
    for e in edges.itertuples():
        r[index[e.target], index[e.source]] = e.weight * e.sign
    return r


@settings(max_examples=25)
@given(st.integers(0, 1000), st.booleans())
def test_spearman_agrees_with_scipy_for_sparse_data_with_negatives_and_ties(seed, negative):
    x = np.round(cells(seed) - (1.0 if negative else 0.0), 1)
    x[np.random.default_rng(seed).random(x.shape) < 0.4] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks = rankdata(x, axis=0)
        expected = np.nan_to_num(np.corrcoef(ranks, rowvar=False))
    np.fill_diagonal(expected, 0)
    expected[np.abs(expected) <= 0.05] = 0
    for matrix in (x, sparse.csr_matrix(x), sparse.csc_matrix(x)):
        adata = adata_of(matrix)
        found = as_matrix(load_coexpression(adata, method="spearman", threshold=0.05, k=None), adata.var_names)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_signed_keeps_positive_correlations_only():
    adata = adata_of(cells(0))
    both, positive = (load_coexpression(adata, signed=signed, k=None).edges(RELATION) for signed in (False, True))
    assert (both["sign"] < 0).any()
    assert positive.equals(both[both["sign"] > 0].reset_index(drop=True))


def test_groups_are_averaged_so_that_their_difference_does_not_count():
    x = np.concatenate([cells(1), cells(2) + 5, cells(3)[:2]])
    adata = adata_of(x)
    adata.obs["batch"] = ["a"] * 30 + ["b"] * 30 + ["c"] * 2
    kg = load_coexpression(adata, groupby="batch", threshold=0.05, k=None)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = [np.nan_to_num(np.corrcoef(part, rowvar=False)) for part in (x[:30], x[30:60])]
    expected = (r[0] + r[1]) / 2
    np.fill_diagonal(expected, 0)
    expected[np.abs(expected) <= 0.05] = 0
    np.testing.assert_allclose(as_matrix(kg, adata.var_names), expected, atol=1e-5)
    assert kg.account[0]["dropped"]["cells in batch groups of fewer than 3, or in none"] == 2


def test_backed_and_dask_data_give_the_same_graph(tmp_path):
    adata = adata_of(sparse.csr_matrix(cells(4, 200, 12).astype(np.float32)))
    adata.obs["batch"] = ["a", "b"] * 100
    adata.write_h5ad(tmp_path / "sparse.h5ad")
    dense = adata.copy()
    dense.X = adata.X.toarray()
    dense.write_h5ad(tmp_path / "dense.h5ad")
    lazy = adata.copy()
    lazy.X = dask.array.from_array(dense.X, chunks=(33, 12))
    sparse_lazy = adata.copy()
    sparse_lazy.X = dask.array.from_array(dense.X, chunks=(50, 12)).map_blocks(sparse.csr_matrix)
    forms = [anndata.read_h5ad(tmp_path / f"{name}.h5ad", backed="r") for name in ("sparse", "dense")]
    for options in ({}, {"groupby": "batch"}, {"method": "spearman"}):
        expected = load_coexpression(adata, threshold=0.1, **options).edges(RELATION)
        for form in [*forms, lazy, sparse_lazy, dense]:
            found = load_coexpression(form, threshold=0.1, **options).edges(RELATION)
            columns = ["source", "target", "sign"]
            assert found[columns].equals(expected[columns])
            np.testing.assert_allclose(found["weight"], expected["weight"], atol=1e-5)


def test_genes_of_a_high_steady_level_lose_no_digits():
    rng = np.random.default_rng(0)
    x = (8 + 0.001 * rng.standard_normal((3000, 4))).astype(np.float32)
    x[:, 1] = x[:, 0] + (0.0005 * rng.standard_normal(3000)).astype(np.float32)
    expected = np.corrcoef(x.astype(np.float64), rowvar=False)
    for matrix in (x, sparse.csr_matrix(x)):
        adata = adata_of(matrix)
        found = as_matrix(load_coexpression(adata, threshold=0.5), adata.var_names)
        assert found[0, 1] == pytest.approx(expected[0, 1], abs=1e-3)


def test_counts_are_told_of_unless_ranks_are_taken():
    adata = adata_of(np.round(np.expm1(cells(0))))
    with pytest.warns(DataWarning, match="X, for co-expression, .* looks like raw counts"):
        load_coexpression(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_coexpression(adata, method="spearman")


def test_more_bad_input():
    adata = adata_of(cells(0))
    for options, message in (
        ({"method": "kendall"}, "method 'kendall' is unknown"),
        ({"layer": "logs"}, "no layer 'logs'"),
        ({"groupby": "batch"}, "no column 'batch' in adata.obs"),
    ):
        with pytest.raises(InputError, match=message):
            load_coexpression(adata, **options)
    adata.obs["batch"] = [str(i) for i in range(adata.n_obs)]
    with pytest.raises(InputError, match="no group of 'batch' has three cells"):
        load_coexpression(adata, groupby="batch")


def test_real_norman_graph_is_gears_own(norman, tmp_path):
    """With GEARS' settings, edge for edge, on the real control cells and training conditions."""
    utils = cell_gears("utils")
    adata = norman.copy()
    adata.var["gene_name"] = adata.var_names
    # GEARS takes the cells of single perturbations, `A+ctrl`, and of controls, `ctrl`
    names = adata.obs["condition"].astype(str)
    names = names.map(lambda name: "ctrl" if name == "control" else name if "+" in name else f"{name}+ctrl")
    adata.obs["condition"] = names
    conditions = [name for name in names.unique() if "ctrl" in name][:12]
    (tmp_path / "data").mkdir()
    theirs = utils.get_coexpression_network_from_train(
        adata, 0.4, 20, str(tmp_path), "data", "simulation", 1, 0.75, {"train": conditions}
    )
    theirs = theirs[theirs["source"] != theirs["target"]]
    ours = load_coexpression(adata[adata.obs["condition"].isin(conditions)]).edges(RELATION)
    assert len(ours) > 50
    assert {(e.source, e.target): e.weight for e in ours.itertuples()} == pytest.approx(
        {(e.source, e.target): e.importance for e in theirs.itertuples()}, abs=1e-5
    )


def halved(x):
    """The same CSR matrix, every entry in two halves: two stored values a place."""
    x = sparse.csr_matrix(x)
    return sparse.csr_matrix((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), x.indptr * 2), shape=x.shape)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("form", ["memory", "columns", "backed", "dask"])
def test_entries_in_two_halves_are_one_value(tmp_path, method, form):
    x = cells(3, 40, 12)
    split = halved(x)
    adata = adata_of(split.copy() if form != "columns" else halved(x.T).T)  # the transpose of CSR is CSC
    if form == "backed":
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    if form == "dask":
        adata = adata_of(dask.array.from_array(split, chunks=(11, 12), asarray=False))
    found = load_coexpression(adata, method=method, threshold=0.2, k=None).edges(RELATION)
    r = np.corrcoef(rankdata(x, axis=0) if method == "spearman" else x, rowvar=False)
    expected = {(f"G{i}", f"G{j}"): r[i, j] for i, j in np.argwhere(np.abs(r) > 0.2) if i != j}
    assert {(e.source, e.target): e.weight * e.sign for e in found.itertuples()} == pytest.approx(expected, abs=1e-5)
    if form == "memory":
        assert adata.X.nnz == split.nnz
        np.testing.assert_array_equal(adata.X.data, split.data)
