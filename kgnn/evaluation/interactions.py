"""Genetic interactions: how a pair's effect differs from its singles', for all pairs, and what to measure next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy.spatial.distance import cdist
from sklearn.linear_model import TheilSenRegressor

from kgnn.data.conditions import ConditionNames
from kgnn.errors import InputError
from kgnn.expression import Scale
from kgnn.models import PerturbationModel
from kgnn.models.perturbation.predictions import bounded, check_known

# cell-gears' Theil–Sen estimator: pairs of genes that it is taken over, random state
SUBSETS, SEED = 100_000, 1_000
BLOCK = 1_000  # samples whose distances to all are held at a time


class Predicts(Protocol):
    """Anything that predicts conditions: a row each, in their order, with the change in `layers["delta"]`."""

    def predict(self, conditions: Sequence[str]) -> AnnData: ...


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Distance correlation of two samples [n] or [n, dimensions] (Székely, Rizzo, Bakirov, Ann Stat 2007)."""
    x, y = (np.asarray(part, dtype=float).reshape(len(part), -1) for part in (x, y))
    n, products, means = len(x), np.zeros(3), np.zeros((2, len(x)))
    for first in range(0, n, BLOCK):
        rows = slice(first, first + BLOCK)
        a, b = cdist(x[rows], x), cdist(y[rows], y)
        products += np.vdot(a, b), np.vdot(a, a), np.vdot(b, b)
        means[:, rows] = a.mean(axis=1), b.mean(axis=1)
    pairs = ((0, 1), (0, 0), (1, 1))  # the mean product of doubly centred distances, without centring them
    centring = [means[i].mean() * means[j].mean() - 2 * (means[i] * means[j]).mean() for i, j in pairs]
    covariance, of_x, of_y = np.maximum(products / n**2 + centring, 0)
    scale = np.sqrt(of_x * of_y)
    return float(np.sqrt(covariance / scale)) if scale > 1e-24 else 0.0


def interaction_scores(a: np.ndarray, b: np.ndarray, ab: np.ndarray, *, seed: int = SEED) -> dict[str, float]:
    """The five scores of GEARS (Roohani, Huang, Leskovec, Nat Biotechnol 2024; Norman et al., Science 2019).

    With changes against control a, b of the singles and ab of the pair, and the Theil–Sen fit ab ≈ c1 a + c2 b without
    intercept: `magnitude` √(c1² + c2²) (above about 1 synergy, below suppression); `model_fit` dcor([a, b], ab);
    `equality_of_contribution` min/max of dcor(a, ab), dcor(b, ab); `similarity` dcor(a, b); `dominance`
    |log10(c1 / c2)|, of the absolute values where cell-gears has NaN for opposite signs. Also `c1`, `c2`. dcor: the
    distance correlation. Equal to cell-gears' `get_GI_params` on the same genes: all of them are taken, however many,
    which takes seconds.

    Args:
        a, b, ab: [genes].
        seed: of the Theil–Sen estimator, which draws 100,000 pairs of genes where there are more; by default
            cell-gears'.
    """
    x = np.stack([a, b], axis=1).astype(float)
    estimator = TheilSenRegressor(fit_intercept=False, random_state=seed, max_subpopulation=SUBSETS, max_iter=1_000)
    fit = estimator.fit(x, np.asarray(ab, float))
    c1, c2 = (float(value) for value in fit.coef_)
    with_a, with_b = distance_correlation(x[:, 0], ab), distance_correlation(x[:, 1], ab)
    larger = max(with_a, with_b)
    smallest = 1e-12
    return {
        "magnitude": float(np.hypot(c1, c2)),
        "model_fit": distance_correlation(x, ab),
        "equality_of_contribution": min(with_a, with_b) / larger if larger > 0 else 0.0,
        "similarity": distance_correlation(x[:, 0], x[:, 1]),
        "dominance": float(abs(np.log10(max(abs(c1), smallest) / max(abs(c2), smallest)))),
        "c1": c1,
        "c2": c2,
    }


