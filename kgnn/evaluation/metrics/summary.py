"""Means of scores over conditions, and of their differences, with bootstrap intervals."""

import numpy as np
import pandas as pd


def summarize(
    scores: pd.DataFrame, *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return mean and percentile bootstrap interval over conditions, one row a score: `mean, low, high, n`."""
    values = scores.select_dtypes("number").drop(columns="n_cells", errors="ignore")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(values), size=(n_resamples, len(values)))
    resampled = values.to_numpy()[drawn]
    known = ~np.isnan(resampled)
    with np.errstate(invalid="ignore"):
        means = np.where(known, resampled, 0).sum(axis=1) / known.sum(axis=1)
    means = np.where(np.isnan(means), values.mean().to_numpy(), means)  # a sample without any known value
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    table = {"mean": values.mean(), "low": low, "high": high, "n": values.notna().sum()}
    return pd.DataFrame(table).rename_axis("score")


def paired_difference(
    scores: pd.DataFrame,
    other: pd.DataFrame,
    score: str = "pearson_delta",
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Mean difference of a score over the same conditions with its bootstrap interval: `mean, low, high, n`."""
    difference = (scores[score] - other[score]).dropna().to_frame(score)
    summary = summarize(difference, confidence=confidence, n_resamples=n_resamples, seed=seed)
    return summary.loc[score].to_dict()
