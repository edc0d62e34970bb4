"""Annotated single-cell data, in memory or on disk: read by rows, checked, brought to a vocabulary of genes."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from kgnn.errors import DataWarning, InputError
from kgnn.expression import PROBE, are_whole, scale_of, summed
from kgnn.files import check_alone, existing_file, read_json
from kgnn.names import check_once

Kind = Literal["counts", "log"]


class CellSource:
    """Expression by rows over a vocabulary of genes; the AnnData may stay on disk.

    Args:
        adata: AnnData in memory, or opened with `backed="r"`; or the path of an H5AD file or a Zarr folder, which is
            read in parts.
        genes: the vocabulary; by default the data's own genes. Genes that the data lack count as not measured (0).
        layer: which layer; by default X.

    Attributes: `adata`, `genes`, `kind` (`counts`: whole numbers; `log`: log-normalised), `n_known` (genes of the
    vocabulary that the data have), `on_disk`.

    Raises:
        InputError: no such layer, gene names that stand twice, no gene of the vocabulary, values that are neither
            counts nor log-normalised.
    """

    def __init__(self, adata: AnnData | str | Path, genes: pd.Index | None = None, *, layer: str | None = None) -> None:
        self.adata = open_cells(adata)
        if layer is not None and layer not in self.adata.layers:
            known = ", ".join(self.adata.layers) or "none"
            raise InputError(f"no layer {layer!r}; the layers are {known}")
        names = self.adata.var_names
        check_once(names)
        if not self.adata.n_obs:
            raise InputError("the data have no cells")
        self.layer, self.genes = layer, names if genes is None else genes
        self._column = self.genes.get_indexer(names)
        self.n_known = int((self._column >= 0).sum())
        if not self.n_known:
            raise InputError(
                f"none of the {len(names)} genes of the data ({', '.join(names[:3])}, …) is known to the model "
                f"({', '.join(map(str, self.genes[:3]))}, …); check species and gene namespace"
            )
        rng = np.random.default_rng(0)
        start = int(rng.integers(max(1, self.adata.n_obs - PROBE + 1)))
        self.kind = what_values(self._read(slice(start, start + PROBE)))

    @property
    def _matrix(self) -> Any:
        return self.adata.X if self.layer is None else self.adata.layers[self.layer]

    @property
    def on_disk(self) -> bool:
        return not isinstance(self._matrix, np.ndarray | sparse.spmatrix | sparse.sparray)

    def _read(self, rows: Any) -> Any:
        try:
            return self._matrix[rows]
        except Exception as error:  # h5py, zarr and anndata raise many kinds for what is damaged or no matrix
            what = (str(error).splitlines() or [""])[0]
            name = f"layer {self.layer!r}" if self.layer else "X"
            raise InputError(f"{name} of the data cannot be read ({type(error).__name__}: {what})") from None

    def __len__(self) -> int:
        return self.adata.n_obs

    def rows(self, rows: np.ndarray) -> sparse.csr_matrix:
        """Return expression [rows, vocabulary] float32 of ascending row numbers.

        Raises:
            InputError: NaN, infinite or negative values, with the cell's name.
        """
        x = summed(sparse.csr_matrix(self._read(rows), dtype=np.float32))
        x.eliminate_zeros()  # of the copy that indexing made: a stored zero is no expression
        bad = ~np.isfinite(x.data) | (x.data < 0)
        if bad.any():
            cell = self.adata.obs_names[rows[np.searchsorted(x.indptr, np.argmax(bad), side="right") - 1]]
            value = x.data[np.argmax(bad)]
            raise InputError(
                f"cell {cell!r}: the value {value} is no expression; give raw counts or log-normalised values"
            )
        if len(self._column) == len(self.genes) and (self._column == np.arange(len(self.genes))).all():
            return x
        column = self._column[x.indices]
        kept = column >= 0
        row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))[kept]
        return sparse.csr_matrix((x.data[kept], (row, column[kept])), (x.shape[0], len(self.genes)))


def open_cells(data: AnnData | str | Path) -> AnnData:
    """Open an H5AD file or a Zarr folder without reading its matrices; an AnnData is returned as it is."""
    import anndata

    if isinstance(data, AnnData):
        return data
    path = Path(data)
    try:
        if path.is_dir():
            import zarr

            _check_store(path)
            group: Any = zarr.open_group(path, mode="r")
            parts = {"X": group["X"]} | {f"layers/{name}": group["layers"][name] for name in group.get("layers", [])}
            lazy = {
                name: anndata.io.sparse_dataset(part) if isinstance(part, zarr.Group) else part
                for name, part in parts.items()
            }
            obs, var = anndata.io.read_elem(group["obs"]), anndata.io.read_elem(group["var"])
            layers = {name.removeprefix("layers/"): part for name, part in lazy.items() if name != "X"}
            return AnnData(lazy["X"], obs=obs, var=var, layers=layers)
        check_alone(existing_file(path))
        return anndata.read_h5ad(path, backed="r")
    except InputError:
        raise
    except Exception as error:  # h5py, zarr and anndata raise many kinds for files that are none of theirs
        what = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: cannot be read as AnnData ({type(error).__name__}: {what})") from None


def _check_store(store: Path) -> None:
    """Refuse a Zarr store with what is no file, or of which a codec would run pickles, that is, anybody's code."""
    seen = set()
    for folder, folders, files in os.walk(store, followlinks=True):
        seen.add(os.path.realpath(folder))
        folders[:] = [name for name in folders if os.path.realpath(f"{folder}/{name}") not in seen]
        for name in files:
            file = Path(folder) / name
            if name in (".zarray", ".zmetadata", "zarr.json", ".zattrs", ".zgroup"):
                told = json.dumps(read_json(file))  # what is no JSON would not come back from Zarr's threads
                if name != ".zattrs" and re.search(r'"(numcodecs\.)?pickle"', told, re.IGNORECASE):
                    raise InputError(f"{file}: an array is kept as pickles, which can run code; write the store anew")
            elif not file.is_file():
                raise InputError(f"{file}: is no file; write the store anew")


