"""Expression matrices as they come from users: split entries, values that are no numbers, scales."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from scipy import sparse

from kgnn.errors import DataWarning, InputError

Scale = Literal["log", "counts", "linear", "scaled", "change", "binary"]  # the last two: tables of effects
LOG_MAX = 20.0  # no logarithm of a count or an intensity is larger
SCALED_SHARE = 0.3  # negative values are half of the sum of sizes of scaled ones; of predicted means little
FACTOR, ENOUGH_GENES = 1.33, 10
LOGS = {"log2 values": 1 / np.log(2), "log10 values": 1 / np.log(10)}
PROBE = 1_000  # cells on disk from whose values it is told what they are
NORMALISE = "sc.pp.normalize_total(adata, target_sum=1e4); sc.pp.log1p(adata)"
OF_SCALE = {
    "counts": f"holds whole numbers only and looks like raw counts; normalise first: {NORMALISE}",
    "linear": f"holds values up to {{high:.4g}} and looks as if no logarithm had been taken; {NORMALISE}",
    "scaled": "holds values down to {low:.3g} and looks scaled; give the log-normalised values from before "
    "sc.pp.scale (a layer, adata.raw.to_adata())",
}


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


def scale_of(x: Any) -> Scale:
    """Tell what a matrix [cells, genes] holds; of one on disk the first 1,000 cells are looked at.

    `scaled`: negative values; `counts`: whole numbers, and 0 and 1 where their type is one of whole numbers;
    `linear`: values beyond 20, too large for logarithms of counts or intensities; `log`: anything else.
    """
    values = _values(x)
    values = values[np.isfinite(values)]
    if not len(values) or (values.max() <= 1 and values.min() >= 0):
        return "counts" if len(values) and values.dtype.kind in "bui" else "log"
    if values.min() < 0:
        return "scaled"
    if (values == np.round(values)).all():
        return "counts"
    return "linear" if values.max() > LOG_MAX else "log"


def are_whole(x: Any) -> bool:
    """Whether all values are whole numbers, as zeros alone are."""
    values = _values(x)
    return bool((values == np.round(values))[np.isfinite(values)].all())


def _values(x: Any) -> np.ndarray:
    if sparse.issparse(x) or isinstance(x, np.ndarray | np.matrix):
        return np.asarray(summed(x).data if sparse.issparse(x) else x).ravel()
    if hasattr(x, "to_numpy"):
        return _values(np.asarray(x))
    first = x[:PROBE]  # on disk, or not computed yet
    return _values(first.compute() if hasattr(first, "compute") else first)


def warn_of_scale(x: Any, what: str, fine: Collection[str] = ("log",)) -> Scale:
    """Return the scale of a matrix; a `DataWarning` says what is the matter with one that is not among `fine`."""
    scale = scale_of(x)
    if scale not in fine:
        values = _values(x)
        warnings.warn(
            f"{what} {OF_SCALE[scale].format(low=values.min(), high=values.max())}", DataWarning, stacklevel=3
        )
    return scale


def check_same_scale(x: Any, y: Any, what: str, other: str) -> None:
    """Refuse a prediction `x` that is not on the scale of the cells `y`, which it meets: counts beside logarithms, say.

    Means of counts are no whole numbers, and predicted means of logarithms of rare genes may lie a little below zero,
    many of them: neither is a sign.

    Raises:
        InputError: names both and their ranges.
    """
    a, b = (_values(part) for part in (x, y))
    if not len(a) or not len(b):
        return
    ranges = [(float(part.min()), float(part.max())) for part in (a, b)]
    beyond = [high > LOG_MAX for _, high in ranges]
    negative = [bool(-part[part < 0].sum() > SCALED_SHARE * np.abs(part).sum()) for part in (a, b)]
    far = max(high for _, high in ranges) > 3 * max(min(high for _, high in ranges), 1e-12)
    counts = ranges[0][1] > 1 and are_whole(x) and not are_whole(y)
    if (beyond[0] != beyond[1] and far) or negative[0] != negative[1] or counts:
        told = [f"{name} from {low:.4g} to {high:.4g}" for name, (low, high) in zip((what, other), ranges, strict=True)]
        raise InputError(
            f"{told[0]}, {told[1]}: not on one scale; bring both to log-normalised expression "
            "(sc.pp.normalize_total, sc.pp.log1p), and scale neither"
        )


def warn_of_factor(predicted: np.ndarray, start: np.ndarray) -> None:
    """One `DataWarning` where predicted means [conditions, genes] are a multiple of the control mean [genes]: other
    logarithms, another normalisation.

    The factor is that of least squares through 0, median over conditions; a perturbation hardly moves it.
    """
    size = float(start @ start)
    if np.count_nonzero(start) < ENOUGH_GENES or size == 0 or not len(predicted):
        return
    factor = float(np.median(predicted @ start)) / size
    if not 1 / FACTOR < factor < FACTOR:
        like = [f", as {name} are beside natural ones" for name, value in LOGS.items() if abs(factor / value - 1) < 0.1]
        warnings.warn(
            f"predicted means are {factor:.3g} times the control cells' over the genes{''.join(like)}; is the "
            "prediction of these data, on their scale?",
            DataWarning,
            stacklevel=3,
        )


def check_finite(x: Any, adata: Any, what: str = "X") -> None:
    """Refuse a matrix [cells, genes] of an AnnData, dense or CSR, with NaN or infinite values.

    Raises:
        InputError: names the first one's gene and cell.
    """
    wrong = ~np.isfinite(x.data if sparse.issparse(x) else np.asarray(x, np.float64))
    if not wrong.any():
        return
    place = int(np.argmax(wrong))
    if sparse.issparse(x):
        cell, gene = int(np.searchsorted(x.indptr, place, side="right")) - 1, x.indices[place]
    else:
        cell, gene = divmod(place, x.shape[1])
    raise InputError(
        f"{what} holds NaN or infinite values, first for gene {adata.var_names[gene]!r} in cell "
        f"{adata.obs_names[cell]!r}; remove or impute them"
    )


def expression_of(adata: Any, layer: str | None = None, what: str = "X") -> sparse.csr_matrix:
    """Return the expression of an AnnData as canonical CSR [cells, genes] float32, the user's matrix unchanged.

    Raises:
        InputError: no such matrix; NaN or infinite values, with the first one's gene and cell.
    """
    x = matrix_of(adata.to_memory() if adata.isbacked else adata, layer)
    if np.iscomplexobj(x):
        raise InputError(f"{what} holds complex numbers; give the log-normalised expression")
    x = summed(sparse.csr_matrix(x, dtype=np.float32))
    check_finite(x, adata, what)
    return x
