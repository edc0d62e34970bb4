"""What is said first of a prediction: few scores, beside what anyone could reach, and whether it beats the mean."""

import numpy as np
import pandas as pd

from kgnn.evaluation.metrics.references import INTERPOLATED, MEAN, NO_CHANGE, REPLICATE

HEADLINE = {
    "pearson_centred": "Pearson Δ, centred",
    "pds_cosine": "PDS, cosine",
    "mse_ratio": "MSE ratio",
}
BESIDE = {"pearson_crossed": "Pearson Δ, crossed", "pearson_delta": "Pearson Δ, control"}
ROUNDING = 1e-5  # a gain below it is none
POINTS = (NO_CHANGE, MEAN, REPLICATE, INTERPOLATED)


def headline(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of `summarize(references=)` that are said first, in words: `mean, low, high, calibrated`, a column a point.

    Pearson-delta against the mean of training, PDS cosine and the unbiased MSE ratio; beside them Pearson-delta with
    crossed control halves and the old one, against the measured control.
    """
    names = {**HEADLINE, **BESIDE}
    table = summary.loc[[name for name in names if name in summary.index]]
    columns = ["mean", "low", "high", "calibrated", *POINTS]
    return table.reindex(columns=columns).rename(index=names)


def verdict(summary: pd.DataFrame) -> str:
    """Say in words by which of the three first scores the prediction is better than the mean of training.

    Better is a gain whose 95 % interval over conditions lies above 0.
    """
    told = [name for name in HEADLINE if name in summary.index and "gain" in summary]
    told = [name for name in told if np.isfinite(summary.loc[name, "gain"])]
    if not told:
        return "Not compared with the mean of the training perturbations."
    if summary.loc[told, "n"].max() < 2:
        return "One condition: whether it is better than the mean of the training perturbations cannot be told."
    better = [HEADLINE[name] for name in told if summary.loc[name, "gain_low"] > ROUNDING]
    others = [HEADLINE[name] for name in told if HEADLINE[name] not in better]
    worse = [name for name in told if summary.loc[name, "gain_high"] < -ROUNDING]
    if not better:
        how = "Worse" if len(worse) == len(told) else "No better"
        return f"{how} than the mean of the training perturbations, by {'; '.join(others)}."
    rest = f"; no better by {'; '.join(others)}" if others else ""
    return f"Better than the mean of the training perturbations by {'; '.join(better)}{rest}."
