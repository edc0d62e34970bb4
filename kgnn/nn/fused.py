"""The one large computation of GEARS, z[c,g] = w1[g] · MLP(ReLU(a[g] + b[c])), block by block.

The rows gene × condition are worked through in blocks that stay in the processor's cache, forward and backward
(`pair_mlp` of the backends); a block's activations are computed again in the backward pass instead of being stored.
That is faster than storing them, because arrays of that size have to come from the operating system page by page.
Only the MLP's output [genes, conditions, channels] is kept.
"""

from typing import Any

import torch
from torch import Tensor

from kgnn.nn.norm import CountedMLP, fold_moments
from kgnn.ops.backends import choose

BLOCK_GENES = 64


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


def folded_gene_values(a: Tensor, b: Tensor, mlp: CountedMLP, gene_weight: Tensor) -> Tensor:
    """Return the same in eval mode, [genes, conditions], without gradients.

    With running statistics both norms and the second layer are linear, so that each gene has one vector over the
    hidden channels: z[g,c] = (W2ᵀ w1[g]) · ReLU(W1 h[g,c] + b1) + w1[g] · b2.
    """
    (first, first_norm), (second, second_norm) = mlp.layers()
    unused = first.bias
    weight1, bias1 = fold_moments(unused, unused, first, first_norm, unused)
    weight2, bias2 = fold_moments(unused, unused, second, second_norm, unused)
    z: Tensor = choose("pair_values", a)(a, b, weight1, bias1, gene_weight @ weight2)
    return z + (gene_weight @ bias2).unsqueeze(-1)


class _StateMoments(torch.autograd.Function):
    """E[h] [channels] and E[h hᵀ] [channels, channels] of h = ReLU(a[g] + b[c])."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, b, share)
        moments: tuple[Tensor, Tensor] = choose("pair_moments", a)(a, b, share)
        return moments

    @staticmethod
    def backward(ctx: Any, grad_first: Tensor, grad_second: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b, share = ctx.saved_tensors
        grad_a, grad_b = choose("pair_moments_backward", a)(a, b, share, grad_first, grad_second)
        return grad_a, grad_b, None


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
        out, total = choose("pair_mlp", a)(a, b, weight1, bias1, weight2)
        mean = share @ total
        squares = torch.stack([(part - mean).square_().sum(0) for part in out.split(BLOCK_GENES)]).sum(0)
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

        parts = (a, b, weight1, bias1, weight2, out, grad, scaled_weight, slopes, intercepts)
        grads = choose("pair_mlp_backward", a)(*parts)
        grad_a, grad_b, grad_weight1, grad_bias1, grad_weight2 = grads
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
