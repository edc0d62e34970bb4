"""Closed-form heads: ridge regressions solved exactly, and their errors on rows that were left out."""

import torch
from torch import Tensor


def left_out_operator(kernel: Tensor, noise: Tensor, blocks: Tensor) -> Tensor:
    """Return the matrix that maps targets to predictions of each row by kernel ridge from the rows outside its block.

    With A = (K + diag(noise))⁻¹ and J the block of row i, ŷ_i = y_i − [(A_JJ)⁻¹ (A y)_J]_i, the block form of
    the leave-one-out identity (Allen's PRESS; Rasmussen & Williams 2006, 5.4.2): nothing is solved again. It depends
    on the targets through a product alone, so one operator serves all genes.

    Args:
        kernel: [rows, rows], positive semidefinite.
        noise: [rows], positive.
        blocks: [rows, rows] bool; row i is predicted without the rows where blocks[i]; the diagonal is True.

    Returns:
        [rows, rows]; ŷ = operator @ y. Differentiable in kernel and noise.
    """
    n = len(kernel)
    inverse = torch.linalg.inv(kernel + torch.diag(noise))
    width = int(blocks.sum(1).max())
    if width == 1:
        return torch.eye(n, dtype=kernel.dtype) - inverse / inverse.diagonal().unsqueeze(1)
    member = torch.argsort(blocks.int(), dim=1, descending=True, stable=True)[:, :width]  # members first
    valid = blocks.gather(1, member)
    part = inverse[member.unsqueeze(2), member.unsqueeze(1)]
    both = valid.unsqueeze(2) & valid.unsqueeze(1)
    part = torch.where(both, part, torch.eye(width, dtype=kernel.dtype))
    own = (member == torch.arange(n).unsqueeze(1)) & valid
    row = torch.linalg.solve(part, own.to(kernel.dtype).unsqueeze(2)).squeeze(2) * valid
    weights = torch.zeros_like(kernel).scatter_add(1, member, row)
    return torch.eye(n, dtype=kernel.dtype) - weights @ inverse


def pooled_ridge(gram: Tensor, moment: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Ridge regression over all entries of all rows, and the same without each row.

    Args:
        gram: [rows, features, features], each row's FᵀF over its entries; moment: [rows, features], Fᵀy.
        penalty: in units of the mean diagonal of the summed Gram matrix.

    Returns:
        coefficients [features]; coefficients without each row, [rows, features].
    """
    total, right = gram.sum(0), moment.sum(0)
    ridge = penalty * total.diagonal().mean().clamp_min(1e-12) * torch.eye(len(total), dtype=gram.dtype)
    without = torch.linalg.solve(total - gram + ridge, right - moment)
    return torch.linalg.solve(total + ridge, right), without
