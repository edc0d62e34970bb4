"""Differentially expressed genes of conditions, through scanpy."""

from collections.abc import Iterable

import numpy as np
from anndata import AnnData
from scipy import sparse
from scipy.stats import false_discovery_control, ttest_ind_from_stats

from kgnn.data.conditions import CONTROL
from kgnn.data.screen import Screen
from kgnn.threads import same_threads

ALPHA = 0.05


def top_de_genes(screen: Screen, conditions: Iterable[str], n: int = 20) -> dict[str, np.ndarray]:
    """Return for each condition the numbers of its `n` most differentially expressed genes, strongest first.

    Real cells against the control cells of their groups, ranked by the absolute t statistic
    (`scanpy.tl.rank_genes_groups`, `method="t-test"`, as in GEARS). Genes that do not vary between the two have no
    statistic and come last, in their order. A condition of one cell has no variance: its genes are ranked by their
    absolute change.
    """
    return {name: differential_genes(screen, name)[0][:n] for name in conditions}


def significant_genes(screen: Screen, conditions: Iterable[str], alpha: float = ALPHA) -> dict[str, np.ndarray]:
    """Return for each condition a mask [genes] of those that differ from control: t test, Benjamini–Hochberg.

    A condition of one cell has none.
    """
    return {name: differential_genes(screen, name, alpha)[1] for name in conditions}


def differential_genes(screen: Screen, condition: str, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Return what `top_de_genes` (all of them) and `significant_genes` say of one condition."""
    cells, controls = _cells_and_controls(screen, condition)
    if cells.shape[0] < 2 or controls.shape[0] < 2:
        change = screen.changes([condition]).abs().to_numpy()[0]
        return np.argsort(-change, kind="stable"), np.zeros(len(screen.genes), dtype=bool)
    scores, adjusted = _t_test(cells, controls)
    return np.argsort(-np.nan_to_num(np.abs(scores)), kind="stable"), adjusted < alpha


def called_in_cells(x: np.ndarray, screen: Screen, condition: str, alpha: float = ALPHA) -> np.ndarray:
    """Mask [genes] of those in which other cells [cells, genes] differ from a condition's control cells."""
    controls = screen.x[screen.controls_of([condition])]
    return _t_test(sparse.csr_matrix(x), controls)[1] < alpha


Sums = tuple[int, np.ndarray, np.ndarray]  # number of cells, sum and sum of squares [genes]


def against_others(screen: Screen, condition: str, everything: Sums | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Welch's t of a condition's cells against all other perturbed cells, and p-values after Benjamini–Hochberg.

    [genes] each; cells of several groups less their groups' control mean. 0 and 1 for genes that do not vary, and
    throughout where either side has fewer than two cells. `everything`: `perturbed_sums` of the screen, if at hand.
    """
    n, total, squares = everything or perturbed_sums(screen)
    own, own_total, own_squares = _sums(screen, screen.cells([condition]))
    if own < 2 or n - own < 2:
        return np.zeros(len(screen.genes)), np.ones(len(screen.genes))
    a = _moments(own, own_total, own_squares)
    b = _moments(n - own, total - own_total, squares - own_squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        test = ttest_ind_from_stats(*a, *b, equal_var=False)
    t, p = np.nan_to_num(test.statistic, posinf=0, neginf=0), np.nan_to_num(test.pvalue, nan=1.0)
    return t, false_discovery_control(p)


def perturbed_sums(screen: Screen) -> Sums:
    """Number of perturbed cells, sum and sum of squares [genes] of them."""
    return _sums(screen, np.flatnonzero(screen.condition != CONTROL))


def _sums(screen: Screen, cells: np.ndarray) -> Sums:
    total, squares = np.zeros(len(screen.genes)), np.zeros(len(screen.genes))
    several = len(screen.group_means) > 1
    for group in sorted(set(screen.group[cells])):
        x = screen.x[cells[screen.group[cells] == group]].astype(np.float64)
        start = screen.group_means.loc[group].to_numpy() if several else 0.0
        sums = np.asarray(x.sum(axis=0)).ravel()
        total += sums - x.shape[0] * start
        squares += np.asarray(x.multiply(x).sum(axis=0)).ravel() - 2 * start * sums + x.shape[0] * np.square(start)
    return len(cells), total, squares


def _moments(n: int, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation [genes] of n values, 0 where the variance is rounding."""
    variance = (squares - np.square(total) / n) / (n - 1)
    return total / n, np.sqrt(np.where(variance < 1e-12 * squares, 0.0, variance)), n


def _cells_and_controls(screen: Screen, name: str) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Cells of a condition, and the control cells of their groups; of several groups each less its control mean."""
    cells, controls = screen.cells([name]), screen.controls_of([name])
    if len(set(screen.group[cells])) == 1:
        return screen.x[cells], screen.x[controls]
    means = screen.group_means
    return tuple(
        sparse.csr_matrix(screen.x[rows].toarray() - means.loc[screen.group[rows]].to_numpy())
        for rows in (cells, controls)
    )


def _t_test(cells: sparse.csr_matrix, controls: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """t statistics and adjusted p-values, [genes] each."""
    import scanpy as sc  # takes seconds to import

    pair = AnnData(sparse.vstack([cells, controls], format="csr"))
    pair.obs["group"] = np.repeat(["perturbed", "control"], [cells.shape[0], controls.shape[0]])
    pair.obs["group"] = pair.obs["group"].astype("category")
    pair.uns["log1p"] = {"base": None}
    with same_threads(), np.errstate(divide="ignore", invalid="ignore"):
        sc.tl.rank_genes_groups(pair, "group", groups=["perturbed"], reference="control", method="t-test")
    result = pair.uns["rank_genes_groups"]
    place = pair.var_names.get_indexer(result["names"]["perturbed"])
    scores, adjusted = np.empty(pair.n_vars), np.empty(pair.n_vars)
    scores[place], adjusted[place] = result["scores"]["perturbed"], result["pvals_adj"]["perturbed"]
    return scores, np.nan_to_num(adjusted, nan=1.0)
