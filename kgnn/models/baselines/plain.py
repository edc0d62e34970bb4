"""The plain models that every claim must beat: closed forms over the mean changes of training conditions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from kgnn.data.conditions import SEPARATOR, perturbed_genes
from kgnn.models.perturbation.predictor import Changes, Known, Predictor, Start, Training


class Baseline(Predictor):
    """A prediction of mean changes from mean changes of training conditions; no graph enters.

    Attributes set by `fit`: `genes_`, `conditions_` (training conditions), `delta_` [training conditions, genes].
    """

    uses_graph = False
    learned: ClassVar[tuple[str, ...]] = ()  # arrays that `_learn` sets

    genes_: pd.Index
    conditions_: list[str]
    delta_: np.ndarray

    def fit(self, data: Training, *, seed: int = 0) -> None:
        self.genes_, self.conditions_ = data.screen.genes, data.conditions
        self.delta_ = data.screen.changes(data.conditions).to_numpy()
        self._learn(data, seed)

    def _learn(self, data: Training, seed: int) -> None:
        """Learn more than the mean changes."""

    @abstractmethod
    def _delta(self, condition: str) -> np.ndarray:
        """Return the change [genes] that a condition brings."""

    def predict(self, conditions: list[str], start: Start) -> Changes:
        none = np.zeros(len(self.genes_))
        return Changes(np.stack([self._delta(name) if name else none for name in conditions]))

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {name: getattr(self, f"{name}_") for name in ("delta", *self.learned)}
        return {"conditions": self.conditions_}, arrays

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.genes_, self.conditions_ = known.genes, config["conditions"]
        for name in ("delta", *self.learned):
            setattr(self, f"{name}_", arrays[name])

    @property
    def perturbed_(self) -> list[str]:
        """Genes that are perturbed in some training condition, sorted."""
        return sorted({gene for name in self.conditions_ for gene in perturbed_genes(name)})


class NoChange(Baseline):
    """The mean of the control cells, whatever is perturbed."""

    def _delta(self, condition: str) -> np.ndarray:
        return np.zeros(len(self.genes_))


class Mean(Baseline):
    """Control mean + mean change of the training conditions, whatever is perturbed."""

    def _delta(self, condition: str) -> np.ndarray:
        return self.delta_.mean(axis=0)


class Additive(Baseline):
    """The sum of the changes of the singly perturbed genes (Ahlmann-Eltze, Huber, Anders, Nat Methods 2025).

    A gene that was not perturbed alone (at the same dose) in training counts with the mean change of those that were
    (of all training conditions when none was).
    """

    def _delta(self, condition: str) -> np.ndarray:
        single = [len(perturbed_genes(name)) == 1 for name in self.conditions_]
        singles = dict(zip(np.array(self.conditions_)[single], self.delta_[single], strict=True))
        unseen = self.delta_[single].mean(axis=0) if any(single) else self.delta_.mean(axis=0)
        return np.sum([singles.get(part, unseen) for part in condition.split(SEPARATOR)], axis=0)


class Linear(Baseline):
    """Linear model from gene embeddings to changes (Ahlmann-Eltze, Huber, Anders, Nat Methods 2025).

    Y [genes, conditions], the training changes, centred by rows; A [genes, 10], principal components of the genes
    over the training pseudo-bulks and control; b of a condition = the sum of its perturbed genes' rows of A.
    K = (AᵀA + 0.1 I)⁻¹ Aᵀ Y Bᵀ (B Bᵀ + 0.1 I)⁻¹; prediction A K b + centre. Perturbed genes that are not
    measured have no row of A and add nothing to b.
    """

    learned = ("embedding", "centre", "map")
    by_dose = False
    n_components, ridge = 10, 0.1

    def _learn(self, data: Training, seed: int) -> None:
        start = data.screen.control_mean
        bulks = np.vstack([self.delta_, np.zeros_like(start)]).T + start[:, None]
        u, s, _ = np.linalg.svd(bulks - bulks.mean(axis=0), full_matrices=False)
        a = u[:, : self.n_components] * s[: self.n_components]
        self.embedding_ = a
        b = np.stack([self._embed(name) for name in self.conditions_], axis=1)
        self.centre_ = self.delta_.mean(axis=0)
        y = self.delta_.T - self.centre_[:, None]
        left = np.linalg.solve(a.T @ a + self.ridge * np.eye(a.shape[1]), a.T @ y @ b.T)
        self.map_ = np.linalg.solve(b @ b.T + self.ridge * np.eye(len(b)), left.T).T

    def _embed(self, condition: str) -> np.ndarray:
        rows = self.genes_.get_indexer(perturbed_genes(condition))
        return self.embedding_[rows[rows >= 0]].sum(axis=0)

    def _delta(self, condition: str) -> np.ndarray:
        return self.embedding_ @ self.map_ @ self._embed(condition) + self.centre_


class CompositionRidge(Baseline):
    """Ridge regression from which genes are perturbed (0/1, a dose a column) to the change; the best plain baseline.

    With C [conditions, genes] the 0/1 matrix of perturbed genes and c the mean change that one perturbed gene
    brings, c = Σ Y / Σ C: W = argmin ‖Y − C(1cᵀ + W)‖² + 0.1 ‖W‖². An unseen gene brings c, a double starts at 2c.
    """

    learned = ("per_gene", "weights")
    ridge = 0.1

    def _learn(self, data: Training, seed: int) -> None:
        c = np.stack([self._compose(name) for name in self.conditions_])
        self.per_gene_ = self.delta_.sum(axis=0) / c.sum()
        residual = self.delta_ - c.sum(axis=1, keepdims=True) * self.per_gene_
        self.weights_ = np.linalg.solve(c.T @ c + self.ridge * np.eye(c.shape[1]), c.T @ residual)

    def _compose(self, condition: str) -> np.ndarray:
        parts = sorted({part for name in self.conditions_ for part in name.split(SEPARATOR)})
        return np.isin(parts, condition.split(SEPARATOR)).astype(float)

    def _delta(self, condition: str) -> np.ndarray:
        return len(perturbed_genes(condition)) * self.per_gene_ + self._compose(condition) @ self.weights_
