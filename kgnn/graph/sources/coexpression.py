"""Co-expression of genes over cells."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.linalg import get_blas_funcs
from scipy.stats import rankdata

from kgnn.errors import InputError
from kgnn.expression import summed
from kgnn.graph.edges import table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.sources.cells import cells_of, expression_in
from kgnn.graph.structure import heaviest
from kgnn.graph.tables import GraphTables
from kgnn.names import column_in
from kgnn.parts import check_number

RELATION = ("gene", "coexpressed", "gene")
DENSE = 1 << 25  # values [cells, genes] that are dense at a time: 128 MB in float32
ENTRIES = 1 << 26  # of the matrix of products that are held at a time: 512 MB
FLUSH = 8  # blocks whose products are summed in the data's own precision, before they go into float64


def load_coexpression(
    adata: AnnData | str | Path,
    *,
    threshold: float = 0.4,
    k: int | None = 20,
    method: str = "pearson",
    signed: bool = False,
    groupby: str | None = None,
    layer: str | None = None,
    origin: str = "coexpression",
) -> KnowledgeGraph:
    """Link genes whose expression correlates over the cells of `adata` (GEARS, Roohani et al. 2024).

    The weight is |r|, the sign that of r. Edges with |r| > `threshold` stay, for each target gene its `k` strongest
    sources. Give training cells only, or the graph has seen what it is tested on:
    `load_coexpression(kgnn.data.training_cells(adata, split))`.

    Args:
        adata: cells × genes (or the path of an H5AD file), log-normalised; in memory, backed, or with a Dask array.
            Cells are made dense a few thousand at a time, products are held for as many genes as fit 512 MB. (Spearman
            holds the expressed values of all cells, sparse, and their ranks.)
        threshold: |r| above which an edge stays.
        k: sources a target; None keeps all. GEARS keeps 21 and counts the self loop; here self loops are no edges.
        method: `pearson`, or `spearman` (Pearson of the ranks over cells, ties averaged).
        signed: keep edges with r > `threshold` only, instead of |r|.
        groupby: column of `obs`, such as a cell type or batch: r is computed within each group of at least three
            cells and averaged over the groups in which both genes vary, so that no difference between groups counts.
        layer: use this layer instead of `X`.
        origin: name of this source in the graph.

    Returns:
        A graph with the relation `("gene", "coexpressed", "gene")`; all genes of `adata` are nodes. A gene that
        is constant over the cells has no edges; constant genes, and cells in groups too small, are counted.

    Raises:
        InputError: fewer than three cells, NaN in the data, duplicate gene names, an unknown method, layer or column.
    """
    adata = cells_of(adata)
    if method not in ("pearson", "spearman"):
        raise InputError(f"method {method!r} is unknown; choose pearson or spearman")
    check_number(threshold, "threshold", 0, 1, hint="it is a correlation")
    if k is not None:
        check_number(k, "k", 1, whole=True, hint="None keeps all")
    if adata.n_obs < 3:
        raise InputError(f"{adata.n_obs} cells are too few for correlations; give at least 3")
    fine = ("log", "scaled") if method == "pearson" else ("log", "scaled", "counts", "linear")
    x = expression_in(adata, layer, "co-expression", fine)
    groups, dropped = _groups(adata, groupby)
    if method == "spearman" or getattr(x, "format", "csr") != "csr":  # columns of a backed file are slow to cut
        x = _in_memory(x)
    parts = [_Cells(x, rows, adata.var_names, ranks=method == "spearman") for rows in groups]

    parts_of_edges = []
    step = max(1, ENTRIES // max(adata.n_vars, 1))
    for start in range(0, adata.n_vars, step):
        r = _mean_correlation(parts, slice(start, min(start + step, adata.n_vars)))
        r[np.arange(len(r)), np.arange(start, start + len(r))] = 0
        row, source = np.nonzero(r > threshold if signed else np.abs(r) > threshold)
        source, target, weight = heaviest(source, row + start, np.abs(r[row, source]), k)
        parts_of_edges.append((source, target, weight, np.sign(r[target - start, source])))
    source, target, weight, sign = (np.concatenate(columns) for columns in zip(*parts_of_edges, strict=True))
    constant = np.all([part.constant for part in parts], axis=0)
    if constant.any():
        dropped["constant genes"] = int(constant.sum())
    table = table_of(source, target, origin, np.minimum(weight, 1), sign)
    counts = {"rows_read": adata.n_obs, "unit": "cells", "dropped": dropped}
    tables = GraphTables.of_relation({"gene": adata.var_names}, RELATION, table, origin, **counts)
    return KnowledgeGraph.of(tables.made_from(origin, adata.obs_names))


def _groups(adata: AnnData, groupby: str | None) -> tuple[list[np.ndarray], dict[str, int]]:
    """Return the cells of each group, as sorted row numbers, and what was left out."""
    if groupby is None:
        return [np.arange(adata.n_obs)], {}
    codes, labels = pd.factorize(column_in(adata.obs, groupby))
    groups = [np.flatnonzero(codes == code) for code in range(len(labels))]
    large = [rows for rows in groups if len(rows) >= 3]
    if not large:
        raise InputError(f"no group of {groupby!r} has three cells; group by another column or not at all")
    lost = adata.n_obs - sum(map(len, large))
    return large, {f"cells in {groupby} groups of fewer than 3, or in none": lost} if lost else {}


def _in_memory(x: Any) -> Any:
    """Sparse stays sparse; rows become quick to take."""
    if hasattr(x, "compute"):
        x = x.compute()
    elif hasattr(x, "to_memory"):
        x = x.to_memory()
    return sparse.csr_array(x) if sparse.issparse(x) else np.asarray(x)


class _Cells:
    """The cells of one group: dense blocks of them, and each gene's mean and deviation."""

    def __init__(self, x: Any, rows: np.ndarray, names: pd.Index, *, ranks: bool) -> None:
        self.x = _ranks(x[rows]) if ranks else x
        self.rows = np.arange(len(rows)) if ranks else rows
        self.all = len(self.rows) == x.shape[0]
        total, squares = np.zeros(len(names)), np.zeros(len(names))
        for block in self._raw_blocks():
            if sparse.issparse(block):
                total += np.bincount(block.indices, block.data, minlength=len(names))
                squares += np.bincount(block.indices, np.square(block.data, dtype=np.float64), minlength=len(names))
            else:
                total += block.sum(axis=0, dtype=np.float64)
                squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
        if not np.isfinite(squares).all():
            gene = names[int(np.argmin(np.isfinite(squares)))]
            raise InputError(f"gene {gene!r} has NaN or infinite values; remove or impute them first")
        mean = total / len(rows)
        variance = squares / len(rows) - mean**2
        self.constant = variance <= 1e-12 * np.maximum(mean**2, 1e-12)
        self.deviation = np.where(self.constant, np.inf, np.sqrt(np.maximum(variance, 0)))
        # sums of products about the mean lose no digits; only genes of a high and steady level lose some otherwise
        steady = mean**2 > 10 * variance
        self.shift: np.ndarray = np.where(steady, mean, 0).astype(self._dtype())
        self.steady = np.flatnonzero(steady)
        self.mean = mean - self.shift

    def _dtype(self) -> type:
        return np.float32 if self.x.dtype == np.float32 else np.float64

    def _raw_blocks(self) -> Iterator[Any]:
        """Yield [cells, genes], a few thousand cells at a time, CSR or dense."""
        step = max(1, DENSE // max(self.x.shape[1], 1))
        for start in range(0, len(self.rows), step):
            stop = min(start + step, len(self.rows))
            if self.all and isinstance(self.x, sparse.csr_array | sparse.csr_matrix):
                yield summed(_rows(self.x, start, stop))
                continue
            block = self.x[start:stop] if self.all else self.x[self.rows[start:stop]]
            block = block.compute() if hasattr(block, "compute") else block
            yield summed(sparse.csr_array(block)) if sparse.issparse(block) else np.asarray(block, self._dtype())

    def products(self, genes: slice) -> np.ndarray:
        """Return Σ over cells of x_i x_j for the genes of the slice and all genes."""
        whole = genes.stop - genes.start == len(self.mean)
        total = np.zeros((genes.stop - genes.start, len(self.mean)))
        part: np.ndarray = np.zeros(total.shape, self._dtype(), order="F")
        syrk, gemm = get_blas_funcs(("syrk", "gemm"), dtype=part.dtype)
        buffer: np.ndarray = np.empty((0, 0), self._dtype())
        for number, block in enumerate(self._raw_blocks()):
            if len(buffer) < block.shape[0]:
                buffer = np.empty(block.shape, self._dtype())  # fresh memory for each block would cost a tenth
            dense = buffer[: block.shape[0]]
            if sparse.issparse(block):
                block.astype(self._dtype(), copy=False).toarray(out=dense)
                dense[:, self.steady] -= self.shift[self.steady]
            else:
                np.subtract(block, self.shift, out=dense)
            if whole:  # symmetric: the lower triangle will do
                part = syrk(1.0, dense.T, beta=1.0, c=part, overwrite_c=True, lower=True)
            else:
                part = gemm(1.0, dense.T[genes], dense.T, beta=1.0, c=part, trans_b=True, overwrite_c=True)
            if number % FLUSH == FLUSH - 1:
                total += part
                part[:] = 0
        total += part
        if whole:
            total = np.tril(total)
            total += np.tril(total, -1).T
        return total


def _rows(x: Any, start: int, stop: int) -> sparse.csr_array:
    """Rows of a CSR matrix, without a copy."""
    a, b = x.indptr[start], x.indptr[stop]
    parts = x.data[a:b], x.indices[a:b], x.indptr[start : stop + 1] - a
    return sparse.csr_array(parts, shape=(stop - start, x.shape[1]), copy=False)


def _mean_correlation(parts: list[_Cells], genes: slice) -> np.ndarray:
    """Return r [genes of the slice, all genes], averaged over the groups in which both genes vary."""
    total: Any = 0
    count: Any = 0
    for part in parts:
        r = part.products(genes)
        r /= len(part.rows)
        r -= np.outer(part.mean[genes], part.mean)
        r /= part.deviation[genes, None]
        r /= part.deviation
        if len(parts) == 1:
            return r
        vary = np.outer(~part.constant[genes], ~part.constant)
        total, count = total + r, count + vary.astype(np.int32)
    return total / np.maximum(count, 1)


def _ranks(x: Any) -> Any:
    """Return the ranks over cells, less each gene's rank of zero, which keeps sparse data sparse."""
    if not sparse.issparse(x):
        return rankdata(x, axis=0)
    columns = sparse.csc_array(x, dtype=np.float64)
    columns.sum_duplicates()
    n_cells = columns.shape[0]
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        values = columns.data[start:stop]
        if not np.isfinite(values).all():
            values[:] = np.nan
            continue
        zeros = n_cells - len(values)
        rank = rankdata(values)  # among the stored values
        below, equal = (values < 0).sum(), (values == 0).sum()
        at_zero = below + (zeros + equal + 1) / 2
        shifted = np.where(values > 0, rank + zeros, rank) - at_zero
        shifted[values == 0] = 0
        columns.data[start:stop] = shifted
    return sparse.csr_array(columns)
