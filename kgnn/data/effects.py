"""Tables of effects, conditions × genes: fold changes, z-scores, answers; read from wide, long and DE tables."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL, SEPARATOR, ConditionNames
from kgnn.data.effect_tables import long_columns, numeric, pivoted, read_file
from kgnn.errors import DataWarning, InputError
from kgnn.expression import matrix_of
from kgnn.files import is_table, read_h5ad
from kgnn.names import all_named, check_once, names_in

logger = logging.getLogger("kgnn")

EFFECTS = "kgnn_effects"  # key of uns
Kind = Literal["change", "binary"]
KINDS = ("change", "binary")


def effects(
    table: Any,
    *,
    kind: Kind = "change",
    conditions: Literal["index", "columns"] = "index",
    condition: str | None = None,
    gene: str | None = None,
    value: str | None = None,
    se: Any = None,
    n_cells: str | None = None,
    replicates: bool | str = False,
    control: Any = None,
) -> AnnData:
    """Read a table of effects as an AnnData, one row a condition, that goes wherever cells do.

    Args:
        table: wide, conditions × genes: a DataFrame, an AnnData (`obs["condition"]`, else its names). Long, a row a
            condition and gene: `pert, gene, value`, scanpy's `rank_genes_groups_df`, DESeq2's results with a column of
            perturbations. A mapping condition → DE table. Or the path of a CSV, TSV (also .gz), Parquet or H5AD file.
        kind: `change`, differences to control (log fold changes, z-scores); `binary`, 0 or 1 (predictions are
            probabilities).
        conditions: of a wide table, whether they are the `index` or the `columns`.
        condition, gene, value: columns of a long table; by default found among the usual names. `condition` of a wide
            table: the column that holds them, of an AnnData that of obs.
        se: column of standard errors (found too in DESeq2's tables); a table like a wide one; a layer of an AnnData.
        n_cells: column, also of obs, of the number of cells behind a row.
        replicates: a condition may stand in several rows; of a long table the column that tells them apart.
        control: labels of control, whose rows are dropped.

    Returns:
        AnnData [conditions, genes]: `X` float32, NaN where nothing was measured; `obs["condition"]`, canonical;
        `obs["n_cells"]`, `layers["se"]` where given; `uns["kgnn_effects"]`. It can be saved as H5AD.

    Raises:
        InputError: no such column, what is no number, infinite values, a condition and gene given twice, no condition.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}; choose change or binary")
    if conditions not in ("index", "columns"):
        raise InputError(f"conditions={conditions!r}; choose index or columns")
    table, label = read_file(table)
    if isinstance(table, AnnData):
        return _of_adata(table, label, kind, condition, se, n_cells, replicates, control)
    if isinstance(table, Mapping):
        table, condition = _stacked(table), "condition"
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"{type(table).__name__} where a table of effects is asked for: a DataFrame, AnnData or path")
    columns = long_columns(table, label, condition, gene, value, se)
    if columns is not None:
        wide, errors, numbers = pivoted(table, label, columns, n_cells, replicates)
    else:
        wide, errors, numbers = _wide(table, label, conditions, condition, se, n_cells)
    return _checked(wide, errors, numbers, label, kind, bool(replicates), control)[0]


def read_data(path: str | Path, kind: Kind, control: Any = None, condition_key: str = "condition") -> AnnData:
    """Cells from H5AD, or effects from a table (CSV, TSV, Parquet) whose conditions stand in `obs[condition_key]`."""
    if not is_table(path):
        return read_h5ad(path)
    usual = condition_key == "condition"
    found = effects(path, kind=kind, control=control, condition=None if usual else condition_key)
    found.obs[condition_key] = found.obs["condition"]
    return found


def is_effects(adata: Any) -> bool:
    """Whether an AnnData is what `effects` returned, or a part of it."""
    return isinstance(adata, AnnData) and EFFECTS in adata.uns


def kind_of(adata: AnnData) -> Kind:
    """`change` or `binary`, of what `effects` returned."""
    return adata.uns[EFFECTS]["kind"]


def long_table(adata: AnnData) -> pd.DataFrame:
    """Return effects or predictions as a long table `pert, gene, value` of what was measured, the inverse of `effects`.

    Replicates are averaged by no one: a condition with several rows stands several times.
    """
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    rows, columns = np.nonzero(~np.isnan(x))
    names = names_in(adata.obs, "condition").to_numpy(object)
    return pd.DataFrame(
        {"pert": names[rows], "gene": adata.var_names.to_numpy(object)[columns], "value": x[rows, columns]}
    )


def _of_adata(
    adata: AnnData, label: str, kind: Kind, key: str | None, se: Any, n_cells: Any, replicates: Any, control: Any
) -> AnnData:
    if key is None and "condition" not in adata.obs:
        names = pd.Index(adata.obs_names)
    else:
        names = pd.Index(names_in(adata.obs, key or "condition", "condition"))
    se = "se" if se is None and "se" in adata.layers else se
    parts = [matrix_of(adata), None if se is None else matrix_of(adata, se)]
    dense = [part.toarray() if hasattr(part, "toarray") else part for part in parts]
    wide, errors = (None if part is None else pd.DataFrame(np.asarray(part), names, adata.var_names) for part in dense)
    assert wide is not None
    column = n_cells or ("n_cells" if "n_cells" in adata.obs else None)
    numbers = None if column is None else names_in(adata.obs, column, "n_cells").astype(float).to_numpy()
    found, rows = _checked(wide, errors, numbers, label, kind, bool(replicates), control)
    for name in adata.obs.columns.difference(found.obs.columns, sort=False):
        found.obs[name] = adata.obs[name].to_numpy()[rows]
    return found


