"""What a benchmark's scores say: summary, reference points, paired differences, verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kgnn.evaluation.headline import HEADLINE, POINTS, verdict
from kgnn.evaluation.metrics import paired_difference, summarize
from kgnn.evaluation.metrics.references import MEAN
from kgnn.evaluation.metrics.table import RATIOS, larger_is_better
from kgnn.models.baselines import ALL_BASELINES

SHOWN = [*HEADLINE, "pearson_crossed", "pearson_delta", "pearson_delta_top20", "mse", "mae", "discrimination"]
SHOWN += ["weighted_r2", "wrong_direction_top20", "de_overlap_top20", "de_auprc", "coverage_90"]
COMPARED = (*HEADLINE, "pearson_crossed", "pearson_delta")


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """The shown scores: of each model and condition the mean over seeds; index (model, condition)."""
    parts = [part for name in SHOWN for part in RATIOS.get(name, (name,)) if part in scores]
    return scores.groupby(["model", "condition"])[parts].mean()


def summaries(scores: pd.DataFrame, n_resamples: int = 2000) -> dict[str, pd.DataFrame]:
    """`summarize` of each model and each reference point of one data set and split, beside these points."""
    means = over_seeds(scores)
    points = means[means.index.get_level_values("model").isin(POINTS)]
    found = {}
    for model in means.index.unique("model"):
        beside = points if len(points) and model not in POINTS else None
        table = summarize(means.loc[model], references=beside, n_resamples=n_resamples)
        found[str(model)] = table.loc[[name for name in SHOWN if name in table.index]]
    return found


def summary_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, kind of split and model: each score's mean over conditions of the mean over seeds, its 95 %
    bootstrap interval over conditions (`_low`, `_high`), `_sd`, the standard deviation over seeds, and `_calibrated`
    (see `summarize`); `verdict`, whether the model is better than the mean of the training perturbations."""
    rows = []
    for (dataset, split), part in scores.groupby(["dataset", "split"], sort=False):
        by_seed = {seed: summaries(rows_of, 1) for seed, rows_of in part.groupby("seed")}
        for model, summary in summaries(part).items():
            own = part[part["model"] == model]
            row: dict[str, Any] = {"dataset": dataset, "split": split, "model": model, "seeds": own["seed"].nunique()}
            row["conditions"] = own["condition"].nunique()
            spread = pd.DataFrame({seed: found[model]["mean"] for seed, found in by_seed.items() if model in found})
            for name, values in summary.iterrows():
                row |= {name: values["mean"], f"{name}_low": values["low"], f"{name}_high": values["high"]}
                row |= {f"{name}_sd": spread.loc[name].std(ddof=1), f"{name}_calibrated": values.get("calibrated")}
            rows.append(row | {"verdict": "" if model in POINTS else verdict(summary)})
    return pd.DataFrame(rows)


def paired_table(scores: pd.DataFrame, names: Sequence[str] = COMPARED) -> pd.DataFrame:
    """Difference of each model to the best baseline in each of some scores, paired by condition, with its 95 %
    bootstrap interval.

    The best baseline is the one of the best score; where no baseline was run, the mean of training.
    """
    rows = []
    for (dataset, split), part in scores.groupby(["dataset", "split"], sort=False):
        means = over_seeds(part)
        models = [model for model in means.index.unique("model") if model not in POINTS]
        baselines = [name for name in models if is_baseline(name)] or [MEAN]
        table = pd.DataFrame({name: found["mean"] for name, found in summaries(part, 1).items()})
        for score in [name for name in names if name in table.index]:
            values = table.loc[score].reindex(baselines).dropna()
            if values.empty:
                continue
            against = values.idxmax() if larger_is_better(score) else values.idxmin()
            for model in models:
                if model != against:
                    gap = paired_difference(means.loc[model], means.loc[against], score)
                    place = {"dataset": dataset, "split": split, "score": score, "model": model, "against": against}
                    rows.append(place | gap)
    return pd.DataFrame(rows, columns=["dataset", "split", "score", "model", "against", "mean", "low", "high", "n"])


def is_baseline(model: str) -> bool:
    return model in ALL_BASELINES
