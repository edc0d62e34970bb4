import numpy as np
import pytest

from kgnn.data import simulate
from kgnn.data import simulate as simulate_function
from kgnn.data.simulate import BASAL, DECAY, HILL, LEAK
from kgnn.errors import InputError

SMALL = {"n_genes": 30, "n_singles": 6, "n_pairs": 3, "cells_per_condition": 400, "n_controls": 400}


def levels_by_fixed_point(adata, basal, rates):
    """The steady state by iterating the rate equation edge by edge."""
    network, genes = adata.uns["network"], list(adata.var_names)
    edges = [(genes.index(e.source), genes.index(e.target), e.sign, e.weight) for e in network.itertuples()]
    half = basal.copy()
    for _, target, _, strength in edges:
        half[target] += 0.5 * strength
    half /= DECAY
    x = half.copy()
    for _ in range(200):
        production = basal.copy()
        for source, target, sign, strength in edges:
            hill = x[source] ** HILL / (half[source] ** HILL + x[source] ** HILL)
            production[target] += strength * (hill if sign > 0 else 1 - hill)
        x = rates * production / DECAY
    return x


def test_true_delta_is_the_steady_state_found_by_iteration():
    adata = simulate(**SMALL, seed=1)
    # the basal rates are not part of the result; they solve the control state, so read them from the same stream
    from kgnn.data.simulate import random_network

    rng = np.random.default_rng(1)
    random_network(30, 7, 3.0, 0.3, rng)
    basal = rng.uniform(*BASAL, 30)
    basal[np.isin(adata.var_names, adata.uns["network"]["target"])] *= LEAK
    control = levels_by_fixed_point(adata, basal, np.ones(30))
    for name in adata.varm["true_delta"]:
        rates = np.where(np.isin(adata.var_names, name.split("+")), 0.0, 1.0)
        changed = levels_by_fixed_point(adata, basal, rates)
        expected = np.log1p(1e4 * changed / changed.sum()) - np.log1p(1e4 * control / control.sum())
        np.testing.assert_allclose(adata.varm["true_delta"][name], expected, atol=1e-8)


def test_cells_scatter_round_the_truth():
    adata = simulate(**SMALL, noise=0.02, library_size=1e6, dropout=0, seed=2)
    mean = adata.to_df().groupby(adata.obs["condition"].astype(str)).mean()
    for name in adata.varm["true_delta"]:
        observed = mean.loc[name] - mean.loc["control"]
        np.testing.assert_allclose(observed, adata.varm["true_delta"][name], atol=0.05)


def test_knock_out_silences_and_signs_propagate():
    adata = simulate(**SMALL, seed=3)
    counts = adata.to_df(layer="counts")
    for name in adata.varm["true_delta"]:
        assert (counts.loc[(adata.obs["condition"] == name).to_numpy(), name.split("+")] == 0).all(axis=None)


@pytest.mark.parametrize(("kind", "sign"), [("knock-out", -1), ("knock-down", -1), ("over-expression", 1)])
def test_kinds_move_the_perturbed_gene_the_right_way(kind, sign):
    truth = simulate(**SMALL | {"cells_per_condition": 2}, kind=kind, seed=4).varm["true_delta"]
    for name in truth:
        assert (sign * truth.loc[name.split("+"), name] > 0.3).all()


def test_shape_labels_and_reproducibility():
    options = {"n_genes": 50, "n_singles": 10, "n_pairs": 5, "cells_per_condition": 3, "n_controls": 7}
    adata = simulate(**options, seed=0)
    assert adata.shape == (52, 50)
    assert adata.obs["condition"].value_counts()["control"] == 7
    assert adata.obs["condition"].nunique() == 16
    again, other = simulate(**options, seed=0), simulate(**options, seed=1)
    assert (adata.X != again.X).nnz == 0
    assert (adata.X != other.X).nnz > 0
    network = adata.uns["network"]
    assert (network["source"] < network["target"]).all(), "acyclic: regulators come first"
    assert set(network["sign"]) == {-1, 1}
    assert adata.varm["true_delta"].shape == (50, 15)


def test_it_can_be_written_and_read(tmp_path):
    import anndata

    adata = simulate(**SMALL | {"cells_per_condition": 2}, seed=0)
    adata.write_h5ad(tmp_path / "s.h5ad")
    again = anndata.read_h5ad(tmp_path / "s.h5ad")
    assert again.uns["network"].equals(adata.uns["network"])
    assert again.varm["true_delta"].equals(adata.varm["true_delta"])


def test_drop_out_loses_weak_entries():
    quiet, lossy = (simulate(**SMALL | {"cells_per_condition": 20}, dropout=d, seed=5) for d in (0, 30))
    zeros = [(adata.layers["counts"].toarray() == 0).mean() for adata in (quiet, lossy)]
    assert zeros[1] > zeros[0] + 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_singles": 99}, "too many"),
        ({"n_regulators": 1}, "n_regulators must lie between"),
        ({"kind": "drug"}, "kind must be"),
        ({"n_controls": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        simulate_function(**SMALL | options)
