"""What a score is worth: no change, the mean of training, and the experiment repeated, scored in the same way."""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.lines import scored_rows
from kgnn.data.splits import Split, read_split
from kgnn.errors import DataWarning
from kgnn.evaluation.metrics.means import check_measured
from kgnn.evaluation.metrics.runner import score_conditions
from kgnn.evaluation.metrics.table import Choice, choose
from kgnn.evaluation.metrics.truth import Truth, read_truth
from kgnn.files import as_adata
from kgnn.names import listed
from kgnn.parts import check_number

NO_CHANGE, MEAN, REPLICATE, INTERPOLATED = "no change", "training mean", "replicate", "interpolated duplicate"


def reference_scores(
    adata: AnnData,
    split: Split | None = None,
    conditions: Iterable[str] | None = None,
    *,
    metrics: Choice | Iterable[Choice] | None = None,
    n_top: int = 20,
    exclude_targets: bool = False,
    cells: bool = False,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of predictions that anyone could make, and of the experiment repeated; rows (reference, condition).

    - `no change`: the control mean.
    - `training mean`: the mean change of the split's training conditions; without a split, of the other conditions.
    - `replicate`: a random half of the condition's cells, scored against the other half, mean of both ways. As noisy as
      the truth is: a model that knows the mean of endless cells is better.
    - `interpolated duplicate` (Miller et al., bioRxiv 2025.10.20.683304): α · that half + (1 − α) · training mean, a
      gene's α = 1 − its p-value (Welch, Benjamini–Hochberg) of the half against all other perturbed cells. Noise that
      is no change is left out; it stands for what a good model can reach.

    Args:
        adata, split, metrics, n_top, exclude_targets, condition_key, control, group_key: as for `evaluate`.
        conditions: by default the split's test conditions, else all.
        cells: references of cells, as many as were measured, to stand beside predictions of cells. What is no half of
            the condition's cells is made of control cells, moved to the mean of the reference.
        seed: of the halves.

    Returns:
        The columns of `evaluate`; no row of halves for a condition of one cell.

    Raises:
        InputError: as `evaluate`.
    """
    chosen = choose(metrics, n_top)
    check_number(seed, "seed", 0, whole=True)
    adata, split = as_adata(adata), None if split is None else read_split(split, control)
    names = {"condition_key": condition_key, "control": control, "group_key": group_key}
    truth = read_truth(adata, split, names, seed, changes=True)
    screen, rng = truth.screen, np.random.default_rng([seed, 1])
    wanted = (
        [*(split["test"] if split else screen.conditions)] if conditions is None else listed(conditions, "conditions")
    )
    check_measured(wanted, screen)
    truth = _of(truth, wanted)
    points = {NO_CHANGE: truth.reference.loc[wanted]}
    if not truth.center.isna().any(axis=None):
        points[MEAN] = truth.center.loc[wanted]
    found = {}
    for name, means in points.items():
        drawn = [rng.choice(screen.controls_of([p]), len(screen.cells([p]))) for p in wanted] if cells else None
        prediction = _prediction(means, truth, drawn)
        found[name] = score_conditions(prediction, truth, chosen, n_top, exclude_targets)
    twice = [name for name in wanted if len(screen.cells([name])) > 1]
    if twice and MEAN in points:
        ways: dict[str, list[pd.DataFrame]] = {REPLICATE: [], INTERPOLATED: []}
        one, other = _halves(truth, twice, np.random.default_rng(seed))
        for half, rest in ((one, other), (other, one)):
            for name, means in _duplicates(half, truth, twice).items():
                rows = [half.screen.cells([p]) for p in twice] if cells else None
                prediction = _prediction(means, half, rows)
                ways[name].append(score_conditions(prediction, rest, chosen, n_top, exclude_targets))
        found |= {name: mean_scores(tables) for name, tables in ways.items()}
    return pd.concat(found, names=["reference"])


def _of(truth: Truth, conditions: list[str]) -> Truth:
    """The same real cells, of which these conditions are scored."""
    split = None if truth.split is None else truth.split | {"test": list(conditions)}
    return Truth(truth.adata, truth.screen, split, truth.names, truth.seed, truth.changes)


def _halves(truth: Truth, conditions: list[str], rng: np.random.Generator) -> list[Truth]:
    """Twice the same screen, with one and the other half of the cells of some conditions."""
    rows, left = scored_rows(truth.adata, truth.split), []
    for name in conditions:
        left += [rows[part] for part in np.array_split(rng.permutation(truth.screen.cells([name])), 2)]
    result = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # was told of the whole screen
        for out in (left[1::2], left[::2]):
            keep = np.setdiff1d(np.arange(truth.adata.n_obs), np.concatenate(out))
            part = read_truth(truth.adata[keep].copy(), truth.split, truth.names, truth.seed, changes=True)
            result.append(_of(part, conditions))
    return result


def _duplicates(half: Truth, whole: Truth, conditions: list[str]) -> dict[str, pd.DataFrame]:
    """Means [conditions, genes] of one half of the cells, and drawn to the mean of training where they tell nothing."""
    own, middle = half.observed.loc[conditions], whole.center.loc[conditions]
    sure = 1 - np.array([half.against_others(name)[1] for name in conditions])
    return {REPLICATE: own, INTERPOLATED: sure * own + (1 - sure) * middle}


def _prediction(means: pd.DataFrame, truth: Truth, rows: list[np.ndarray] | None) -> AnnData:
    """A prediction with these means [conditions, genes]; of cells, rows of the screen for each, moved to the mean."""
    names, x = list(means.index), means.to_numpy()
    if rows is not None:
        parts = [truth.screen.x[numbers].toarray() for numbers in rows]
        parts = [part + (mean - part.mean(axis=0)) for part, mean in zip(parts, x, strict=True)]
        names, x = [name for name, part in zip(names, parts, strict=True) for _ in part], np.concatenate(parts)
    prediction = AnnData(x, obs=pd.DataFrame({"condition": names}, index=[str(row) for row in range(len(names))]))
    prediction.var_names = truth.screen.genes
    prediction.layers["delta"] = x - truth.reference.loc[names].to_numpy()
    return prediction


def mean_scores(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean of scores of the same conditions; what is no number is that of the first table."""
    numbers = pd.concat([table.select_dtypes("number") for table in tables])
    mean = numbers.groupby(level=0, sort=False).mean().reindex(tables[0].index)
    return mean.join(tables[0].select_dtypes(exclude="number"))
