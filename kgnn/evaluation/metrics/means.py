"""What is compared: the mean predicted expression of each condition, on the genes that count."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL, ConditionNames, perturbed_genes
from kgnn.data.screen import Screen
from kgnn.errors import InputError
from kgnn.expression import check_same_scale, warn_of_factor
from kgnn.parts import did_you_mean


def condition_means(prediction: AnnData, genes: pd.Index, control: Any, layer: str | None = None) -> pd.DataFrame:
    """Mean predicted expression, or of a layer, [conditions, genes], without control.

    Raises:
        InputError: no obs['condition'], a gene is missing, a value is not finite.
    """
    if "condition" not in prediction.obs:
        raise InputError("the prediction has no obs['condition']; give the AnnData that predict returned")
    missing = genes.difference(prediction.var_names)
    if len(missing):
        raise InputError(
            f"the prediction lacks {len(missing)} genes of the data, first {missing[0]!r}; score on the genes that "
            "the model was fitted to: adata[:, prediction.var_names]"
        )
    rows = prediction[:, genes]
    x = rows.X if layer is None else rows.layers[layer]
    frame = pd.DataFrame(x.toarray() if hasattr(x, "toarray") else x, columns=genes)
    means = frame.groupby(_labels(prediction, control), sort=False).mean()
    means = means.drop(index=CONTROL, errors="ignore")
    wrong = means.index[~np.isfinite(means).all(axis=1)]
    if len(wrong):
        raise InputError(f"the prediction of {len(wrong)} conditions is NaN or infinite, first {wrong[0]!r}")
    return means


def _labels(prediction: AnnData, control: Any) -> np.ndarray:
    """Canonical condition name of each row."""
    names = ConditionNames(control)
    known = {label: CONTROL if label == "control" else names.canonical(label) for label in prediction.obs["condition"]}
    return prediction.obs["condition"].map(known).astype(str).to_numpy()


def predicted_cells(prediction: AnnData, genes: pd.Index, control: Any) -> dict[str, np.ndarray]:
    """Predicted cells [cells, genes] of each condition that has more than one row."""
    labels, x = _labels(prediction, control), prediction[:, genes].X
    x = x.toarray() if hasattr(x, "toarray") else np.asarray(x)
    names, counts = np.unique(labels, return_counts=True)
    return {name: x[labels == name] for name in names[counts > 1] if name != CONTROL}


def predicted_means(prediction: AnnData, screen: Screen, control: Any, by_change: bool) -> pd.DataFrame:
    """Mean predicted expression [conditions, genes]; with `by_change` the predicted change (`layers["delta"]`, else the
    difference to all control cells) added to the control cells of each condition's groups.

    Raises:
        InputError: see `condition_means`; a prediction on another scale than the cells.
    """
    predicted = condition_means(prediction, screen.genes, control)
    if not screen.is_effects:
        check_same_scale(predicted.to_numpy(), screen.x, "the prediction goes", "the data")
        warn_of_factor(predicted.to_numpy(), screen.control_mean)
    if not by_change:
        return predicted
    if "delta" in prediction.layers:
        change = condition_means(prediction, screen.genes, control, "delta")
    else:
        change = predicted - screen.control_mean
    check_measured(change.index, screen)
    return change + screen.reference(change.index)


def scored_genes(condition: str, genes: pd.Index, exclude_targets: bool) -> np.ndarray:
    """Mask [genes] of those that a condition is scored on."""
    return ~(genes.isin(perturbed_genes(condition)) & exclude_targets)


def check_measured(conditions: Iterable[str], screen: Screen) -> None:
    """Refuse conditions without cells."""
    measured = set(screen.conditions)
    unknown = [name for name in conditions if name not in measured]
    if unknown:
        hint = did_you_mean(unknown[0], measured)
        raise InputError(f"condition {unknown[0]!r} has no cells in the data{hint}; it cannot be scored")
