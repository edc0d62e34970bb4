"""Matrices of users as they come: sparse ones in which one place may stand several times."""

from __future__ import annotations

from typing import Any

from scipy import sparse

from kgnn.errors import InputError


def summed(x: Any) -> Any:
    """Return a sparse matrix [rows, columns] as canonical CSR: columns in order, each place once, the user's unchanged.

    An entry may be split into several whose sum it is (CSR, CSC and COO allow it); whatever reads `data` and `indices`
    must not take the parts for values. Arrays stay arrays, matrices matrices; nothing is copied where nothing is split.
    """
    kind = sparse.csr_array if isinstance(x, sparse.sparray) else sparse.csr_matrix
    x = x.tocsr()
    rows = kind((x.data, x.indices, x.indptr), shape=x.shape, copy=False)  # forgets what x may wrongly say of itself
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def matrix_of(adata: Any, layer: str | None = None) -> Any:
    """Return the matrix [cells, genes] of an AnnData: `X`, or a layer; as it is stored.

    Raises:
        InputError: no such layer, no `X`.
    """
    if layer is not None and layer not in adata.layers:
        raise InputError(f"no layer {layer!r} in the AnnData; it has {', '.join(adata.layers) or 'none'}")
    x = adata.X if layer is None else adata.layers[layer]
    if x is None:
        raise InputError(f"the AnnData has no X; name a layer: it has {', '.join(adata.layers) or 'none'}")
    return x
