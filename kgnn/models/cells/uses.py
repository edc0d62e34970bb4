"""What a fitted cell model is used for: embedding, denoising, in silico perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor
from torch.nn import functional as F

from kgnn.data.cells import open_cells
from kgnn.errors import InputError
from kgnn.models.cells.fitted import FittedCells
from kgnn.models.perturbation.predictions import some
from kgnn.names import names_in

Mode = Literal["knock-out", "over-express"]


@torch.no_grad()
def embed(
    cells: FittedCells,
    adata: AnnData | str | Path,
    *,
    layer: str | None = None,
    key_added: str | None = "X_kgnn",
    batch_size: int = 256,
) -> np.ndarray:
    """Return the cell token of each cell, [cells, channels], and write it to `adata.obsm[key_added]`.

    Cells without any known expressed gene get NaN. Nothing is written for data on disk or with `key_added=None`.
    """
    found = np.full((open_cells(adata).n_obs, cells.options.channels), np.nan, np.float32)
    for rows, _, state in cells.encoded(adata, layer=layer, batch_size=batch_size):
        found[rows] = state.special[:, 0].float().cpu().numpy()
    if isinstance(adata, AnnData) and not adata.isbacked and key_added is not None:
        adata.obsm[key_added] = found
    return found


@torch.no_grad()
def denoise(
    cells: FittedCells, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
) -> AnnData:
    """Return expected counts, cells × token genes: the mean of each gene's negative binomial at the cell's own total.

    Raises:
        InputError: a model without the objective `denoise`, or whose cells do not all have the same gene tokens.
    """
    if not cells.options.objectives["denoise"]:
        raise InputError("the model was not trained to denoise; give objectives={'denoise': 1, …}")
    names, obs = cells.shared_genes(), open_cells(adata).obs
    found = np.full((len(obs), len(names)), np.nan, np.float32)
    for rows, batch, encoded in cells.encoded(adata, layer=layer, batch_size=batch_size):
        genes, total = batch.genes.unsqueeze(0), batch.counts.sum(1)
        log_mean, _, _ = cells.network.decoder(encoded.special, genes, total, encoded.genes)
        found[rows] = log_mean.exp().float().cpu().numpy()
    return AnnData(found, obs=obs.copy(), var=pd.DataFrame(index=names))


@torch.no_grad()
def perturb(
    cells: FittedCells,
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
    out = pd.DataFrame(np.nan, index=open_cells(adata).obs_names, columns=list(genes), dtype=np.float32)
    for rows, before, after in _moved(cells, adata, genes, mode, layer, batch_size):
        out.iloc[rows] = (1 - F.cosine_similarity(before.unsqueeze(0), after, dim=-1)).T.cpu().numpy()
    return out


@torch.no_grad()
def rank_regulators(
    cells: FittedCells,
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
    groups = names_in(adata.obs, groupby).to_numpy()
    for state in (start, end):
        if state not in set(groups):
            raise InputError(f"no cell has {groupby} = {state!r}; there are {some(set(groups), 10)}")
    embedding = embed(cells, adata, layer=layer, key_added=None, batch_size=batch_size)
    centre = [
        F.normalize(torch.from_numpy(np.nanmean(embedding[groups == state], axis=0)), dim=0) for state in (start, end)
    ]
    direction = (centre[1] - centre[0]).unsqueeze(-1)
    gained, moved = [], []
    for _, before, after in _moved(cells, adata[groups == start], genes, mode, layer, batch_size):
        before, after = F.normalize(before.cpu(), dim=-1), F.normalize(after.cpu(), dim=-1)
        gained.append(((after - before) @ direction).squeeze(-1))
        moved.append(1 - (after * before).sum(-1))
    gain, shift = torch.cat(gained, 1), torch.cat(moved, 1)
    error = gain.std(1) / gain.shape[1] ** 0.5
    scores = {"towards": gain.mean(1), "z": gain.mean(1) / error.clamp_min(1e-12), "shift": shift.mean(1)}
    table = pd.DataFrame(scores, index=list(genes))
    return table.sort_values("towards", ascending=False)


def _moved(
    cells: FittedCells,
    adata: AnnData | str | Path,
    genes: Sequence[str],
    mode: Mode,
    layer: str | None,
    batch_size: int,
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Rows of each batch, their embeddings [cells, channels], and those after each perturbation [genes, cells, …]."""
    if mode not in get_args(Mode):
        raise InputError(f"mode must be {' or '.join(get_args(Mode))}, not {mode!r}")
    numbers, tokens = cells.genes.get_indexer(list(genes)).tolist(), set(cells.chosen.tolist())
    for gene, number in zip(genes, numbers, strict=True):
        if number not in tokens:
            raise InputError(f"gene {gene!r} is no token of the model; it has {some(set(cells.genes[sorted(tokens)]))}")

    def encode(x: Tensor, species: Tensor | None) -> Tensor:
        return cells.network.encode(cells.tokens(x, species)).special[:, 0]

    for rows, x, species in cells.dense(adata, layer=layer, batch_size=batch_size):
        after = []
        for number in numbers:
            changed = x.clone()
            changed[:, number] = 0.0 if mode == "knock-out" else x.max(1).values
            after.append(encode(changed, species))
        yield rows, encode(x, species), torch.stack(after)
