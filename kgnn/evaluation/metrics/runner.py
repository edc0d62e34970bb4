"""Scores of predicted conditions against real cells."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.differential import called_in_cells
from kgnn.data.leaks import warn_of_leaks
from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.direction_fidelity import called_genes
from kgnn.evaluation.metrics.means import (
    check_measured,
    condition_means,
    predicted_cells,
    predicted_means,
    scored_genes,
)
from kgnn.evaluation.metrics.record import Metric
from kgnn.evaluation.metrics.table import Choice, choose
from kgnn.evaluation.metrics.truth import Truth, read_truth
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
    seed: int = 0,
) -> pd.DataFrame:
    """Score predictions against the real cells of `adata`, one row a condition.

    Args:
        prediction: rows of conditions or of cells (these are averaged), `obs["condition"]`, from a model's `predict`.
        adata: the screen with the real cells; or effects (`kgnn.data.effects`), of which what is missing is not scored.
            All its conditions are the panel that retrieval scores choose from.
        split: score its test conditions only; its training conditions that `adata` measures are the centre of
            `pearson_centred` and `weighted_r2`, without them the other conditions of the panel are. A warning tells
            where the model's graph was made from cells that it holds out (`prediction.uns["kgnn"]["cells"]`).
        metrics: names of `METRICS`, functions (predicted, observed, reference) → number, `Metric` records, import
            strings `"package.module:name"`; by default all of `METRICS`. See `Metric` for what a function can ask for.
        n_top: number of top DE genes, by the absolute t statistic of real cells against controls
            (`kgnn.data.top_de_genes`); columns that depend on them end in `_top20`.
        exclude_targets: leave a condition's perturbed genes out of all its scores.
        condition_key, control: as for `kgnn.data.read_screen`, for `adata`.
        group_key: column of obs of `adata` (batch, cell line): a condition's cells are compared with control cells of
            their own groups, and the predicted change (`layers["delta"]`, else the difference to all control cells) is
            added to these.
        seed: of the random halves of the control cells (`pearson_crossed`).

    Returns:
        A column a metric; `n_cells`, real cells; with a split, `subgroup`. `summarize` makes `mse_ratio` of
        `mse_unbiased` and `size_unbiased`.

    Raises:
        InputError: different genes or scales, a condition without real cells, no condition to score, no usable metric.
    """
    check_number(seed, "seed", 0, whole=True)
    chosen = choose(metrics, n_top)
    prediction, split = as_adata(prediction), None if split is None else read_split(split, control)
    names = {"condition_key": condition_key, "control": control, "group_key": group_key}
    adata = as_adata(adata)
    warn_of_leaks(graph_cells(prediction), adata, split, condition_key=condition_key, control=control)
    truth = read_truth(adata, split, names, seed)
    return score_conditions(prediction, truth, chosen, n_top, exclude_targets)


def graph_cells(prediction: AnnData) -> dict[str, np.ndarray]:
    """What the model's graph was made from, as `predict` wrote it: source → hashes of cells, or nothing."""
    told = prediction.uns.get("kgnn", {})
    return dict(told.get("cells", {})) if isinstance(told, Mapping) else {}


def score_conditions(
    prediction: AnnData, truth: Truth, chosen: list[Metric], n_top: int, exclude_targets: bool
) -> pd.DataFrame:
    """`evaluate` against real cells that are read already, with metrics that are chosen already."""
    control, screen, split = truth.names["control"], truth.screen, truth.split
    predicted = predicted_means(prediction, screen, control, truth.by_change)
    conditions = _conditions(predicted, truth)
    unsure = "uncertainty" in prediction.layers
    variance = condition_means(prediction, screen.genes, control, "uncertainty") if unsure else None
    asked = {name for metric in chosen for name in metric.further}
    cells = predicted_cells(prediction, screen.genes, control) if {"cells", "called"} & asked else {}
    subgroup = {name: group for group, names in (split or {}).get("subgroups", {}).items() for name in names}
    panel = predicted.loc[conditions].to_numpy()
    rows = {}
    for place, name in enumerate(conditions):
        keep = scored_genes(name, screen.genes, exclude_targets) & screen.measures([name])[0]
        order = truth.differential(name)[0]
        values = _values(panel[place], name, truth, asked, cells.get(name), keep)
        values["predictions"] = panel
        if variance is not None:
            values["variance"] = variance.loc[name].to_numpy()
        strongest = order[keep[order]][:n_top]
        numbers = {"own": screen.conditions.index(name), "place": place}
        inputs = {
            genes: _inputs(values, rows_of, strongest) | numbers
            for genes, rows_of in (("all", np.flatnonzero(keep)), ("top", strongest))
        }
        rows[name] = _scores(chosen, inputs, n_top) | {"n_cells": len(screen.cells([name]))}
        if split is not None:
            rows[name]["subgroup"] = subgroup.get(name, "")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def _values(
    predicted: np.ndarray, name: str, truth: Truth, asked: Collection[str], cells: Any, keep: np.ndarray
) -> dict[str, np.ndarray]:
    """What metrics may ask for, [..., genes], of one condition; `cells` [cells, genes] where cells were predicted."""
    screen, start, significant = truth.screen, truth.reference.loc[name].to_numpy(), truth.differential(name)[1]
    makers = {
        "center": lambda: truth.center.loc[name].to_numpy(),
        "targets": lambda: truth.targets,
        "weights": lambda: truth.weights(name),
        "noise": lambda: truth.noise(name),
        "halves": lambda: truth.halves(name),
        "called": lambda: called_genes(np.where(keep, change(predicted, start), 0.0), significant & keep),
    }
    if cells is not None:
        makers |= {
            "called": lambda: called_in_cells(cells, screen, name),
            "cells": lambda: cells,
            "real_cells": lambda: screen.x[screen.cells([name])].toarray(),
        }
    values = {"predicted": predicted, "observed": truth.observed.loc[name].to_numpy(), "reference": start}
    values |= {"panel": truth.observed.to_numpy(), "significant": significant}
    return values | {key: make() for key, make in makers.items() if key in asked}


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


def _conditions(predicted: pd.DataFrame, truth: Truth) -> list[str]:
    """Names of the conditions to score."""
    split = truth.split
    conditions = [name for name in predicted.index if split is None or name in split["test"]]
    missing = sorted(set(split["test"] if split else ()) - set(conditions))
    if missing:
        raise InputError(f"no prediction of the test condition {missing[0]!r}; predict all of split['test']")
    if not conditions:
        raise InputError("no condition to score; the prediction holds none besides control")
    check_measured(conditions, truth.screen)
    return conditions
