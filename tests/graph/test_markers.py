import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from kgnn.errors import InputError
from kgnn.graph import load_cell_ontology, load_markers

RELATION = ("cell_type", "has_marker", "gene")


@pytest.fixture(scope="module")
def pbmc():
    adata = sc.datasets.pbmc68k_reduced()
    return AnnData(adata.raw.X, obs=adata.obs, var=adata.raw.var)


def test_markers_agree_with_scanpy_and_leave_the_data_as_it_was(pbmc):
    before = set(pbmc.uns)
    kg = load_markers(pbmc, "bulk_labels", n_genes=10)
    assert set(pbmc.uns) == before
    copy = pbmc.copy()
    sc.tl.rank_genes_groups(copy, "bulk_labels", method="wilcoxon", use_raw=False)
    edges = kg.edges(RELATION)
    for label in ("CD19+ B", "Dendritic"):
        rows = sc.get.rank_genes_groups_df(copy, label)
        rows = rows[(rows["pvals_adj"] <= 0.05) & (rows["logfoldchanges"] >= 1)].head(10)
        mine = edges[edges["source"] == label].set_index("target")["weight"]
        assert mine.to_dict() == pytest.approx(rows.set_index("names")["logfoldchanges"].to_dict(), rel=1e-5)
    assert "CD79A" in edges.loc[edges["source"] == "CD19+ B", "target"].tolist()
    assert edges["confidence"].between(0.95, 1).all()


def test_labels_join_the_ontology(pbmc, real_data):
    cells = pbmc.copy()
    cells.obs["type"] = cells.obs["bulk_labels"].map(
        lambda label: {"CD19+ B": "B cell", "Dendritic": "CL:0000451"}.get(label, str(label))
    )
    ontology = load_cell_ontology(real_data / "kg" / "cl.obo")
    kg = load_markers(cells, "type", ontology=ontology, n_genes=5)
    joined = ontology | kg
    assert {"CL:0000236", "CL:0000451"} <= set(kg.nodes("cell_type").index)
    assert joined.nodes("cell_type").loc["CL:0000236", "label"] == "B cell"
    assert kg.account[0]["dropped"]["labels without a term (kept as they are)"] == 8


def test_types_of_one_cell_are_left_out(pbmc):
    cells = pbmc[pbmc.obs["bulk_labels"].isin(["CD19+ B", "Dendritic"])].copy()
    cells.obs["type"] = cells.obs["bulk_labels"].astype(str)
    cells.obs.iloc[0, cells.obs.columns.get_loc("type")] = "rare"
    kg = load_markers(cells, "type", method="t-test", n_genes=3)
    assert kg.edges(RELATION)["source"].value_counts().to_dict() == {"CD19+ B": 3, "Dendritic": 3}
    assert kg.account[0]["dropped"] == {"types of one cell (type)": 1}


def test_bad_input_is_refused(pbmc):
    with pytest.raises(InputError, match=r"no column 'cell_type' in adata\.obs"):
        load_markers(pbmc, "cell_type")
    with pytest.raises(InputError, match="method 'logreg' is unknown"):
        load_markers(pbmc, "bulk_labels", method="logreg")
    with pytest.raises(InputError, match="1 types of at least two cells"):
        load_markers(pbmc[pbmc.obs["bulk_labels"] == "Dendritic"], "bulk_labels")


def test_entries_in_two_halves_are_one_value(pbmc):
    x = sparse.csr_matrix(pbmc.X)
    halves = sparse.csr_matrix((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), x.indptr * 2), shape=x.shape)
    split = AnnData(halves, obs=pbmc.obs, var=pbmc.var)
    found, expected = (load_markers(adata, "bulk_labels", n_genes=10, method="t-test") for adata in (split, pbmc))
    columns = ["source", "target", "weight"]
    pd.testing.assert_frame_equal(found.edges(RELATION)[columns], expected.edges(RELATION)[columns])
    assert split.X.nnz == 2 * x.nnz
    with pytest.raises(InputError, match="no layer 'logs' in the AnnData; it has none"):
        load_markers(pbmc, "bulk_labels", layer="logs")