def what_values(x: Any) -> Kind:
    """Tell raw counts (whole numbers) from log-normalised values; anything else is an error."""
    scale = scale_of(x)
    if scale == "scaled":
        raise InputError(
            f"the values go down to {x.min():.3g}: scaled data; give raw counts or log-normalised values (layer=, or "
            "adata.raw.to_adata())"
        )
    if scale == "linear":
        raise InputError(
            f"the values go up to {x.max():.6g} and are no whole numbers: neither raw counts nor log-normalised; "
            "give the counts, or apply scanpy.pp.log1p"
        )
    return "counts" if are_whole(x) else "log"


def usable_cells(source: CellSource, chunk: int = 4096) -> np.ndarray:
    """Numbers of the cells with any expressed gene of the vocabulary; the others are counted and told."""
    found = [
        start + np.flatnonzero(np.diff(source.rows(np.arange(start, min(start + chunk, len(source)))).indptr))
        for start in range(0, len(source), chunk)
    ]
    kept = np.concatenate(found)
    if not len(kept):
        raise InputError("no cell expresses any gene that the model knows; check species and gene namespace")
    if len(kept) < len(source):
        first = source.adata.obs_names[np.setdiff1d(np.arange(len(source)), kept)[0]]
        message = (
            f"{len(source) - len(kept)} of {len(source)} cells express no known gene and are left out ({first!r}, …)"
        )
        warnings.warn(message, DataWarning, stacklevel=5)
    return kept


class CellRows(NamedTuple):
    """x [cells, vocabulary] dense; labels [cells, classes], −1 unknown; species [cells]; rows [cells]: numbers."""

    x: Tensor
    labels: Tensor
    species: Tensor
    rows: Tensor


