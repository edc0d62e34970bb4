"""Graph attention: y[t] = Σ_s softmax_s(score(t, s)) · v[s] over the edges into t, without an array of all edges.

The softmax and the weighted sum of a target are one pass over its edges; what is kept for the gradient is one
number a target and head (log Σ exp of its scores), and the scores are computed again in the backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kgnn.ops.adjacency import Adjacency
from kgnn.ops.backends import choose
from kgnn.ops.spmm import accumulator, as_cells, check_heads, check_place


def gat_attention(
    adjacency: Adjacency, value: Tensor, target_score: Tensor, source_score: Tensor, negative_slope: float = 0.2
) -> Tensor:
    """Attend with score(t, s) = LeakyReLU(target_score[t] + source_score[s]) (GAT, Veličković et al., ICLR 2018).

    Args:
        adjacency: who hears whom; its weights play no part.
        value: [..., sources, heads · width].
        target_score: [..., targets, heads]; source_score: [..., sources, heads].
        negative_slope: of the LeakyReLU.

    Returns:
        [..., targets, heads · width]; 0 for a target that hears nobody.

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    heads = target_score.shape[-1]
    return _attend(adjacency, "gat", target_score, source_score, value, None, negative_slope, heads)


def gatv2_attention(
    adjacency: Adjacency, target: Tensor, source: Tensor, attention: Tensor, negative_slope: float = 0.2
) -> Tensor:
    """Attend with score(t, s) = attention · LeakyReLU(target[t] + source[s]) (GATv2, Brody et al., ICLR 2022).

    Args:
        adjacency: who hears whom; its weights play no part.
        target: [..., targets, heads · width]; source: [..., sources, heads · width], which is also the value.
        attention: [heads, width].
        negative_slope: of the LeakyReLU.

    Returns:
        [..., targets, heads · width]; 0 for a target that hears nobody.

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    if attention.ndim != 2 or attention.numel() != source.shape[-1]:
        raise ValueError(f"attention {list(attention.shape)} must be [heads, {source.shape[-1]} / heads]")
    return _attend(adjacency, "gatv2", target, source, source, attention, negative_slope, len(attention))


def dot_attention(
    adjacency: Adjacency, query: Tensor, key: Tensor, value: Tensor, *, heads: int = 1, scale: float | None = None
) -> Tensor:
    """Attend with score(t, s) = scale · query[t] · key[s] (Vaswani et al., NeurIPS 2017), along edges only.

    Args:
        adjacency: who hears whom; its weights play no part.
        query: [..., targets, channels]; key and value: [..., sources, channels].
        heads: the channels fall into so many heads.
        scale: 1/√(channels a head) by default.

    Returns:
        [..., targets, channels]; 0 for a target that hears nobody.

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    check_heads(heads, query.shape[-1])
    scale = (query.shape[-1] // heads) ** -0.5 if scale is None else scale
    return _attend(adjacency, "dot", query, key, value, None, scale, heads)


def _attend(
    adjacency: Adjacency, kind: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int
) -> Tensor:
    check_heads(heads, v.shape[-1])
    to, of, values = (
        as_cells(part, adjacency.shape[side], ("targets", "sources")[side], adjacency)
        for part, side in ((q, 0), (k, 1), (v, 1))
    )
    width = heads if kind == "gat" else v.shape[-1]
    leading = v.shape[:-2]
    if not (q.shape[-1] == k.shape[-1] == width and q.shape[:-2] == k.shape[:-2] == leading):
        raise ValueError(
            f"target {list(q.shape)}, source {list(k.shape)} and value {list(v.shape)} do not fit each other "
            f"with {heads} heads"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"target, source and value must be of one type, not {q.dtype}, {k.dtype} and {v.dtype}")
    if a is not None:
        check_place(a, adjacency)
    weights = None if a is None else a.to(accumulator(v.dtype)).contiguous()
    keys = None if kind == "gatv2" else of
    out: Tensor = _Attention.apply(to, keys, values, weights, adjacency, kind, constant, heads)
    return out.reshape(*leading, adjacency.shape[0], v.shape[-1])


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        a: Tensor | None,
        adjacency: Adjacency,
        kind: str,
        constant: float,
        heads: int,
    ) -> Tensor:
        ctx.adjacency, ctx.kind, ctx.constant, ctx.heads = adjacency, kind, constant, heads
        if not adjacency.n_edges or not v.numel():
            ctx.save_for_backward(q, k, v, a, None)
            return v.new_zeros(len(v), adjacency.shape[0], v.shape[-1])
        function = choose("attention", v)
        out, lse = function(adjacency.csr, kind, q, v if k is None else k, v, a, constant, heads)
        ctx.save_for_backward(q, k, v, a, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, a, lse = ctx.saved_tensors
        nothing = (None,) * 4
        if lse is None:
            return *(None if part is None else torch.zeros_like(part) for part in (q, k, v, a)), *nothing
        adjacency = ctx.adjacency
        grads = choose("attention_backward", v)(
            adjacency.csr,
            adjacency.t_csr,
            ctx.kind,
            q,
            v if k is None else k,
            v,
            a,
            ctx.constant,
            ctx.heads,
            lse,
            grad,
        )
        return *grads, *nothing
