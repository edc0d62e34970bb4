import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.data import simulate_drugs
from kgnn.errors import InputError

SMALL = {"n_genes": 40, "n_drugs": 4, "doses": (0.1, 1.0, 100.0), "n_singles": 3, "cells_per_condition": 5}


def test_the_true_change_follows_the_curves():
    """A dose without end is a knock-out of the target; one far below k nothing; between them the target only falls."""
    doses = (1e-9, 0.1, 1.0, 1e12)
    adata = simulate_drugs(**SMALL | {"doses": doses, "n_drugs": 20, "n_singles": 6}, n_controls=10, seed=2)
    truth, targets = adata.varm["true_delta"], adata.uns["targets"].groupby("drug")["gene"].agg(list)
    alone = [(drug, genes[0]) for drug, genes in targets.items() if len(genes) == 1 and genes[0] in truth]
    assert alone
    for drug, gene in alone:
        of_drug = truth[[f"{drug}@{dose}" for dose in ("0.000000001", "0.1", "1", "1000000000000")]]
        np.testing.assert_allclose(of_drug.iloc[:, -1], truth[gene], atol=1e-6)
        np.testing.assert_allclose(of_drug.iloc[:, 0], 0, atol=1e-6)
        assert (of_drug.loc[gene].diff().dropna() < 0).all()


def test_what_is_left_of_a_target_is_what_hills_curve_says():
    """Cells without noise, counted so deeply that their counts are levels.

    A drug with one target changes no gene before it, so that the target's level falls as its production does; levels
    are compared with one of another gene that is upstream of all, as the number of all counts changes too.
    """
    deep = {"noise": 0.0, "library_size": 1e12, "cells_per_condition": 1, "n_controls": 1, "n_drugs": 12}
    adata = simulate_drugs(**SMALL | deep, seed=3)
    level = adata.to_df(layer="counts").set_index(adata.obs["condition"].astype(str)).astype(float)
    first = next(gene for gene in adata.var_names if gene not in set(adata.uns["network"]["target"]))
    targets = adata.uns["targets"].groupby("drug")["gene"].agg(list)
    curves = adata.uns["curves"].set_index("drug")
    alone = {drug: genes[0] for drug, genes in targets.items() if len(genes) == 1 and genes != [first]}
    assert len(alone) > 2
    for drug, gene in alone.items():
        k, h = curves.loc[drug, ["k", "h"]]
        for dose in (0.1, 1.0, 100.0):
            ratio = level[gene] / level[first]
            expected = 1 - dose**h / (dose**h + k**h)
            np.testing.assert_allclose(ratio[f"{drug}@{dose:g}"] / ratio["control"], expected, rtol=1e-3, atol=1e-6)


def test_shapes_names_and_seed():
    adata, again, other = (simulate_drugs(**SMALL, n_controls=10, seed=seed) for seed in (0, 0, 1))
    names = adata.obs["condition"].cat.categories
    assert {"D00@0.1", "D03@1", "D01@100", "control"} < set(names)
    assert sum("@" in name for name in names) == 4 * 3
    assert list(adata.varm["true_delta"].columns) == sorted(set(names) - {"control"})
    assert len(names) == 4 * 3 + 3 + 1
    assert (adata.X != again.X).nnz == 0
    assert (adata.X != other.X).nnz > 0
    counts = adata.uns["targets"].groupby("drug").size()
    assert len(counts) == 4
    assert counts.between(1, 3).all()
    assert set(adata.uns["targets"]["gene"]) <= set(adata.uns["network"]["source"])


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="doses must be above 0, not 0"):
        simulate_drugs(doses=(0.0, 1.0))
    with pytest.raises(InputError, match="50 knock-outs are too many"):
        simulate_drugs(**SMALL | {"n_singles": 50})
    for options in ({"doses": ()}, {"n_drugs": 0}, {"cells_per_condition": 0}, {"n_controls": 0}):
        with pytest.raises(InputError, match="must be at least 1"):
            simulate_drugs(**SMALL | options)
    for dose in (np.nan, np.inf, -1.0):
        with pytest.raises(InputError, match=f"doses must be above 0, not {dose:g}"):
            simulate_drugs(doses=(1.0, dose))
    with pytest.raises(InputError, match="a dose stands twice"):
        simulate_drugs(doses=(1, 1.0))
    with pytest.raises(InputError, match="n_genes must be at least 8, not 4"):
        simulate_drugs(**SMALL | {"n_genes": 4})


@given(st.integers(0, 100))
def test_the_smallest_network_is_no_error(seed):
    adata = simulate_drugs(**SMALL | {"n_genes": 8, "n_singles": 0}, n_controls=2, seed=seed)
    assert adata.uns["targets"].groupby("drug")["gene"].nunique().between(1, 2).all()
