import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from kgnn.errors import InputError
from kgnn.graph import load_coexpression
from kgnn.graph.sources import coexpression

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
            patch.setattr(coexpression, "CELLS", 7)
            kg = load_coexpression(adata_of(matrix), threshold=threshold, k=k)
        edges = kg.edges(RELATION)
        found = {(e.source, e.target): e.weight * e.sign for e in edges.itertuples()}
        assert found == pytest.approx(expected, abs=1e-5)


def test_gears_own_function_gives_the_same_graph(tmp_path):
    """cell-gears keeps 21 with the self loop; without it the graph is the same."""
    utils = pytest.importorskip("gears.utils", reason="needs cell-gears: pip install kgnn[bench]")
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
