"""Baselines on gene vectors, of any table or of the graph: nearest neighbours and ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph, embed_graph, load_gene_embedding
from kgnn.graph.coverage import check_coverage
from kgnn.graph.structure import component_labels
from kgnn.models.baselines.features import FeatureBaseline
from kgnn.models.baselines.ridge import RidgeBaseline
from kgnn.models.perturbation.predictor import Known, Training
from kgnn.names import all_named

Vectors: TypeAlias = "pd.DataFrame | str | Path"
DIM = 100  # principal components, and channels of the graph's own embedding
NEIGHBOURS = (20, 40, 60, 80, 100)
FEW = (1, 2, 5, 10)  # tried as well where fewer conditions than the largest of these are left to learn from
FOLDS = 5


class VectorBaseline(FeatureBaseline):
    """A prediction from one vector a gene: StandardScaler → PCA to 100, at most what the table allows.

    Scaler and PCA are fitted on all genes of the table, whatever is perturbed; where a gene lacks one of several
    features of the graph, it is at the mean there. A condition's vector is the sum of its genes' after that, so that
    an average gene adds nothing.

    Args:
        vectors: a table [genes, dimensions] indexed by gene; a file that `kgnn.graph.load_gene_embedding` reads
            (Parquet, NPZ); None: the features of the graph's genes side by side, else its spectral embedding over nodes
            of all types, regularised (`kgnn.graph.embed_graph(whole=True, tau=1)`).
    """

    lacks = "no vector"

    def __init__(self, *, vectors: Vectors | None = None) -> None:
        if not isinstance(vectors, pd.DataFrame | str | Path | None):
            raise InputError(f"vectors: {type(vectors).__name__}; give a table genes × dimensions, or its file")
        self.vectors = checked(vectors) if isinstance(vectors, pd.DataFrame) else vectors
        self.uses_graph = vectors is None

    def _features(self, data: Training, seed: int) -> tuple[pd.Index, np.ndarray]:
        if self.vectors is None:
            table = graph_vectors(data.kg, seed)
            if data.kg is not None and not data.kg.features("gene"):
                self.lacks = FeatureBaseline.lacks
        else:
            table = self.vectors if isinstance(self.vectors, pd.DataFrame) else read_vectors(self.vectors)
            check_coverage(self.perturbed_, set(table.index), "perturbed genes of training", "the table of vectors")
        return table.index, reduced(table.to_numpy(np.float64), seed)

    def own_options(self) -> dict[str, Any]:
        return {} if self.vectors is None else {"vectors": self.vectors}

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        config, arrays = super().state()
        if isinstance(self.vectors, pd.DataFrame):
            return config | {"table": list(self.vectors.index)}, arrays | {"table": self.vectors.to_numpy()}
        return config | {"file": None if self.vectors is None else str(self.vectors)}, arrays

    def restore(self, known: Known, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        super().restore(known, config, arrays)
        table = pd.DataFrame(arrays["table"], pd.Index(config["table"], dtype=object)) if "table" in config else None
        self.vectors = config["file"] if table is None else table
        self.uses_graph = self.vectors is None


class NearestNeighbours(VectorBaseline):
    """The mean change of the k training conditions whose vectors are nearest (Cole et al. 2026).

    k of 20, 40, 60, 80, 100 with the least squared error over 5 folds of the training conditions that have a vector,
    cut to what a fold leaves; below 100 conditions left, 1, 2, 5 and 10 are tried as well. Euclidean distance; of
    conditions equally near the first counts.

    Attributes set by `fit`, besides those of `FeatureBaseline`: `k_`.
    """

    learned = ("k",)

    k_: np.ndarray

    def _solve(self, seed: int) -> None:
        known = self.has_features(self.conditions_)
        self.k_ = np.array([choose_k(self.embed(self.conditions_)[known], self.delta_[known], seed)])

    def _changes(self, conditions: Sequence[str]) -> np.ndarray:
        asked, trained = self.has_features(conditions), self.has_features(self.conditions_)
        found = np.tile(self.delta_.mean(axis=0), (len(conditions), 1))
        order = nearest(self.embed(conditions)[asked], self.embed(self.conditions_)[trained])
        found[asked] = mean_of(order[:, : int(self.k_[0])], self.delta_[trained])
        return found


class EmbeddingRidge(RidgeBaseline, VectorBaseline):
    """Ridge regression from gene vectors to changes, around the mean of training: see `RidgeBaseline`."""


def choose_k(points: np.ndarray, values: np.ndarray, seed: int) -> int:
    """The number of neighbours of the least squared error over 5 folds; points [rows, channels], values [rows, …]."""
    folds = list(KFold(min(FOLDS, len(points)), shuffle=True, random_state=seed).split(points))
    left = min(len(train) for train, _ in folds)
    tried = [k for k in (*(FEW if left < max(NEIGHBOURS) else ()), *NEIGHBOURS) if k <= left]
    errors = np.zeros(len(tried))
    for train, test in folds:
        order = nearest(points[test], points[train])
        errors += [np.square(mean_of(order[:, :k], values[train]) - values[test]).sum() for k in tried]
    return tried[int(np.argmin(errors))]


def nearest(points: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Row numbers of `of` for each point, nearest first, [points, rows of `of`]."""
    return np.argsort(cdist(points, of), axis=1, kind="stable")


