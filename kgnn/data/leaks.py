"""Held-out cells among those that a graph was made from: found by their names, and told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL
from kgnn.data.labels import read_labels
from kgnn.data.lines import in_line
from kgnn.errors import DataWarning
from kgnn.names import name_hashes

LEAK = "the graph was made from"


@contextmanager
def leaks_told() -> Iterator[None]:
    """Keep silent of leaks that were told already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEAK, DataWarning)
        yield


def held_out(adata: AnnData, labels: pd.Series, split: Mapping[str, Any]) -> np.ndarray:
    """[cells], whether a cell is held out by a split: of a test condition, or a perturbed one of the line held out.

    Validation conditions are not: a graph that has seen them may choose an epoch wrongly, but flatters no score, and
    models without epochs train on them. Of a split by line a test condition counts in other lines too where it is not
    in training there. Control cells never count.
    """
    known = set(split["train"]) | set(split["val"]) if "line" in split else set()
    test = set(split["test"]) - known - {CONTROL}
    return labels.isin(test).to_numpy() | in_line(adata, labels, split)


def warn_of_leaks(
    cells: Mapping[str, np.ndarray],
    adata: AnnData,
    split: Mapping[str, Any] | None,
    *,
    condition_key: str = "condition",
    control: Any = None,
    stacklevel: int = 3,
) -> bool:
    """One `DataWarning` where held-out cells are among those that a graph was made from; returns whether there were.

    Args:
        cells: source → hashes of the names of its cells, as `KnowledgeGraph.cells` gives them.
        adata: the screen; cells are told apart by `obs_names`, so that other data with the same names count as these.
        split: as `kgnn.data.splits.read_split` gives it; None holds nothing out. See `held_out`.
        condition_key, control: as for `read_screen`.
    """
    if split is None or not len(cells):
        return False
    labels = read_labels(adata, condition_key, control)[0]
    rows = np.flatnonzero(held_out(adata, labels, split))
    hashes = name_hashes(adata.obs_names[rows])
    seen = {source: np.isin(hashes, known) for source, known in cells.items()}
    seen = {source: found for source, found in sorted(seen.items()) if found.any()}
    if not seen:
        return False
    found = np.any(list(seen.values()), axis=0)
    conditions = labels.iloc[rows[found]].nunique()
    told = ", ".join(f"{source} ({number.sum():,})" for source, number in seen.items())
    first = next(iter(seen))
    warnings.warn(
        f"{LEAK} {found.sum():,} held-out cells of {conditions} conditions, so that scores of these are flattered; "
        f"sources: {told}. Make them from training cells, load_coexpression(kgnn.data.training_cells(adata, split)), "
        f"or leave them out, kg.drop_source({first!r})",
        DataWarning,
        stacklevel=stacklevel,
    )
    return True
