"""What all sources made from cells check of them."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.errors import InputError
from kgnn.expression import matrix_of, warn_of_scale
from kgnn.files import as_adata
from kgnn.graph.sources.collect import check_genes


def cells_of(adata: Any) -> AnnData:
    """Return an AnnData, or read it from a path; its genes are told apart and undamaged, or it is said.

    Raises:
        InputError: something else; a gene name that stands twice.
    """
    adata = as_adata(adata)
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise InputError(f"gene {twice!r} stands twice in var_names; call adata.var_names_make_unique() or merge them")
    check_genes(adata.var_names, "var_names")
    return adata


def expression_in(adata: AnnData, layer: str | None, what: str, fine: tuple[str, ...]) -> Any:
    """Return `X` or a layer as it is stored; a scale that is not among `fine` is told."""
    x = matrix_of(adata, layer)
    warn_of_scale(x, f"{'X' if layer is None else f'the layer {layer!r}'}, for {what},", fine)
    return x


def obs_column(adata: AnnData, column: Any) -> pd.Series:
    """Return a column of obs, or raise `InputError`."""
    if not isinstance(column, str) or column not in adata.obs:
        raise InputError(f"no column {column!r} in obs; it has {', '.join(map(str, adata.obs.columns)) or 'none'}")
    return adata.obs[column]


def check_finite(x: Any, names: pd.Index) -> None:
    """Refuse a matrix [cells, genes], dense or CSR, with NaN or infinite values; names a gene."""
    bad = np.zeros(x.shape[1], bool)
    if sparse.issparse(x):
        bad[x.indices[~np.isfinite(x.data)]] = True
    else:
        bad |= ~np.isfinite(np.asarray(x, np.float64)).all(axis=0)
    if bad.any():
        raise InputError(f"gene {names[int(np.argmax(bad))]!r} has NaN or infinite values; remove or impute them first")
