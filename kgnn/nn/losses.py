"""Losses."""

import torch
from torch import Tensor


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
    share = (expressed / per_condition.unsqueeze(-1))[condition]  # 1/(n·G·conditions) where expressed, else 0

    error = (prediction - target).abs() ** (2 + gamma)
    if log_variance is not None:
        error = error * (1 + uncertainty_weight * torch.exp(-log_variance))
    change = prediction - control_mean
    direction = torch.sign(change) if soft_sign is None else torch.tanh(soft_sign * change)
    wrong = (torch.sign(target - control_mean) - direction).square()
    return (share * (error + direction_weight * wrong)).sum()
