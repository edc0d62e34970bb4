"""A perturbation screen, checked: what every model and score reads from an AnnData."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.data.conditions import CONTROL, perturbed_genes
from kgnn.data.effects import is_effects, kind_of
from kgnn.data.labels import read_labels, warn_of_labels
from kgnn.errors import DataWarning, InputError
from kgnn.expression import Scale, expression_of, matrix_of, warn_of_scale
from kgnn.files import as_adata
from kgnn.names import check_once, names_in
from kgnn.parts import did_you_mean


@dataclass(frozen=True)
class Screen:
    """Cells of a perturbation screen, checked and ready to use.

    Attributes:
        x: [cells, genes] float32 CSR, log-normalised expression.
        genes: names of the measured genes.
        condition: [cells] canonical condition name, '' for control.
        group: [cells] batch or cell line within which control cells are paired; all '' when none is given.
        scale: what `x` holds, see `kgnn.expression.scale_of`; of a table of effects its kind, `change` or `binary`.
        measured: [cells, genes] of a table of effects with missing values, None where there is none.
        variance: [cells, genes], squared standard errors of a table of effects, None where there are none.
        n_cells: [cells], how many cells stand behind each row of a table of effects, None where it is not told.
    """

    x: sparse.csr_matrix
    genes: pd.Index
    condition: np.ndarray
    group: np.ndarray
    scale: Scale = "log"
    measured: np.ndarray | None = None
    variance: np.ndarray | None = None
    n_cells: np.ndarray | None = None

    @property
    def is_effects(self) -> bool:
        """Whether its rows are effects, and its control a row of zeros."""
        return self.scale in ("change", "binary")

    @property
    def conditions(self) -> list[str]:
        """Names of the perturbed conditions, sorted; control is not among them."""
        return sorted(set(self.condition) - {CONTROL})

    @property
    def perturbed(self) -> set[str]:
        """Genes, or other nodes, that are perturbed in some condition."""
        return {gene for name in self.conditions for gene in perturbed_genes(name)}

    @property
    def controls(self) -> np.ndarray:
        """Row numbers of the control cells."""
        return np.flatnonzero(self.condition == CONTROL)

    def cells(self, conditions: Iterable[str]) -> np.ndarray:
        """Return the row numbers of the cells of some conditions."""
        return np.flatnonzero(np.isin(self.condition, list(conditions)))

    def controls_of(self, conditions: Iterable[str]) -> np.ndarray:
        """Row numbers of the control cells of the groups that the conditions' cells are in."""
        groups = set(self.group[self.cells(conditions)])
        return self.controls[np.isin(self.group[self.controls], list(groups))]

    def check_present(self, conditions: Iterable[str]) -> None:
        """Refuse a condition without cells."""
        missing = sorted(set(conditions) - set(self.condition))
        if missing:
            hint = did_you_mean(missing[0], self.conditions)
            raise InputError(
                f"no cell of the condition {missing[0]!r} in the data{hint}"
                f"{f' ({len(missing)} such conditions)' if len(missing) > 1 else ''}"
            )

    def mean(self, conditions: Iterable[str]) -> pd.DataFrame:
        """Return the mean expression [conditions, genes] of each condition."""
        conditions = list(conditions)
        self.check_present(conditions)
        rows = [np.asarray(self.x[self.condition == name].mean(axis=0)).ravel() for name in conditions]
        return pd.DataFrame(np.asarray(rows).reshape(len(rows), len(self.genes)), conditions, self.genes)

    @cached_property
    def control_mean(self) -> np.ndarray:
        """Mean of all control cells, [genes]."""
        return self.mean([CONTROL]).to_numpy()[0]

    @cached_property
    def group_means(self) -> pd.DataFrame:
        """Mean of the control cells of each group, [groups, genes]."""
        controls = self.controls
        of_group = self.group[controls]
        names = sorted(set(of_group))
        rows = [np.asarray(self.x[controls[of_group == name]].mean(axis=0)).ravel() for name in names]
        return pd.DataFrame(rows, names, self.genes)

    def shares(self, conditions: Iterable[str]) -> pd.DataFrame:
        """Share of each condition's cells that is of each group, [conditions, groups]."""
        conditions = list(conditions)
        if len(self.group_means) == 1:
            return pd.DataFrame(1.0, conditions, self.group_means.index)
        self.check_present(conditions)
        counts = pd.crosstab(self.condition, self.group).reindex(index=conditions, columns=self.group_means.index)
        return counts / counts.to_numpy().sum(1, keepdims=True)

    def reference(self, conditions: Iterable[str]) -> pd.DataFrame:
        """Mean of the control cells that conditions are compared with, [conditions, genes]: those of the groups that
        their cells are in, as often as their cells are."""
        conditions = list(conditions)
        if len(self.group_means) == 1:
            start = np.broadcast_to(self.control_mean, (len(conditions), len(self.genes)))
            return pd.DataFrame(start, conditions, self.genes)
        shares = self.shares(conditions).to_numpy()
        return pd.DataFrame(shares @ self.group_means.to_numpy(), conditions, self.genes)

    def changes(self, conditions: Iterable[str]) -> pd.DataFrame:
        """Mean change of each condition against control cells of the same groups, [conditions, genes]."""
        conditions = list(conditions)
        return self.mean(conditions) - self.reference(conditions)

    def measures(self, conditions: Iterable[str]) -> np.ndarray:
        """[conditions, genes], whether a gene was measured in some row of a condition."""
        conditions = list(conditions)
        if self.measured is None:
            return np.ones((len(conditions), len(self.genes)), dtype=bool)
        return np.array([self.measured[self.condition == name].any(axis=0) for name in conditions])

    def filled(self, conditions: Iterable[str], told: bool = False) -> Screen:
        """Missing effects replaced: by the mean of the condition's other replicates, else by the gene's mean over those
        of some conditions that measured it, else by 0; one `DataWarning` says how many where it is `told`."""
        conditions = list(conditions)
        if self.measured is None:
            return self
        x = np.where(self.measured, self.x.toarray().astype(np.float64), np.nan)
        names = pd.Series(self.condition)
        means = pd.DataFrame(x, columns=self.genes).groupby(names.to_numpy()).mean()
        of_gene = means.reindex(conditions).mean(axis=0)
        rest = means.fillna(of_gene).fillna(0.0).loc[self.condition].to_numpy()
        if told:
            there = self.measures(conditions)
            warnings.warn(
                f"{(~there).sum():,} of {there.size:,} effects of {len(conditions)} training conditions were not "
                f"measured (in {(~there).any(axis=0).sum():,} genes) and count as the gene's mean over those that "
                f"measured it, 0 for {(~there).all(axis=0).sum():,} genes that none did; leave genes out that few "
                "conditions measured: effects[:, genes]",
                DataWarning,
                stacklevel=4,
            )
        full = np.where(self.measured, x, rest).astype(np.float32)
        return replace(self, x=sparse.csr_matrix(full))


