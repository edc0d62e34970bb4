"""TxPert (Wenkel et al. 2026) from its formulas: a basal state and vectors of perturbed genes, added and decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.conditions import ConditionBatch
from kgnn.nn.conv import GATv2Conv
from kgnn.nn.norm import CountedBatchNorm
from kgnn.ops import Adjacency, edge_softmax, sddmm, spmm

HEADS, LAYERS = 2, 4
LATENT, HIDDEN, DROPOUT = 64, 512, 0.2
CYCLES, CLIP = 3, 5.0


class TxPert(nn.Module):
    """ŷ = g(s + Σ_p z_p), s = MLP(x) of the control state x.

    g = Linear 64 → 512, BatchNorm, LeakyReLU, dropout 0.2, Linear → genes. Without a basal encoder ŷ = x + g(Σ_p z_p).
    Gives the change ŷ − x, none where nothing is perturbed. Training begins at the control mean: the last weights are
    0, the last bias is that mean, or 0 without a basal encoder. A batch's statistics count each condition's cells.

    Args:
        encoder: gives z [genes, 64], see `GATEncoder`, `Exphormer`.
        state: [genes], mean control expression of training.
        basal: with the basal encoder.
    """

    def __init__(self, encoder: nn.Module, state: Tensor, basal: bool = True) -> None:
        super().__init__()
        self.encoder, n = encoder, len(state)
        self.basal = nn.Sequential(nn.Linear(n, HIDDEN), nn.LeakyReLU(), nn.Linear(HIDDEN, LATENT)) if basal else None
        self.hidden, self.norm, self.out = nn.Linear(LATENT, HIDDEN), CountedBatchNorm(HIDDEN), nn.Linear(HIDDEN, n)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.out.weight)
        self.out.bias.data.copy_(state if basal else torch.zeros(n))

    def forward(self, batch: ConditionBatch) -> Tensor:
        z: Tensor = self.encoder()
        x = F.embedding_bag(batch.nodes, z, batch.offsets, mode="sum", include_last_offset=True)
        if self.basal is not None:
            x = x + self.basal(batch.state)
        x = F.leaky_relu(self.norm(self.hidden(x), batch.counts.to(x.dtype)))
        change: Tensor = self.out(self.dropout(x))
        if self.basal is not None:
            change = change - batch.state
        return change * (batch.offsets.diff() > 0).unsqueeze(1)


class GATEncoder(nn.Module):
    """z = W [x₀; x₁; …; x₄], x_{l+1} = ELU(GATv2(x_l)), 2 heads, x₀ a learned vector a gene; weights play no part."""

    def __init__(self, graph: Adjacency, channels: int = 128) -> None:
        super().__init__()
        self.graph = graph
        self.embedding = nn.Parameter(0.1 * torch.randn(graph.shape[0], channels))
        self.layers = nn.ModuleList(GATv2Conv(channels, channels // HEADS, heads=HEADS) for _ in range(LAYERS))
        self.out = nn.Linear((LAYERS + 1) * channels, LATENT)

    def forward(self) -> Tensor:
        found: list[Tensor] = [self.embedding]
        for layer in self.layers:
            found.append(F.elu(layer(found[-1], self.graph)))
        z: Tensor = self.out(torch.cat(found, -1))
        return z


class Exphormer(nn.Module):
    """z = W x₄, four `ExphormerLayer`s along several graphs, see `exphormer_edges`; x₀ a learned vector a gene."""

    def __init__(self, graphs: Sequence[Adjacency], channels: int = 128) -> None:
        super().__init__()
        self.first = graphs[0]
        self.wide = WideEdges(*exphormer_edges(graphs))
        self.embedding = nn.Parameter(0.1 * torch.randn(graphs[0].shape[0], channels))
        self.layers = nn.ModuleList(ExphormerLayer(channels, self.wide.kinds.shape[1]) for _ in range(LAYERS))
        self.out = nn.Linear(channels, LATENT)

    def forward(self) -> Tensor:
        x: Tensor = self.embedding
        for layer in self.layers:
            x = layer(x, self.wide, self.first)
        z: Tensor = self.out(x)
        return z


class ExphormerLayer(nn.Module):
    """h = Norm(x + GATv2(x)) + Norm(x + Attention(x)), x ← Norm(h + MLP(h)) (Shirzad et al., ICML 2023).

    Attention of v over the edges (u, v): Σ_u a_uv V_u / Σ_u a_uv, a_uv = exp(clip(Σ K_u ⊙ Q_v ⊙ E / √d + b, ±5)) with
    E = m W_E and b = m w_b of the edge's kinds m, a head each of width d. The GATv2 goes along the first graph.

    Shapes: x [genes, channels] → as x.
    """

    def __init__(self, channels: int, n_kinds: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.kind = nn.Parameter(torch.randn(n_kinds, channels))
        self.kind_bias = nn.Parameter(torch.zeros(n_kinds, HEADS))
        self.mix = nn.Linear(channels, channels)
        self.local = GATv2Conv(channels, channels // HEADS, heads=HEADS)
        self.local_norm, self.wide_norm, self.norm = (nn.LayerNorm(channels) for _ in range(3))
        self.feed = nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor, wide: WideEdges, first: Adjacency) -> Tensor:
        heard = self.mix(spmm(wide.edges, self.value(x), self.shares(x, wide)))
        h = self.local_norm(x + self.local(x, first)) + self.wide_norm(x + heard)
        out: Tensor = self.norm(h + self.feed(h))
        return out

    def shares(self, x: Tensor, wide: WideEdges) -> Tensor:
        """What each edge counts, [edges, heads]."""
        query = self.query(x).index_select(0, wide.target_of_row) * (wide.kinds_of_row @ self.kind)
        score = sddmm(wide.rows, query, self.key(x), heads=HEADS) / (x.shape[-1] // HEADS) ** 0.5
        return edge_softmax(wide.edges, (score + wide.kinds @ self.kind_bias).clamp(-CLIP, CLIP))


class WideEdges(nn.Module):
    """What `exphormer_edges` gives, and its edges by rows: those into a target that are of the same kinds are one, so
    that E is held a row, not an edge.

    Attributes:
        edges: the graph; kinds: [edges, kinds] 0/1.
        rows: [rows, genes], its edges in their order; target_of_row: [rows]; kinds_of_row: [rows, kinds].
    """

    kinds: Tensor
    target_of_row: Tensor
    kinds_of_row: Tensor

    def __init__(self, edges: Adjacency, kinds: Tensor) -> None:
        super().__init__()
        self.edges = edges
        source, target = edges.edge_index
        mixes, mix = torch.unique(kinds, dim=0, return_inverse=True)
        rows, row = torch.unique(target * len(mixes) + mix, return_inverse=True)
        self.rows = Adjacency(torch.stack([source, row]), n_nodes=(len(rows), edges.shape[1]))
        self.register_buffer("kinds", kinds, persistent=False)
        self.register_buffer("target_of_row", rows // len(mixes), persistent=False)
        self.register_buffer("kinds_of_row", mixes[rows % len(mixes)], persistent=False)


def exphormer_edges(graphs: Sequence[Adjacency]) -> tuple[Adjacency, Tensor]:
    """The union of graphs over the same genes and its edges' kinds, [edges, graphs + 3] 0/1.

    A kind a graph, then self loops, edges that are the reverse of another, and three random Hamiltonian cycles, both
    ways and the same for every seed.
    """
    n = graphs[0].shape[0]
    loops = torch.arange(n).expand(2, -1)
    of_graphs = [graph.edge_index[:, graph.edge_index[0] != graph.edge_index[1]] for graph in graphs]
    rng = torch.Generator().manual_seed(0)
    rounds = [torch.randperm(n, generator=rng) for _ in range(CYCLES if n > 1 else 0)]
    ways = [torch.stack([order.roll(step), order]) for order in rounds for step in (1, -1)]
    parts = [*of_graphs, loops, torch.cat(of_graphs, 1).flip(0), torch.cat([loops[:, :0], *ways], 1)]
    pairs, place = torch.unique(torch.cat(parts, 1).flip(0), dim=1, return_inverse=True)  # in the order of the CSR
    kind = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([part.shape[1] for part in parts]))
    kinds = torch.zeros(pairs.shape[1], len(parts))
    kinds[place, kind] = 1.0
    return Adjacency(pairs.flip(0), n_nodes=n), kinds
