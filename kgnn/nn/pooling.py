"""Peers that pool knowledge sources: from one vector a gene and source to the change of each condition.

Each takes `vectors` [sources, genes, 128], 0 where a source says nothing of a gene, and `known` [sources, genes] bool;
both are buffers. What is made of a gene is summed over a condition's perturbed genes. Strengths and the state are not
used.
"""

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.attention import attention
from kgnn.nn.conditions import ConditionBatch

HEADS, SLOPE = 5, 0.2
TEMPERATURE, SKIP = 0.15, 0.15
FUSION_HEADS, FUSION_LAYERS, FUSION_HIDDEN = 10, 8, 400


class _Pooling(nn.Module, ABC):
    """What designs on source vectors share: a vector a perturbed gene, summed over a condition's; its change."""

    vectors: Tensor
    known: Tensor
    out: nn.Module

    def __init__(self, vectors: Tensor, known: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("known", known)

    @abstractmethod
    def pooled(self, vectors: Tensor, known: Tensor) -> Tensor:
        """Vectors [sources, genes, 128] of some genes and which are known [sources, genes] → [genes, channels]."""

    def summed(self, batch: ConditionBatch) -> Tensor:
        """[conditions, channels]; each distinct gene is pooled once."""
        genes, place = batch.nodes.unique(return_inverse=True)
        found = self.pooled(self.vectors[:, genes], self.known[:, genes])
        zeros = found.new_zeros(len(batch.counts), found.shape[1])
        return zeros.index_add(0, batch.condition, found[place])

    def forward(self, batch: ConditionBatch) -> Tensor:
        change: Tensor = self.out(self.summed(batch))
        return change * (batch.offsets.diff() > 0).unsqueeze(1)


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


class Fusion(_Pooling):
    """Fusion of embeddings (Cole et al. 2026): change = MLP(CLS), 2 hidden layers of 400, CLS after attention.

    Tokens of a gene: a learned CLS token and W_k x_k + b_k for each source k that knows it; 8 `GatedLayer`s among them.
    A gene that no source knows has the CLS token alone: all such genes get one answer.

    Not said in the paper's text and taken so: the gates, see `GatedLayer`; each x_k is reconstructed from the CLS token
    by a linear map, see `extra_loss`; a combination's CLS is the sum of its genes'.
    """

    def __init__(self, vectors: Tensor, known: Tensor, n_genes: int, channels: int = 100) -> None:
        super().__init__(vectors, known)
        width = vectors.shape[-1]
        self.tokens = nn.ModuleList(nn.Linear(width, channels) for _ in vectors)
        self.cls = nn.Parameter(0.1 * torch.randn(channels))
        self.layers = nn.ModuleList(GatedLayer(channels) for _ in range(FUSION_LAYERS))
        self.inputs = nn.ModuleList(nn.Linear(channels, width) for _ in vectors)
        sizes = (channels, FUSION_HIDDEN, FUSION_HIDDEN)
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.out = nn.Sequential(*hidden, nn.Linear(FUSION_HIDDEN, n_genes))

    def pooled(self, vectors: Tensor, known: Tensor) -> Tensor:
        """The CLS token of each gene after the last layer, [genes, channels]."""
        told = [token(x) for token, x in zip(self.tokens, vectors, strict=True)]
        x = torch.stack([self.cls.expand(vectors.shape[1], -1), *told], 1)
        present = F.pad(known.T, (1, 0), value=True)
        for layer in self.layers:
            x = layer(x, present)
        return x[:, 0]

    def extra_loss(self, batch: ConditionBatch) -> Tensor:
        """Mean squared error of the perturbed genes' vectors, each source's from the CLS token."""
        genes = batch.nodes.unique()
        vectors, known = self.vectors[:, genes], self.known[:, genes]
        cls = self.pooled(vectors, known)
        found = torch.stack([linear(cls) for linear in self.inputs])
        return ((found - vectors).square().mean(-1) * known).sum() / known.sum().clamp_min(1)


class GatedLayer(nn.Module):
    """x ← x + σ(G x̃) ⊙ Attention(x̃), x ← x + σ(G′ x̃) ⊙ MLP(x̃), x̃ = LayerNorm(x): a gate a channel of each update.

    Ten heads (Vaswani et al., NeurIPS 2017). Shapes: x [genes, tokens, channels], present [genes, tokens] → as x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.mix = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.feed = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        self.gate, self.feed_gate = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        n = self.norm(x)
        q, k, v = (part.unflatten(-1, (FUSION_HEADS, -1)).transpose(1, 2) for part in self.qkv(n).chunk(3, -1))
        heard = attention(q, k, v, present[:, None, None])
        x = x + self.gate(n).sigmoid() * self.mix(heard.transpose(1, 2).flatten(2))
        n = self.feed_norm(x)
        return x + self.feed_gate(n).sigmoid() * self.feed(n)