def read_screen(
    adata: AnnData | str | Path,
    *,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
    graph: Collection[str] | None = None,
) -> Screen:
    """Check an AnnData of a perturbation screen; nothing in it is changed.

    Args:
        adata: cells × genes, `X` log-normalised, dense or sparse; or the path of its H5AD file.
        condition_key: column of obs with the condition of each cell, see `kgnn.data.ConditionNames`.
        control: the label or labels of control cells; by default found among the usual ones.
        group_key: column of obs (batch, cell line) within which control cells are paired with perturbed ones.
        graph: genes of a graph, which are known besides the measured ones.

    Raises:
        InputError: no such column, no control cells (in some group), duplicate gene names, no, NaN or infinite values.

    A `DataWarning` each: labels that name no gene, values that look like counts, not logarithmic, or scaled.
    """
    adata = as_adata(adata)
    if is_effects(adata):
        return _effect_screen(adata, condition_key, control, group_key, graph)
    labels, doubtful = read_labels(adata, condition_key, control, graph)
    condition = labels.to_numpy(dtype=object)
    check_once(adata.var_names)
    if CONTROL not in condition:
        found = ", ".join(adata.obs[condition_key].astype(str).unique()[:5])
        like = [doubt.part for doubt in doubtful if doubt.option == "controls"]
        raise InputError(
            f"no control cells in obs[{condition_key!r}] (found {found}, …); the labels control, ctrl, non-targeting "
            f"and NT are known, give others as control={like or ''}"
        )
    warn_of_labels(doubtful, condition_key)
    x = expression_of(adata)
    scale = warn_of_scale(x, "X")
    return Screen(x, adata.var_names.astype(str), condition, _groups(adata, condition, group_key), scale)


def _groups(adata: AnnData, condition: np.ndarray, group_key: str | None) -> np.ndarray:
    if group_key is None:
        return np.full(adata.n_obs, "", dtype=object)
    group = names_in(adata.obs, group_key, "group_key").to_numpy(dtype=object)
    lonely = sorted(set(group) - set(group[condition == CONTROL]))
    if lonely:
        raise InputError(
            f"obs[{group_key!r}]: {lonely[0]!r} has no control cells; drop its cells or leave out group_key"
        )
    return group


def _effect_screen(
    adata: AnnData, condition_key: str, control: Any, group_key: str | None, graph: Collection[str] | None
) -> Screen:
    """The screen of a table of effects: its rows, and behind them a control row of zeros a group."""
    labels, doubtful = read_labels(adata, condition_key, control, graph)
    check_once(adata.var_names)
    warn_of_labels(doubtful, condition_key)
    keep = (labels != CONTROL).to_numpy()
    x = matrix_of(adata)[keep]
    x = np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float32)
    if np.isinf(x).any():
        raise InputError("the effects hold infinite values; leave what was not measured NaN")
    group = np.full(len(keep), "", dtype=object)
    if group_key is not None:
        group = names_in(adata.obs, group_key, "group_key").to_numpy(dtype=object)
    groups, group = sorted(set(group)), group[keep]
    n = len(groups)

    def below(rows: Any, value: float | bool) -> np.ndarray:
        rows = np.asarray(rows)[keep]
        return np.concatenate([rows, np.full((n, *rows.shape[1:]), value, rows.dtype)])

    there = np.isfinite(x)
    return Screen(
        sparse.csr_matrix(np.concatenate([np.nan_to_num(x), np.zeros((n, x.shape[1]), np.float32)])),
        adata.var_names.astype(str),
        np.concatenate([labels.to_numpy(dtype=object)[keep], np.full(n, CONTROL, dtype=object)]),
        np.concatenate([group, np.array(groups, dtype=object)]),
        kind_of(adata),
        None if there.all() else np.concatenate([there, np.ones((n, x.shape[1]), dtype=bool)]),
        below(np.square(np.asarray(adata.layers["se"], np.float64)), 0.0) if "se" in adata.layers else None,
        below(adata.obs["n_cells"].to_numpy(float), 1.0) if "n_cells" in adata.obs else None,
    )
