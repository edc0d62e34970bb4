"""Predictions as AnnData: what every model returns."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.data.conditions import ConditionNames
from kgnn.data.screen import perturbed_genes
from kgnn.errors import InputError
from kgnn.parts import did_you_mean


def read_conditions(conditions: str | Sequence[str], names: ConditionNames) -> list[str]:
    """Return canonical names; a single string is one condition."""
    conditions = [conditions] if isinstance(conditions, str) else list(conditions)
    if not conditions:
        raise InputError("no condition to predict; give names like 'KLF1' or 'KLF1+MAP2K6'")
    return [names.canonical(name) for name in conditions]


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


def read_controls(cells: AnnData, genes: pd.Index, group_key: str | None) -> tuple[sparse.csr_matrix, str | None]:
    """Return control cells in the model's gene order, and their cell line where obs names one."""
    missing = genes.difference(cells.var_names)
    if len(missing):
        raise InputError(f"the control cells lack {len(missing)} genes of the model, first {missing[0]!r}")
    x = sparse.csr_matrix(cells[:, genes].X, dtype=np.float32)
    if not x.shape[0] or not np.isfinite(x.data).all():
        raise InputError("the control cells are none, or hold NaN or infinite values; give log-normalised expression")
    lines = set(cells.obs[group_key].astype(str)) if group_key in cells.obs else set()
    if len(lines) > 1:
        raise InputError(
            f"the control cells are of several lines ({', '.join(sorted(lines)[:3])}); predict one at a time"
        )
    return x, next(iter(lines), None)


def some(names: Iterable[str], number: int = 3) -> str:
    """The first names in alphabetical order, for a message."""
    names = sorted(names)
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")


def bounded(change: np.ndarray, start: np.ndarray, non_negative: bool) -> np.ndarray:
    """Changes [conditions, genes] that lead from the start [genes] to no value below zero, where there can be none."""
    return np.maximum(change, -start) if non_negative else change


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
    non_negative: bool = False,
    seed: int = 0,
) -> AnnData:
    """Return predictions: one row a condition, or `n_cells` rows, each from its own control cell.

    `X` is expression, not below zero with `non_negative`; `layers["delta"]` the change of the mean against control,
    `layers["uncertainty"]` the predicted variance where there is one; `obs["condition"]` the canonical name (`control` for no perturbation),
    `obs["n_perturbed"]` the number of perturbed genes; `var["control_mean"]` the mean of the control cells.
    """
    given = [conditions] if isinstance(conditions, str) else [str(name) for name in conditions]
    obs = pd.DataFrame({"condition": [name or "control" for name in canonical]}, index=pd.Index(given, dtype=object))
    obs["n_perturbed"] = [len(perturbed_genes(name)) for name in canonical]
    delta = bounded(delta, control_mean, non_negative)
    start = np.broadcast_to(control_mean, delta.shape)
    if n_cells is not None:
        if n_cells < 1:
            raise InputError(f"n_cells must be at least 1, not {n_cells}")
        assert controls is not None
        rng = np.random.default_rng(seed)
        drawn = np.concatenate(
            [rng.choice(controls.shape[0], n_cells, replace=n_cells > controls.shape[0]) for _ in given]
        )
        start = controls[drawn].toarray()
        repeat = np.repeat(np.arange(len(given)), n_cells)
        obs, delta = obs.iloc[repeat], delta[repeat]
        obs.index = pd.Index([f"{name}_{number % n_cells}" for number, name in enumerate(obs.index)], dtype=object)
        uncertainty = None if uncertainty is None else uncertainty[repeat]
    if not obs.index.is_unique:
        raise InputError(f"condition {obs.index[obs.index.duplicated()][0]!r} is asked for twice; give each once")
    prediction = AnnData((start + delta).astype(np.float32), obs=obs, var=pd.DataFrame(index=genes.astype(str)))
    prediction.var["control_mean"] = control_mean
    prediction.layers["delta"] = delta.astype(np.float32)
    if uncertainty is not None:
        prediction.layers["uncertainty"] = uncertainty.astype(np.float32)
    return prediction
