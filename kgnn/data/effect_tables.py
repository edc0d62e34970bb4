"""Files and long tables of effects: which column is what, and one row a condition made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import MAX_LINE, check_width, existing_file, is_parquet, is_table, open_bytes, read_h5ad
from kgnn.parts import did_you_mean

NAMES = {  # columns of long tables, the likeliest first
    "condition": ("condition", "pert", "perturbation", "perturbed", "group", "target_gene"),
    "gene": ("gene", "names", "gene_name", "symbol", "gene_symbol"),
    "value": ("value", "logfoldchanges", "log2FoldChange", "logFC", "log2FC", "lfc", "effect", "zscore", "label"),
    "se": ("lfcSE", "se"),
}
DE_VALUES = NAMES["value"][1:5]


def read_file(table: Any) -> tuple[Any, str]:
    """Return a table from its path, with `path: ` for messages; anything else as it is, with ''."""
    if not isinstance(table, str | os.PathLike):
        return table, ""
    path = existing_file(Path(table))
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".h5ad"):
        return read_h5ad(path), f"{path}: "
    if not is_table(path):
        raise InputError(f"{path}: neither .csv, .tsv, .parquet nor .h5ad; give a table of one of these")
    try:
        if is_parquet(path):
            return pd.read_parquet(path), f"{path}: "
        separator = "," if name.endswith(".csv") else "\t"
        with open_bytes(path) as file:
            first = file.readline(MAX_LINE)
        if len(first) == MAX_LINE:
            raise InputError(f"{path}:1: a line longer than {MAX_LINE >> 20} MB; is it the right file?")
        check_width(path, first.count(separator.encode()) + 1)
        with open_bytes(path) as file:
            return pd.read_csv(file, sep=separator, low_memory=False), f"{path}: "
    except InputError:
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds
        what = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: cannot be read as a table ({type(error).__name__}: {what})") from None


def long_columns(
    table: pd.DataFrame, label: str, condition: str | None, gene: str | None, value: str | None, se: Any
) -> dict[str, str | None] | None:
    """Return which column of a long table is what, None for a wide table; gene None: it is the index.

    Raises:
        InputError: a named column that is not there; DE tables without a column of perturbations.
    """
    asked = {"condition": condition, "gene": gene, "value": value, "se": se if isinstance(se, str) else None}
    found: dict[str, str | None] = {}
    for role, name in asked.items():
        if name is not None and name not in table and not (role == "se" and Path(name).exists()):
            columns = [str(column) for column in table.columns]
            raise InputError(f"{label}no column {name!r}{did_you_mean(name, columns)}; it has {', '.join(columns[:8])}")
        found[role] = name or next((usual for usual in NAMES[role] if usual in table), None)
    is_de = any(name in table for name in DE_VALUES)
    if not (gene or value or is_de or (found["gene"] and found["condition"])):
        return None
    for role in ("condition", "value"):
        if found[role] is None:
            raise InputError(
                f"{label}a long table without a column of {role}s; it has {', '.join(map(str, table.columns[:8]))}; "
                f"name it as {role}=" + (", or give condition → table" if role == "condition" else "")
            )
    return found


def pivoted(
    table: pd.DataFrame, label: str, columns: dict[str, str | None], n_cells: str | None, replicates: bool | str
) -> tuple[pd.DataFrame, pd.DataFrame | None, np.ndarray | None]:
    """A long table as wide ones: effects, standard errors, cell numbers; a row a condition (and replicate)."""
    gene, value, se = columns["gene"], str(columns["value"]), columns["se"]
    if replicates is True or (replicates and replicates not in table):
        raise InputError(f"{label}of a long table name the column that tells replicates apart as replicates=")
    if n_cells is not None and n_cells not in table:
        raise InputError(f"{label}no column {n_cells!r}; name that of cell numbers as n_cells=")
    used = [name for name in (value, se, n_cells) if name is not None]
    flat = numeric(table[used], label)
    flat["condition"] = table[columns["condition"]].astype(object)
    flat["gene"] = table.index.astype(object) if gene is None else table[gene].astype(object)
    flat["replicate"] = table[replicates].to_numpy() if replicates else 0
    missing = flat[["condition", "gene"]].isna().any(axis=1).to_numpy()
    if missing.any():
        raise InputError(f"{label}row {int(missing.argmax()) + 1}: no name of the condition or gene; drop such rows")
    keys = ["condition", "replicate", "gene"]
    twice = flat.duplicated(keys).to_numpy()
    if twice.any():
        row = flat.iloc[int(twice.argmax())]
        raise InputError(
            f"{label}row {int(twice.argmax()) + 1}: gene {row['gene']!r} of {row['condition']!r} stands a second time; "
            "merge the rows, or name the column of replicates as replicates="
        )
    place = flat.set_index(keys)
    order = place.index.droplevel("gene").unique()
    wide = {name: place[name].unstack("gene").reindex(order) for name in (value, se) if name is not None}
    frames = {name: frame.set_axis(frame.index.get_level_values(0)) for name, frame in wide.items()}
    numbers = None if n_cells is None else place[n_cells].groupby(level=[0, 1]).first().reindex(order).to_numpy(float)
    return frames[value], None if se is None else frames[se], numbers


def numeric(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return a table of float64, NaN where it has no value.

    Raises:
        InputError: what is no number or infinite, with its row and column.
    """
    texts = [place for place, kind in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    numbers = table.apply(pd.to_numeric, errors="coerce") if texts else table
    values = numbers.to_numpy(np.float64, na_value=np.nan)
    wrong = np.isinf(values)
    if texts:
        wrong[:, texts] |= np.isnan(values[:, texts]) & table.iloc[:, texts].notna().to_numpy()
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"{label}row {row + 1} ({table.index[row]!r}), column {table.columns[column]!r}: "
            f"{table.iloc[row, column]!r} is no finite number; leave unmeasured values empty"
        )
    return pd.DataFrame(values, table.index, table.columns)
