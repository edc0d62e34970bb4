"""What the real cells say of the conditions that are scored: each part is made when a metric asks for it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.differential import against_others, differential_genes, perturbed_sums
from kgnn.data.lines import fitting_cells, scored_cells
from kgnn.data.screen import Screen, read_screen
from kgnn.data.splits import Split
from kgnn.evaluation.metrics.mse_ratio import noise_of_mean
from kgnn.evaluation.metrics.weighted_mse import gene_weights

DRAWS = 10  # halvings of the control cells


@dataclass(frozen=True)
class Truth:
    """Real cells of a screen, for the scores of its conditions.

    Attributes:
        adata: all cells; of a line held out the screen holds that line's alone.
        screen: the cells that count.
        split: its training conditions are the centre.
        names: `condition_key`, `control`, `group_key`.
        seed: of the halves of the control cells.
        changes: a predicted change is added to the condition's own control cells, as it is with groups and lines.
    """

    adata: AnnData
    screen: Screen
    split: Split | None
    names: dict[str, Any]
    seed: int = 0
    changes: bool = False

    @property
    def by_change(self) -> bool:
        """Whether a predicted change is added to the condition's own control cells."""
        return (
            self.changes
            or self.screen.is_effects
            or self.names["group_key"] is not None
            or "line" in (self.split or {})
        )

    @cached_property
    def observed(self) -> pd.DataFrame:
        """Mean of each condition, [conditions, genes]: the panel."""
        return self.screen.mean(self.screen.conditions)

    @cached_property
    def reference(self) -> pd.DataFrame:
        """Mean of each condition's control cells, [conditions, genes]."""
        return self.screen.reference(self.screen.conditions)

    @cached_property
    def center(self) -> pd.DataFrame:
        """Mean change of the split's training conditions that are measured, added to each condition's control cells,
        [conditions, genes]; where there are none, of the other conditions of the panel."""
        screen = self.screen
        if "line" in (self.split or {}):
            others = fitting_cells(self.adata, self.split or {}, self.names["condition_key"], self.names["control"])
            screen = read_screen(others, **self.names | {"group_key": (self.split or {})["group_key"]})
        train = sorted(set((self.split or {}).get("train", ())) & set(screen.conditions))
        if train:
            return self.reference + screen.changes(train).mean(axis=0)
        changes = self.observed - self.reference
        if screen.measured is not None:
            there = screen.measures(changes.index)
            changes = changes.where(there, 0.0)
            return self.reference + (changes.sum(axis=0) - changes) / (there.sum(axis=0) - there).clip(1)
        others_of = (changes.sum(axis=0) - changes) / max(len(changes) - 1, 1)
        return self.reference + (others_of if len(changes) > 1 else np.nan)

    @cached_property
    def targets(self) -> np.ndarray:
        """Genes that are perturbed anywhere in the panel, [genes]."""
        return self.screen.genes.isin(self.screen.perturbed)

    def weights(self, condition: str) -> np.ndarray:
        """Weights [genes] of what tells a condition from the others."""
        return gene_weights(self.against_others(condition)[0])

    def against_others(self, condition: str) -> tuple[np.ndarray, np.ndarray]:
        """t and adjusted p-value [genes] of a condition's cells against all other perturbed cells."""
        return against_others(self.screen, condition, self._sums)

    @cached_property
    def _sums(self) -> tuple[int, np.ndarray, np.ndarray]:
        return perturbed_sums(self.screen)

    def differential(self, condition: str) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the genes, most differentially expressed first, and whether they are significant, [genes]."""
        if condition not in self._differential:
            self._differential[condition] = differential_genes(self.screen, condition)
        return self._differential[condition]

    @cached_property
    def _differential(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}

    @cached_property
    def _shares(self) -> pd.DataFrame:
        """Share of each condition's cells that is of each group, [conditions, groups]."""
        return self.screen.shares(self.screen.conditions)

    @cached_property
    def _control_noise(self) -> np.ndarray:
        """Variance of the mean of each group's control cells, [groups, genes]."""
        screen = self.screen
        of_group = screen.group[screen.controls]
        rows = [noise_of_mean(screen.x[screen.controls[of_group == name]]) for name in screen.group_means.index]
        return np.array(rows)

    def noise(self, condition: str) -> np.ndarray:
        """Variance of a condition's mean and of its control mean, [2, genes]; of effects by their standard errors,
        else by replicates."""
        if self.screen.is_effects:
            rows, variance = self.screen.cells([condition]), self.screen.variance
            own = noise_of_mean(self.screen.x[rows]) if variance is None else variance[rows].mean(axis=0) / len(rows)
            return np.array([own, np.zeros_like(own)])
        of_cells = noise_of_mean(self.screen.x[self.screen.cells([condition])])
        shares = self._shares.loc[condition].to_numpy()
        used = shares > 0
        return np.array([of_cells, np.square(shares[used]) @ self._control_noise[used]])

    @cached_property
    def _halves(self) -> np.ndarray:
        """Means of random halves of each group's control cells, [draws, 2, groups, genes]; NaN for a lone cell."""
        rng = np.random.default_rng(self.seed)
        return np.array([halved_controls(self.screen, self.screen.group_means.index, rng) for _ in range(DRAWS)])

    def halves(self, condition: str) -> np.ndarray:
        """Means of random halves of a condition's control cells, [draws, 2, genes]."""
        shares = self._shares.loc[condition].to_numpy()
        used = shares > 0
        return np.einsum("g,dhgn->dhn", shares[used], self._halves[:, :, used])


def halved_controls(screen: Screen, groups: pd.Index, rng: np.random.Generator) -> np.ndarray:
    """Means of two random halves of the control cells of groups, [2, groups, genes]; NaN for a lone cell."""
    of_group = screen.group[screen.controls]
    result = np.full((2, len(groups), len(screen.genes)), np.nan)
    for number, name in enumerate(groups):
        cells = rng.permutation(screen.controls[of_group == name])
        if len(cells) > 1:
            for half, part in enumerate(np.array_split(cells, 2)):
                result[half, number] = np.asarray(screen.x[part].mean(axis=0)).ravel()
    return result


def read_truth(
    adata: AnnData, split: Split | None, names: dict[str, Any], seed: int = 0, *, changes: bool = False
) -> Truth:
    """Check the real cells; `names` as for `kgnn.data.read_screen`."""
    screen = read_screen(scored_cells(adata, split), **names)
    train = sorted(set((split or {}).get("train", ())) & set(screen.conditions))
    return Truth(adata, screen.filled(train or screen.conditions), split, names, seed, changes)
