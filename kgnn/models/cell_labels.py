"""Labels of cells: columns of obs as numbers, and the tree of an ontology above them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from kgnn.errors import DataWarning, InputError
from kgnn.graph.ontology import Ontology
from kgnn.nn.cells import LabelTree

UNKNOWN = {"", "nan", "none", "unknown", "na", "n/a", "<na>"}


class Above(NamedTuple):
    """A term that a cell may be annotated with: its leaves [leaves] bool, and its name."""

    term: str
    name: str
    below: np.ndarray


class Labels(NamedTuple):
    """A class: its labels (terms, where there is an ontology), their names, the tree, the terms to back off to."""

    labels: list[str]
    names: list[str]
    tree: LabelTree
    above: list[Above]

    @property
    def leaves(self) -> list[str]:
        leaf = self.tree.leaf.numpy()
        return [self.labels[int(np.flatnonzero(leaf == number)[0])] for number in range(leaf.max() + 1)]


def read_labels(obs: pd.DataFrame, key: str, ontology: Ontology | None) -> pd.Series:
    """Return a cell's label, or its term where there is an ontology; None where unknown.

    Raises:
        InputError: no such column, no labelled cell, a label that is no term (with near ones).
    """
    if key not in obs:
        raise InputError(f"no column {key!r} in obs; the columns are {', '.join(map(str, obs.columns)) or 'none'}")
    labels = obs[key].astype(object).where(~obs[key].astype(str).str.strip().str.lower().isin(UNKNOWN), None)
    labels = labels.where(labels.isna(), labels.astype(str))
    if labels.isna().all():
        raise InputError(f"obs[{key!r}] names no cell's {key}; all values are empty or unknown")
    if ontology is None:
        return labels
    found = ontology.match(labels.dropna().unique())
    wrong = found[found["term"].isna()]
    if len(wrong):
        near = wrong["suggestions"].iloc[0]
        hint = f"; did you mean {near.replace('|', ' or ')}?" if near else ""
        raise InputError(
            f"obs[{key!r}]: {len(wrong)} labels are no terms of the ontology, the first {wrong.index[0]!r}{hint} "
            "Put term ids or exact names into the column (Ontology.match shows all)"
        )
    return labels.map(found["term"].to_dict())


def make_labels(values: pd.Series, key: str, ontology: Ontology | None) -> Labels:
    """The classes of a column: what occurs in it, in alphabetical order."""
    counts = values.value_counts()
    rare = counts.index[counts < 2]
    if len(rare):
        message = (
            f"obs[{key!r}]: {len(rare)} labels have one cell each ({rare[0]!r}, …); nothing can be checked on them"
        )
        warnings.warn(message, DataWarning, stacklevel=4)
    labels = sorted(counts.index)
    if len(labels) < 2:
        raise InputError(f"obs[{key!r}] has one label only ({labels[0]!r}); there is nothing to tell apart")
    return build_labels(labels, ontology)


def build_labels(labels: list[str], ontology: Ontology | None) -> Labels:
    """The tree over labels: leaves are the labels without another label below them."""
    n = len(labels)
    if ontology is None:
        tree = LabelTree(
            torch.eye(n, dtype=torch.bool),
            torch.arange(n),
            torch.eye(n, dtype=torch.int64) + 1,
            torch.zeros(n, n, dtype=torch.bool),
            False,
        )
        return Labels(labels, labels, tree, [])
    above = {term: {term, *ontology.ancestors(term)} for term in labels}
    is_ancestor = torch.tensor([[b in above[a] and a != b for b in labels] for a in labels])
    leaves = [term for term in labels if not any(term in above[other] for other in labels if other != term)]
    leaf = torch.tensor([leaves.index(term) if term in leaves else -1 for term in labels])
    below = torch.tensor([[term in above[one] for one in leaves] for term in labels])
    level = torch.from_numpy(ontology.similarity_levels(labels))
    names = ontology.table["label"]
    candidates: dict[tuple[bool, ...], str] = {}
    for term in sorted({term for one in leaves for term in above[one]}, key=lambda term: (-ontology.depth(term), term)):
        candidates.setdefault(tuple(term in above[one] for one in leaves), term)  # of equal ones the deepest
    backs = [Above(term, str(names[term]), np.array(mask)) for mask, term in candidates.items()]
    backs.sort(key=lambda item: int(item.below.sum()))
    return Labels(
        labels, [str(names[term]) for term in labels], LabelTree(below, leaf, level, is_ancestor, True), backs
    )


def encode_labels(values: pd.Series, labels: list[str]) -> np.ndarray:
    """Numbers of the labels, −1 where unknown."""
    return pd.Index(labels).get_indexer(values.to_numpy(dtype=object)).astype(np.int64)


def back_off(labels: Labels, logits: np.ndarray, threshold: float) -> pd.DataFrame:
    """Annotate each cell with the most special term of which the model is sure.

    A leaf's probability is its sigmoid; an inner term's σ(logsumexp of its leaves' logits), as in training (scPRINT).
    Without an ontology the probabilities are a softmax, and the best label is given whatever its probability.

    Args:
        logits: [cells, leaves]. threshold: the least probability of what is said; if none reaches it, the term above
            all leaves is given.

    Returns:
        A table, a row a cell: `label`, `term` (None without an ontology), `probability`.
    """
    if not labels.tree.tree:
        power = np.exp(logits - logits.max(1, keepdims=True))
        share = power / power.sum(1, keepdims=True)
        best = share.argmax(1)
        said = np.array(labels.labels, dtype=object)[best]
        return pd.DataFrame({"label": said, "term": None, "probability": share[np.arange(len(share)), best]})
    sure = np.full(len(logits), -1)
    probability = np.zeros(len(logits))
    size = np.full(len(logits), np.inf)
    for number, item in enumerate(labels.above):
        part = logits[:, item.below]
        top = part.max(1)
        log_odds = top + np.log(np.exp(part - top[:, None]).sum(1))
        p = 1 / (1 + np.exp(-log_odds.clip(-50, 50)))
        width = item.below.sum()
        last = number == len(labels.above) - 1  # above all leaves, if the ontology has one root
        better = ((p >= threshold) & ((width < size) | ((width == size) & (p > probability)))) | (last & (sure < 0))
        sure[better], probability[better], size[better] = number, p[better], width
    terms = np.array([item.term for item in labels.above], dtype=object)
    names = np.array([item.name for item in labels.above], dtype=object)
    return pd.DataFrame({"label": names[sure], "term": terms[sure], "probability": probability})


def check_objectives(objectives: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """Weights of the objectives: those given, 0 for the others."""
    for name, weight in objectives.items():
        if name not in known:
            raise InputError(f"unknown objective {name!r}; choose {', '.join(known)}")
        if weight < 0:
            raise InputError(f"objective {name!r} has the weight {weight}; give 0 or more")
    if not any(objectives.values()):
        raise InputError("all objectives have the weight 0; there is nothing to learn")
    return dict.fromkeys(known, 0.0) | dict(objectives)
