"""From a `KnowledgeGraph` to who hears whom among a batch's tokens; which genes are tokens; vectors of genes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgnn.data.cells import CellSource
from kgnn.errors import DataWarning, InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.cells.tokens import log_normalise
from kgnn.models.perturbation.graphs import gene_relations
from kgnn.models.perturbation.predictions import some
from kgnn.nn.token_encoders import TokenGraph, shared_graph
from kgnn.threads import same_threads

SAMPLE = 5_000  # cells over which the variability of genes is measured
NEAR = 10_000  # base pairs: genes that start at most so far behind the one before share its position


def gene_pairs(kg: KnowledgeGraph, genes: pd.Index) -> Tensor:
    """All gene–gene edges of the graph among `genes`, in both directions, once, without loops: [2, edges]."""
    pairs = [np.zeros((2, 0), np.int64)]
    for relation in gene_relations(kg, genes):
        pair = np.stack([relation.source, relation.target])
        pairs += [pair, pair[::-1]]
    found = np.unique(np.concatenate(pairs, 1), axis=1)
    found = found[:, (found[0] != found[1]) & (found >= 0).all(0)]
    if not found.shape[1]:
        known = list(kg.nodes("gene").index) if "gene" in kg.node_types else []
        raise InputError(
            f"the graph links no two genes of the data: it has {some(known)}, the data {some(set(genes))}; "
            "check species and gene namespace"
        )
    return torch.from_numpy(found)


class TokenGraphs:
    """Makes the graph among a batch's tokens; that of the last shared list of genes is kept.

    Args:
        pairs: [2, edges] over the vocabulary, source and target; None for the transformer, which needs none.
    """

    def __init__(self, pairs: Tensor | None, n_genes: int, n_special: int) -> None:
        self.pairs, self.n_genes, self.n_special = pairs, n_genes, n_special
        self._keys = None if pairs is None else (pairs[1] * n_genes + pairs[0]).sort().values
        self._last: tuple[Tensor, TokenGraph] | None = None

    def __call__(self, genes: Tensor, present: Tensor | None) -> TokenGraph:
        if self.pairs is None or self._keys is None:
            return TokenGraph(self.n_special, present=present)
        if genes.ndim == 2:
            keys = self._keys.to(genes.device)
            wanted = genes.unsqueeze(2) * self.n_genes + genes.unsqueeze(1)
            place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
            return TokenGraph(self.n_special, linked=keys[place] == wanted, present=present)
        last = self._last
        if last is None or last[0].device != genes.device or not torch.equal(last[0], genes):
            position = torch.full((self.n_genes,), -1)
            position[genes.cpu()] = torch.arange(len(genes))
            among = position[self.pairs]
            graph = shared_graph(among[:, (among >= 0).all(0)], len(genes), self.n_special)
            hears, near = (None if part is None else part.to(genes.device) for part in (graph.hears, graph.near))
            last = self._last = genes, TokenGraph(self.n_special, hears, near)
        return last[1]


def sample_values(source: CellSource, rows: np.ndarray) -> np.ndarray:
    """Log-normalised expression of at most 5,000 of the cells, [cells, vocabulary]."""
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
    return log_normalise(torch.from_numpy(source.rows(rows).toarray()), source.kind).numpy()


def variable_genes(values: np.ndarray, n: int) -> np.ndarray:
    """Numbers of the n most variable genes (scanpy's `highly_variable_genes`, Seurat flavour), ascending."""
    import scanpy as sc
    from anndata import AnnData

    if n >= values.shape[1]:
        return np.arange(values.shape[1])
    with same_threads():
        found = sc.pp.highly_variable_genes(AnnData(values), inplace=False)
    order = np.argsort(-np.nan_to_num(found["dispersions_norm"].to_numpy(), nan=-np.inf), kind="stable")
    return np.sort(order[:n])


class Components(NamedTuple):
    """mean [genes]; components [genes, n], orthonormal; spread [n], standard deviation of cells along each; kept [n]:
    share of a score that is signal, 1 − σ² / λ (probabilistic principal components, Tipping and Bishop 1999), of those
    that stand out from shuffled values (parallel analysis, Horn 1965), 0 of the others; share [genes], mean share of
    counts."""

    mean: np.ndarray
    components: np.ndarray
    spread: np.ndarray
    kept: np.ndarray
    share: np.ndarray


def principal_components(values: np.ndarray, n: int, seed: int) -> Components:
    """At most n principal components of log-normalised values [cells, genes]."""
    from sklearn.decomposition import PCA

    n = min(n, *(size - 1 for size in values.shape))
    found = PCA(n, svd_solver="randomized", random_state=seed).fit(values)
    shuffled = np.random.default_rng(seed).permuted(values, axis=0)
    chance = PCA(1, svd_solver="randomized", random_state=seed).fit(shuffled).explained_variance_[0]
    size = found.explained_variance_
    signal = size > chance
    rest = values.var(0, ddof=1).sum() - size[signal].sum()
    noise = rest / max(1, min(values.shape[0] - 1, values.shape[1]) - signal.sum())
    varies = size > 1e-12 * size[0]
    kept = np.where(signal, 1 - noise / size.clip(1e-12), 0).clip(0)
    parts = found.mean_, found.components_[varies].T, np.sqrt(size[varies]), kept[varies], np.expm1(values).mean(0)
    return Components(*(np.ascontiguousarray(part, dtype=np.float32) for part in parts))


def knowledge_tables(
    kg: KnowledgeGraph | None, knowledge: Mapping[str, pd.DataFrame], genes: pd.Index
) -> dict[str, Tensor]:
    """Gene vectors by source over the vocabulary, NaN where a source has none: the graph's features and the tables."""
    tables = dict(knowledge)
    if kg is not None and "gene" in kg.node_types:
        index = kg.nodes("gene").index
        tables = {name: pd.DataFrame(x, index=index) for name, x in kg.features("gene").items()} | tables
    found = {}
    for name, table in tables.items():
        known = table.index.isin(genes)
        if not known.any():
            raise InputError(
                f"knowledge {name!r} has vectors of {some(set(map(str, table.index)))} and none of the data's genes "
                f"({some(set(genes))}); check species and gene namespace"
            )
        twice = table.index[table.index.duplicated() & known]
        if len(twice):
            raise InputError(f"knowledge {name!r} has two vectors of {twice[0]!r}; keep one")
        rows = table.reindex(genes).to_numpy(np.float32)
        missing = int(np.isnan(rows).any(1).sum())
        if missing > len(genes) / 2:
            message = f"knowledge {name!r} says nothing of {missing} of {len(genes)} genes"
            warnings.warn(message, DataWarning, stacklevel=6)
        found[name] = torch.from_numpy(rows)
    return found


def genomic_positions(table: pd.DataFrame | None, genes: pd.Index) -> Tensor | None:
    """Number of each gene's place along the genome, [vocabulary], NaN where unknown: chromosomes one after the other,
    genes in the order of their starts, neighbours within 10 kb in one place (scPRINT, Kalfon et al. 2025)."""
    if table is None:
        return None
    missing = {"chromosome", "start"} - set(table.columns)
    if missing:
        raise InputError(f"positions have no column {sorted(missing)[0]!r}; they need chromosome and start")
    start = pd.to_numeric(table["start"], errors="coerce")
    wrong = table.index[start.isna() & table["start"].notna()]
    if len(wrong):
        raise InputError(f"positions: the start {table.loc[wrong[0], 'start']!r} of {wrong[0]!r} is no number")
    known = start.notna() & table["chromosome"].notna()
    place = pd.DataFrame({"chromosome": table["chromosome"].astype(str), "start": start})[known]
    place = place.sort_values(["chromosome", "start"])
    apart = (place["chromosome"] != place["chromosome"].shift()) | (place["start"].diff() > NEAR)
    return knowledge_tables(None, {"positions": apart.cumsum().astype(float).to_frame()}, genes)["positions"][:, 0]
