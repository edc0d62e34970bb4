"""What a fitted `CellModel` is used for: denoising, gene networks, in silico perturbation. Each is a method of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor
from torch.nn import functional as F

from kgnn.data.cells import CellSource
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.sources.tables import load_table
from kgnn.models.cells.labels import obs_column
from kgnn.models.cells.reading import count_cells
from kgnn.models.perturbation.predictions import some
from kgnn.nn.cells import CellTokens
from kgnn.nn.token_encoders import Attention, Convolution, GraphAttention, TokenGraph

if TYPE_CHECKING:
    from kgnn.models.cells.model import CellModel

Mode = Literal["knock-out", "over-express"]
Method = Literal["attention", "attribution"]


@torch.no_grad()
def denoise(
    self: CellModel, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
) -> AnnData:
    """Return expected counts, cells × token genes: the mean of each gene's negative binomial at the cell's own total.

    Raises:
        InputError: a model without the objective `denoise`, or whose cells do not all have the same gene tokens.
    """
    if not self.objectives["denoise"]:
        raise InputError("the model was not trained to denoise; give objectives={'denoise': 1, …}")
    if self.genes == "expressed":
        raise InputError("with genes='expressed' each cell has genes of its own; fit with genes='variable' or 'all'")
    found = np.full((count_cells(adata), len(self.chosen_)), np.nan, np.float32)
    genes: Tensor | None = None
    for rows, batch, encoded in self.encoded(adata, layer=layer, batch_size=batch_size):
        log_mean, _, _ = self.network_.decoder(
            encoded.special, batch.genes.unsqueeze(0), batch.counts.sum(1), encoded.genes
        )
        found[rows], genes = log_mean.exp().float().cpu().numpy(), batch.genes
    assert genes is not None
    source = CellSource(adata, self.genes_, layer=layer)
    out = AnnData(found, obs=source.adata.obs.copy())
    out.var_names = self.genes_[genes.cpu().numpy()]
    return out


def gene_network(
    self: CellModel,
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
    if self.genes in ("expressed", "sampled"):
        raise InputError(f"with genes={self.genes!r} cells differ in their genes; fit with genes='variable' or 'all'")
    if method not in ("attention", "attribution"):
        raise InputError(f"method must be attention or attribution, not {method!r}")
    source = CellSource(adata, self.genes_, layer=layer)
    obs = source.adata.obs
    groups = np.full(len(source), "all") if groupby is None else obs_column(obs, groupby).astype(str).to_numpy()
    order = np.random.default_rng(0).permutation(len(source))
    drawn = np.zeros(len(source), bool)
    for group in np.unique(groups):
        drawn[order[groups[order] == group][:max_cells]] = True
    names = self.genes_[self.chosen_.numpy()]
    totals: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for rows, batch in self.batches(adata, layer=layer, batch_size=batch_size):
        for group in np.unique(groups[rows[drawn[rows]]]):
            inside = torch.from_numpy(np.flatnonzero(drawn[rows] & (groups[rows] == group)))
            part = batch._replace(
                counts=batch.counts[inside],
                value=batch.value[inside],
                profile=batch.profile[inside],
                total=batch.total[inside],
                species=None if batch.species is None else batch.species[inside],
            )
            weights = _listening(self, part, method)
            totals[group] = totals.get(group, 0) + weights * len(inside)
            sizes[group] = sizes.get(group, 0) + len(inside)
    kg: KnowledgeGraph | None = None
    for group, total in totals.items():
        weight = total / sizes[group]
        np.fill_diagonal(weight, 0)
        if method == "attribution":
            weight /= weight.sum(1, keepdims=True).clip(1e-12)
        near = np.argsort(-weight, axis=1)[:, : min(top, len(names) - 1)]
        target = np.repeat(np.arange(len(names)), near.shape[1])
        edges = pd.DataFrame({"source": names[near.ravel()], "target": names[target]})
        edges["weight"] = weight[target, near.ravel()]
        edges = edges[edges["weight"] > 0]
        relation = "influences" if groupby is None else f"influences in {group}"
        part_graph = load_table(edges, relation=relation, origin="kgnn", weight="weight")
        kg = part_graph if kg is None else kg | part_graph
    if kg is None:
        raise InputError(f"none of the cells drawn expresses a gene that the model knows; raise max_cells={max_cells}")
    return kg


def _listening(model: CellModel, batch: CellTokens, method: Method) -> np.ndarray:
    """[genes, genes], row = who listens, column = to whom; mean over the batch's cells."""
    layers: Any = model.network_.encoder.layers
    if all(isinstance(layer.mix, Convolution) for layer in layers):
        return _along_edges(model, batch)
    return _attention(model, batch) if method == "attention" else _sensitivity(model, batch)


@torch.no_grad()
def _attention(model: CellModel, batch: CellTokens) -> np.ndarray:
    network = model.network_
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
def _sensitivity(model: CellModel, batch: CellTokens) -> np.ndarray:
    cells, n = batch.value.shape
    found = np.zeros((n, n), np.float32)
    value = batch.value.clone().requires_grad_()
    profile = batch.profile.scatter(1, batch.genes.expand(cells, n), value)
    seen = batch._replace(value=value, profile=profile)
    for gene in range(n):
        masked = torch.zeros(cells, n, dtype=torch.bool)
        masked[:, gene] = True
        predicted = model.network_.values(model.network_.encode(seen, masked), seen)[:, gene].sum()
        (slope,) = torch.autograd.grad(predicted, value, retain_graph=True)
        found[gene] = slope.abs().mean(0).numpy()
    return found


