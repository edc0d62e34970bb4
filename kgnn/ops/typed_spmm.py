"""Every relation between every two types of nodes through its own matrix of weights, in one pass.

For each type of target one call of the kernel behind `relational_spmm`: no array of edges, or of a relation's messages,
is made. The gradient goes the same way over the types of sources.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgnn.ops.backends import buffers, choose
from kgnn.ops.spmm import accumulator
from kgnn.ops.typed import TypedAdjacency


def typed_spmm(
    adjacency: TypedAdjacency, x: Tensor, weight: Tensor, root: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Return y[..., t] = Σ_r Σ_s A_r[t, s] · x[..., s] W_r + x[..., t] root_T + bias_T; r leads into T, the type of t.

    The formula of R-GCN (Schlichtkrull et al., ESWC 2018) between nodes of several types; GraphSAGE's mean a relation,
    and CompGCN, whose compositions are linear in x, are special cases.

    Args:
        adjacency: the relations.
        x: [..., nodes, in_channels], types one after the other as `adjacency.join` puts them.
        weight: [relations, in_channels, out_channels], in the order of `adjacency.relations`.
        root: [types, in_channels, out_channels]; bias: [types, out_channels].

    Returns:
        [..., nodes, out_channels].

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    if x.ndim < 2 or x.shape[-2] != adjacency.n:
        raise ValueError(f"features {list(x.shape)} do not fit: they must be [..., {adjacency.n} nodes, channels]")
    types, channels, out_channels = len(adjacency.n_nodes), x.shape[-1], weight.shape[-1]
    shapes = {"weight": (len(adjacency.relations), channels, out_channels), "bias": (types, out_channels)}
    shapes["root"] = (types, channels, out_channels)
    if torch.is_autocast_enabled(x.device.type):  # as torch.nn.functional.linear does
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        root, bias = (None if part is None else part.to(dtype) for part in (root, bias))
    for name, part in (("weight", weight), ("root", root), ("bias", bias)):
        if part is not None and part.shape != shapes[name]:
            raise ValueError(f"{name} {list(part.shape)} must be {list(shapes[name])}")
        if part is not None and (part.dtype, part.device) != (x.dtype, x.device):
            raise ValueError(f"features are {x.dtype} on {x.device}, {name} {part.dtype} on {part.device}; convert one")
    if not x.is_floating_point() or x.device != adjacency.indices.device:
        place = adjacency.indices.device
        raise ValueError(f"features are {x.dtype} on {x.device}, the graph on {place}; convert or move one")
    cells = x.reshape(x.shape[:-2].numel(), *x.shape[-2:])
    out: Tensor = _TypedSpmm.apply(cells, weight, root, bias, adjacency)
    return out.reshape(*x.shape[:-1], out_channels)


class _TypedSpmm(torch.autograd.Function):
    """x [cells, nodes, in], weight [R, in, out] → [cells, nodes, out]; x and the matrices are kept for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, root: Tensor | None, bias: Tensor | None, adjacency: TypedAdjacency
    ) -> Tensor:
        ctx.save_for_backward(x, weight, root)
        ctx.adjacency = adjacency
        types = list(adjacency.slices)
        out = buffers.empty((len(x), adjacency.n, weight.shape[-1]), x.dtype, x.device).zero_()
        if bias is not None:
            for nodes, of_type in zip(adjacency.slices.values(), bias, strict=True):
                out[:, nodes] = of_type
        if not x.numel() or not out.numel():
            return out
        transform, spmm = choose("transform", x), choose("spmm", x)
        for kind, relations, csr, values in adjacency.targets():
            if csr.n_entries:
                of_type = None if bias is None else bias[types.index(kind)]
                values = values.to(accumulator(x.dtype))
                out[:, adjacency.slices[kind]] = transform(csr, values, x, weight[relations], of_type, spmm)
        if root is not None:
            _add_products(out, x, root, adjacency)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, root = ctx.saved_tensors
        adjacency = ctx.adjacency
        grad_x, grad_weight = buffers.empty(tuple(x.shape), x.dtype, x.device).zero_(), torch.zeros_like(weight)
        grad_root = None if root is None else torch.zeros_like(root)
        grad_bias = None
        if ctx.needs_input_grad[3]:
            grad_bias = torch.stack([of_type.sum((0, 1)) for of_type in adjacency.split(grad).values()])
        if not x.numel() or not grad.numel():
            return grad_x, grad_weight, grad_root, grad_bias, None
        wanted = ctx.needs_input_grad[:2]
        transform_backward, spmm = choose("transform_backward", x), choose("spmm", grad)
        for kind, relations, csr, values in adjacency.sources():
            if not csr.n_entries:
                continue
            nodes, values = adjacency.slices[kind], values.to(accumulator(x.dtype))
            parts = transform_backward(csr, values, grad, x[:, nodes], weight[relations], *wanted, spmm)
            if parts[0] is not None:
                grad_x[:, nodes] = parts[0]
            if parts[1] is not None:
                grad_weight[relations] = parts[1]
        if grad_root is not None:
            _add_products(grad_x, grad, root.transpose(1, 2), adjacency)
            for nodes, into in zip(adjacency.slices.values(), grad_root, strict=True):
                into.addmm_(x[:, nodes].flatten(0, 1).T, grad[:, nodes].flatten(0, 1))
        return grad_x, grad_weight, grad_root, grad_bias, None


def _add_products(out: Tensor, x: Tensor, matrices: Tensor, adjacency: TypedAdjacency) -> None:
    """Add each type's x [cells, nodes, in] times its matrix in place."""
    for nodes, matrix in zip(adjacency.slices.values(), matrices, strict=True):
        for into, of_cell in zip(out, x, strict=True):
            into[nodes].addmm_(of_cell[nodes], matrix)
