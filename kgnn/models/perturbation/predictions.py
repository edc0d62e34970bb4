"""Predictions as AnnData: what every model returns."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.data.conditions import ConditionNames, perturbed_genes
from kgnn.errors import InputError
from kgnn.expression import Scale
from kgnn.models.perturbation.drawing import CellDrawer
from kgnn.models.perturbation.origin import Origin
from kgnn.names import listed
from kgnn.parts import check_number, did_you_mean


def read_conditions(conditions: str | Sequence[str], names: ConditionNames) -> list[str]:
    """Return canonical names; a single string is one condition."""
    conditions = [conditions] if isinstance(conditions, str) else listed(conditions, "conditions")
    if not conditions:
        raise InputError("no condition to predict; give names like 'KLF1' or 'KLF1+MAP2K6'")
    return [names.canonical(name) for name in conditions]


def check_asked(scale: Scale, n_cells: Any, control_cells: Any, line: str | None) -> None:
    """Raise `InputError` for options of `predict` that do not go together, or not with what the model learned from."""
    if scale in ("change", "binary") and (n_cells is not None or control_cells is not None):
        raise InputError("the model learned from a table of effects, not cells; leave n_cells= and control_cells= out")
    if control_cells is not None and line is not None:
        raise InputError("give line= or control_cells=, not both")


def check_known(conditions: Iterable[str], perturbable: pd.Index) -> None:
    """Raise `InputError` for a gene that is not among the perturbable ones, with names that look alike."""
    for name in conditions:
        for gene in perturbed_genes(name):
            if gene not in perturbable:
                hint = did_you_mean(gene, perturbable) or "; check its name, or add it to the graph"
                raise InputError(
                    f"condition {name!r}: the gene {gene!r} is neither measured, nor perturbed in the data, "
                    f"nor in the graph{hint}"
                )


def some(names: Iterable[str], number: int = 3) -> str:
    """The first names in alphabetical order, for a message."""
    names = sorted(names)
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")


def bounded(change: np.ndarray, start: np.ndarray, scale: Scale) -> np.ndarray:
    """Changes [conditions, genes] that lead from the start [genes] to no value below zero, where there can be none, and
    of binary answers to probabilities."""
    if scale == "binary":
        return np.clip(change, 0.0, 1.0)
    return change if scale in ("scaled", "change") else np.maximum(change, -start)


def to_anndata(
    conditions: str | Sequence[str],
    canonical: Sequence[str],
    genes: pd.Index,
    control_mean: np.ndarray,
    delta: np.ndarray,
    *,
    uncertainty: np.ndarray | None = None,
    controls: sparse.csr_matrix | None = None,
    n_cells: int | None = None,
    scale: Scale = "log",
    origin: Origin | None = None,
    seed: int = 0,
) -> AnnData:
    """Return predictions: one row a condition, or `n_cells` rows, each made of its own control cell.

    `X` is expression, not below zero unless `scale` is `scaled`, or an effect; `layers["delta"]` the change of the mean
    against control, none without a perturbation; `layers["uncertainty"]` the predicted variance where there is one;
    `obs["condition"]` the canonical name (`control` for no perturbation), `obs["n_perturbed"]` the number of perturbed
    genes; `var["control_mean"]` the mean of the control cells, beside the columns of `origin`, whose facts and
    cells stand in `uns["kgnn"]`. Cells: see `drawn_cells`.
    """
    given = [conditions] if isinstance(conditions, str) else [str(name) for name in conditions]
    obs = pd.DataFrame({"condition": [name or "control" for name in canonical]}, index=pd.Index(given, dtype=object))
    obs["condition"] = obs["condition"].astype("category")
    obs["n_perturbed"] = [len(perturbed_genes(name)) for name in canonical]
    perturbed = np.array([bool(name) for name in canonical])
    delta = bounded(delta, control_mean, scale) * perturbed[:, None]
    x = control_mean + delta
    if n_cells is not None:
        assert controls is not None
        x = drawn_cells(controls, x, delta, n_cells, scale=scale, seed=seed)
        repeat = np.repeat(np.arange(len(given)), n_cells)
        obs, delta = obs.iloc[repeat], delta[repeat]
        obs.index = pd.Index([f"{name}_{number % n_cells}" for number, name in enumerate(obs.index)], dtype=object)
        uncertainty = None if uncertainty is None else uncertainty[repeat]
    if not obs.index.is_unique:
        raise InputError(f"condition {obs.index[obs.index.duplicated()][0]!r} is asked for twice; give each once")
    var = pd.DataFrame(index=genes.astype(str)) if origin is None else origin.var.copy()
    prediction = AnnData(x.astype(np.float32), obs=obs, var=var)
    if origin is not None:
        prediction.uns["kgnn"] = origin.uns()
    prediction.var["control_mean"] = control_mean
    prediction.layers["delta"] = delta.astype(np.float32)
    if uncertainty is not None:
        prediction.layers["uncertainty"] = uncertainty.astype(np.float32)
    return prediction


def drawn_cells(
    controls: sparse.csr_matrix, mean: np.ndarray, delta: np.ndarray, n_cells: int, *, scale: Scale, seed: int
) -> np.ndarray:
    """Return cells [conditions × n_cells, genes], each made of a control cell, with the predicted means on average.

    A gene without a change keeps the control cells' values, others are drawn by `CellDrawer`; on scaled data, where
    zero means nothing, the change is added.

    Args:
        controls: [cells, genes]; drawn without repetition as far as they reach.
        mean, delta: predicted means and changes [conditions, genes].
        n_cells: cells a condition.
        scale: what the values are.
        seed: for the drawing.

    Raises:
        InputError: no cell asked for; control cells with negative values for a model of data without.
    """
    check_number(n_cells, "n_cells", 1, whole=True)
    rng, there = np.random.default_rng(seed), controls.shape[0]
    rows = [rng.choice(there, n_cells, replace=n_cells > there) for _ in mean]
    if scale == "scaled":
        return controls[np.concatenate(rows)].toarray() + delta.repeat(n_cells, axis=0)
    if (controls.data < 0).any():
        raise InputError("the control cells hold negative values, the training data held none; give the same scale")
    drawer = CellDrawer(controls, log=scale == "log")
    moved = [np.flatnonzero(change) for change in delta]
    return np.concatenate([drawer.draw(r, m[genes], genes, rng) for r, m, genes in zip(rows, mean, moved, strict=True)])