def _along_edges(model: CellModel, batch: CellTokens) -> np.ndarray:
    near = batch.graph.near
    assert near is not None
    weight = near.edge_weight.clone().requires_grad_()
    graph: TokenGraph = batch.graph._replace(weight=weight)
    encoded = model.network_.encode(batch._replace(graph=graph))
    model.network_.value(encoded.genes).abs().sum().backward()
    model.network_.zero_grad()
    assert weight.grad is not None
    source, target = near.edge_index
    found = np.zeros(near.shape, np.float32)
    found[target.numpy(), source.numpy()] = (weight * weight.grad).abs().detach().numpy() / len(batch.value)
    return found


@torch.no_grad()
def perturb(
    self: CellModel,
    adata: AnnData | str | Path,
    genes: Sequence[str],
    *,
    mode: Mode = "knock-out",
    layer: str | None = None,
    batch_size: int = 256,
) -> pd.DataFrame:
    """In silico perturbation (GeneCompass): how far the cell embedding moves when a gene is removed or raised.

    Args:
        genes: one after the other; each must be a token of the model.
        mode: `knock-out` sets the gene to 0, `over-express` to the cell's highest value.

    Returns:
        A table [cells, genes] of cosine distances between the embeddings before and after; NaN for cells without any
        known expressed gene.
    """
    source = CellSource(adata, self.genes_, layer=layer)
    out = pd.DataFrame(np.nan, index=source.adata.obs_names, columns=list(genes), dtype=np.float32)
    for rows, before, after in _moved(self, adata, genes, mode, layer, batch_size):
        out.iloc[rows] = (1 - F.cosine_similarity(before.unsqueeze(0), after, dim=-1)).T.cpu().numpy()
    return out


@torch.no_grad()
def rank_regulators(
    self: CellModel,
    adata: AnnData,
    genes: Sequence[str],
    *,
    groupby: str,
    start: str,
    end: str,
    mode: Mode = "over-express",
    layer: str | None = None,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Rank genes by how far perturbing them moves cells of one state towards another (GeneCompass).

    Args:
        groupby: column of obs with the states; start: the state whose cells are perturbed; end: the one to reach.

    Returns:
        A table indexed by gene, best first: `towards`, the mean change of (cosine to the end state's mean embedding
        less cosine to the start's); `z`, that over its standard error; `shift`, the mean cosine distance.
    """
    groups = obs_column(adata.obs, groupby).astype(str).to_numpy()
    for state in (start, end):
        if state not in set(groups):
            raise InputError(f"no cell has {groupby} = {state!r}; there are {some(set(groups), 10)}")
    embedding = self.embed(adata, layer=layer, key_added=None, batch_size=batch_size)
    centre = [
        F.normalize(torch.from_numpy(np.nanmean(embedding[groups == state], axis=0)), dim=0) for state in (start, end)
    ]
    direction = (centre[1] - centre[0]).unsqueeze(-1)
    gained, moved = [], []
    for _, before, after in _moved(self, adata[groups == start], genes, mode, layer, batch_size):
        before, after = F.normalize(before.cpu(), dim=-1), F.normalize(after.cpu(), dim=-1)
        gained.append(((after - before) @ direction).squeeze(-1))
        moved.append(1 - (after * before).sum(-1))
    gain, shift = torch.cat(gained, 1), torch.cat(moved, 1)
    error = gain.std(1) / gain.shape[1] ** 0.5
    scores = {"towards": gain.mean(1), "z": gain.mean(1) / error.clamp_min(1e-12), "shift": shift.mean(1)}
    table = pd.DataFrame(scores, index=list(genes))
    return table.sort_values("towards", ascending=False)


def _moved(self: CellModel, adata, genes, mode, layer, batch_size):  # type: ignore[no-untyped-def]
    """Rows of each batch, their embeddings [cells, channels], and those after each perturbation [genes, cells, …]."""
    if mode not in ("knock-out", "over-express"):
        raise InputError(f"mode must be knock-out or over-express, not {mode!r}")
    numbers = self.genes_.get_indexer(list(genes))
    tokens = set(self.chosen_.tolist()) if self.genes in ("all", "variable") else set(range(len(self.genes_)))
    for gene, number in zip(genes, numbers.tolist(), strict=True):
        if number not in tokens:
            raise InputError(f"gene {gene!r} is no token of the model; it has {some(set(self.genes_[sorted(tokens)]))}")
    for rows, x, species in self.dense(adata, layer=layer, batch_size=batch_size):
        before = self.network_.encode(self.tokens(x, species)).special[:, 0]
        after = []
        for number in numbers.tolist():
            changed = x.clone()
            changed[:, number] = 0.0 if mode == "knock-out" else x.max(1).values
            after.append(self.network_.encode(self.tokens(changed, species)).special[:, 0])
        yield rows, before, torch.stack(after)
