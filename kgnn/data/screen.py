"""A perturbation screen, checked: what every model and score reads from an AnnData."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.data.conditions import CONTROL, SEPARATOR, Genes, canonical_labels
from kgnn.errors import DataWarning, InputError


@dataclass(frozen=True)
class Screen:
    """Cells of a perturbation screen, checked and ready to use.

    Attributes:
        x: [cells, genes] float32 CSR, log-normalised expression.
        genes: names of the measured genes.
        condition: [cells] canonical condition name, '' for control.
        group: [cells] batch or cell line within which control cells are paired; all '' when none is given.
    """

    x: sparse.csr_matrix
    genes: pd.Index
    condition: np.ndarray
    group: np.ndarray

    @property
    def conditions(self) -> list[str]:
        """Names of the perturbed conditions, sorted; control is not among them."""
        return sorted(set(self.condition) - {CONTROL})

    @property
    def perturbed(self) -> set[str]:
        """Genes that are perturbed in some condition."""
        return {gene for name in self.conditions for gene in perturbed_genes(name)}

    @property
    def controls(self) -> np.ndarray:
        """Row numbers of the control cells."""
        return np.flatnonzero(self.condition == CONTROL)

    def cells(self, conditions: Iterable[str]) -> np.ndarray:
        """Return the row numbers of the cells of some conditions."""
        return np.flatnonzero(np.isin(self.condition, list(conditions)))

    def check_present(self, conditions: Iterable[str]) -> None:
        """Refuse a condition without cells."""
        missing = sorted(set(conditions) - set(self.condition))
        if missing:
            raise InputError(f"no cell of the condition {missing[0]!r} in the data")

    def mean(self, conditions: Iterable[str]) -> pd.DataFrame:
        """Return the mean expression [conditions, genes] of each condition."""
        conditions = list(conditions)
        self.check_present(conditions)
        rows = [np.asarray(self.x[self.condition == name].mean(axis=0)).ravel() for name in conditions]
        return pd.DataFrame(np.asarray(rows).reshape(len(rows), len(self.genes)), conditions, self.genes)

    @property
    def control_mean(self) -> np.ndarray:
        return self.mean([CONTROL]).to_numpy()[0]


def perturbed_genes(condition: str) -> Genes:
    """Return the genes of a canonical condition name."""
    return tuple(condition.split(SEPARATOR)) if condition else ()


def read_screen(
    adata: AnnData,
    *,
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
    group_key: str | None = None,
) -> Screen:
    """Check an AnnData of a perturbation screen; nothing in it is changed.

    Args:
        adata: cells × genes, `X` log-normalised, dense or sparse.
        condition_key: column of obs with the condition of each cell, see `kgnn.data.ConditionNames`.
        control: the label or labels of control cells; by default found among the usual ones.
        group_key: column of obs (batch, cell line) within which control cells are paired with perturbed ones.

    Raises:
        InputError: no such column, no control cells (in some group), duplicate gene names, no, NaN or infinite
            values. Whole numbers only, which look like raw counts, are a `DataWarning`.
    """
    condition = canonical_labels(adata, condition_key, control).to_numpy(dtype=object)
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise InputError(f"gene {twice!r} stands twice in var_names; call adata.var_names_make_unique() or merge them")
    if CONTROL not in condition:
        found = ", ".join(adata.obs[condition_key].astype(str).unique()[:5])
        raise InputError(
            f"no control cells in obs[{condition_key!r}] (found {found}, …); "
            "the labels control, ctrl, non-targeting and NT are known, give others as control="
        )
    if adata.X is None:
        raise InputError("adata.X is empty; put the log-normalised expression there")
    x = sparse.csr_matrix(adata.to_memory().X if adata.isbacked else adata.X, dtype=np.float32)
    if not np.isfinite(x.data).all():
        entries = x.tocoo()
        first = int(np.argmin(np.isfinite(entries.data)))
        cell, gene = entries.row[first], entries.col[first]
        raise InputError(
            f"X holds NaN or infinite values, first for gene {adata.var_names[gene]!r} in cell "
            f"{adata.obs_names[cell]!r}; remove or impute them"
        )
    if x.nnz and x.data.max() > 1 and (x.data == np.round(x.data)).all():
        warnings.warn(
            "X holds whole numbers only and looks like raw counts; normalise first: "
            "sc.pp.normalize_total(adata, target_sum=1e4); sc.pp.log1p(adata)",
            DataWarning,
            stacklevel=2,
        )
    return Screen(x, adata.var_names.astype(str), condition, _groups(adata, condition, group_key))


def _groups(adata: AnnData, condition: np.ndarray, group_key: str | None) -> np.ndarray:
    if group_key is None:
        return np.full(adata.n_obs, "", dtype=object)
    if group_key not in adata.obs:
        raise InputError(f"no column {group_key!r} in adata.obs; it has {', '.join(map(str, adata.obs.columns))}")
    group = adata.obs[group_key].astype(str).to_numpy(dtype=object)
    lonely = sorted(set(group) - set(group[condition == CONTROL]))
    if lonely:
        raise InputError(
            f"obs[{group_key!r}]: {lonely[0]!r} has no control cells; drop its cells or leave out group_key"
        )
    return group
