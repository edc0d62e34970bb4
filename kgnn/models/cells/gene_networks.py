"""A gene network read from a fitted cell model: which genes a gene listens to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from kgnn.data.cells import open_cells
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.sources.tables import load_table
from kgnn.models.cells.fitted import FittedCells
from kgnn.names import names_in
from kgnn.nn.cells import CellNetwork, CellTokens
from kgnn.nn.token_encoders import Attention, Convolution, GraphAttention

Method = Literal["attention", "attribution"]


def gene_network(
    cells: FittedCells,
    adata: AnnData | str | Path,
    *,
    groupby: str | None = None,
    method: Method = "attention",
    top: int = 20,
    max_cells: int = 100,
    layer: str | None = None,
    batch_size: int = 50,
) -> KnowledgeGraph:
    """Read a gene network from the model: which genes a gene listens to, averaged over the cells of a group.

    Args:
        groupby: column of obs; each group has a relation of its own.
        method: `attention` between gene tokens, averaged over heads and layers (scPRINT); with a graph, along edges.
            `attribution`: how the predicted value of a masked gene moves with another gene's value, |∂ŷ / ∂x|; where
            the encoder has graph convolutions only, what an edge carries, |weight × ∂ŷ / ∂weight|; as shares, which
            add up to one for the gene that listens. Slower, a pass a gene, and nearer to the truth; plain
            correlation may be nearer still (docs/cells.md).
        top: for each gene the so many strongest.
        max_cells: cells of a group that are looked at, drawn at random, the same ones each time.

    Returns:
        Graph with `("gene", "influences", "gene")`, or `("gene", "influences in <group>", "gene")` for each group, from
        the gene that is listened to.

    Raises:
        InputError: a model whose cells do not all have the same gene tokens, no such column.
    """
    names = cells.shared_genes()
    if method not in ("attention", "attribution"):
        raise InputError(f"method must be attention or attribution, not {method!r}")
    obs = open_cells(adata).obs
    groups = np.full(len(obs), "all") if groupby is None else names_in(obs, groupby).to_numpy()
    drawn = _draw(groups, max_cells)
    totals: dict[str, np.ndarray] = {}
    sizes: Counter[str] = Counter()
    for rows, x, species in cells.dense(adata, layer=layer, batch_size=batch_size):
        for group in np.unique(groups[rows[drawn[rows]]]):
            inside = torch.from_numpy(np.flatnonzero(drawn[rows] & (groups[rows] == group)))
            batch = cells.tokens(x[inside], None if species is None else species[inside])
            weight = _listening(cells.network, batch, method)
            totals[group] = totals.get(group, 0) + weight * len(inside)
            sizes[group] += len(inside)
    if not totals:
        raise InputError(f"none of the cells drawn expresses a gene that the model knows; raise max_cells={max_cells}")
    graphs = []
    for group, total in totals.items():
        edges = _strongest(total / sizes[group], names, top, shares=method == "attribution")
        relation = "influences" if groupby is None else f"influences in {group}"
        graphs.append(load_table(edges, relation=relation, origin="kgnn", weight="weight"))
    return KnowledgeGraph.of(KnowledgeGraph.merge(graphs).tables.made_from("kgnn", obs.index[drawn]))


def _draw(groups: np.ndarray, number: int) -> np.ndarray:
    """[cells] bool: so many cells of each group at most, at random, the same ones each time."""
    order = np.random.default_rng(0).permutation(len(groups))
    drawn = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        drawn[order[groups[order] == group][:number]] = True
    return drawn


def _strongest(weight: np.ndarray, names: pd.Index, top: int, *, shares: bool) -> pd.DataFrame:
    """Edges to each gene from those that it listens to most; weight [genes, genes], with `shares` of the row's sum."""
    np.fill_diagonal(weight, 0)
    if shares:
        weight = weight / weight.sum(1, keepdims=True).clip(1e-12)
    near = np.argsort(-weight, axis=1)[:, : min(top, len(names) - 1)]
    target = np.repeat(np.arange(len(names)), near.shape[1])
    edges = pd.DataFrame({"source": names[near.ravel()], "target": names[target]})
    edges["weight"] = weight[target, near.ravel()]
    return edges[edges["weight"] > 0]


def _listening(network: CellNetwork, batch: CellTokens, method: Method) -> np.ndarray:
    """[genes, genes], row = who listens, column = to whom; mean over the batch's cells."""
    layers: Any = network.encoder.layers
    if all(isinstance(layer.mix, Convolution) for layer in layers):
        return _along_edges(network, batch)
    return _attention(network, batch) if method == "attention" else _sensitivity(network, batch)


@torch.no_grad()
def _attention(network: CellNetwork, batch: CellTokens) -> np.ndarray:
    layers: Any = network.encoder.layers
    special = network.special(batch.profile - network.special.mean, batch.total, batch.species)
    s, n = special.shape[1], batch.value.shape[1]
    found = np.zeros((n, n), np.float32)
    x = torch.cat([special, network.tokens(batch.genes, batch.value)], 1)
    for layer in layers:
        inside = layer.norm(x)
        if isinstance(layer.mix, GraphAttention):
            assert batch.graph.hears is not None
            weight = layer.mix.weights(inside, batch.graph)
            source, target = batch.graph.hears.edge_index
            kept = (source >= s) & (target >= s)
            found[(target[kept] - s).numpy(), (source[kept] - s).numpy()] += weight[kept].numpy()
        elif isinstance(layer.mix, Attention):
            q, k, _ = (
                part.unflatten(-1, (layer.mix.heads, -1)).transpose(1, 2) for part in layer.mix.qkv(inside).chunk(3, -1)
            )
            for cell in range(len(x)):
                score = (q[cell] @ k[cell].transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1).mean(0)
                found += score[s:, s:].numpy() / len(x)
        x = layer(x, batch.graph)
    return found / sum(isinstance(layer.mix, Attention) for layer in layers)


@torch.enable_grad()
def _sensitivity(network: CellNetwork, batch: CellTokens) -> np.ndarray:
    cells, n = batch.value.shape
    found = np.zeros((n, n), np.float32)
    value = batch.value.clone().requires_grad_()
    profile = batch.profile.scatter(1, batch.genes.expand(cells, n), value)
    seen = batch._replace(value=value, profile=profile)
    for gene in range(n):
        masked = torch.zeros(cells, n, dtype=torch.bool)
        masked[:, gene] = True
        predicted = network.values(network.encode(seen, masked), seen)[:, gene].sum()
        (slope,) = torch.autograd.grad(predicted, value, retain_graph=True)
        found[gene] = slope.abs().mean(0).numpy()
    return found


def _along_edges(network: CellNetwork, batch: CellTokens) -> np.ndarray:
    near = batch.graph.near
    assert near is not None
    weight = near.edge_weight.clone().requires_grad_()
    encoded = network.encode(batch._replace(graph=batch.graph._replace(weight=weight)))
    network.value(encoded.genes).abs().sum().backward()
    network.zero_grad()
    assert weight.grad is not None
    source, target = near.edge_index
    found = np.zeros(near.shape, np.float32)
    found[target.numpy(), source.numpy()] = (weight * weight.grad).abs().detach().numpy() / len(batch.value)
    return found
