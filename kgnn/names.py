"""Names as they come from users and files: missing ones, numbers, texts in place of lists, what programs damaged."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import DataWarning, InputError
from kgnn.parts import expect

ENOUGH = 0.5  # share of names that are known, below which what should know them is probably another
INVISIBLE = "\ufeff\u200b"  # byte order mark, zero-width space
MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
          "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12}  # fmt: skip
DAY_MONTH = re.compile(r"(?P<day>\d{1,2})-(?P<month>[A-Za-z]{3})")
MONTH_DAY = re.compile(r"(?P<month>[A-Z][a-z]{2})-(?P<day>\d{1,2})")  # OCT-4 in capitals is a gene's name
DATE = re.compile(r"\d{4}-(?P<month>\d\d)-(?P<day>\d\d)(?:[T ]00:00:00)?")
GENES_OF_MONTHS = {2: "FEB{0}", 3: "MARCH{0} (now MARCHF{0}, or MTARC{0})", 4: "APR-{0}", 9: "SEPT{0} (now SEPTIN{0})",
                   10: "OCT{0}", 11: "NOV{0}", 12: "DEC{0} (now DELEC1)"}  # fmt: skip
MISSING_WORDS = {"nan", "NaN", "None", "<NA>", "NaT", "#N/A", "#NAME?", "#REF!", "#VALUE!"}
ROUNDED = re.compile(r"\d(\.\d+)?E\+\d{2}")  # 2310009E13, which Excel takes for a number


def name_hashes(names: Iterable[Any]) -> np.ndarray:
    """Return a number for each name, uint64 [names], the same in every run and on every machine (BLAKE2b, 8 bytes)."""
    digests = (hashlib.blake2b(str(name).encode(errors="replace"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def as_number(text: str) -> float | None:
    """Return the number that a text is, else None: `1_2` and digits of other scripts, which Python takes, are none."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def as_name(value: Any) -> str | None:
    """Return what a value is called: text without blanks around it, `3` for 3.0; None for what is missing or blank."""
    if isinstance(value, str):
        return value.strip().strip(INVISIBLE).strip() or None
    if isinstance(value, bytes):
        return as_name(value.decode("utf-8", errors="replace"))
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # NumPy's and torch's scalars
        return as_name(value.item())
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else as_name(str(value))


def as_names(values: Any) -> np.ndarray:
    """Return many values as `as_name` does, an object array [values]; what is all text already is not copied.

    Takes a list, a pandas Series or Index, a NumPy array.
    """
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    if pd.api.types.infer_dtype(column, skipna=False) == "string" and _tidy(column):
        return column
    known: dict[Any, str | None] = {}
    names = np.empty(len(column), object)
    for row, value in enumerate(column):
        if not isinstance(value, str):
            names[row] = as_name(value)
            continue
        if value not in known:
            known[value] = as_name(value)
        names[row] = known[value]
    return names


def _tidy(texts: np.ndarray) -> bool:
    return all(text and not (text[0].isspace() or text[-1].isspace() or text[0] in INVISIBLE) for text in texts)


def column_in(obs: pd.DataFrame, key: Any, option: str = "") -> pd.Series:
    """Return a column of obs; raise `InputError` where it is not there, with `option`, the argument that names it."""
    if option:
        expect(key, str, option)
    if not isinstance(key, str) or key not in obs:
        columns = ", ".join(map(str, obs.columns)) or "none"
        raise InputError(
            f"no column {key!r} in adata.obs; it has {columns}{f'. Give the right one as {option}=' if option else ''}"
        )
    return obs[key]


def names_in(obs: pd.DataFrame, key: Any, option: str = "") -> pd.Series:
    """Return a column of obs as names; raise `InputError` as `column_in`, and where cells have no value."""
    values = column_in(obs, key, option)
    names = pd.Series(as_names(values.astype(object).to_numpy()), index=values.index, dtype=object)
    if names.isna().any():
        raise InputError(f"obs[{key!r}]: {int(names.isna().sum())} cells have no value; label or drop them")
    return names


def check_once(genes: pd.Index) -> None:
    """Refuse gene names that stand twice among `var_names`."""
    if not genes.is_unique:
        twice = genes[genes.duplicated()][0]
        raise InputError(f"gene {twice!r} stands twice in var_names; call adata.var_names_make_unique() or merge them")


def listed(values: Any, what: str) -> list[Any]:
    """Return an iterable of names or triples as a list.

    Raises:
        InputError: one text where a list is asked for, which would be read letter by letter; no list at all.
    """
    if isinstance(values, str | bytes):
        raise InputError(f"{what}: the text {values!r:.60} where a list is asked for; write [{values!r:.60}]")
    if not isinstance(values, Iterable):
        raise InputError(f"{what}: {type(values).__name__} where a list is asked for")
    return list(values)


def all_named(values: Any, what: str) -> list[str]:
    """Return a list of names, each as `as_name` gives it.

    Raises:
        InputError: a text in place of a list; a missing or blank name (with its number from 0).
    """
    names = as_names(listed(values, what))
    missing = np.flatnonzero([name is None for name in names])
    if len(missing):
        raise InputError(
            f"{what}: {len(missing)} of {len(names)} names are missing or blank, the first at {missing[0]}; name them "
            "or leave them out"
        )
    return names.tolist()


def date_gene(name: str) -> str | None:
    """Return the gene that Excel probably turned into the date `name` (1-Mar → MARCH1), None where it is no date."""
    hit = DAY_MONTH.fullmatch(name) or MONTH_DAY.fullmatch(name) or DATE.fullmatch(name)
    if hit is None:
        return None
    month = MONTHS.get(hit["month"].lower(), int(hit["month"]) if hit["month"].isdigit() else 0)
    return GENES_OF_MONTHS.get(month, "no gene that is known").format(int(hit["day"])) if month else None


def warn_if_damaged(names: Iterable[str], label: str) -> None:
    """Warn (`DataWarning`) of gene names that a program has damaged: Excel's dates and rounded numbers, `nan`.

    The names stay as they are; each kind is told with its count and what was probably meant.
    """
    dates, rounded, missing = dict[str, str](), list[str](), list[str]()
    for name in names:
        if gene := date_gene(name):
            dates[name] = gene
        elif ROUNDED.fullmatch(name):
            rounded.append(name)
        elif name in MISSING_WORDS:
            missing.append(name)
    told = []
    if dates:
        meant = ", ".join(f"{name} = {gene}" for name, gene in list(dates.items())[:5])
        told.append(f"{len(dates)} gene names are dates, as Excel makes of symbols ({meant}); write the symbols again")
    if rounded:
        told.append(
            f"{len(rounded)} gene names are rounded numbers, as Excel makes of RIKEN clones such as 2310009E13 "
            f"({', '.join(rounded[:5])}); take the names from the source"
        )
    if missing:
        told.append(
            f"genes are called {', '.join(map(repr, missing[:5]))}, a missing value written as text; leave these rows "
            "out, or leave their fields empty"
        )
    for text in told:
        warnings.warn(f"{label}: {text}", DataWarning, stacklevel=3)
