"""Are predicted variances right, at every level?"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import norm

from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.evaluation.metrics.record import Metric
from kgnn.evaluation.metrics.runner import score_conditions
from kgnn.evaluation.metrics.truth import read_truth
from kgnn.files import as_adata
from kgnn.parts import check_number

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def calibration_curve(
    prediction: AnnData,
    adata: AnnData,
    split: Split | None = None,
    *,
    levels: Iterable[float] = LEVELS,
    exclude_targets: bool = False,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
) -> pd.DataFrame:
    """Share of genes whose measured mean lies in the predicted central interval, a row a level.

    A normal distribution of variance `layers["uncertainty"]`: where the variances are right both columns equal the
    level, below it they are too small. `all`: mean over conditions of the share of all genes; `changed`: over the genes
    that differ from control (t test, Benjamini–Hochberg 5 %), in the conditions that have some.

    Raises:
        InputError: a prediction without variances, a level that is no share; as `evaluate`.
    """
    prediction, split = as_adata(prediction), None if split is None else read_split(split, control)
    if "uncertainty" not in prediction.layers:
        raise InputError("the prediction has no layers['uncertainty'], so that it has no intervals")
    levels = list(levels)
    for level in levels:
        check_number(level, "levels", 0, 1)
    names = {"condition_key": condition_key, "control": control, "group_key": group_key}
    truth = read_truth(as_adata(adata), split, names)
    chosen = [metric for level in levels for metric in _of(level)]
    means = score_conditions(prediction, truth, chosen, 1, exclude_targets).mean(numeric_only=True)
    table = {level: {kind: means[f"{kind} {level}"] for kind in ("all", "changed")} for level in levels}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("level")


def _of(level: float) -> list[Metric]:
    """Coverage of one level, of all genes and of those that change."""
    width = norm.ppf(0.5 + level / 2)

    def everywhere(y_hat: np.ndarray, y: np.ndarray, start: np.ndarray, variance: np.ndarray) -> float:
        return (np.abs(y_hat - y) <= width * np.sqrt(variance)).mean()

    def changed(
        y_hat: np.ndarray, y: np.ndarray, start: np.ndarray, variance: np.ndarray, significant: np.ndarray
    ) -> float:
        if not significant.any():
            return np.nan
        return everywhere(y_hat[significant], y[significant], start, variance[significant])

    return [Metric(f"all {level}", everywhere), Metric(f"changed {level}", changed)]
