"""The backend `torch`: plain PyTorch, on every device. Also the answer that the other backends are held against.

Every backend has functions of these names over one graph in CSR and features [cells, nodes, channels]; weights are
[1 or cells, entries, heads] in the order of the CSR, in float64 for float64 features and in float32 for all others.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from kgnn.ops.backends import buffers
from kgnn.ops.backends.plain_dense import (
    pair_mlp,
    pair_mlp_backward,
    pair_moments,
    pair_moments_backward,
    pair_values,
    transform,
    transform_backward,
)
from kgnn.ops.csr import Csr

__all__ = [
    "attention",
    "attention_backward",
    "edge_softmax",
    "edge_softmax_backward",
    "pair_mlp",
    "pair_mlp_backward",
    "pair_moments",
    "pair_moments_backward",
    "pair_values",
    "sddmm",
    "spmm",
    "spmm_max",
    "spmm_max_backward",
    "transform",
    "transform_backward",
]


def missing(device: str, dtype: torch.dtype) -> str:
    """Return why such features cannot be computed here, or ""."""
    del device
    return "" if dtype.is_floating_point else f"features must be floating point, not {dtype}"


def about() -> str:
    return f"PyTorch {torch.__version__}"


def spmm(csr: Csr, weight: Tensor, x: Tensor) -> Tensor:
    """Σ_e weight[e, head(c)] · x[cell, column(e), c] → [cells, rows, channels], by `embedding_bag`."""
    heads = weight.shape[-1]
    out = buffers.empty((len(x), csr.n_rows, x.shape[-1]), x.dtype, x.device)
    for cell, features in enumerate(x):
        table = features.to(weight.dtype)
        weights = weight[cell % len(weight)]
        for head in range(heads):
            part = slice(head * table.shape[-1] // heads, (head + 1) * table.shape[-1] // heads)
            out[cell, :, part] = F.embedding_bag(
                csr.indices,
                table[:, part].contiguous(),
                csr.indptr,
                mode="sum",
                per_sample_weights=weights[:, head].contiguous(),
                include_last_offset=True,
            )
    return out


def spmm_max(csr: Csr, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """max_e weight · x, 0 for a row without entries, and the first entry that reaches it (int32), or -1."""
    shape, rows = (csr.n_rows, x.shape[-1]), csr.rows
    out, arg = x.new_empty(len(x), *shape), torch.empty(len(x), *shape, dtype=torch.int32, device=x.device)
    entry = torch.arange(csr.n_entries, device=x.device).unsqueeze(-1).expand(-1, shape[1])
    for cell in range(len(x)):
        messages = _expand(weight[cell % len(weight)], x.shape[-1]) * x[cell, csr.indices].to(weight.dtype)
        index = rows.unsqueeze(-1).expand_as(messages)
        best = messages.new_zeros(shape).scatter_reduce(0, index, messages, "amax", include_self=False)
        reached = (messages == best[rows]) | messages.isnan()
        first = entry.new_full(shape, csr.n_entries).scatter_reduce(
            0, index, torch.where(reached, entry, csr.n_entries), "amin"
        )
        out[cell], arg[cell] = best, torch.where(first < csr.n_entries, first, -1)
    return out, arg


def spmm_max_backward(csr: Csr, t_csr: Csr, t_position: Tensor, weight: Tensor, grad: Tensor, arg: Tensor) -> Tensor:
    """The gradient of the features: every row's goes to the one column that it took.

    The transpose, and where its entries stand in `csr`, are for backends that gather instead of scattering."""
    del t_csr, t_position
    out = grad.new_zeros(len(grad), csr.n_columns, grad.shape[-1], dtype=weight.dtype)
    for cell in range(len(grad)):
        taken = arg[cell].clamp_min(0).long()
        if not csr.n_entries:
            break
        weights = _expand(weight[cell % len(weight)], grad.shape[-1]).gather(0, taken)
        out[cell].scatter_add_(0, csr.indices[taken].long(), torch.where(arg[cell] < 0, 0, weights * grad[cell]))
    return out.to(grad.dtype)


def sddmm(csr: Csr, a: Tensor, b: Tensor, heads: int, total: bool) -> Tensor:
    """Σ_d a[cell, row(e), h, d] · b[cell, column(e), h, d] → [cells, entries, heads]; `total`: summed over cells."""
    rows = csr.rows
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    out = a.new_zeros(1 if total else len(a), csr.n_entries, heads, dtype=dtype)
    for cell in range(len(a)):
        products = a[cell, rows].to(dtype) * b[cell, csr.indices].to(dtype)
        out[0 if total else cell] += products.unflatten(-1, (heads, -1)).sum(-1)
    return out


def edge_softmax(csr: Csr, scores: Tensor) -> Tensor:
    """Softmax over the entries of each row; scores [cells, entries, heads]."""
    rows = csr.rows
    index = rows.view(1, -1, 1).expand_as(scores)
    shape = (len(scores), csr.n_rows, scores.shape[-1])
    peak = scores.new_zeros(shape).scatter_reduce(1, index, scores, "amax", include_self=False)
    p = (scores - peak[:, rows]).exp()
    return p / p.new_zeros(shape).index_add(1, rows, p)[:, rows]


def edge_softmax_backward(csr: Csr, p: Tensor, grad: Tensor) -> Tensor:
    rows = csr.rows
    mean = p.new_zeros(len(p), csr.n_rows, p.shape[-1]).index_add(1, rows, p * grad)
    return p * (grad - mean[:, rows])


def attention(
    csr: Csr, kind: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int
) -> tuple[Tensor, Tensor]:
    """One cell after another → out [cells, rows, channels], log Σ exp of the scores [cells, rows, heads]."""
    out = v.new_empty(len(v), csr.n_rows, v.shape[-1])
    dtype = torch.float64 if v.dtype == torch.float64 else torch.float32
    lse = v.new_empty(len(v), csr.n_rows, heads, dtype=dtype)
    for cell in range(len(v)):
        y, scores = _attend(csr, kind, q[cell].to(dtype), k[cell].to(dtype), v[cell].to(dtype), a, constant, heads)
        out[cell] = y
        index = csr.rows.unsqueeze(-1).expand_as(scores)
        peak = scores.new_zeros(lse.shape[1:]).scatter_reduce(0, index, scores, "amax", include_self=False)
        total = torch.zeros_like(peak).index_add(0, csr.rows, (scores - peak[csr.rows]).exp())
        lse[cell] = peak + total.log()
    return out, lse


def attention_backward(
    csr: Csr,
    t_csr: Csr,
    kind: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    constant: float,
    heads: int,
    lse: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Gradients of q, k, v and a, one cell after another, computed again from its inputs; for GATv2, whose keys are
    its values, k's is part of v's and None."""
    grads = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in (q, k, v)]
    grad_a = None if a is None else torch.zeros_like(a)
    for cell in range(len(v)):
        leaves = [part[cell].detach().to(lse.dtype).requires_grad_() for part in (q, k, v)]
        if kind == "gatv2":
            leaves[1] = leaves[2]
        weights = None if a is None else a.detach().requires_grad_()
        with torch.enable_grad():
            y, _ = _attend(csr, kind, leaves[0], leaves[1], leaves[2], weights, constant, heads)
        wanted = [leaf for leaf in (*leaves, weights) if leaf is not None]
        found = torch.autograd.grad(y, wanted, grad[cell].to(lse.dtype), materialize_grads=True)
        for into, of_cell in zip(grads, found, strict=False):
            into[cell] = of_cell
        if grad_a is not None:
            grad_a += found[-1]
    return grads[0], None if kind == "gatv2" else grads[1], grads[2], grad_a


def _attend(
    csr: Csr, kind: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int
) -> tuple[Tensor, Tensor]:
    """One cell: out [rows, channels], scores [entries, heads]."""
    rows = csr.rows
    to, of = q[rows].unflatten(-1, (heads, -1)), k[csr.indices].unflatten(-1, (heads, -1))
    if kind == "gat":
        scores = F.leaky_relu(to + of, constant).squeeze(-1)
    elif kind == "gatv2":
        assert a is not None
        scores = (F.leaky_relu(to + of, constant) * a).sum(-1)
    else:
        scores = (to * of).sum(-1) * constant
    p = edge_softmax(csr, scores.unsqueeze(0))[0]
    messages = (p.unsqueeze(-1) * v[csr.indices].unflatten(-1, (heads, -1))).flatten(-2)
    return messages.new_zeros(csr.n_rows, v.shape[-1]).index_add(0, rows, messages), scores


def _expand(weight: Tensor, channels: int) -> Tensor:
    """[entries, heads] → [entries, channels]."""
    return weight.repeat_interleave(channels // weight.shape[-1], -1)