def _stacked(tables: Mapping[Any, Any]) -> pd.DataFrame:
    """One long table of a mapping condition → DE table; a table's index holds genes where no column does."""
    parts = []
    for name, part in tables.items():
        frame, label = read_file(part)
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"{name!r}: {type(frame).__name__} where a table is asked for")
        columns = long_columns(frame.assign(condition=str(name)), label or repr(name), "condition", None, None, None)
        assert columns is not None
        frame = frame.rename_axis(index="gene").reset_index() if columns["gene"] is None else frame
        parts.append(frame.assign(condition=str(name)))
    if not parts:
        raise InputError("no table; give condition → DE table")
    return pd.concat(parts, ignore_index=True)


def _wide(
    table: pd.DataFrame, label: str, conditions: str, condition: str | None, se: Any, n_cells: str | None
) -> tuple[pd.DataFrame, pd.DataFrame | None, np.ndarray | None]:
    """A wide table, its standard errors and cell numbers, conditions in rows."""
    if condition is not None:
        table = table.set_index(condition)
    elif isinstance(table.index, pd.RangeIndex) and table.shape[1] and table.iloc[:, 0].dtype.kind == "O":
        table = table.set_index(table.columns[0])
    numbers = None
    if n_cells is not None:
        if n_cells not in table or conditions == "columns":
            raise InputError(f"{label}no column {n_cells!r} of cell numbers beside the genes; give another as n_cells=")
        numbers, table = numeric(table[[n_cells]], label).to_numpy(float)[:, 0], table.drop(columns=n_cells)
    errors = None
    if se is not None:
        errors = read_file(se)[0]
        if not isinstance(errors, pd.DataFrame):
            raise InputError("se: of a wide table give a table of the same rows and columns")
        if condition is not None and condition in errors:
            errors = errors.set_index(condition)
        if not (errors.index.equals(table.index) and set(table.columns) <= set(errors.columns)):
            raise InputError("se: the rows and columns are not those of the effects; give them in the same order")
        errors = errors[table.columns]
    if conditions == "columns":
        table, errors = table.T, None if errors is None else errors.T
    _tell_turned(table, label)
    return table, errors, numbers


def _tell_turned(table: pd.DataFrame, label: str) -> None:
    """One `DataWarning` where columns look like conditions."""
    names = ConditionNames()
    rows, columns = (
        any(names.is_control(str(name)) or SEPARATOR in str(name) for name in index)
        for index in (table.index, table.columns)
    )
    if (columns and not rows) or (len(table) > 1_000 and len(table) > 3 * table.shape[1]):
        warnings.warn(
            f"{label}{len(table)} conditions × {table.shape[1]} genes look turned; are the genes in rows? Then give "
            "conditions='columns' (or 'index')",
            DataWarning,
            stacklevel=4,
        )


def _checked(
    wide: pd.DataFrame, errors: Any, numbers: Any, label: str, kind: Kind, replicates: bool, control: Any
) -> tuple[AnnData, np.ndarray]:
    """The AnnData of a wide table, and the numbers of the rows that it kept: names and values are looked at."""
    names = ConditionNames(control)
    labels = np.array([names.canonical(name) for name in all_named(wide.index, f"{label}conditions")], object)
    genes = pd.Index(all_named(wide.columns, f"{label}genes"), dtype=object)
    check_once(genes)
    keep = labels != CONTROL
    if not keep.all():
        logger.warning("%s%d rows of control are dropped: an effect is against control", label, (~keep).sum())
    if not keep.any():
        raise InputError(f"{label}no condition besides control")
    twice = pd.Series(labels[keep])
    if twice.duplicated().any() and not replicates:
        raise InputError(
            f"{label}condition {twice[twice.duplicated()].iloc[0]!r} stands in several rows; give replicates=True if "
            "they are replicates, else merge them"
        )
    x = numeric(wide, label).to_numpy(np.float32)[keep]
    _check_kind(x, label, kind)
    obs = pd.DataFrame({"condition": labels[keep]})
    number = twice.groupby(twice).cumcount()
    index = [name if not n else f"{name}_{n}" for name, n in zip(labels[keep], number, strict=True)]
    found = AnnData(x, obs=obs.set_index(pd.Index(index, dtype=object)), var=pd.DataFrame(index=genes))
    if numbers is not None:
        found.obs["n_cells"] = np.asarray(numbers, float)[keep]
        if not (found.obs["n_cells"] > 0).all():
            raise InputError(f"{label}n_cells holds values that are not above 0")
    if errors is not None:
        found.layers["se"] = numeric(errors, f"{label}se: ").to_numpy(np.float32)[keep]
        if (found.layers["se"] < 0).any():
            raise InputError(f"{label}se holds values below 0; a standard error is none")
    found.uns[EFFECTS] = {"kind": kind}
    return found, np.flatnonzero(keep)


def _check_kind(x: np.ndarray, label: str, kind: Kind) -> None:
    if np.isnan(x).all():
        raise InputError(f"{label}no value was measured; all are missing")
    answers = bool(np.isin(x, [0, 1]).all(where=~np.isnan(x)))
    if kind == "binary" and not answers:
        raise InputError(f"{label}kind='binary' takes 0, 1 and missing values alone; changes are kind='change'")
    if kind == "change" and answers:
        warnings.warn(f"{label}holds 0 and 1 alone; are they answers? Then give kind='binary'", DataWarning, 4)
