"""Heads: from the state of genes to expression, from a token to a class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.fused import folded_gene_values, gene_values
from kgnn.nn.losses import NEVER
from kgnn.nn.norm import CountedBatchNorm, CountedMLP, fold_norm


class GearsDecoder(nn.Module):
    """GEARS' decoder, steps 3 to 6 (Roohani, Huang, Leskovec, Nat Biotechnol 2024), a row a distinct condition.

    h[g,c] = ReLU(BN(base[g] + shift[c])); z[c,g] = w1[g] · MLP(h[g,c]) + b1[g]; s_c = MLP(z[c,:]);
    change[c,g] = w2[g] · [z[c,g] ; s_c] + b2[g]. The prediction of a cell is its control cell's expression plus
    the change. With `uncertainty`, log-variance[c,g] = MLP_{d,2d,d,1}(h[g,c]).

    The statistics of BN(base + shift) come from the two factors' moments; the MLP over genes × conditions works
    in blocks (`kgnn.nn.fused`).

    Shapes: base [genes, d], shift [conditions, d], counts [conditions] (cells of each condition in the batch)
    → change [conditions, genes], log-variance [conditions, genes] or None.
    """

    def __init__(self, n_genes: int, channels: int = 64, uncertainty: bool = False) -> None:
        super().__init__()
        self.state_norm = CountedBatchNorm(channels)
        self.gene_mlp = CountedMLP(channels, 2 * channels, channels)
        self.gene_weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_genes, channels, 1)).squeeze(-1))
        self.gene_bias = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_genes, 1)).squeeze(-1))
        self.cell_mlp = CountedMLP(n_genes, channels, channels)
        self.out_weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes, channels + 1)).squeeze(0))
        self.out_bias = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes)).squeeze(0))
        self.uncertainty_mlp = CountedMLP(channels, 2 * channels, channels, 1) if uncertainty else None

    def forward(self, base: Tensor, shift: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
        a, b = self._state_factors(base, shift, counts)
        z = self._gene_values(a, b, counts).T + self.gene_bias
        cell = self.cell_mlp(z, counts)
        change = self.out_weight[:, 0] * z + cell @ self.out_weight[:, 1:].T + self.out_bias
        return change, None if self.uncertainty_mlp is None else self._log_variance(a, b, counts)

    def _state_factors(self, base: Tensor, shift: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return a [genes, d] and b [conditions, d] with BN(base[g] + shift[c]) = a[g] + b[c].

        Every gene meets every condition, so the mean and the variance of the sum are the sums of the factors'."""
        total = counts.sum()
        share = (counts / total).unsqueeze(-1)
        base_mean, shift_mean = base.mean(0), (share * shift).sum(0)
        variance = base.var(0, unbiased=False) + (share * (shift - shift_mean).square()).sum(0)
        scale, offset = self.state_norm.scale_and_offset(base_mean + shift_mean, variance, total * len(base))
        return base * scale, shift * scale + offset

    def _gene_values(self, a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
        """w1[g] · MLP(h[g,c]), [genes, conditions]."""
        if self.training:
            total = counts.sum() * len(a)
            return gene_values(a, b, counts / total, total, self.gene_mlp, self.gene_weight)
        if not torch.is_grad_enabled():
            return folded_gene_values(a, b, self.gene_mlp, self.gene_weight)
        h = (a.unsqueeze(1) + b).relu()
        return (self.gene_mlp(h.flatten(0, 1), counts).unflatten(0, h.shape[:2]) * self.gene_weight.unsqueeze(1)).sum(
            -1
        )

    def _log_variance(self, a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
        assert self.uncertainty_mlp is not None
        layers = self.uncertainty_mlp.layers()
        x = (a.unsqueeze(1) + b).relu()
        for number, (linear, norm) in enumerate(layers):
            x = F.linear(x, *fold_norm(x, linear, norm, counts))
            if number < len(layers) - 1:
                x = x.relu_()
        return x.squeeze(-1).T


class CountDecoder(nn.Module):
    """Special tokens, and gene tokens where they are given, → parameters of each gene's count (scPRINT, scVI).

    mean = total × softmax over the genes of base + special tokens' part + gene token's part. The special tokens alone
    are scPRINT's bottleneck. Each gene has a base share, dispersion and drop-out of its own.

    Shapes: tokens [cells, special tokens, channels], genes [cells or 1, genes] numbers, total [cells] (of the counts to
    predict over these genes), state [cells, genes, channels] or None, present [cells, genes] bool or None (no padding)
    → log mean, log dispersion, drop-out logit, [cells, genes] each.
    """

    def __init__(self, n_tokens: int, channels: int, n_genes: int) -> None:
        super().__init__()
        self.cell = nn.Sequential(nn.Linear(n_tokens * channels, 2 * channels), nn.GELU())
        self.weight = nn.Parameter(0.02 * torch.randn(n_genes, 2 * channels))
        self.gene = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, 3))
        self.base = nn.Parameter(torch.zeros(n_genes, 3))

    def forward(
        self, tokens: Tensor, genes: Tensor, total: Tensor, state: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.cell(tokens.flatten(1))
        if len(genes) == 1:
            moved = hidden @ self.weight[genes[0]].T
        else:
            moved = (self.weight[genes] @ hidden.unsqueeze(-1)).squeeze(-1)
        own = self.base[genes] if state is None else self.base[genes] + self.gene(state)
        share, dispersion, dropout = own.unbind(-1)
        share = share + moved
        share = share if present is None else share.masked_fill(~present, NEVER)
        return share.log_softmax(1) + total.clamp_min(1).log().unsqueeze(1), dispersion, dropout
