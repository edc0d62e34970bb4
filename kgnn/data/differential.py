"""Differentially expressed genes of conditions, through scanpy."""

from collections.abc import Iterable

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from kgnn.data.screen import Screen
from kgnn.threads import same_threads


def top_de_genes(screen: Screen, conditions: Iterable[str], n: int = 20) -> dict[str, np.ndarray]:
    """Return for each condition the numbers of its `n` most differentially expressed genes, strongest first.

    Real cells against the control cells of their groups, ranked by the absolute t statistic
    (`scanpy.tl.rank_genes_groups`, `method="t-test"`, as in GEARS). Genes that do not vary between the two have no
    statistic and come last, in their order. A condition of one cell has no variance: its genes are ranked by their
    absolute change.
    """
    conditions = list(conditions)
    change = screen.changes(conditions).abs().to_numpy()
    result = {}
    for row, name in enumerate(conditions):
        cells, controls = _cells_and_controls(screen, name)
        if cells.shape[0] < 2 or controls.shape[0] < 2:
            result[name] = np.argsort(-change[row], kind="stable")[:n]
            continue
        scores, _ = _t_test(cells, controls)
        result[name] = np.argsort(-np.nan_to_num(np.abs(scores)), kind="stable")[:n]
    return result


def significant_genes(screen: Screen, conditions: Iterable[str], alpha: float = 0.05) -> dict[str, np.ndarray]:
    """Return for each condition a mask [genes] of those that differ from control: t test, Benjamini–Hochberg.

    A condition of one cell has none.
    """
    result = {}
    for name in conditions:
        cells, controls = _cells_and_controls(screen, name)
        if cells.shape[0] < 2 or controls.shape[0] < 2:
            result[name] = np.zeros(len(screen.genes), dtype=bool)
        else:
            result[name] = _t_test(cells, controls)[1] < alpha
    return result


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