class ShuffledCells(IterableDataset[CellRows]):
    """Batches of cells in random order: blocks of neighbouring rows are read in random order, and mixed.

    In memory every row is a block of its own; on disk so many blocks at a time are mixed, so that an atlas larger than
    memory trains. Every process (DDP, and workers of the loader) reads blocks of its own and gives as many batches as
    the others.

    Args:
        source: the cells.
        rows: [cells], which of them, ascending.
        labels, species: [cells of the source, classes] and [cells of the source], numbers.
        batch_size: cells a batch; block_size: rows read at once from disk; mixed: blocks mixed at a time.
        shuffle: False gives the rows in their order.
    """

    def __init__(
        self,
        source: CellSource,
        rows: np.ndarray,
        labels: np.ndarray,
        species: np.ndarray,
        *,
        batch_size: int,
        block_size: int = 512,
        mixed: int = 16,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.source, self.cells, self.labels, self.species = source, rows, labels, species
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0
        self.block_size = block_size if source.on_disk or not shuffle else 1
        self.together = block_size * mixed

    def __len__(self) -> int:
        readers, _ = self._share()
        return -(-(len(self.cells) if readers == 1 else self._least(readers)) // self.batch_size)

    def skip(self, epochs: int) -> None:
        """Begin with the order of the cells after so many epochs."""
        self.epoch += epochs

    def _least(self, readers: int) -> int:
        """Rows that every one of several readers has, whichever blocks it draws."""
        size = self._size(readers)
        n_blocks = -(-len(self.cells) // size)
        return max(0, n_blocks // readers * size - (n_blocks * size - len(self.cells)))

    def _size(self, readers: int) -> int:
        """Rows a block: several blocks for every reader."""
        return max(1, min(self.block_size, len(self.cells) // (8 * readers)))

    def _share(self) -> tuple[int, int]:
        """How many readers there are, and which one this is."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        world, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if distributed else (1, 0)
        worker = get_worker_info()
        if worker is None:
            return world, rank
        return world * worker.num_workers, rank * worker.num_workers + worker.id

    def _plan(self, rng: np.random.Generator) -> np.ndarray:
        """The rows of this reader, in the order of its blocks."""
        readers, number = self._share()
        size = self._size(readers)
        blocks = [self.cells[start : start + size] for start in range(0, len(self.cells), size)]
        order = rng.permutation(len(blocks)) if self.shuffle else np.arange(len(blocks))
        rows = np.concatenate([blocks[block] for block in order[number::readers]] or [self.cells[:0]])
        return rows if readers == 1 else rows[: self._least(readers)]

    def __iter__(self) -> Iterator[CellRows]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        rows = self._plan(rng)
        waiting: np.ndarray = np.zeros(0, np.int64)
        held: sparse.csr_matrix | None = None
        for start in range(0, len(rows), self.together):
            part = rows[start : start + self.together]
            ascending = np.sort(part)
            x = self.source.rows(ascending)
            order = rng.permutation(len(ascending)) if self.shuffle else np.arange(len(ascending))
            x, part = x[order], ascending[order]
            if held is not None:
                x, part = sparse.vstack([held, x], format="csr"), np.concatenate([waiting, part])
            whole = len(part) // self.batch_size * self.batch_size
            for first in range(0, whole, self.batch_size):
                yield self._batch(x[first : first + self.batch_size], part[first : first + self.batch_size])
            held, waiting = x[whole:], part[whole:]
        if len(waiting) and held is not None:
            yield self._batch(held, waiting)

    def _batch(self, x: sparse.csr_matrix, rows: np.ndarray) -> CellRows:
        dense = torch.from_numpy(x.toarray())
        labels, species = (torch.from_numpy(part[rows]) for part in (self.labels, self.species))
        return CellRows(dense, labels, species, torch.from_numpy(rows))