def mean_of(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of some rows of values [rows, genes] each; rows [points, k]."""
    n, k = rows.shape
    weights = sparse.csr_array((np.full(n * k, 1 / k), rows.ravel(), np.arange(n + 1) * k), shape=(n, len(values)))
    return weights @ values


def reduced(values: np.ndarray, seed: int) -> np.ndarray:
    """Standardised by columns, NaN at the mean, and their first principal components: [genes, at most 100]."""
    n = min(DIM, len(values) - 1, values.shape[1])
    if n < 1 or not (np.nanmax(values, axis=0) > np.nanmin(values, axis=0)).any():
        raise InputError(f"vectors: {len(values)} genes × {values.shape[1]} dimensions tell no gene from another")
    scaled = np.nan_to_num(StandardScaler().fit_transform(values))
    return PCA(n, random_state=seed).fit_transform(scaled)


def checked(table: pd.DataFrame) -> pd.DataFrame:
    """A table of gene vectors as floating-point numbers.

    Raises:
        InputError: a missing name, a gene twice, a column that holds no numbers, a value not finite.
    """
    names = pd.Index(all_named(table.index, "rows of vectors"), dtype=object)
    if not names.is_unique:
        raise InputError(f"vectors: gene {names[names.duplicated()][0]!r} stands twice; give one row a gene")
    for column, kind in table.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind):
            raise InputError(f"vectors: column {column!r} holds {kind}, not numbers; leave it out")
    kept = len(table.columns) > 0 and all(kind == np.float32 for kind in table.dtypes)
    values = table.to_numpy(np.float32 if kept else np.float64, na_value=np.nan)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InputError(
            f"vectors: {int(bad.sum())} genes, first {names[bad][0]!r}, have values that are not finite; drop them"
        )
    return pd.DataFrame(values, names)


def read_vectors(path: str | Path) -> pd.DataFrame:
    """The vectors of a file, [genes, dimensions]."""
    read = load_gene_embedding(path, name="vectors")
    return pd.DataFrame(read.features("gene")["vectors"], read.nodes("gene").index)


def graph_vectors(kg: KnowledgeGraph | None, seed: int) -> pd.DataFrame:
    """The features of the graph's genes side by side, NaN where a gene lacks one; without any, its spectral embedding.

    Raises:
        InputError: no graph, or one with neither features nor three linked nodes.
    """
    features = {} if kg is None else kg.features("gene")
    if kg is not None and features:
        whole = [np.where(np.isfinite(part).all(axis=1)[:, None], part, np.nan) for part in features.values()]
        table = pd.DataFrame(np.concatenate(whole, axis=1), kg.nodes("gene").index)
        return table[table.notna().any(axis=1)]
    label = np.array([], np.int64) if kg is None else np.concatenate([*component_labels(kg.tables).values()])
    n_linked = int((np.bincount(label)[label] > 1).sum()) if len(label) else 0
    if kg is None or n_linked < 3:
        raise InputError(
            "no gene vectors: give a table or its file as vectors=, or a graph that has gene features or edges; "
            "without any knowledge there is encoder='mean'"
        )
    table = embed_graph(kg, "spectral", dim=min(DIM, n_linked - 2), whole=True, seed=seed, tau=1.0)
    return table[(table != 0).any(axis=1)]
