"""Where predictions start from: the control cells of training, of one of its lines, or others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.data.conditions import CONTROL
from kgnn.data.labels import canonical_labels
from kgnn.data.screen import Screen
from kgnn.errors import InputError
from kgnn.expression import expression_of, scale_of
from kgnn.files import as_adata
from kgnn.models.perturbation.predictor import Start
from kgnn.models.storage import check_array
from kgnn.names import names_in
from kgnn.parts import did_you_mean

LEAST = 100  # of each group
MAX_CONTROLS = 2_000  # control cells kept with a model, from which predicted cells start


class Controls(NamedTuple):
    """Control cells of training: up to 2,000 of them [cells, genes] and the group of each [cells]; the mean of all
    [genes], and of each group [groups, genes]."""

    cells: sparse.csr_matrix
    group: np.ndarray
    mean: np.ndarray
    means: pd.DataFrame

    @classmethod
    def of(cls, screen: Screen, seed: int) -> Controls:
        """Those of a screen: all, or a random 2,000; of each group at least 100, or all."""
        rows = screen.controls
        if len(rows) > MAX_CONTROLS:
            order = np.random.default_rng(seed).permutation(rows)
            place = pd.Series(screen.group[order]).groupby(screen.group[order]).cumcount()
            rows = np.sort(order[(np.arange(len(order)) < MAX_CONTROLS) | (place < LEAST).to_numpy()])
        return cls(screen.x[rows], screen.group[rows], screen.control_mean, screen.group_means)

    def state(self) -> tuple[list[str], dict[str, np.ndarray]]:
        """Names of the groups, and what else a saved model keeps besides the cells."""
        group = self.means.index.get_indexer(self.group)
        return list(self.means.index), {
            "control_mean": self.mean,
            "control_group": group.astype(np.int64),
            "group_means": self.means.to_numpy(np.float64),
        }

    @classmethod
    def restored(
        cls, cells: sparse.csr_matrix, genes: pd.Index, groups: list[str], arrays: dict[str, np.ndarray], path: str
    ) -> Controls:
        """What `state` gave; its arrays are taken out of `arrays`.

        Raises:
            InputError: they are not of these cells, genes and groups; names the folder `path`.
        """
        n_genes, n_groups = len(genes), len(groups)
        shapes = {"control_mean": (n_genes,), "group_means": (n_groups, n_genes), "control_group": (cells.shape[0],)}
        found = {
            name: check_array(arrays, name, shape, path, "i" if name == "control_group" else "f")
            for name, shape in shapes.items()
        }
        group = found["control_group"]
        if cells.shape[1] != n_genes or (len(group) and not 0 <= group.min() <= group.max() < n_groups):
            raise InputError(f"{path}: control cells of other genes or groups than the model's; save the model again")
        for name in shapes:
            del arrays[name]
        means = pd.DataFrame(found["group_means"], groups, genes)
        return cls(cells, np.array(groups, dtype=object)[group], found["control_mean"], means)

    def line(self, name: str) -> tuple[sparse.csr_matrix, Start]:
        """The cells of a group, and their mean.

        Raises:
            InputError: no such group.
        """
        known = list(self.means.index)
        if name not in known or known == [""]:
            has = ", ".join(known[:5]) if known != [""] else "none: fit with group_key="
            raise InputError(f"line {name!r} is none of training{did_you_mean(name, known)}; there is {has}")
        return self.cells[self.group == name], Start(self.means.loc[name].to_numpy(), name)

    def others(
        self, adata: AnnData | str | Path, genes: pd.Index, condition_key: str, control: Any, group_key: str | None
    ) -> tuple[sparse.csr_matrix, Start]:
        """Other control cells in the order of `genes`, their mean, and their cell line where obs names one.

        Raises:
            InputError: a gene is missing, a cell is perturbed, cells of several lines, another scale than training's.
        """
        adata = as_adata(adata)
        missing = genes.difference(adata.var_names)
        if len(missing):
            raise InputError(f"the control cells lack {len(missing)} genes of the model, first {missing[0]!r}")
        if not adata.n_obs:
            raise InputError("there are no control cells; give at least one")
        if condition_key in adata.obs:
            labels = canonical_labels(adata, condition_key, control)
            perturbed = labels[labels != CONTROL]
            if len(perturbed):
                raise InputError(
                    f"{len(perturbed)} of {adata.n_obs} control cells are perturbed, first with {perturbed.iloc[0]!r} "
                    f"(obs[{condition_key!r}]); give unperturbed cells alone"
                )
        x = expression_of(adata[:, genes], what="X of the control cells")
        scales = scale_of(x), scale_of(self.cells)
        if scales[0] != scales[1]:
            raise InputError(
                f"the control cells look {scales[0]}, the training data {scales[1]} (values up to {x.max():.4g} and "
                f"{self.cells.max():.4g}); bring both to one scale"
            )
        named = group_key is not None and group_key in adata.obs
        lines = set(names_in(adata.obs, str(group_key), "group_key")) if named else set()
        if len(lines) > 1:
            raise InputError(
                f"the control cells are of several lines ({', '.join(sorted(lines)[:3])}); predict one at a time"
            )
        return x, Start(np.asarray(x.mean(axis=0)).ravel(), next(iter(lines), None))
