"""From features of genes to features of conditions: what the baselines on gene vectors and on gene sets share."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.data.conditions import perturbed_genes
from kgnn.errors import DataWarning, InputError
from kgnn.models.baselines.plain import Baseline
from kgnn.models.perturbation.predictor import Changes, Known, Start, Training
from kgnn.models.storage import csr_of

Features: TypeAlias = "np.ndarray | sparse.csr_array"


class FeatureBaseline(Baseline):
    """A prediction from features of the perturbed genes; a condition's are the sum of its genes'.

    A gene without features adds nothing; a condition of such genes alone gets the mean change of training.

    Attributes set by `fit`, besides those of `Baseline`: `known_`, the genes with features; `rows_`, their features
    [known genes, features], float64.
    """

    uses_graph, by_dose = True, False
    lacks = "no neighbour in the graph"  # what a gene has that has no features

    known_: pd.Index
    rows_: Features
    _told: set[str]

    def _learn(self, data: Training, seed: int) -> None:
        self.delta_ = self.delta_.astype(np.float64)
        self.known_, self.rows_ = self._features(data, seed)
        self._told = set()
        if sum(self.has_features(self.conditions_)) < 2:
            raise InputError(
                f"fewer than two of the {len(self.conditions_)} training conditions perturb a gene that has features: "
                f"all others have {self.lacks}; give knowledge of the perturbed genes, or take encoder='mean'"
            )
        self._solve(seed)

    @abstractmethod
    def _features(self, data: Training, seed: int) -> tuple[pd.Index, Features]:
        """Return the genes that have features, and these [genes, features]."""

    @abstractmethod
    def _solve(self, seed: int) -> None:
        """Learn from the features of the training conditions and `delta_`."""

    @abstractmethod
    def _changes(self, conditions: Sequence[str]) -> np.ndarray:
        """Return the changes [conditions, genes]."""

    def embed(self, conditions: Sequence[str]) -> Features:
        """Features of conditions, [conditions, features]."""
        return self._members(conditions) @ self.rows_

    def has_features(self, conditions: Sequence[str]) -> np.ndarray:
        """Whether some perturbed gene has features, [conditions]."""
        return np.diff(self._members(conditions).indptr) > 0

    def _members(self, conditions: Sequence[str]) -> sparse.csr_array:
        """Which known genes are perturbed, [conditions, known genes] 0/1."""
        numbers = [self.known_.get_indexer(list(perturbed_genes(name))) for name in conditions]
        columns = [found[found >= 0] for found in numbers]
        ends = np.cumsum([0, *map(len, columns)])
        flat = np.concatenate([np.array([], np.int64), *columns])
        return sparse.csr_array((np.ones(len(flat)), flat, ends), shape=(len(columns), len(self.known_)))

    def _delta(self, condition: str) -> np.ndarray:
        return self._changes([condition])[0]

    def predict(self, conditions: list[str], start: Start) -> Changes:
        self._tell(conditions)
        perturbed = np.array([bool(name) for name in conditions])
        return Changes(self._changes(conditions) * perturbed[:, None])

    def _tell(self, conditions: Sequence[str]) -> None:
        """Name, once, the genes without features that were not perturbed in training either."""
        asked = {gene for name in conditions for gene in perturbed_genes(name)}
        lost = sorted(asked.difference(self.known_, self.perturbed_, self._told))
        if lost:
            self._told.update(lost)
            warnings.warn(
                f"{len(lost)} perturbed genes have {self.lacks}: {', '.join(lost[:10])}{', …' * (len(lost) > 10)}; nor "
                "were they perturbed in training: a condition of such genes alone gets the mean of training",
                DataWarning,
                stacklevel=4,
            )

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        config, arrays = super().state()
        return config | {"known": list(self.known_), "lacks": self.lacks}, arrays | pack(self.rows_)

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        super().restore(known, config, arrays)
        self.known_, self.lacks = pd.Index(config["known"], dtype=object), config["lacks"]
        self.rows_, self._told = unpack(arrays, len(self.known_), known.path), set()


def pack(rows: Features) -> dict[str, np.ndarray]:
    """Features as arrays to save."""
    if isinstance(rows, np.ndarray):
        return {"rows": rows}
    parts = {name: getattr(rows, name) for name in ("data", "indices", "indptr")}
    return {f"rows.{name}": value for name, value in parts.items()} | {"rows.width": np.array([rows.shape[1]])}


def unpack(arrays: dict[str, np.ndarray], n_genes: int, path: str) -> Features:
    """What `pack` gave; `path` is named where it is not."""
    if "rows" in arrays:
        return arrays["rows"]
    width = int(arrays["rows.width"][0])
    return sparse.csr_array(csr_of(arrays, (n_genes, width), path, "rows."))
