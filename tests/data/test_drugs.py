import numpy as np
import pytest

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
