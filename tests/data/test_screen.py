import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from kgnn.data import read_screen, top_de_genes
from kgnn.errors import DataWarning, InputError


def test_means_and_cells_are_those_of_pandas(screen):
    read = read_screen(screen)
    frame = screen.to_df().groupby(screen.obs["condition"].astype(str)).mean()
    np.testing.assert_allclose(read.control_mean, frame.loc["control"], atol=1e-5)
    np.testing.assert_allclose(read.mean(read.conditions), frame.drop(index="control").loc[read.conditions], atol=1e-5)
    assert len(read.controls) == 30
    assert len(read.conditions) == 14


def test_dense_and_sparse_are_read_alike_and_nothing_changes(screen):
    dense = screen.copy()
    dense.X = dense.X.toarray()
    before = dense.copy()
    assert (read_screen(dense).x != read_screen(screen).x).nnz == 0
    assert (dense.X == before.X).all()
    assert dense.obs.equals(before.obs)


def test_labels_that_mean_the_same_are_one_condition(screen):
    labels = screen.obs["condition"].astype(str)
    pair = next(name for name in labels if "+" in name)
    flipped = "+".join(reversed(pair.split("+")))
    rows = np.flatnonzero(labels == pair)
    screen.obs["condition"] = labels.where(~screen.obs_names.isin(screen.obs_names[rows[:5]]), flipped)
    assert len(read_screen(screen).conditions) == 14


def test_raw_counts_are_warned_of_with_the_way_to_normalise(screen):
    screen.X = screen.layers["counts"]
    with pytest.warns(DataWarning, match=r"looks like raw counts; normalise first: sc.pp.normalize_total"):
        read_screen(screen)


def test_no_control_cells(screen):
    screen.obs["condition"] = screen.obs["condition"].astype(str).replace("control", "untreated")
    with pytest.raises(InputError, match=r"no control cells in obs\['condition'\].*give others as control="):
        read_screen(screen)
    assert len(read_screen(screen, control="untreated").controls) == 30


def test_duplicate_genes_are_named(screen):
    screen.var_names = ["TP53", "TP53", *screen.var_names[2:]]
    with pytest.raises(InputError, match="'TP53' stands twice"):
        read_screen(screen)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_missing_value_is_named_by_gene_and_cell(screen, value):
    x = screen.X.toarray()
    x[7, 11] = value
    for matrix in (x, sparse.csr_matrix(x)):
        screen.X = matrix
        with pytest.raises(InputError, match=r"gene 'G011' in cell 'cell7'"):
            read_screen(screen)


def test_backed_data_and_data_without_expression(screen, tmp_path):
    import anndata

    screen.write_h5ad(tmp_path / "s.h5ad")
    backed = anndata.read_h5ad(tmp_path / "s.h5ad", backed="r")
    assert (read_screen(backed).x != read_screen(screen).x).nnz == 0
    with pytest.raises(InputError, match="the AnnData has no X"):
        read_screen(anndata.AnnData(obs=screen.obs, var=screen.var))


def test_groups(screen):
    screen.obs["line"] = np.where(np.arange(screen.n_obs) % 2 == 0, "K562", "RPE1")
    assert set(read_screen(screen, group_key="line").group) == {"K562", "RPE1"}
    with pytest.raises(InputError, match="no column 'batch'"):
        read_screen(screen, group_key="batch")
    screen.obs.loc[screen.obs["condition"] == "control", "line"] = "K562"
    with pytest.raises(InputError, match="'RPE1' has no control cells"):
        read_screen(screen, group_key="line")


def test_a_condition_that_is_not_there(screen):
    with pytest.raises(InputError, match="no cell of the condition 'FOO'"):
        read_screen(screen).mean(["FOO"])


def test_top_genes_have_the_largest_welch_t_of_scipy(screen):
    from scipy.stats import ttest_ind

    read = read_screen(screen)
    name = read.conditions[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        t = ttest_ind(read.x[read.cells([name])].toarray(), read.x[read.controls].toarray(), equal_var=False).statistic
    expected = np.argsort(-np.abs(np.nan_to_num(t)))[:10]
    assert top_de_genes(read, [name], 10)[name].tolist() == expected.tolist()


def test_a_condition_of_one_cell_is_ranked_by_its_change(screen):
    name = read_screen(screen).conditions[0]
    rows = np.flatnonzero(screen.obs["condition"] == name)
    one = screen[np.setdiff1d(np.arange(screen.n_obs), rows[1:])].copy()
    read = read_screen(one)
    change = np.abs(read.mean([name]).to_numpy()[0] - read.control_mean)
    assert top_de_genes(read, [name], 5)[name].tolist() == np.argsort(-change)[:5].tolist()


def test_real_norman(norman):
    read = read_screen(norman)
    assert (len(read.conditions), len(read.genes), len(read.controls)) == (33, 500, 100)
    assert "KLF1+SET" in read.conditions
    assert pd.Series(read.condition).value_counts()["PLK4"] == 95
