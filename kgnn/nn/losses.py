"""Losses."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1 << 16  # numbers of a prediction at a time


def gears_loss(
    prediction: Tensor,
    target: Tensor,
    control_mean: Tensor,
    condition: Tensor,
    expressed: Tensor,
    *,
    log_variance: Tensor | None = None,
    gamma: float = 2.0,
    direction_weight: float = 0.1,
    uncertainty_weight: float = 1.0,
    soft_sign: float | None = None,
) -> Tensor:
    """GEARS' autofocus loss with its direction term (Roohani, Huang, Leskovec, Nat Biotechnol 2024).

    For each distinct condition of the batch, over its n cells and its G expressed genes,
    1/(nG) Σ |ŷ − y|^(2+γ) + λ/(nG) Σ ( sign(y − ctrl) − sign(ŷ − ctrl) )², then the mean over the conditions. The
    direction term as published has no gradient, because sign is flat; `soft_sign=β` puts tanh(β(ŷ − ctrl)) in
    place of the prediction's sign, which has one. In uncertainty mode the first term is multiplied by
    1 + reg · exp(−log-variance), as published: nothing in it holds the log-variance down.

    Args:
        prediction, target: [cells, genes], log-normalised expression.
        control_mean: [genes], mean of the control cells.
        condition: [cells], number of each cell's condition within the batch, 0 … conditions − 1, none left out.
        expressed: [conditions, genes], False where the condition's mean expression is zero: left out.
        log_variance: [cells, genes] in uncertainty mode.
        gamma: γ; direction_weight: λ; uncertainty_weight: reg.
        soft_sign: β of the soft sign; None is the paper's hard sign.
    """
    cells_of = torch.bincount(condition, minlength=len(expressed)).to(target.dtype)
    per_condition = cells_of * expressed.sum(1).clamp_min(1) * len(expressed)
    share = expressed / per_condition.unsqueeze(-1)  # 1/(n·G·conditions) where expressed, else 0
    options = _Options(gamma, direction_weight, uncertainty_weight, soft_sign)
    loss: Tensor = _GearsLoss.apply(prediction, log_variance, target, control_mean, condition, share, options)
    return loss


class _Options(NamedTuple):
    gamma: float
    direction_weight: float
    uncertainty_weight: float
    soft_sign: float | None


class _GearsLoss(torch.autograd.Function):
    """The loss and its gradient in one pass, some cells at a time: a dozen steps over each number, in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        log_variance: Tensor | None,
        target: Tensor,
        control_mean: Tensor,
        condition: Tensor,
        share: Tensor,
        options: _Options,
    ) -> Tensor:
        grad = torch.empty_like(prediction) if ctx.needs_input_grad[0] else None
        grad_variance = torch.empty_like(log_variance) if log_variance is not None else None
        total = prediction.new_zeros(())
        size = len(prediction) if prediction.is_cuda else max(1, BLOCK // prediction.shape[1])
        for start in range(0, len(prediction), size):
            part = slice(start, start + size)
            of_cell = share.index_select(0, condition[part])
            error = prediction[part] - target[part]
            focus, slope = _focus(error, options.gamma)
            if log_variance is not None and grad_variance is not None:
                doubt = options.uncertainty_weight * torch.exp(-log_variance[part])
                grad_variance[part] = -doubt * focus * of_cell
                focus, slope = focus * (1 + doubt), slope * (1 + doubt)
            change = prediction[part] - control_mean
            soft = options.soft_sign
            direction = change.sign() if soft is None else torch.tanh(soft * change)
            wrong = (target[part] - control_mean).sign_().sub_(direction)
            if soft is not None:  # sign is flat, tanh is not
                slope = slope - 2 * options.direction_weight * soft * wrong * (1 - direction.square())
            total += torch.dot(of_cell.ravel(), focus.add_(wrong.square_(), alpha=options.direction_weight).ravel())
            if grad is not None:
                torch.mul(slope, of_cell, out=grad[part])
        ctx.save_for_backward(grad, grad_variance)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grads = [None if grad is None else grad * grad_total for grad in ctx.saved_tensors]
        return *grads, None, None, None, None, None


def _focus(error: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """|e|^(2+γ) and its derivative."""
    if gamma == 2:
        square = error.square()
        return square.square(), error.mul_(square).mul_(4)
    size = error.abs()
    return size ** (2 + gamma), (2 + gamma) * size ** (1 + gamma) * error.sign()
