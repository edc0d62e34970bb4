"""Sparse × dense: the sum of the neighbours' features, for all cells on one shared graph."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kgnn.ops.adjacency import Adjacency


def spmm(adjacency: Adjacency, x: Tensor) -> Tensor:
    """Return y[..., t, c] = Σ_s A[t, s] · x[..., s, c].

    The same as message passing on the disjoint union of one copy of the graph a cell, without the copies: the
    graph is read once a cell, and one cell's features stay in the processor's cache.

    Args:
        adjacency: A, [targets, sources]; its values take no gradient.
        x: [..., sources, channels], for example [cells, genes, channels].

    Returns:
        [..., targets, channels], of x's type.

    Raises:
        ValueError: the last but one dimension of x is not the number of sources.
    """
    if x.ndim < 2 or x.shape[-2] != adjacency.shape[1]:
        raise ValueError(
            f"features {list(x.shape)} do not fit a graph of {adjacency.shape[1]} sources: "
            "they must be [..., sources, channels]"
        )
    return _Spmm.apply(x, adjacency)


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.adjacency = adjacency
        return _multiply(x, adjacency.indptr, adjacency.indices, adjacency.values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        a = ctx.adjacency
        return _multiply(grad, a.t_indptr, a.t_indices, a.t_values), None


def _multiply(x: Tensor, indptr: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """CSR × features, one cell at a time: `embedding_bag` is PyTorch's fastest weighted sum of gathered rows."""
    n_rows, channels = len(indptr) - 1, x.shape[-1]
    if not len(indices) or not x.numel():
        return x.new_zeros(*x.shape[:-2], n_rows, channels)
    cells = x.reshape(-1, x.shape[-2], channels).contiguous()
    values = values.to(x.dtype)
    out = [
        F.embedding_bag(indices, cell, indptr, mode="sum", per_sample_weights=values, include_last_offset=True)
        for cell in cells
    ]
    stacked = out[0] if len(out) == 1 else torch.stack(out)
    return stacked.reshape(*x.shape[:-2], n_rows, channels)
