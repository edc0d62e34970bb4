"""Reading cells for a fitted `CellModel`. The first four are methods of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from torch import Tensor

from kgnn.data.cells import CellSource, Kind, ShuffledCells, open_cells, usable_cells
from kgnn.errors import InputError
from kgnn.models.cells.training import choose_genes, make_tokens
from kgnn.nn.cells import CellTokens, Encoded

if TYPE_CHECKING:
    from kgnn.models.cells.model import CellModel

KINDS: dict[Kind, str] = {"counts": "raw counts", "log": "log-normalised values"}


def dense(
    self: CellModel, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
    """Row numbers, expression [cells, vocabulary] and species of the usable cells, a batch at a time, in order."""
    self._check_fitted()
    source = CellSource(adata, self.genes_, layer=layer)
    check_kind(self, source)
    cells = ShuffledCells(
        source,
        usable_cells(source),
        np.zeros((len(source), 0), np.int64),
        species_of(self, source),
        batch_size=batch_size,
        shuffle=False,
    )
    device = self.network_.tokens.embedding.device
    for part in cells:
        yield part.rows.numpy(), part.x.to(device), part.species.to(device) if self.species_ else None


def tokens(self: CellModel, x: Tensor, species: Tensor | None) -> CellTokens:
    """The tokens of cells [cells, vocabulary], as `encode` of the network takes them."""
    genes, present = choose_genes(x, self.genes, self.context, self.chosen_.to(x.device), False)
    return make_tokens(x, species, self.kind_, genes, present, self._graphs)


def batches(
    self: CellModel, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
) -> Iterator[tuple[np.ndarray, CellTokens]]:
    """Row numbers and tokens of the usable cells."""
    for rows, x, species in self.dense(adata, layer=layer, batch_size=batch_size):
        yield rows, self.tokens(x, species)


def encoded(
    self: CellModel, adata: AnnData | str | Path, *, layer: str | None = None, batch_size: int = 256
) -> Iterator[tuple[np.ndarray, CellTokens, Encoded]]:
    """Row numbers, tokens and what the encoder makes of them."""
    for rows, batch in self.batches(adata, layer=layer, batch_size=batch_size):
        yield rows, batch, self.network_.encode(batch)


def species_of(model: CellModel, source: CellSource) -> np.ndarray:
    """Numbers of the cells' species."""
    if not model.species_:
        return np.zeros(len(source), np.int64)
    if model.species_key not in source.adata.obs:
        raise InputError(f"no column {model.species_key!r} in obs, which tells the species")
    found = pd.Index(model.species_).get_indexer(source.adata.obs[model.species_key].astype(str))
    if (found < 0).any():
        wrong = source.adata.obs[model.species_key].astype(str).to_numpy()[found < 0][0]
        raise InputError(f"species {wrong!r} is unknown to the model; it knows {', '.join(model.species_)}")
    return found.astype(np.int64)


def check_kind(model: CellModel, source: CellSource) -> None:
    """Refuse values of another kind than those that the model was fitted on."""
    if source.kind != model.kind_:
        raise InputError(f"the model was fitted on {KINDS[model.kind_]}, these data are {KINDS[source.kind]}")


def count_cells(adata: AnnData | str | Path) -> int:
    """Number of cells."""
    return (open_cells(adata) if isinstance(adata, str | Path) else adata).n_obs
