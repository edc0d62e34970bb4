"""Peers for comparison: published designs rebuilt on the same graph, inputs and training loop.

Each takes `(gene_graph, perturbation_graph, state, numbers)`: the graphs of `kgnn.models.perturbation.graphs`, the mean
control cell [genes], and the node number of each measured gene in the perturbation graph; and maps a `ConditionBatch`
to the change [conditions, genes], zero without a perturbation. The basal state is the mean control cell, so that a
forward pass costs one row a distinct condition. Strengths are not used.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.attention import attention
from kgnn.nn.conditions import ConditionBatch
from kgnn.ops import Adjacency, dot_attention, spmm

HEADS, LAYERS = 4, 2


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class _Peer(nn.Module):
    """What peers share: a vector a perturbable gene, summed over a condition's perturbed genes."""

    state: Tensor

    def __init__(self, perturbation_graph: Adjacency, state: Tensor, channels: int) -> None:
        super().__init__()
        self.register_buffer("state", state, persistent=False)
        self.perturbation_graph = perturbation_graph
        self.embedding = nn.Parameter(0.1 * torch.randn(perturbation_graph.shape[0], channels))

    def summed(self, embedding: Tensor, batch: ConditionBatch) -> Tensor:
        return F.embedding_bag(batch.nodes, embedding, batch.offsets, mode="sum", include_last_offset=True)


class CPA(_Peer):
    """Additive autoencoder in the manner of CPA (Lotfollahi et al., Mol Syst Biol 2023): decoder(basal + Σ e_p).

    Without its adversary: there are no covariates to take out of the mean control cell. No graph enters, so a gene that
    was never perturbed has an untrained embedding.
    """

    def __init__(
        self, _: Adjacency, perturbation_graph: Adjacency, state: Tensor, __: Tensor, channels: int = 64
    ) -> None:
        super().__init__(perturbation_graph, state, channels)
        self.basal = _mlp(len(state), 2 * channels, channels)
        self.decoder = _mlp(channels, 2 * channels, len(state))

    def messages(self) -> Tensor:
        """The vectors of the perturbable genes."""
        return self.embedding

    def forward(self, batch: ConditionBatch) -> Tensor:
        change: Tensor = self.decoder(self.basal(self.state) + self.summed(self.messages(), batch))
        return change * (batch.offsets.diff() > 0).unsqueeze(1)


class Transformer(_Peer):
    """Transformer over gene tokens and one condition token; every token attends to all.

    A gene's token: its embedding + a vector times its control expression + a vector where it is perturbed. The
    condition's token: Σ e_p. Pre-norm layers with torch's scaled dot-product attention.
    """

    def __init__(
        self, gene_graph: Adjacency, graph: Adjacency, state: Tensor, numbers: Tensor, channels: int = 64
    ) -> None:
        super().__init__(graph, state, channels)
        self.register_buffer("numbers", numbers, persistent=False)
        self.gene_embedding = nn.Parameter(0.1 * torch.randn(len(state), channels))
        self.value = nn.Parameter(0.1 * torch.randn(channels))
        self.mark = nn.Parameter(0.1 * torch.randn(channels))
        self.layers = nn.ModuleList([_Layer(channels) for _ in range(LAYERS)])
        self.out_norm = nn.LayerNorm(channels)
        self.out_weight = nn.Parameter(torch.zeros(len(state), channels))
        self.out_bias = nn.Parameter(torch.zeros(len(state)))
        self.edges: Adjacency | None = None

    def marks(self, batch: ConditionBatch) -> Tensor:
        """[conditions, genes]: where the condition's perturbed genes are."""
        signal = torch.zeros(self.embedding.shape[0], len(batch.counts), device=self.state.device)
        ones = torch.ones_like(batch.nodes, dtype=signal.dtype)
        signal = signal.index_put((batch.nodes, batch.condition), ones, accumulate=True)
        return self.arrive(signal)[self.numbers].T  # type: ignore[index]

    def arrive(self, signal: Tensor) -> Tensor:
        return signal

    def forward(self, batch: ConditionBatch) -> Tensor:
        marks = self.marks(batch)
        genes = self.gene_embedding + self.state.unsqueeze(1) * self.value + marks.unsqueeze(2) * self.mark
        x = torch.cat([genes, self.summed(self.embedding, batch).unsqueeze(1)], 1)
        for layer in self.layers:
            x = layer(x, self.edges)
        change: Tensor = (self.out_norm(x[:, :-1]) * self.out_weight).sum(-1) + self.out_bias
        return change * (batch.offsets.diff() > 0).unsqueeze(1)


class GraphTransformer(Transformer):
    """The same with the graph as attention mask: genes hear their neighbours and the condition's token; it hears all.

    A perturbed gene that is not measured marks the measured genes that hear it.
    """

    def __init__(
        self, gene_graph: Adjacency, graph: Adjacency, state: Tensor, numbers: Tensor, channels: int = 64
    ) -> None:
        super().__init__(gene_graph, graph, state, numbers, channels)
        n = len(state)
        position = torch.full((graph.shape[0],), -1, dtype=torch.int64)
        position[numbers] = torch.arange(n)
        among = position[graph.edge_index]
        token = torch.full((n + 1,), n)
        every = torch.arange(n + 1)
        pairs = torch.cat(
            [
                gene_graph.edge_index,
                among[:, (among >= 0).all(0)],
                torch.stack([token, every]),
                torch.stack([every, token]),
            ],
            1,
        )
        self.edges = Adjacency(torch.unique(pairs, dim=1), n_nodes=n + 1)

    def arrive(self, signal: Tensor) -> Tensor:
        return spmm(self.perturbation_graph, signal)


class _Layer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.feed = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor, edges: Adjacency | None) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        if edges is None:
            heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
            heard = attention(*heads).transpose(1, 2).flatten(2)
        else:
            heard = dot_attention(edges, q.contiguous(), k.contiguous(), v.contiguous(), heads=HEADS)
        x = x + self.out(heard)
        return x + self.feed(self.feed_norm(x))


PEERS: dict[str, type[CPA] | type[Transformer]] = {
    "transformer": Transformer,
    "graph_transformer": GraphTransformer,
    "cpa": CPA,
}
