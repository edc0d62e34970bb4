"""Labels of cells: columns of obs as numbers, and the tree of an ontology above them."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from kgnn.errors import DataWarning, InputError
from kgnn.graph.ontology import Ontology
from kgnn.names import column_in
from kgnn.nn.cells import LabelTree

UNKNOWN = {"", "nan", "none", "unknown", "na", "n/a", "<na>"}


class Above(NamedTuple):
    """A term that a cell may be annotated with: its name, its leaves [leaves] bool, and its output (leaves first, then
    inner terms; −1 for what stands above all leaves)."""

    term: str
    name: str
    below: np.ndarray
    output: int


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
    column = column_in(obs, key)
    labels = column.astype(object).where(~column.astype(str).str.strip().str.lower().isin(UNKNOWN), None)
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
        warnings.warn(message, DataWarning, stacklevel=6)
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
            torch.zeros(n, 0, dtype=torch.int64),
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
    level = torch.from_numpy(ontology.similarity_levels(labels, least=None))  # 1e-4: most blood cells on one level
    names = ontology.table["label"]
    candidates: dict[tuple[bool, ...], str] = {}
    for term in sorted({term for one in leaves for term in above[one]}, key=lambda term: (-ontology.depth(term), term)):
        candidates.setdefault(tuple(term in above[one] for one in leaves), term)  # of equal ones the deepest
    backs: list[Above] = []
    inner: list[np.ndarray] = []
    for mask, term in sorted(candidates.items(), key=lambda item: sum(item[0])):
        output = mask.index(True) if sum(mask) == 1 else -1 if all(mask) else len(leaves) + len(inner)
        backs.append(Above(term, str(names[term]), np.array(mask), output))
        inner += [np.array(mask)] if output >= len(leaves) else []
    told = [[_told(of_label, of_term) for of_term in inner] for of_label in below.numpy()]
    inside = torch.tensor(told, dtype=torch.int64).reshape(n, len(inner))
    tree = LabelTree(below, leaf, inside, level, is_ancestor, True)
    return Labels(labels, [str(names[term]) for term in labels], tree, backs)


def _told(of_label: np.ndarray, of_term: np.ndarray) -> int:
    """Whether a cell of a label belongs to an inner term: 1, 0, or −1 where some of the label's leaves do."""
    return 1 if (of_term | ~of_label).all() else -1 if (of_term & of_label).any() else 0


def encode_labels(values: pd.Series, labels: list[str]) -> np.ndarray:
    """Numbers of the labels, −1 where unknown."""
    return pd.Index(labels).get_indexer(values.to_numpy(dtype=object)).astype(np.int64)


def back_off(labels: Labels, logits: np.ndarray, threshold: float) -> pd.DataFrame:
    """Annotate each cell with the most special term of which the model is sure.

    A term's probability is the sigmoid of its output, 1 for the term above all leaves. Without an ontology the
    probabilities are a softmax, and the best label is given whatever its probability.

    Args:
        logits: [cells, leaves + inner terms]. threshold: the least probability of what is said.

    Returns:
        A table, a row a cell: `label`, `term` (None without an ontology), `probability`.
    """
    if not labels.tree.tree:
        power = np.exp(logits - logits.max(1, keepdims=True))
        share = power / power.sum(1, keepdims=True)
        best = share.argmax(1)
        said = np.array(labels.labels, dtype=object)[best]
        return pd.DataFrame({"label": said, "term": None, "probability": share[np.arange(len(share)), best]})
    sure = np.full(len(logits), len(labels.above) - 1)
    probability = np.zeros(len(logits))
    size = np.full(len(logits), np.inf)
    for number, item in enumerate(labels.above):
        p = np.ones(len(logits)) if item.output < 0 else 1 / (1 + np.exp(-logits[:, item.output].clip(-50, 50)))
        width = item.below.sum()
        better = (p >= threshold) & ((width < size) | ((width == size) & (p > probability)))
        sure[better], probability[better], size[better] = number, p[better], width
    terms = np.array([item.term for item in labels.above], dtype=object)
    names = np.array([item.name for item in labels.above], dtype=object)
    return pd.DataFrame({"label": names[sure], "term": terms[sure], "probability": probability})
