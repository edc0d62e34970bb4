"""Scores of predicted conditions against real cells."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import average_precision_score

from kgnn.data.conditions import CONTROL, ConditionNames
from kgnn.data.differential import significant_genes, top_de_genes
from kgnn.data.screen import perturbed_genes, read_screen
from kgnn.data.splits import Split
from kgnn.errors import InputError

Z_90 = 1.6449  # half the width of the central 90 % of a normal distribution, in standard deviations


def evaluate(
    prediction: AnnData,
    adata: AnnData,
    split: Split | None = None,
    *,
    n_top: int = 20,
    exclude_targets: bool = False,
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
) -> pd.DataFrame:
    """Score predictions against the real cells of `adata`, one row a condition.

    Means over cells are compared: ŷ predicted, y observed, δ̂ and δ their changes against the mean control cell,
    over all genes and over the condition's `n_top` most differentially expressed genes (`_top20`; absolute t
    statistic of real cells against controls, `kgnn.data.top_de_genes`).

    Columns: `mse`, `mae`, `pearson` of ŷ and y; `pearson_delta` of δ̂ and δ; the same with `_top20`;
    `wrong_direction_top20`, share of those genes with δ̂ · δ < 0; `de_overlap_top20`, share of them among the genes of
    largest |δ̂|; `de_auprc`, area under the precision–recall curve of |δ̂| against the genes that differ from control
    (t test, Benjamini–Hochberg 5 %; NaN where none does); `discrimination`, 1 − r / n where r of the n conditions have
    a δ nearer to δ̂ than the right one (sum of absolute differences; Arc Institute's perturbation discrimination score):
    1 best, 0.5 chance; `coverage_90`, where the prediction has variances: share of genes with |δ̂ − δ| within 1.645
    standard deviations; `retrieval_rank`, share of the other conditions
    in `adata` whose δ correlates better with δ̂ than the right one does (ties count half): 0 best, 0.5 chance;
    `n_cells`, real cells; with a split, `subgroup`. A correlation with a constant, such as a prediction of no
    change, counts as 0.

    Args:
        prediction: rows of conditions or of cells (these are averaged), `obs["condition"]`, from a model's `predict`.
        adata: the screen with the real cells.
        split: score its test conditions only.
        n_top: number of top DE genes.
        exclude_targets: leave a condition's perturbed genes out of all its scores.
        condition_key, control: as for `kgnn.data.read_screen`, for `adata`.

    Raises:
        InputError: different genes, a condition without real cells, no condition to score.
    """
    screen = read_screen(adata, condition_key=condition_key, control=control)
    predicted = _condition_means(prediction, screen.genes, control)
    assert predicted is not None
    conditions = [name for name in predicted.index if split is None or name in split["test"]]
    if split is not None:
        missing = sorted(set(split["test"]) - set(conditions))
        if missing:
            raise InputError(f"no prediction of the test condition {missing[0]!r}; predict all of split['test']")
    if not conditions:
        raise InputError("no condition to score; the prediction holds none besides control")
    unknown = [name for name in conditions if name not in set(screen.conditions)]
    if unknown:
        raise InputError(f"condition {unknown[0]!r} has no cells in the data; it cannot be scored")

    top = top_de_genes(screen, conditions, n=len(screen.genes))
    significant = significant_genes(screen, conditions)
    variance = _condition_means(prediction, screen.genes, control, "uncertainty")
    observed = screen.mean(screen.conditions)
    start = screen.control_mean
    subgroup = {name: group for group, names in (split or {}).get("subgroups", {}).items() for name in names}
    rows = {}
    for name in conditions:
        keep = np.ones(len(screen.genes), dtype=bool)
        if exclude_targets:
            targets = screen.genes.get_indexer(perturbed_genes(name))
            keep[targets[targets >= 0]] = False
        y, y_hat = observed.loc[name].to_numpy(), predicted.loc[name].to_numpy()
        strongest = [gene for gene in top[name] if keep[gene]][:n_top]
        row: dict[str, Any] = dict(_scores(y_hat[keep], y[keep], start[keep]))
        row |= {
            f"{score}_top{n_top}": v for score, v in _scores(y_hat[strongest], y[strongest], start[strongest]).items()
        }
        change = (y - start)[strongest] * (y_hat - start)[strongest]
        row[f"wrong_direction_top{n_top}"] = float((change < 0).mean())
        row["retrieval_rank"] = _retrieval_rank(
            (y_hat - start)[keep], (observed.to_numpy() - start)[:, keep], observed.index.get_loc(name)
        )
        strongest_predicted = np.argsort(-np.abs(y_hat - start) * keep, kind="stable")[:n_top]
        row[f"de_overlap_top{n_top}"] = float(np.isin(strongest, strongest_predicted).mean())
        differs = significant[name][keep]
        scored = differs.any() and not differs.all()
        row["de_auprc"] = average_precision_score(differs, np.abs(y_hat - start)[keep]) if scored else np.nan
        row["discrimination"] = _discrimination(y_hat[keep], observed.to_numpy()[:, keep], observed.index.get_loc(name))
        if variance is not None:
            error = np.abs(y_hat - y)[keep]
            row["coverage_90"] = float((error <= Z_90 * np.sqrt(variance.loc[name].to_numpy()[keep])).mean())
        row["n_cells"] = len(screen.cells([name]))
        if split is not None:
            row["subgroup"] = subgroup.get(name, "")
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


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


def noise_ceiling(
    adata: AnnData,
    conditions: Iterable[str] | None = None,
    *,
    n_repeats: int = 20,
    seed: int = 0,
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
) -> pd.DataFrame:
    """How well the data could be predicted at all: one row a condition.

    `split_half`: Pearson correlation of the changes from two random halves of the condition's cells against two halves
    of the control cells, mean over `n_repeats`; `ceiling`: what a noise-free prediction would reach against all cells,
    √(2 r / (1 + r)) (Spearman–Brown). A negative r counts as 0. NaN for a condition of one cell.
    """
    screen = read_screen(adata, condition_key=condition_key, control=control)
    rng = np.random.default_rng(seed)
    x, rows = screen.x, {}

    def halves(cells: np.ndarray) -> list[np.ndarray]:
        order = rng.permutation(cells)
        return [np.asarray(x[part].mean(axis=0)).ravel() for part in np.array_split(order, 2)]

    for name in screen.conditions if conditions is None else conditions:
        cells = screen.cells([name])
        if len(cells) < 2:
            rows[name] = {"split_half": np.nan, "ceiling": np.nan}
            continue
        r = []
        for _ in range(n_repeats):
            (a, b), (c, d) = halves(cells), halves(screen.controls)
            r.append(_pearson(a - c, b - d))
        mean = max(float(np.mean(r)), 0.0)
        rows[name] = {"split_half": float(np.mean(r)), "ceiling": float(np.sqrt(2 * mean / (1 + mean)))}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def explained_share(
    prediction: AnnData,
    adata: AnnData,
    *,
    exclude_targets: bool = True,
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
) -> float:
    """Share of the explainable variance of all predicted conditions' changes: 1 − (E − N) / (D − N).

    E = Σ (δ̂ − δ)², D = Σ δ², N = the part of both that is sampling noise of the means, Σ s²/n of the condition's cells
    and of the controls. 1: all but noise; 0: no better than predicting no change.
    """
    screen = read_screen(adata, condition_key=condition_key, control=control)
    predicted = _condition_means(prediction, screen.genes, control)
    assert predicted is not None
    start = screen.control_mean
    error = size = noise = 0.0
    of_control = _variance_of_mean(screen.x[screen.controls])
    for name, y_hat in predicted.iterrows():
        keep = np.ones(len(screen.genes), dtype=bool)
        targets = screen.genes.get_indexer(perturbed_genes(str(name)))
        keep[targets[targets >= 0]] = not exclude_targets
        cells = screen.x[screen.cells([str(name)])]
        y = np.asarray(cells.mean(axis=0)).ravel()
        error += float(np.square(y_hat.to_numpy() - y)[keep].sum())
        size += float(np.square(y - start)[keep].sum())
        noise += float((_variance_of_mean(cells) + of_control)[keep].sum())
    return 1 - (error - noise) / max(size - noise, 1e-12)


def _variance_of_mean(x: sparse.csr_matrix) -> np.ndarray:
    n = x.shape[0]
    mean = np.asarray(x.mean(axis=0)).ravel()
    return (np.asarray(x.multiply(x).mean(axis=0)).ravel() - np.square(mean)) / max(n - 1, 1)


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


def _condition_means(
    prediction: AnnData, genes: pd.Index, control: str | Iterable[str] | None, layer: str | None = None
) -> pd.DataFrame | None:
    """Mean predicted expression (or of a layer, None where there is none) [conditions, genes], without control."""
    if layer is not None and layer not in prediction.layers:
        return None
    if "condition" not in prediction.obs:
        raise InputError("the prediction has no obs['condition']; give the AnnData that predict returned")
    missing = genes.difference(prediction.var_names)
    if len(missing):
        raise InputError(
            f"the prediction lacks {len(missing)} genes of the data, first {missing[0]!r}; score on the genes that "
            "the model was fitted to: adata[:, prediction.var_names]"
        )
    names = ConditionNames(control)
    known = {label: CONTROL if label == "control" else names.canonical(label) for label in prediction.obs["condition"]}
    rows = prediction[:, genes]
    x = rows.X if layer is None else rows.layers[layer]
    frame = pd.DataFrame(x.toarray() if hasattr(x, "toarray") else x, columns=genes)
    means = frame.groupby(prediction.obs["condition"].map(known).astype(str).to_numpy(), sort=False).mean()
    return means.drop(index=CONTROL, errors="ignore")


def _scores(y_hat: np.ndarray, y: np.ndarray, start: np.ndarray) -> dict[str, float]:
    return {
        "mse": float(np.square(y_hat - y).mean()),
        "mae": float(np.abs(y_hat - y).mean()),
        "pearson": _pearson(y_hat, y),
        "pearson_delta": _pearson(y_hat - start, y - start),
    }


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-12 else 0.0


def _discrimination(predicted: np.ndarray, observed: np.ndarray, own: int) -> float:
    distance = np.abs(observed - predicted).sum(axis=1)
    return 1 - float((distance < distance[own]).mean())


def _retrieval_rank(predicted: np.ndarray, observed: np.ndarray, own: int) -> float:
    similarity = np.array([_pearson(predicted, row) for row in observed])
    others = np.delete(similarity, own)
    if not len(others):
        return 0.0
    return float(((others > similarity[own]) + 0.5 * (others == similarity[own])).mean())
