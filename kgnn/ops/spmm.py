"""Sparse × dense and its relatives: what neighbours send, for all cells on one shared graph."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgnn.ops.adjacency import Adjacency
from kgnn.ops.backends import choose

Reduce = Literal["sum", "mean", "max"]


def spmm(adjacency: Adjacency, x: Tensor, weight: Tensor | None = None, *, reduce: Reduce = "sum") -> Tensor:
    """Return y[..., t, c] = Σ_e w[e, head(c)] · x[..., source(e), c] over the edges e into t.

    The same as message passing on the disjoint union of one copy of the graph a cell, without the copies: the
    graph is read once a cell, and one cell's features stay in the processor's cache.

    Args:
        adjacency: the graph, [targets, sources].
        x: [..., sources, channels], for example [cells, genes, channels]; [genes, cells × channels] works as well.
        weight: instead of the graph's own weights, [edges], [edges, heads] (each head has channels / heads
            channels) or, one set a cell, [..., edges, heads], in the order of `adjacency.edge_index`. It may
            require a gradient.
        reduce: `"sum"`; `"mean"`, the sum over the number of edges into t; `"max"` of w · x, a channel at a time.
            A target that hears nobody gets 0.

    Returns:
        [..., targets, channels], of x's type; sums over neighbours are made in float32 for half precisions.

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    cells = as_cells(x, adjacency.shape[1], "sources", adjacency)
    weights, t_weights = _weights(adjacency, weight, x)
    if reduce == "mean":
        weights, t_weights = _mean_weights(adjacency, weights, t_weights)
    elif reduce not in ("sum", "max"):
        raise ValueError(f"reduce must be sum, mean or max, not {reduce!r}")
    function = _SpmmMax if reduce == "max" else _Spmm
    out: Tensor = function.apply(cells, weights, t_weights, adjacency)
    return out.reshape(*x.shape[:-2], adjacency.shape[0], x.shape[-1])


def sddmm(adjacency: Adjacency, target: Tensor, source: Tensor, *, heads: int = 1) -> Tensor:
    """Return s[..., e, h] = Σ_d target[..., target(e), h, d] · source[..., source(e), h, d], a product an edge.

    Args:
        adjacency: the graph; its weights play no part.
        target: [..., targets, channels]; source: [..., sources, channels].
        heads: the channels fall into so many heads of channels / heads each.

    Returns:
        [..., edges, heads] in the order of `adjacency.edge_index`; float32 for half precisions.

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    to = as_cells(target, adjacency.shape[0], "targets", adjacency)
    of = as_cells(source, adjacency.shape[1], "sources", adjacency)
    if target.shape[:-2] != source.shape[:-2] or target.shape[-1] != source.shape[-1] or target.dtype != source.dtype:
        raise ValueError(
            f"target {list(target.shape)} ({target.dtype}) and source {list(source.shape)} ({source.dtype}) "
            "must agree in all but the number of nodes"
        )
    check_heads(heads, target.shape[-1])
    out: Tensor = _Sddmm.apply(to, of, adjacency, heads)
    return adjacency.from_csr_order(out, -2).reshape(*target.shape[:-2], adjacency.n_edges, heads)


def edge_softmax(adjacency: Adjacency, scores: Tensor) -> Tensor:
    """Return p[..., e, h] = exp s[..., e, h] / Σ exp s over the edges into e's target: what reaches a target sums to 1.

    Args:
        adjacency: the graph; its weights play no part.
        scores: [edges] or [..., edges, heads], in the order of `adjacency.edge_index`.

    Returns:
        The same shape; float32 for half precisions.

    Raises:
        ValueError: scores of another number of edges.
    """
    per_edge = scores.unsqueeze(-1) if scores.ndim == 1 else scores
    if per_edge.ndim < 2 or per_edge.shape[-2] != adjacency.n_edges:
        edges = adjacency.n_edges
        raise ValueError(f"scores {list(scores.shape)} must be [{edges}] or [..., {edges}, heads]")
    check_place(scores, adjacency)
    flat = per_edge.to(accumulator(scores.dtype)).reshape(per_edge.shape[:-2].numel(), *per_edge.shape[-2:])
    out: Tensor = _EdgeSoftmax.apply(adjacency.to_csr_order(flat, -2), adjacency)
    return adjacency.from_csr_order(out, -2).reshape(scores.shape)


# checks that the operations share


def as_cells(x: Tensor, n_nodes: int, role: str, adjacency: Adjacency) -> Tensor:
    """Return features [..., nodes, channels] as [cells, nodes, channels]."""
    if x.ndim < 2 or x.shape[-2] != n_nodes:
        raise ValueError(
            f"features {list(x.shape)} do not fit a graph of {n_nodes} {role}: they must be [..., {role}, channels]"
        )
    check_place(x, adjacency)
    return x.reshape(x.shape[:-2].numel(), *x.shape[-2:])


def check_place(x: Tensor, adjacency: Adjacency) -> None:
    if x.device != adjacency.indptr.device:
        graph = adjacency.indptr.device
        raise ValueError(f"the features are on {x.device}, the graph on {graph}; move one to the other")
    if not x.is_floating_point():
        raise ValueError(f"features must be floating point, not {x.dtype}")


def check_heads(heads: int, channels: int) -> None:
    if heads < 1 or channels % heads:
        raise ValueError(f"{channels} channels do not fall into {heads} heads")


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the type that sums are made in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _weights(adjacency: Adjacency, weight: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weights [1 or cells, edges, heads] in the order of the CSR, and the transpose's where they are at hand."""
    dtype = accumulator(x.dtype)
    if weight is None:
        return adjacency.values.to(dtype).view(1, -1, 1), adjacency.t_values.to(dtype).view(1, -1, 1)
    if weight.ndim == 1:
        weight = weight.unsqueeze(-1)
    shared = weight.ndim == 2
    if weight.shape[-2] != adjacency.n_edges or not (shared or weight.shape[:-2] == x.shape[:-2]):
        raise ValueError(
            f"weight {list(weight.shape)} must be [{adjacency.n_edges}], [{adjacency.n_edges}, heads] or "
            f"[{', '.join(map(str, (*x.shape[:-2], adjacency.n_edges)))}, heads]"
        )
    check_heads(weight.shape[-1], x.shape[-1])
    check_place(weight, adjacency)
    flat = weight.to(dtype).reshape(1 if shared else weight.shape[:-2].numel(), *weight.shape[-2:])
    return adjacency.to_csr_order(flat, -2), None


