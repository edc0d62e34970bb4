"""Scores of predicted conditions against real cells."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.differential import significant_genes, top_de_genes
from kgnn.data.lines import scored_cells
from kgnn.data.screen import Screen, read_screen
from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.evaluation.metrics.means import check_measured, condition_means, predicted_means, scored_genes
from kgnn.evaluation.metrics.record import Metric
from kgnn.evaluation.metrics.table import Choice, choose
from kgnn.files import as_adata
from kgnn.parts import check_number


def evaluate(
    prediction: AnnData,
    adata: AnnData,
    split: Split | None = None,
    *,
    metrics: Choice | Iterable[Choice] | None = None,
    n_top: int = 20,
    exclude_targets: bool = False,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
) -> pd.DataFrame:
    """Score predictions against the real cells of `adata`, one row a condition.

    Args:
        prediction: rows of conditions or of cells (these are averaged), `obs["condition"]`, from a model's `predict`.
        adata: the screen with the real cells.
        split: score its test conditions only.
        metrics: names of `METRICS`, functions (predicted, observed, reference) → number, `Metric` records, import
            strings `"package.module:name"`; by default all of `METRICS`. See `Metric` for what a function can ask for.
        n_top: number of top DE genes, by the absolute t statistic of real cells against controls
            (`kgnn.data.top_de_genes`); columns that depend on them end in `_top20`.
        exclude_targets: leave a condition's perturbed genes out of all its scores.
        condition_key, control: as for `kgnn.data.read_screen`, for `adata`.
        group_key: column of obs of `adata` (batch, cell line): a condition's cells are compared with control cells of
            their own groups, and the predicted change (`layers["delta"]`, else the difference to all control cells) is
            added to these.

    Returns:
        A column a metric; `n_cells`, real cells; with a split, `subgroup`.

    Raises:
        InputError: different genes or scales, a condition without real cells, no condition to score, no usable metric.
    """
    check_number(n_top, "n_top", 1, whole=True)
    chosen = choose(metrics, n_top)
    prediction, split = as_adata(prediction), None if split is None else read_split(split, control)
    cells = scored_cells(as_adata(adata), split)
    screen = read_screen(cells, condition_key=condition_key, control=control, group_key=group_key)
    by_change = group_key is not None or "line" in (split or {})
    predicted = predicted_means(prediction, screen, control, by_change)
    conditions = _conditions(predicted, screen, split)
    top = top_de_genes(screen, conditions, n=len(screen.genes))
    significant = significant_genes(screen, conditions)
    observed, reference = screen.mean(screen.conditions), screen.reference(screen.conditions)
    unsure = "uncertainty" in prediction.layers
    variance = condition_means(prediction, screen.genes, control, "uncertainty") if unsure else None
    subgroup = {name: group for group, names in (split or {}).get("subgroups", {}).items() for name in names}
    rows = {}
    for name in conditions:
        keep = scored_genes(name, screen.genes, exclude_targets)
        values = {"predicted": predicted.loc[name].to_numpy(), "observed": observed.loc[name].to_numpy()}
        values |= {"reference": reference.loc[name].to_numpy(), "panel": observed.to_numpy()}
        values["significant"] = significant[name]
        if variance is not None:
            values["variance"] = variance.loc[name].to_numpy()
        strongest = top[name][keep[top[name]]][:n_top]
        inputs = {
            genes: _inputs(values, rows_of, strongest) | {"own": observed.index.get_loc(name)}
            for genes, rows_of in (("all", np.flatnonzero(keep)), ("top", strongest))
        }
        rows[name] = _scores(chosen, inputs, n_top) | {"n_cells": len(screen.cells([name]))}
        if split is not None:
            rows[name]["subgroup"] = subgroup.get(name, "")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def _inputs(values: dict[str, np.ndarray], genes: np.ndarray, strongest: np.ndarray) -> dict[str, Any]:
    """Values [..., genes] at the numbers `genes`, and where the strongest stand among these."""
    return {name: value[..., genes] for name, value in values.items()} | {
        "strongest": pd.Index(genes).get_indexer(strongest)
    }


def _scores(metrics: list[Metric], inputs: dict[str, dict[str, Any]], n_top: int) -> dict[str, Any]:
    """Column → score of one condition, from what metrics are given on `all` and on the `top` genes."""
    return {
        column: metric(**inputs[genes])
        for metric in metrics
        for column, genes in metric.columns(n_top).items()
        if set(metric.further) <= inputs[genes].keys()
    }


def _conditions(predicted: pd.DataFrame, screen: Screen, split: Split | None) -> list[str]:
    """Names of the conditions to score."""
    conditions = [name for name in predicted.index if split is None or name in split["test"]]
    missing = sorted(set(split["test"] if split else ()) - set(conditions))
    if missing:
        raise InputError(f"no prediction of the test condition {missing[0]!r}; predict all of split['test']")
    if not conditions:
        raise InputError("no condition to score; the prediction holds none besides control")
    check_measured(conditions, screen)
    return conditions
