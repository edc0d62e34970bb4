"""The plain models that every claim must beat, with the interface of `PerturbationModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import ConditionNames
from kgnn.data.screen import Screen, perturbed_genes, read_screen
from kgnn.data.splits import Split
from kgnn.errors import InputError
from kgnn.models.perturbation.predictions import read_conditions, to_anndata
from kgnn.models.storage import keep_controls, load_arrays, load_config, save_model


class Baseline(ABC):
    """A prediction of mean changes from mean changes of training conditions.

    Args:
        condition_key: column of obs with the condition of each cell.
        control: the label or labels of control cells; by default found among the usual ones.

    Attributes set by `fit`: `genes_`, `control_mean_` [genes], `controls_` (control cells, CSR), `conditions_`
    (training conditions), `delta_` [training conditions, genes].
    """

    name: ClassVar[str]

    def __init__(self, *, condition_key: str = "condition", control: str | Iterable[str] | None = None) -> None:
        self.condition_key, self.control = condition_key, control

    def fit(self, adata: AnnData, split: Split | None = None, *, seed: int = 0, **_: Any) -> Baseline:
        """Learn from the training conditions of `split`, or from all conditions; validation is not used.

        Args:
            adata: the screen, log-normalised; split: see `kgnn.data.split`; seed: which control cells are kept.

        Options of other models' `fit` (such as `max_epochs`) are accepted and have no effect, so that one loop
        fits all models.
        """
        screen = read_screen(adata, condition_key=self.condition_key, control=self.control)
        conditions = screen.conditions if split is None else list(split["train"])
        if not conditions:
            raise InputError("no training condition; the split's train group is empty")
        self.genes_, self.control_mean_, self.conditions_ = screen.genes, screen.control_mean, conditions
        self.controls_ = keep_controls(screen, seed)
        self.delta_ = screen.mean(conditions).to_numpy() - self.control_mean_
        self._fit(screen)
        return self

    def _fit(self, screen: Screen) -> None:  # noqa: B027 (three of five need no more)
        """Learn more than the mean changes."""

    @abstractmethod
    def _delta(self, condition: str) -> np.ndarray:
        """Return the change [genes] that a condition brings."""

    def predict(self, conditions: str | Sequence[str], *, n_cells: int | None = None, seed: int = 0) -> AnnData:
        """Predict conditions; see `PerturbationModel.predict`. Control is predicted as no change."""
        if not hasattr(self, "delta_"):
            raise InputError(f"the {self.name} model is not fitted; call fit first")
        canonical = read_conditions(conditions, ConditionNames(self.control))
        delta = np.stack([self._delta(name) if name else np.zeros_like(self.control_mean_) for name in canonical])
        return to_anndata(
            conditions,
            canonical,
            self.genes_,
            self.control_mean_,
            delta,
            controls=self.controls_,
            n_cells=n_cells,
            seed=seed,
        )

    def save(self, path: str | Path) -> None:
        """Write safetensors and JSON into the folder `path`, whole or not at all."""
        config = {
            "model": self.name,
            "condition_key": self.condition_key,
            "control": self.control if self.control is None or isinstance(self.control, str) else list(self.control),
            "genes": list(self.genes_),
            "conditions": self.conditions_,
        }
        arrays = {"control_mean": self.control_mean_, "delta": self.delta_} | self._state()
        save_model(path, config, arrays, self.controls_)

    def _state(self) -> dict[str, np.ndarray]:
        """Return what `_fit` set, beyond the mean changes."""
        return {}

    @classmethod
    def load(cls, path: str | Path) -> Baseline:
        """Read a folder that `save` wrote."""
        config = load_config(path)
        if config["model"] not in BASELINES:
            raise InputError(f"{path}: holds a {config['model']!r} model, not a baseline; use kgnn.models.load_model")
        model = BASELINES[config["model"]](condition_key=config["condition_key"], control=config["control"])
        arrays, model.controls_ = load_arrays(path)
        model.genes_, model.conditions_ = pd.Index(config["genes"], dtype=object), config["conditions"]
        model.control_mean_, model.delta_ = arrays.pop("control_mean"), arrays.pop("delta")
        for name, value in arrays.items():
            setattr(model, f"{name}_", value)
        return model

    @property
    def perturbed_(self) -> list[str]:
        """Genes that are perturbed in some training condition, sorted."""
        return sorted({gene for name in self.conditions_ for gene in perturbed_genes(name)})


class NoChange(Baseline):
    """The mean of the control cells, whatever is perturbed."""

    name = "no_change"

    def _delta(self, condition: str) -> np.ndarray:
        return np.zeros_like(self.control_mean_)


class Mean(Baseline):
    """Control mean + mean change of the training conditions, whatever is perturbed."""

    name = "mean"

    def _delta(self, condition: str) -> np.ndarray:
        return self.delta_.mean(axis=0)


class Additive(Baseline):
    """The sum of the changes of the singly perturbed genes (Ahlmann-Eltze, Huber, Anders, Nat Methods 2025).

    A gene that was not perturbed alone in training counts with the mean change of those that were (of all
    training conditions when none was).
    """

    name = "additive"

    def _delta(self, condition: str) -> np.ndarray:
        single = [len(perturbed_genes(name)) == 1 for name in self.conditions_]
        singles = dict(zip(np.array(self.conditions_)[single], self.delta_[single], strict=True))
        unseen = self.delta_[single].mean(axis=0) if any(single) else self.delta_.mean(axis=0)
        return np.sum([singles.get(gene, unseen) for gene in perturbed_genes(condition)], axis=0)


class Linear(Baseline):
    """Linear model from gene embeddings to changes (Ahlmann-Eltze, Huber, Anders, Nat Methods 2025).

    Y [genes, conditions], the training changes, centred by rows; A [genes, 10], principal components of the genes
    over the training pseudo-bulks and control; b of a condition = the sum of its perturbed genes' rows of A.
    K = (AᵀA + 0.1 I)⁻¹ Aᵀ Y Bᵀ (B Bᵀ + 0.1 I)⁻¹; prediction A K b + centre. Perturbed genes that are not
    measured have no row of A and add nothing to b.
    """

    name = "linear"
    n_components, ridge = 10, 0.1

    def _fit(self, screen: Screen) -> None:
        bulks = np.vstack([self.delta_, np.zeros_like(self.control_mean_)]).T + self.control_mean_[:, None]
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

    def _state(self) -> dict[str, np.ndarray]:
        return {"embedding": self.embedding_, "centre": self.centre_, "map": self.map_}


class CompositionRidge(Baseline):
    """Ridge regression from which genes are perturbed (0/1) to the change; the strongest plain baseline.

    With C [conditions, genes] the 0/1 matrix of perturbed genes and c the mean change that one perturbed gene
    brings, c = Σ Y / Σ C: W = argmin ‖Y − C(1cᵀ + W)‖² + 0.1 ‖W‖². An unseen gene brings c, a double starts at 2c.
    """

    name = "composition_ridge"
    ridge = 0.1

    def _fit(self, screen: Screen) -> None:
        c = np.stack([self._compose(name) for name in self.conditions_])
        self.per_gene_ = self.delta_.sum(axis=0) / c.sum()
        residual = self.delta_ - c.sum(axis=1, keepdims=True) * self.per_gene_
        self.weights_ = np.linalg.solve(c.T @ c + self.ridge * np.eye(c.shape[1]), c.T @ residual)

    def _compose(self, condition: str) -> np.ndarray:
        return np.isin(self.perturbed_, perturbed_genes(condition)).astype(float)

    def _delta(self, condition: str) -> np.ndarray:
        return len(perturbed_genes(condition)) * self.per_gene_ + self._compose(condition) @ self.weights_

    def _state(self) -> dict[str, np.ndarray]:
        return {"per_gene": self.per_gene_, "weights": self.weights_}


BASELINES: dict[str, type[Baseline]] = {
    model.name: model for model in (NoChange, Mean, Additive, Linear, CompositionRidge)
}