def _mean_weights(adjacency: Adjacency, weights: Tensor, t_weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    share = adjacency.indptr.diff().clamp_min(1).to(weights.dtype).reciprocal()
    mean = weights * share[adjacency.csr.rows].unsqueeze(-1)
    return mean, None if t_weights is None else t_weights * share[adjacency.t_indices].unsqueeze(-1)


# gradients; features [cells, nodes, channels], weights [1 or cells, edges, heads] in the order of the CSR


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, t_weight: Tensor | None, adjacency: Adjacency) -> Tensor:
        learned = ctx.needs_input_grad[1]
        ctx.save_for_backward(x if learned else None, weight if t_weight is None else None, t_weight)
        ctx.adjacency = adjacency
        return multiply(adjacency, weight, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, t_weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            if t_weight is None:
                t_weight = weight.index_select(1, ctx.adjacency.t_position)
            grad_x = multiply(ctx.adjacency, t_weight, grad, transposed=True)
        if ctx.needs_input_grad[1]:
            grad_weight = products(ctx.adjacency, grad, x, weight.shape[-1], total=len(weight) == 1)
        return grad_x, grad_weight, None, None


class _SpmmMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, t_weight: Tensor | None, adjacency: Adjacency) -> Tensor:
        del t_weight
        if not x.numel() or not adjacency.n_edges:
            out = x.new_zeros(len(x), adjacency.shape[0], x.shape[-1])
            arg = torch.full(out.shape, -1, dtype=torch.int32, device=x.device)
        else:
            out, arg = choose("spmm_max", x)(adjacency.csr, weight, x)
        ctx.adjacency = adjacency
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight, arg)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, arg = ctx.saved_tensors
        adjacency = ctx.adjacency
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            parts = (adjacency.csr, adjacency.t_csr, adjacency.t_position, weight, grad, arg)
            grad_x = choose("spmm_max_backward", grad)(*parts)
        if ctx.needs_input_grad[1]:
            grad_weight = _max_weight_gradient(adjacency, x, weight, arg, grad)
        return grad_x, grad_weight, None, None


def _max_weight_gradient(adjacency: Adjacency, x: Tensor, weight: Tensor, arg: Tensor, grad: Tensor) -> Tensor:
    """Each edge's weight gets grad · x of the channels in which it was the largest."""
    out = torch.zeros_like(weight)
    if not adjacency.n_edges:
        return out
    head = torch.arange(grad.shape[-1], device=grad.device) * weight.shape[-1] // grad.shape[-1]
    for cell in range(len(x)):
        taken = arg[cell].clamp_min(0).long()
        share = grad[cell] * x[cell].gather(0, adjacency.indices[taken].long())
        place = taken * weight.shape[-1] + head
        of_cell = torch.where(arg[cell] < 0, 0, share).to(weight.dtype)
        out[cell % len(out)].view(-1).index_add_(0, place.ravel(), of_cell.ravel())
    return out


class _Sddmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, source: Tensor, adjacency: Adjacency, heads: int) -> Tensor:
        ctx.save_for_backward(target, source)
        ctx.adjacency = adjacency
        return products(adjacency, target, source, heads, total=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        target, source = ctx.saved_tensors
        grad_target = grad_source = None
        if ctx.needs_input_grad[0]:
            grad_target = multiply(ctx.adjacency, grad, source)
        if ctx.needs_input_grad[1]:
            t_grad = grad.index_select(1, ctx.adjacency.t_position)
            grad_source = multiply(ctx.adjacency, t_grad, target, transposed=True)
        return grad_target, grad_source, None, None


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.adjacency = adjacency
        p = choose("edge_softmax", scores)(adjacency.csr, scores) if scores.numel() else torch.empty_like(scores)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        if not p.numel():
            return torch.empty_like(p), None
        return choose("edge_softmax_backward", p)(ctx.adjacency.csr, p, grad), None


def multiply(adjacency: Adjacency, weight: Tensor, x: Tensor, transposed: bool = False) -> Tensor:
    """Σ weight · x on the graph or its transpose, [cells, rows, channels]."""
    csr = adjacency.t_csr if transposed else adjacency.csr
    if not csr.n_entries or not x.numel():
        return x.new_zeros(len(x), csr.n_rows, x.shape[-1])
    out: Tensor = choose("spmm", x)(csr, weight.to(accumulator(x.dtype)), x)
    return out


def products(adjacency: Adjacency, target: Tensor, source: Tensor, heads: int, total: bool) -> Tensor:
    """One product an edge and head, [cells, edges, heads], or [1, edges, heads] summed over the cells."""
    csr = adjacency.csr
    if not csr.n_entries or not target.numel():
        shape = (1 if total else len(target), csr.n_entries, heads)
        return torch.zeros(shape, dtype=accumulator(target.dtype), device=target.device)
    out: Tensor = choose("sddmm", target)(csr, target, source, heads, total)
    return out
