"""How strongly a regulator moves its targets, estimated from unperturbed variation along the edges of a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.errors import InputError
from kgnn.expression import check_finite, matrix_of, warn_of_scale
from kgnn.graph.edges import is_similarity, pair_keys, table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.reading import numbers
from kgnn.graph.sources.cells import cells_of
from kgnn.graph.tables import GraphTables
from kgnn.names import as_names, column_in
from kgnn.parts import check_number, expect
from kgnn.progress import track

EFFECT = ("gene", "estimated_effect", "gene")
RIDGE, ORIGIN = 0.1, "estimated"
MAX_CELLS = 20_000


def estimate_effects(
    kg: KnowledgeGraph,
    adata: AnnData | str | Path,
    *,
    groupby: str | None = None,
    time_key: str | None = None,
    ridge: float = RIDGE,
    origin: str = ORIGIN,
    seed: int = 0,
) -> KnowledgeGraph:
    """Give every directed gene–gene edge a signed strength by regressing each target on all of its regulators.

    Ridge regression of the target's standardised expression on that of its regulators in the graph, over cells (the
    step that CellOracle takes with its base network: Kamimoto et al., Nature 2023). Regressing on all regulators at
    once tells a cause from what merely goes along with it. With `time_key`, cells of a group are a time series: the
    change to the next time point is regressed on the regulators and the target itself likewise, and the mean of both,
    each at unit mean square, is the strength.

    Args:
        kg: the knowledge; the relations in which one gene acts on another are used (no similarities).
        adata: cells × genes (or the path of an H5AD file), log-normalised: control or training cells, or a time course.
            No test condition.
        groupby: column of obs (condition, or the series of a time course); without `time_key` only variation within
            a group counts.
        time_key: column of obs with the time of each cell, one cell a time point and group.
        ridge: penalty in units of the number of cells.
        origin: name of this source in the graph.
        seed: for a random choice of 20,000 cells, where there are more.

    Returns:
        A graph with the relation `("gene", "estimated_effect", "gene")`, weight |strength| and its sign.

    Raises:
        InputError: no directed relation, no edge between measured genes, unknown columns or missing values in them,
            NaN in the data, duplicate gene names, fewer than three cells.
    """
    expect(kg, KnowledgeGraph, "kg")
    adata = cells_of(adata)
    warn_of_scale(matrix_of(adata), "X, for effects,", ("log", "scaled"))
    effects = effects_of(kg, adata, groupby, time_key, ridge, origin, seed)
    along = {name for table in _acting(kg) for name in table["origin"].cat.categories}  # they may be learned as well
    seen = [hashes for name, hashes in kg.tables.cells.items() if name in along]
    return KnowledgeGraph.of(effects.tables.made_from(origin, adata.obs_names, *seen))


def effects_of(
    kg: KnowledgeGraph, adata: AnnData, groupby: str | None, time_key: str | None, ridge: float, origin: str, seed: int
) -> KnowledgeGraph:
    """As `estimate_effects`, of cells whose scale was looked at."""
    for key in (groupby, time_key):
        if key is not None and column_in(adata.obs, key).isna().any():
            raise InputError(f"obs[{key!r}] has missing values; fill them in or leave these cells out")
    check_number(ridge, "ridge", 0)
    source, target = directed_pairs(kg, pd.Index(as_names(adata.var_names), dtype=object))
    if not len(source):
        raise InputError("no directed gene–gene edge between measured genes; effects are estimated along such edges")
    if adata.n_obs < 3:
        raise InputError(f"{adata.n_obs} cells are too few to estimate effects; give at least 3")
    rows = np.arange(adata.n_obs)
    if time_key is None and adata.n_obs > MAX_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_CELLS, replace=False))
    x = matrix_of(adata[rows])
    x = np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)
    check_finite(x, adata)
    group = np.zeros(len(rows), dtype=int) if groupby is None else pd.factorize(adata.obs[groupby].iloc[rows])[0]
    # time courses are few: what differs between them counts as well
    centred = _within(x, group) if time_key is None else _standard(x)
    strength = edge_strengths(source, target, centred, ridge=ridge)
    if time_key is not None:
        now, change = _steps(x, group, numbers(adata.obs, time_key, "obs", first=0))
        moved = edge_strengths(source, target, _standard(now), _standard(change), ridge=ridge)
        strength = _unit(strength) + _unit(moved)
    table = table_of(source, target, origin, np.abs(strength), np.sign(strength))
    counts = {"rows_read": adata.n_obs, "unit": "cells", "dropped": {}}
    return KnowledgeGraph.of(GraphTables.of_relation({"gene": adata.var_names}, EFFECT, table, origin, **counts))


def directed_pairs(kg: KnowledgeGraph, genes: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Distinct directed pairs of the graph among `genes`, as positions in `genes`."""
    code = pd.Index(genes).get_indexer(kg.nodes("gene").index)
    pairs = np.unique(np.concatenate([np.array([], np.int64), *map(pair_keys, _acting(kg))]))
    source, target = code[pairs >> 32], code[pairs & 0xFFFFFFFF]
    both = (source >= 0) & (target >= 0)
    return source[both], target[both]


def _acting(kg: KnowledgeGraph) -> list[pd.DataFrame]:
    """The edges of each relation in which one gene acts on another."""
    tables = {rel: table for rel, table in kg.tables.edges.items() if rel[0] == rel[2] == "gene" and rel != EFFECT}
    return [table for relation, table in tables.items() if not is_similarity(relation, table)]


def edge_strengths(
    source: np.ndarray, target: np.ndarray, x: np.ndarray, y: np.ndarray | None = None, *, ridge: float
) -> np.ndarray:
    """Ridge coefficients [edges] of each target's column of `y` on its regulators' columns of `x`.

    `x`, `y` [cells, genes], columns of unit variance (or zero). With a `y` the target's own column of `x` joins its
    regulators; its coefficient is left out.
    """
    n = len(x)
    covariance = x.T @ x / n
    cross = covariance if y is None else x.T @ y / n
    strength = np.zeros(len(source))
    order = np.argsort(target, kind="stable")
    of_target = np.split(order, np.flatnonzero(np.diff(target[order])) + 1)
    for edges in track(of_target, "estimating effects of edges"):
        gene = target[edges[0]]
        regulators = source[edges] if y is None else np.append(source[edges], gene)
        gram = covariance[np.ix_(regulators, regulators)] + ridge * np.eye(len(regulators))
        strength[edges] = np.linalg.solve(gram, cross[regulators, gene])[: len(edges)]
    return strength


def _within(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    sums = np.zeros((group.max() + 1, x.shape[1]))
    np.add.at(sums, group, x)
    return _standard(x - (sums / np.bincount(group)[:, None])[group])


def _standard(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=0)
    deviation = x.std(axis=0)
    return np.divide(x, deviation, out=np.zeros_like(x), where=deviation > 1e-12)


def _steps(x: np.ndarray, group: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((time, group))
    same = group[order][1:] == group[order][:-1]
    if not same.any():
        raise InputError("no group has two time points; give the column of the series as groupby=")
    now, after = order[:-1][same], order[1:][same]
    return x[now], x[after] - x[now]


def _unit(strength: np.ndarray) -> np.ndarray:
    return strength / max(float(np.sqrt(np.square(strength).mean())), 1e-12)