def interaction_table(
    model: Predicts,
    genes: Sequence[str],
    *,
    scores: bool = True,
    over: Sequence[str] | None = None,
    seed: int = SEED,
) -> pd.DataFrame:
    """All pairs of `genes`, ranked by how far the predicted pair is from the sum of its predicted singles.

    Columns: `epistasis` ‖δ_ab − (δ_a + δ_b)‖, expression units, where the sum takes no gene below zero if the data know
    no values below it; `relative`, the same over ‖δ_a + δ_b‖; `uncertainty`, √Σ variances of the pair's prediction,
    where the model gives variances; `seen`, whether the pair was in training, where the model has `conditions_`; and
    with `scores` what `interaction_scores` returns, over the measured genes `over`: GEARS takes those of high mean
    expression (its `GI_genes_file`); None takes all.

    Raises:
        InputError: fewer than two genes, or one that the model does not know; fewer than two genes in `over`, or one
            that is not measured.
    """
    names = sorted(set(genes))
    if len(names) < 2:
        raise InputError("give at least two different genes; interactions are of pairs")
    pairs = list(combinations(names, 2))
    labels = ["+".join(pair) for pair in pairs]
    prediction = model.predict([*names, *labels])
    delta = pd.DataFrame(prediction.layers["delta"], index=[*names, *labels])
    scored = (
        np.arange(prediction.n_vars) if over is None else prediction.var_names.get_indexer(list(dict.fromkeys(over)))
    )
    if len(scored) < 2 or (scored < 0).any():
        raise InputError(f"over: {list(over or [])[:3]}… must be at least two genes, all of them measured")
    seen = getattr(model, "conditions_", None)
    canonical = ConditionNames(getattr(model, "control", None)).canonical
    variance = prediction.layers.get("uncertainty")
    scale: Scale = getattr(model, "scale_", "scaled")
    start = prediction.var["control_mean"].to_numpy() if scale != "scaled" else np.zeros(prediction.n_vars)
    rows = {}
    for number, (label, (a, b)) in enumerate(zip(labels, pairs, strict=True), len(names)):
        both, first, second = (delta.loc[name].to_numpy() for name in (label, a, b))
        both_alone = bounded(first + second, start, scale)
        gap, expected = (float(np.linalg.norm(part)) for part in (both - both_alone, both_alone))
        row: dict[str, float | bool] = {"epistasis": gap, "relative": gap / max(expected, 1e-12)}
        row["uncertainty"] = float(np.sqrt(variance[number].sum())) if variance is not None else np.nan
        if seen is not None:
            row["seen"] = canonical(label) in seen
        rows[label] = row | (
            interaction_scores(first[scored], second[scored], both[scored], seed=seed) if scores else {}
        )
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("pair")
    return table.sort_values("epistasis", ascending=False, kind="stable")


@torch.no_grad()
def next_to_measure(model: PerturbationModel, candidates: Sequence[str], n: int = 10) -> pd.DataFrame:
    """Which conditions' measurement would tell the model most about all candidates.

    Greedy: each step takes the condition x that lowers the sum of the candidates' predictive variances most, by
    Σ_c k(c, x)² / (k(x, x) + noise) with the covariance k after what is measured and chosen before (Krause, Singh,
    Guestrin, JMLR 2008, for the variance instead of the entropy).

    Args:
        model: fitted, `encoder="kg"`.
        candidates: conditions that could be measured, and that one wants to know; any number of genes each.
        n: how many to choose.

    Returns:
        One row a chosen condition, in order: `gain`, the share of the variance at the start that it removes; `left`,
        the share that is left after it.
    """
    posterior = getattr(getattr(model, "predictor_", None), "posterior", None)
    if posterior is None:
        raise InputError("what to measure next needs a fitted model of encoder='kg', which knows its covariance")
    names = list(dict.fromkeys(ConditionNames(model.control).canonical(name) for name in candidates))
    names = [name for name in names if name and name not in set(model.conditions_)]
    if not names:
        raise InputError("no candidate that was not measured already; give conditions besides those of training")
    check_known(names, model.perturbable_)
    covariance, noise = posterior(names)
    start = float(covariance.diagonal().sum())
    rows: dict[str, dict[str, float]] = {}
    for _ in range(min(n, len(names))):
        gain = covariance.square().sum(0) / (covariance.diagonal() + noise)
        gain[[names.index(name) for name in rows]] = -torch.inf
        best = int(gain.argmax())
        column = covariance[:, best]
        covariance = covariance - torch.outer(column, column) / (column[best] + noise)
        rows[names[best]] = {"gain": float(gain[best]) / start, "left": float(covariance.diagonal().sum()) / start}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")
