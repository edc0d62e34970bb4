"""Batch normalisation over rows that stand for several cells each."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CountedBatchNorm(nn.BatchNorm1d):
    """Batch norm whose row i counts as `counts[i]` equal rows (Ioffe & Szegedy 2015).

    What a batch would compute again and again for cells that are alike is computed once, and the statistics,
    running ones included, are still those of the full batch. Parameters and buffers are those of
    `torch.nn.BatchNorm1d`.

    Shapes: x [rows, channels], counts [rows] → [rows, channels]. In eval mode counts are not used.
    """

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            return super().forward(x)
        total = counts.sum()
        share = (counts / total).to(x.dtype).unsqueeze(-1)
        mean = (share * x).sum(0)
        variance = (share * (x - mean).square()).sum(0)
        scale, offset = self.scale_and_offset(mean, variance, total)
        return x * scale + offset

    def scale_and_offset(self, mean: Tensor, variance: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and offset [channels] with norm(x) = x · scale + offset.

        In training the statistics are the given ones (biased variance over `total` rows), and the running ones
        move towards them; in eval mode they are the running ones.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        if self.training:
            self._track(mean.detach(), variance.detach(), total)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight * (variance + self.eps).rsqrt()
        return scale, self.bias - mean * scale

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        unbiased = variance * (total / (total - 1).clamp_min(1))
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class CountedMLP(nn.Module):
    """Linear–BatchNorm(–ReLU–Linear–BatchNorm)…, GEARS' MLP, over rows that count several times.

    Shapes: x [rows, sizes[0]], counts [rows] → [rows, sizes[-1]].
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(CountedBatchNorm(size) for size in sizes[1:])

    def layers(self) -> list[tuple[nn.Linear, CountedBatchNorm]]:
        return list(zip(self.linears, self.norms, strict=True))  # type: ignore[arg-type]

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        for layer, (linear, norm) in enumerate(self.layers()):
            x = norm(linear(x if layer == 0 else x.relu()), counts)
        return x


def fold_norm(x: Tensor, linear: nn.Linear, norm: CountedBatchNorm, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one linear map equal to `norm(linear(x))`, so that no pass normalises the output.

    Args:
        x: [genes, conditions, channels]; every gene of condition c counts `counts[c]` times.
    """
    total = counts.sum() * x.shape[0]
    if not norm.training:
        return fold_moments(linear.bias, linear.weight, linear, norm, total)  # the moments are not used
    first, second = _Moments.apply(x, counts / total)
    return fold_moments(first, second, linear, norm, total)


def fold_moments(
    first: Tensor, second: Tensor, linear: nn.Linear, norm: CountedBatchNorm, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Fold a norm into the linear map before it, given E[x] and E[x xᵀ] of the map's input over `total` rows.

    The statistics of Wx + b follow from the moments of x: mean W·E[x] + b, variance diag(W·Cov[x]·Wᵀ).
    """
    mean: Tensor = linear.bias
    variance: Tensor = linear.bias
    if norm.training:
        mean = linear(first)
        variance = ((linear.weight @ (second - torch.outer(first, first))) * linear.weight).sum(1).clamp_min(0)
    scale, offset = norm.scale_and_offset(mean, variance, total)
    return linear.weight * scale.unsqueeze(-1), linear.bias * scale + offset


class _Moments(torch.autograd.Function):
    """E[x] and E[x xᵀ] of rows x [genes, conditions, channels], weighted by share [conditions]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, share)
        weighted = (x * share.unsqueeze(-1)).flatten(0, 1)
        return weighted.sum(0), weighted.T @ x.flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad_first: Tensor, grad_second: Tensor) -> tuple[Tensor, None]:
        x, share = ctx.saved_tensors
        flat = F.linear(x, grad_second + grad_second.T, grad_first)
        return flat.mul_(share.unsqueeze(-1)), None
