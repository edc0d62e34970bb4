"""What a benchmark's scores say: summary, paired differences, noise ceiling."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kgnn.evaluation.metrics import noise_ceiling, paired_difference, summarize
from kgnn.evaluation.metrics.table import RATIOS, larger_is_better
from kgnn.files import read_h5ad
from kgnn.models.baselines import ALL_BASELINES

SHOWN = ["pearson_centred", "pds_cosine", "mse_ratio", "mse", "mae", "pearson_delta", "pearson_delta_top20"]
SHOWN += ["pearson_crossed", "discrimination", "weighted_r2", "wrong_direction_top20", "de_overlap_top20", "de_auprc"]
SHOWN += ["coverage_90"]


def summarize_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """`summarize` the shown scores: over conditions, of the mean over seeds."""
    parts = [part for name in SHOWN for part in RATIOS.get(name, (name,)) if part in scores]
    summary = summarize(scores.groupby("condition")[parts].mean())
    return summary.loc[[name for name in SHOWN if name in summary.index]]


def summary_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, kind of split and model: each score's mean over conditions of the mean over seeds, its 95 %
    bootstrap interval over conditions (`_low`, `_high`), and `_sd`, the standard deviation over seeds."""
    rows = []
    for (dataset, split, model), part in scores.groupby(["dataset", "split", "model"], sort=False):
        summary = summarize_seeds(part)
        by_seed = pd.DataFrame({seed: summarize_seeds(rows)["mean"] for seed, rows in part.groupby("seed")})
        spread = by_seed.std(axis=1, ddof=1)
        row: dict[str, Any] = {"dataset": dataset, "split": split, "model": model, "seeds": part["seed"].nunique()}
        row["conditions"] = part["condition"].nunique()
        for name, values in summary.iterrows():
            row |= {name: values["mean"], f"{name}_low": values["low"], f"{name}_high": values["high"]}
            row[f"{name}_sd"] = spread[name]
        rows.append(row)
    return pd.DataFrame(rows)


def paired_table(scores: pd.DataFrame, score: str = "pearson_delta", best: str | None = None) -> pd.DataFrame:
    """Difference of each model to the best baseline, paired by condition, with its 95 % bootstrap interval.

    The best baseline is the one of the best mean score; `best` names another model to compare with.
    """
    rows = []
    for (dataset, split), part in scores.groupby(["dataset", "split"], sort=False):
        means = part.groupby(["model", "condition"])[score].mean()
        baselines = [name for name in means.index.unique("model") if is_baseline(name)]
        if best is None and not baselines:
            continue
        choose = max if larger_is_better(score) else min
        against = best or choose(baselines, key=lambda name: means[name].mean())
        for model in means.index.unique("model"):
            if model != against:
                gap = paired_difference(means[model].to_frame(score), means[against].to_frame(score), score)
                rows.append({"dataset": dataset, "split": split, "model": model, "against": against} | gap)
    return pd.DataFrame(rows, columns=["dataset", "split", "model", "against", "mean", "low", "high", "n"])


def is_baseline(model: str) -> bool:
    return model in ALL_BASELINES


def mean_ceiling(dataset: dict[str, Any], scores: pd.DataFrame) -> float | None:
    """Mean `noise_ceiling` of the scored conditions of a benchmark's data set; None where no condition has any."""
    names = {key: dataset[key] for key in ("condition_key", "control", "group_key") if key in dataset}
    table = noise_ceiling(read_h5ad(dataset["path"]), scores["condition"].unique(), **names)
    return None if table["ceiling"].isna().all() else float(table["ceiling"].mean())
