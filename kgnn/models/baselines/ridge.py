"""Kernel ridge regression whose ridge is the one of the least exact leave-one-out error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kgnn.models.baselines.features import FeatureBaseline

RIDGES = 10.0 ** np.arange(-3, 3.5, 0.5)  # times the mean of the kernel's diagonal


class RidgeBaseline(FeatureBaseline):
    """Ridge regression around the mean change of training: ŷ = m + k (K + λ I)⁻¹ (Y − m), K the kernel φ φᵀ.

    φ [conditions, features] as in `FeatureBaseline`. λ: 10⁻³ to 10³ times the mean of K's diagonal, in half powers of
    ten, by the squared error of each training condition predicted without it (`leave_one_out`). No features: k = 0.

    Attributes set by `fit`, besides those of `FeatureBaseline`: `ridge_`, λ; `dual_` [training conditions, genes].
    """

    learned = ("ridge", "dual")

    ridge_: np.ndarray
    dual_: np.ndarray

    def _solve(self, seed: int) -> None:
        kernel = self._kernel(self.conditions_)
        scale = float(np.trace(kernel)) / len(kernel) or 1.0
        errors = [np.square(left_out).sum() for left_out in leave_one_out(kernel, self.delta_, RIDGES * scale)]
        self.ridge_ = np.array([RIDGES[int(np.argmin(errors))] * scale])
        self.dual_ = np.linalg.solve(kernel + self.ridge_ * np.eye(len(kernel)), self.delta_ - self.delta_.mean(axis=0))

    def _kernel(self, conditions: Sequence[str]) -> np.ndarray:
        """[conditions, training conditions]."""
        found = self.embed(conditions) @ self.embed(self.conditions_).T
        return found if isinstance(found, np.ndarray) else found.toarray()

    def _changes(self, conditions: Sequence[str]) -> np.ndarray:
        return self.delta_.mean(axis=0) + self._kernel(conditions) @ self.dual_


def leave_one_out(kernel: np.ndarray, values: np.ndarray, ridges: Sequence[float] | np.ndarray) -> list[np.ndarray]:
    """Errors y − ŷ of each row predicted from all others, their mean among them, [rows, columns], one array a ridge.

    With C = (K + λ I)⁻¹ and z = Y − mean: (C z + z ∘ C1 / (n − 1)) / diag C. The second term is what the mean moves
    when the row is left out; the first is the usual formula for a fixed mean (Cawley & Talbot, Neural Networks 2004).
    """
    n, centred = len(values), values - values.mean(axis=0)
    spectrum, basis = np.linalg.eigh(kernel)
    rotated, ones = basis.T @ centred, basis.sum(axis=0)
    found = []
    for ridge in ridges:
        inverse = 1 / (spectrum.clip(0) + ridge)
        moved = centred * (basis @ (inverse * ones) / (n - 1))[:, None]
        found.append((basis @ (inverse[:, None] * rotated) + moved) / (np.square(basis) @ inverse)[:, None])
    return found
