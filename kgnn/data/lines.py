"""Splits by cell line: one line is held out, whose perturbed cells take no part in training and are scored alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL, ConditionNames
from kgnn.data.effects import is_effects
from kgnn.data.labels import read_labels
from kgnn.errors import InputError
from kgnn.names import names_in
from kgnn.parts import check_number, did_you_mean


def fitting_cells(adata: AnnData, split: Mapping[str, Any], condition_key: str, control: Any) -> AnnData:
    """The cells without the perturbed ones of the line that a split holds out; effects of that line become control,
    which is zero in any line, so that the line is known."""
    if "line" not in split:
        return adata
    labels, _ = read_labels(adata, condition_key, control)
    held_out = in_line(adata, labels, split)
    if not is_effects(adata):
        return adata[~held_out].copy()
    found = adata.copy()
    label = min(ConditionNames(control).labels)
    found.obs[condition_key] = np.where(held_out, label, found.obs[condition_key].astype(object))
    return found


def scored_cells(adata: AnnData, split: Mapping[str, Any] | None) -> AnnData:
    """The cells of the line that a split holds out, all where it holds none out."""
    return adata if split is None or "line" not in split else adata[scored_rows(adata, split)].copy()


def scored_rows(adata: AnnData, split: Mapping[str, Any] | None) -> np.ndarray:
    """Row numbers of `scored_cells`."""
    if split is None or "line" not in split:
        return np.arange(adata.n_obs)
    return np.flatnonzero((names_in(adata.obs, split["group_key"], "group_key") == split["line"]).to_numpy())


def in_line(adata: AnnData, labels: pd.Series, split: Mapping[str, Any]) -> np.ndarray:
    """[cells], whether a cell is a perturbed one of the line held out."""
    if "line" not in split:
        return np.zeros(adata.n_obs, dtype=bool)
    lines = names_in(adata.obs, split["group_key"], "group_key")
    return ((lines == split["line"]) & (labels != CONTROL)).to_numpy()


def conditions_of_lines(adata: AnnData, condition_key: str, control: Any, group_key: str) -> dict[str, list[str]]:
    """Cell line → its perturbed conditions, sorted."""
    lines, (labels, _) = names_in(adata.obs, group_key, "group_key"), read_labels(adata, condition_key, control)
    return {line: sorted(set(labels[lines == line]) - {CONTROL}) for line in sorted(set(lines))}


def unseen_line(
    lines: dict[str, list[str]], line: str, rng: np.random.Generator, val: float, seen_fraction: float
) -> dict[str, Any]:
    """All conditions of a line are test; of those that other lines have too, this share may be in training there."""
    if line not in lines:
        raise InputError(
            f"held_out {line!r} is no line of the data{did_you_mean(line, lines)}; it has {', '.join(lines)}"
        )
    check_number(seen_fraction, "seen_fraction", 0, 1)
    test = lines[line]
    elsewhere = sorted({name for other, names in lines.items() if other != line for name in names})
    shared = [name for name in test if name in elsewhere]
    hidden = set(rng.permutation(shared)[: round(len(shared) * (1 - seen_fraction))])
    train, validation = draw([name for name in elsewhere if name not in hidden], val, rng)
    seen = [name for name in test if name in train]
    subgroups = {"seen_elsewhere": seen, "unseen": [name for name in test if name not in seen]}
    return {"line": line, "train": train, "val": validation, "test": test,
            "subgroups": {group: names for group, names in subgroups.items() if names}}  # fmt: skip


def draw(names: list[str], fraction: float, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Split names at random into the rest and a share of at least one."""
    if not names:
        return [], []
    number = min(max(1, round(len(names) * fraction)), len(names))
    drawn = set(rng.choice(names, number, replace=False))
    return [name for name in names if name not in drawn], sorted(drawn)
