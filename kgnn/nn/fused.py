"""The one large computation of GEARS, z[c,g] = w1[g] · MLP(ReLU(a[g] + b[c])), block by block.

The rows gene × condition are worked through in blocks of genes that stay in the processor's cache, forward and
backward; a block's activations are computed again in the backward pass instead of being stored. That is faster
than storing them, because arrays of that size have to come from the operating system page by page. Only the MLP's
output [genes, conditions, channels] is kept.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kgnn.nn.norm import CountedMLP, fold_moments

BLOCK_ROWS = 4096  # rows gene × condition at a time: with 128 hidden channels 2 MB, one core's cache


def gene_values(a: Tensor, b: Tensor, share: Tensor, total: Tensor, mlp: CountedMLP, gene_weight: Tensor) -> Tensor:
    """Return w1[g] · MLP(ReLU(a[g] + b[c])) in training mode, with the batch-norm statistics of the full batch.

    Args:
        a: [genes, channels]; b: [conditions, channels].
        share: [conditions], the weight of one row (gene, condition); over all rows they sum to one.
        total: number of rows of the full batch, cells × genes.
        mlp: two layers; gene_weight: [genes, channels], w1.

    Returns:
        [genes, conditions].
    """
    (first, first_norm), (second, second_norm) = mlp.layers()
    mean_h, mean_hh = _StateMoments.apply(a, b, share)
    weight, bias = fold_moments(mean_h, mean_hh, first, first_norm, total)
    z, mean, variance = _GeneValues.apply(
        a,
        b,
        share,
        weight,
        bias,
        second.weight,
        second_norm.weight,
        second_norm.bias,
        gene_weight,
        second_norm.eps,
    )
    second_norm.scale_and_offset(mean + second.bias, variance, total)  # moves the running statistics
    # a bias in front of a batch norm changes nothing; its gradient is zero, not missing
    return z + 0 * second.bias.sum()


def _blocks(a: Tensor, b: Tensor) -> Iterator[slice]:
    size = len(a) if a.is_cuda else max(1, BLOCK_ROWS // len(b))
    for start in range(0, len(a), size):
        yield slice(start, min(start + size, len(a)))


def _state(a: Tensor, b: Tensor) -> Tensor:
    """ReLU(a[g] + b[c]) as rows [genes · conditions, channels]."""
    return (a.unsqueeze(1) + b).relu_().flatten(0, 1)


class _StateMoments(torch.autograd.Function):
    """E[h] [channels] and E[h hᵀ] [channels, channels] of h = ReLU(a[g] + b[c])."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, b, share)
        first, second = torch.zeros_like(a[0]), a.new_zeros(a.shape[1], a.shape[1])
        for genes in _blocks(a, b):
            h = _state(a[genes], b)
            weighted = h * share.repeat(genes.stop - genes.start).unsqueeze(-1)
            first += weighted.sum(0)
            second.addmm_(weighted.T, h)
        return first, second

    @staticmethod
    def backward(ctx: Any, grad_first: Tensor, grad_second: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b, share = ctx.saved_tensors
        symmetric = grad_second + grad_second.T
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        for genes in _blocks(a, b):
            h = _state(a[genes], b)
            grad = torch.addmm(grad_first, h, symmetric)
            grad = torch.ops.aten.threshold_backward(grad, h, 0).unflatten(0, (-1, len(b)))
            grad_a[genes] = torch.matmul(share, grad)
            grad_b += grad.sum(0)
        return grad_a, grad_b * share.unsqueeze(-1), None


class _GeneValues(torch.autograd.Function):
    """z = w1[g] · BN(W2 ReLU(W1 h + b1)), and the mean and biased variance that BN used."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        share: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        gene_weight: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = a.new_empty(len(a), len(b), len(weight2))
        total = out.new_zeros(out.shape[1:])
        for genes in _blocks(a, b):
            hidden = torch.addmm(bias1, _state(a[genes], b), weight1.T).relu_()
            torch.mm(hidden, weight2.T, out=out[genes].flatten(0, 1))
            total += out[genes].sum(0)
        mean = share @ total
        squares = torch.zeros_like(total)
        for genes in _blocks(a, b):
            squares += (out[genes] - mean).square_().sum(0)
        variance = share @ squares
        deviation = (variance + eps).rsqrt()
        scale = norm_weight * deviation
        z = torch.bmm(out, (gene_weight * scale).unsqueeze(-1)).squeeze(-1)
        z += (gene_weight @ (norm_bias - mean * scale)).unsqueeze(-1)
        ctx.save_for_backward(
            a, b, share, weight1, bias1, weight2, norm_weight, norm_bias, gene_weight, out, mean, deviation
        )
        ctx.mark_non_differentiable(mean, variance)
        return z, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        a, b, share, weight1, bias1, weight2, norm_weight, norm_bias, gene_weight, out, mean, deviation = (
            ctx.saved_tensors
        )
        grad = grad.contiguous()
        per_gene = grad.sum(1, keepdim=True)
        normed = (torch.bmm(grad.unsqueeze(1), out).squeeze(1) - mean * per_gene) * deviation  # Σ_c grad · normed out
        grad_gene_weight = norm_weight * normed + norm_bias * per_gene
        grad_norm_weight, grad_norm_bias = (gene_weight * normed).sum(0), (gene_weight * per_gene).sum(0)

        # batch norm: d out = scale · (dy − share · Σdy − share · normed · Σ dy·normed), with dy = grad ⊗ w1
        scale = norm_weight * deviation
        slope = scale * deviation * grad_norm_weight
        slopes = -torch.outer(share, slope)
        intercepts = -torch.outer(share, scale * grad_norm_bias - slope * mean)
        scaled_weight = gene_weight * scale

        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        grad_weight1, grad_bias1 = torch.zeros_like(weight1), torch.zeros_like(bias1)
        grad_weight2 = torch.zeros_like(weight2)
        for genes in _blocks(a, b):
            h = _state(a[genes], b)
            hidden = torch.addmm(bias1, h, weight1.T).relu_()
            grad_out = torch.addcmul(intercepts, out[genes], slopes)
            grad_out.addcmul_(grad[genes].unsqueeze(-1), scaled_weight[genes].unsqueeze(1))
            grad_out = grad_out.flatten(0, 1)
            grad_weight2.addmm_(grad_out.T, hidden)
            grad_hidden = torch.ops.aten.threshold_backward(torch.mm(grad_out, weight2), hidden, 0)
            grad_weight1.addmm_(grad_hidden.T, h)
            grad_bias1 += grad_hidden.sum(0)
            grad_h = torch.ops.aten.threshold_backward(torch.mm(grad_hidden, weight1), h, 0)
            grad_h = grad_h.unflatten(0, (-1, len(b)))
            grad_a[genes] = grad_h.sum(1)
            grad_b += grad_h.sum(0)
        return (
            grad_a,
            grad_b,
            None,
            grad_weight1,
            grad_bias1,
            grad_weight2,
            grad_norm_weight,
            grad_norm_bias,
            grad_gene_weight,
            None,
        )
