"""Scores of predicted conditions against real cells."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL, ConditionNames
from kgnn.data.differential import top_de_genes
from kgnn.data.screen import perturbed_genes, read_screen
from kgnn.data.splits import Split
from kgnn.errors import InputError


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
    `wrong_direction_top20`, share of those genes with δ̂ · δ < 0; `retrieval_rank`, share of the other conditions
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
    means = values.to_numpy()[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return pd.DataFrame({"mean": values.mean(), "low": low, "high": high, "n": len(values)}).rename_axis("score")


def _condition_means(prediction: AnnData, genes: pd.Index, control: str | Iterable[str] | None) -> pd.DataFrame:
    """Mean predicted expression [conditions, genes] in the data's gene order, without control."""
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
    x = prediction[:, genes].X
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


def _retrieval_rank(predicted: np.ndarray, observed: np.ndarray, own: int) -> float:
    similarity = np.array([_pearson(predicted, row) for row in observed])
    others = np.delete(similarity, own)
    if not len(others):
        return 0.0
    return float(((others > similarity[own]) + 0.5 * (others == similarity[own])).mean())
