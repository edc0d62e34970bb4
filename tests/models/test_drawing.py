"""Predicted cells against the formula solved by SciPy, and against cells of a Poisson process whose rates changed."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import brentq

from kgnn.models.perturbation.drawing import CellDrawer

RNG = np.random.default_rng
N = 40_000


@pytest.fixture
def controls():
    """Genes: rare, half of the cells, nearly all, all, none, rare; log1p of counts per something."""
    rng = RNG(0)
    size = rng.lognormal(0, 0.3, (60, 1))
    counts = rng.poisson(size * [0.1, 0.7, 4.0, 30.0, 0.0, 0.1])
    counts[:, 3] += 1
    return np.log1p(3 * counts / size).astype(np.float32)


def drawn(controls, mean, genes=None, *, log=True, n=N, seed=1):
    genes = np.arange(controls.shape[1]) if genes is None else np.asarray(genes, int)
    rows = RNG(seed).integers(len(controls), size=n)
    drawer = CellDrawer(sparse.csr_matrix(controls), log=log)
    return rows, drawer.draw(rows, np.asarray(mean, float)[genes], genes, RNG(seed + 1))


def check_means(cells, mean):
    error = cells.mean(axis=0) - mean
    limit = 4.5 * cells.std(axis=0) / np.sqrt(len(cells)) + 1e-6
    assert (np.abs(error) < limit).all(), f"{error} beyond {limit}"


@pytest.mark.parametrize("factor", [0.01, 0.3, 0.9, 1.1, 2.0, 3.0])
@pytest.mark.parametrize("log", [True, False])
def test_the_mean_is_the_predicted_one(controls, factor, log):
    mean = factor * controls.astype(float).mean(axis=0)
    mean[4] = factor  # seen in no control cell
    _, cells = drawn(controls, mean, log=log)
    check_means(cells, mean)
    assert (cells >= 0).all()


@pytest.mark.parametrize("factor", [0.2, 0.8, 1.5, 2.5])
def test_zeros_and_values_follow_one_factor_of_the_rate(controls, factor):
    """The formula, solved by bisection."""
    mean = factor * controls.astype(float).mean(axis=0)
    rows, cells = drawn(controls, mean)
    for gene in (0, 1, 2, 5):
        start = controls[:, gene].astype(float)
        values, d = start[start > 0], (start > 0).mean()
        if d == 1:
            continue

        def share(f, d=d):
            return 1 - (1 - d) ** f

        def scaled(f, v, d=d):
            return np.log1p(f * d / share(f) * np.expm1(v))

        f = brentq(lambda f, v=values, g=gene: share(f) * scaled(f, v).mean() - mean[g], 1e-9, 1e6)
        seen = cells[:, gene] > 0
        assert seen.mean() == pytest.approx(share(f), abs=4.5 * np.sqrt(share(f) / N))
        both = seen & (start[rows] > 0)
        np.testing.assert_allclose(cells[both, gene], scaled(f, start[rows[both]]), rtol=1e-4)
        if factor < 1:
            assert not (seen & (start[rows] == 0)).any(), "nothing appears where the mean falls"
        else:
            assert both.sum() == (start[rows] > 0).sum(), "nothing is lost where the mean rises"
        nearest = np.abs(cells[seen, gene][:, None] - scaled(f, values)).min(axis=1)
        assert nearest.max() < 1e-5, "values are those of cells that have the gene"


def test_genes_that_do_not_change_keep_the_control_cells_values(controls):
    mean = 2 * controls.mean(axis=0)
    rows, cells = drawn(controls, mean, genes=[1, 3])
    np.testing.assert_array_equal(cells[:, [0, 2, 4, 5]], controls[rows][:, [0, 2, 4, 5]])
    assert (cells[:, 3] != controls[rows][:, 3]).all()
    rows, cells = drawn(controls, mean, genes=[])
    np.testing.assert_array_equal(cells, controls[rows])


def test_extremes(controls):
    _, cells = drawn(controls, np.zeros(6))
    assert (cells == 0).all()
    mean = np.array([9.0, 9.0, 9.0, 9.0, 9.0, 1e-4])
    _, cells = drawn(controls, mean)
    check_means(cells, mean)
    assert (cells[:, 0] > 0).all(), "seen in every cell by then"
    own = controls.astype(float).mean(axis=0)
    rows, cells = drawn(controls, own)
    np.testing.assert_allclose(cells, controls[rows], atol=1e-5, err_msg="the own mean leaves the cells")
    empty = np.zeros((5, 2), np.float32)
    _, cells = drawn(empty, np.array([0.5, 0.0]))
    check_means(cells, [0.5, 0])


@pytest.mark.parametrize("factor", [0.25, 0.6, 1.6, 4.0])
def test_zeros_and_spread_are_those_of_counts_whose_rates_changed(factor):
    rates = np.array([0.05, 0.3, 1.0, 5.0])
    between = RNG(2).gamma(5, 0.2, (N, 4))  # cells differ by more than counting
    before, after = (np.log1p(RNG(seed).poisson(r * rates * between)) for seed, r in ((0, 1), (1, factor)))
    _, cells = drawn(before.astype(np.float32), after.mean(axis=0))
    np.testing.assert_allclose((cells == 0).mean(axis=0), (after == 0).mean(axis=0), atol=0.08)
    np.testing.assert_allclose(cells.std(axis=0), after.std(axis=0), rtol=0.25)
    moved = before + after.mean(axis=0) - before.mean(axis=0)
    for of in (lambda x: (np.abs(x) < 1e-9).mean(axis=0), lambda x: x.std(axis=0)):
        assert np.abs(of(cells) - of(after)).sum() < np.abs(of(moved) - of(after)).sum() * 0.7, "nearer than a shift"


def test_a_gene_that_no_control_cell_has_starts_from_about_one_count():
    """Smallest values 1, 2, 3: the median cell's is 2; half of a cell of three has it, so d(f) = 1 − (5/6)^f."""
    controls = np.array([[1, 5, 0], [6, 2, 0], [3, 0, 0]], np.float32)
    mean = np.array([0.0, 0.0, 1.0])
    f = brentq(lambda f: (1 - (5 / 6) ** f) * np.log1p(f / 6 / (1 - (5 / 6) ** f) * np.expm1(2)) - 1, 1e-6, 100)
    share = 1 - (5 / 6) ** f
    explicit = sparse.csr_matrix(controls)
    explicit[2, 2] = 1
    explicit.data[explicit.data.size - 1] = 0  # a zero that is stored is a zero
    for matrix in (sparse.csr_matrix(controls), explicit):
        cells = CellDrawer(matrix, log=True).draw(np.arange(3).repeat(N // 3), mean[2:], np.array([2]), RNG(0))
        seen = cells[:, 2] > 0
        assert seen.mean() == pytest.approx(share, abs=4.5 * np.sqrt(share / N))
        np.testing.assert_allclose(cells[seen, 2], np.log1p(f / 6 / share * np.expm1(2)), rtol=1e-5)
        np.testing.assert_array_equal(cells[:, :2], controls.repeat(N // 3, axis=0)[:, :2])
