"""Effects of which some were never measured: a Gaussian process over conditions × genes, solved where they were."""

from __future__ import annotations

import torch
from torch import Tensor

OWN = 0.5  # of a gene's variance that no other gene shares
STEPS, ENOUGH = 15, 1e-6  # of conjugate gradients: at most, and the share of the squared residual that ends them
PRIOR = 5.0  # measurements


def gene_means(change: Tensor, seen: Tensor) -> Tensor:
    """Mean of each gene's measured values, drawn towards the mean of all by `PRIOR` measurements, [genes]."""
    total = change.masked_fill(~seen, 0.0).sum(0)
    number = seen.sum(0)
    return (total + PRIOR * total.sum() / number.sum().clamp_min(1)) / (number + PRIOR)


def gene_kernel(rest: Tensor) -> Tensor:
    """V [genes, conditions] with G = OWN I + V Vᵀ: genes are alike as far as they answer alike in training.

    rest: [conditions, genes], 0 where nothing was measured; V Vᵀ is 1 − OWN times the cosine of its columns.
    """
    length = rest.norm(dim=0)
    return ((1 - OWN) ** 0.5 * rest / torch.where(length > 0, length, 1.0)).T


def solve_missing(rest: Tensor, seen: Tensor, kernel: Tensor, noise: Tensor) -> Tensor:
    """A G with M ∘ (K A G) + λ A = M ∘ R and A = 0 where nothing was measured, [conditions, genes].

    By conjugate gradients in float32: y = f + ε, f ~ GP(0, K ⊗ G), of which no Kronecker product is made.

    Args:
        rest: R [conditions, genes], 0 where nothing was measured. seen: M, the same bool. kernel: K [conditions, the
            same]. noise: λ [conditions].
    """
    k, m, level = kernel.float(), seen.float(), noise.float().unsqueeze(1)
    v = gene_kernel(rest).float()

    def along_genes(x: Tensor) -> Tensor:
        return OWN * x + (x @ v) @ v.T

    r = rest.float() * m
    a, p = torch.zeros_like(r), r.clone()
    size = first = float(r.square().sum())
    for _ in range(STEPS):
        if size <= ENOUGH * first:
            break
        q = m * (k @ along_genes(p)) + level * p
        step = size / float((p * q).sum())
        a += step * p
        r -= step * q
        size, before = float(r.square().sum()), size
        p = r + size / before * p
    return along_genes(a).double()
