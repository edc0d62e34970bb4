"""Scores over conditions, and their differences, with bootstrap intervals; beside the reference points."""

import numpy as np
import pandas as pd

from kgnn.evaluation.metrics.references import MEAN, REPLICATE
from kgnn.evaluation.metrics.table import RATIOS, larger_is_better


def summarize(
    scores: pd.DataFrame,
    *,
    references: pd.DataFrame | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return mean and percentile bootstrap interval over conditions, one row a score: `mean, low, high, n`.

    `mse_ratio` is a ratio of sums over conditions, Σ `mse_unbiased` / Σ `size_unbiased`, and stands for these two
    columns; NaN where the sizes add up to no more than noise.

    Args:
        scores: from `evaluate`.
        references: from `reference_scores` with the same options. Adds a column of each reference's mean; `calibrated`,
            (u − b) / (r − b), b the mean of training, r the replicate: 0 is the mean, 1 the experiment repeated, NaN
            where the replicate is no better than the mean; and `gain`, by how much the score is better than the mean's,
            with its interval paired by condition, `gain_low`, `gain_high`.
        confidence, n_resamples, seed: of the bootstrap.
    """
    drawn = np.random.default_rng(seed).integers(len(scores), size=(n_resamples, len(scores)))
    sums = _sums(scores)
    rows = {}
    for name, pair in sums.items():
        mean, resampled = float(_ratio(*pair)), _ratio(*(part[drawn] for part in pair))
        rows[name] = {"mean": mean} | dict(zip(("low", "high"), _interval(resampled, mean, confidence), strict=True))
        rows[name]["n"] = _known(scores, name)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "n"]).rename_axis("score")
    if references is None:
        return table
    points = {str(name): _sums(part.droplevel(0).reindex(scores.index)) for name, part in references.groupby(level=0)}
    for point in references.index.unique(level=0):
        found = {name: float(_ratio(*pair)) for name, pair in points[point].items()}
        table[point] = pd.Series(found, dtype=float).reindex(table.index)
    rising = np.array([1 if larger_is_better(str(name)) else -1 for name in table.index])
    base, best = (table.get(name, pd.Series(np.nan, table.index)) for name in (MEAN, REPLICATE))
    table["calibrated"] = ((table["mean"] - base) / (best - base)).where(rising * (best - base) > 1e-9)
    for name, sign in zip(table.index, rising, strict=True):
        if name in points.get(MEAN, {}):
            gains = [_ratio(*(part[drawn] for part in pair)) for pair in (sums[name], points[MEAN][name])]
            gain = sign * (table.loc[name, "mean"] - base[name])
            table.loc[name, "gain"] = gain
            interval = _interval(sign * (gains[0] - gains[1]), gain, confidence)
            table.loc[name, ["gain_low", "gain_high"]] = interval
    return table


def _sums(scores: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Score → what its mean is the ratio of the sums of, [conditions] each; 0 where a condition has no value."""
    values = scores.select_dtypes("number").drop(columns="n_cells", errors="ignore").astype(float)
    parts = {part: ratio for ratio, pair in RATIOS.items() if set(pair) <= set(values) for part in pair}
    found = {}
    for name in values:
        upper, lower = values[name], values[name].notna().astype(float)
        if name in parts:
            upper, lower = (values[part] for part in RATIOS[parts[name]])
            known = upper.notna() & lower.notna()
            upper, lower = upper.where(known), lower.where(known, 0.0)
        found[parts.get(name, name)] = upper.fillna(0).to_numpy(), lower.to_numpy()
    return found


def _known(scores: pd.DataFrame, name: str) -> int:
    return int(scores[list(RATIOS.get(name, (name,)))].notna().all(axis=1).sum())


def _ratio(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Σ upper / Σ lower over the last axis, NaN where Σ lower is not above 0."""
    upper, lower = upper.sum(axis=-1), lower.sum(axis=-1)
    return np.divide(upper, lower, out=np.full(np.shape(upper), np.nan), where=lower > 0)


def _interval(values: np.ndarray, mean: float, confidence: float) -> np.ndarray:
    """Quantiles of resampled means; a sample without a value has the mean."""
    values = np.where(np.isnan(values), mean, values)
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])


def paired_difference(
    scores: pd.DataFrame,
    other: pd.DataFrame,
    score: str = "pearson_centred",
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """A score less that of another model, over the conditions that both have, with its bootstrap interval.

    Args:
        scores, other: from `evaluate`.
        score: a column, or `mse_ratio`, whose two columns must be there: the difference of the two ratios of sums.

    Returns:
        `mean, low, high, n`; NaN where no condition has both.
    """
    columns = list(RATIOS.get(score, (score,)))
    known = (scores[columns] - other[columns]).dropna().index
    if known.empty:
        return {"mean": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    ours, theirs = (_sums(table.loc[known, columns])[score] for table in (scores, other))
    drawn = np.random.default_rng(seed).integers(len(known), size=(n_resamples, len(known)))
    mean = float(_ratio(*ours) - _ratio(*theirs))
    resampled = _ratio(*(part[drawn] for part in ours)) - _ratio(*(part[drawn] for part in theirs))
    low, high = _interval(resampled, mean, confidence)
    return {"mean": mean, "low": low, "high": high, "n": len(known)}
