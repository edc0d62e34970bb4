"""How much of the data can be predicted at all, given its sampling noise."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.screen import read_screen
from kgnn.evaluation.metrics.means import check_measured, predicted_means, scored_genes
from kgnn.evaluation.metrics.pearson import correlation
from kgnn.evaluation.metrics.truth import halved_controls, read_truth
from kgnn.files import as_adata
from kgnn.parts import check_number


def noise_ceiling(
    adata: AnnData,
    conditions: Iterable[str] | None = None,
    *,
    n_repeats: int = 20,
    seed: int = 0,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
) -> pd.DataFrame:
    """How well the data could be predicted at all: one row a condition.

    `split_half`: Pearson correlation of the changes from two random halves of the condition's cells against two halves
    of the control cells of their groups, mean over `n_repeats`; `ceiling`: what a noise-free prediction would reach
    against all cells, √(2 r / (1 + r)) (Spearman–Brown). A negative r counts as 0. NaN for a condition of one cell.
    Of a table of effects the halves are of a condition's replicates, on genes measured in all of them: noise that these
    share, such as that of one control, counts as change.

    Raises:
        InputError: a condition without cells.
    """
    screen = read_screen(adata, condition_key=condition_key, control=control, group_key=group_key)
    check_number(n_repeats, "n_repeats", 1, whole=True)
    check_number(seed, "seed", 0, whole=True)
    rng = np.random.default_rng(seed)
    x, rows = screen.x, {}

    def halves(cells: np.ndarray) -> list[np.ndarray]:
        order = rng.permutation(cells)
        return [np.asarray(x[part].mean(axis=0)).ravel() for part in np.array_split(order, 2)]

    conditions = screen.conditions if conditions is None else list(conditions)
    check_measured(conditions, screen)
    shares = screen.shares(conditions)
    for name in conditions:
        cells, share = screen.cells([name]), shares.loc[name][lambda row: row > 0]
        if len(cells) < 2:
            rows[name] = {"split_half": np.nan, "ceiling": np.nan}
            continue
        r = []
        for _ in range(n_repeats):
            a, b = halves(cells)
            if screen.is_effects:
                keep = slice(None) if screen.measured is None else screen.measured[cells].all(axis=0)
                r.append(correlation(a[keep], b[keep]))
            else:
                c, d = np.einsum("g,hgn->hn", share, halved_controls(screen, share.index, rng))
                r.append(correlation(a - c, b - d))
        mean = max(float(np.mean(r)), 0.0)
        rows[name] = {"split_half": float(np.mean(r)), "ceiling": float(np.sqrt(2 * mean / (1 + mean)))}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def explained_share(
    prediction: AnnData,
    adata: AnnData,
    *,
    exclude_targets: bool = True,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
) -> float:
    """Share of the explainable variance of all predicted conditions' changes: 1 − (E − N) / (D − N).

    E = Σ (δ̂ − δ)², D = Σ δ², N = the part of both that is sampling noise of the means, Σ s²/n of the condition's cells
    and of the controls of their groups. 1: all but noise; 0: no better than predicting no change; NaN where the changes
    are no larger than noise. The noise of the controls is taken off E as for a prediction that starts from the measured
    controls; `mse_ratio` of `summarize` leaves it there. Of effects missing ones do not count, and N is 0 where neither
    standard errors nor replicates tell it.
    """
    names = {"condition_key": condition_key, "control": control, "group_key": group_key}
    truth = read_truth(as_adata(adata), None, names)
    predicted = predicted_means(as_adata(prediction), truth.screen, control, truth.by_change)
    check_measured(predicted.index, truth.screen)
    error = size = noise = 0.0
    for name, y_hat in predicted.iterrows():
        keep = scored_genes(str(name), truth.screen.genes, exclude_targets) & truth.screen.measures([str(name)])[0]
        y, start = (table.loc[name].to_numpy() for table in (truth.observed, truth.reference))
        error += float(np.square(y_hat.to_numpy() - y)[keep].sum())
        size += float(np.square(y - start)[keep].sum())
        noise += float(np.nan_to_num(truth.noise(str(name)))[:, keep].sum())
    return 1 - (error - noise) / (size - noise) if size > noise else float("nan")
