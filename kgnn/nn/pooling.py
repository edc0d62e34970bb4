"""Peers that pool knowledge sources: from one vector a gene and source to the change of each condition.

Each takes `vectors` [sources, genes, 128], 0 where a source says nothing of a gene, and `known` [sources, genes] bool;
both are buffers. What is made of a gene is summed over a condition's perturbed genes. Strengths and the state are not
used.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.conditions import ConditionBatch

HEADS, SLOPE = 5, 0.2
TEMPERATURE, SKIP = 0.15, 0.15


class _Pooling(nn.Module):
    """What designs on source vectors share: a vector a perturbed gene, summed over a condition's genes."""

    vectors: Tensor
    known: Tensor

    def __init__(self, vectors: Tensor, known: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("known", known)

    def pooled(self, vectors: Tensor, known: Tensor) -> Tensor:
        """Some genes' vectors [sources, genes, 128] and which are known [sources, genes] → one each, [genes, channels]."""
        raise NotImplementedError

    def summed(self, batch: ConditionBatch) -> Tensor:
        """[conditions, channels]; each distinct gene is pooled once."""
        genes, place = batch.nodes.unique(return_inverse=True)
        found = self.pooled(self.vectors[:, genes], self.known[:, genes])
        zeros = found.new_zeros(len(batch.counts), found.shape[1])
        return zeros.index_add(0, batch.condition, found[place])


class StarAttention(nn.Module):
    """A graph attention layer (Veličković et al., ICLR 2018) on a star: sources → pool, every node hears itself too.

    PyG's `GATConv(channels, channels, heads, concat=False)` on one star a gene, heads averaged; its parameters have the
    same names. A source that says nothing of a gene is not heard.

    Shapes: x [genes, sources + 1, channels], the pool last; known [genes, sources] → as x.
    """

    def __init__(self, channels: int, heads: int = HEADS) -> None:
        super().__init__()
        self.lin = nn.Linear(channels, heads * channels, bias=False)
        self.att_src = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, channels)))
        self.att_dst = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, channels)))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        value = self.lin(x).unflatten(-1, (self.att_src.shape[1], -1))
        of, to = (value * self.att_src).sum(-1), (value[:, -1:] * self.att_dst).sum(-1)
        heard = F.pad(known, (0, 1), value=True).unsqueeze(-1)
        share = F.leaky_relu(of + to, SLOPE).masked_fill(~heard, -torch.inf).softmax(1)
        pool = (share.unsqueeze(-1) * value).sum(1, keepdim=True)
        return torch.cat([value[:, :-1], pool], 1).mean(2) + self.bias


class PRESAGE(_Pooling):
    """PRESAGE (2025): change = Linear(0.85 z_gat + 0.15 z_s), z_gat by attention over sources, z_s a weighted skip.

    h_k = LeakyReLU(MLP_k 128 → 128 → channels). z_gat: the pool after `StarAttention` applied twice to h, the pool
    beginning at 0. z_s = (K / Σ m) Σ_k softmax(v ⊙ m / 0.15)_k m_k h_k, m_k whether source k knows the gene, v learned.
    Where no source does, z_s = 0 and z_gat is what the biases give: all such genes get one answer.

    Not said in the paper's formula and taken so: MLP_k has a LeakyReLU between its layers; a combination's z is the sum
    of its genes'.
    """

    def __init__(self, vectors: Tensor, known: Tensor, n_genes: int, channels: int = 512) -> None:
        super().__init__(vectors, known)
        width = vectors.shape[-1]
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, channels), nn.LeakyReLU())
            for _ in vectors
        )
        self.attention = StarAttention(channels)
        self.weight = nn.Parameter(torch.zeros(len(vectors)))
        self.out = nn.Linear(channels, n_genes)

    def pooled(self, vectors: Tensor, known: Tensor) -> Tensor:
        """0.85 z_gat + 0.15 z_s, [genes, channels]."""
        h = torch.stack([mlp(x) for mlp, x in zip(self.mlps, vectors, strict=True)], 1)
        m = known.T.to(h.dtype)
        x = F.pad(h, (0, 0, 0, 1))
        for _ in range(2):
            x = self.attention(x, known.T)
        share = (self.weight * m / TEMPERATURE).softmax(1) * m
        share = share * (m.shape[1] / m.sum(1, keepdim=True).clamp_min(1))
        return (1 - SKIP) * x[:, -1] + SKIP * torch.einsum("gk,gkc->gc", share, h)

    def forward(self, batch: ConditionBatch) -> Tensor:
        change: Tensor = self.out(self.summed(batch))
        return change * (batch.offsets.diff() > 0).unsqueeze(1)
