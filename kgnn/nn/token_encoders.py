"""Encoders of a cell's tokens, one signature: [cells, special + genes, channels] → the same.

All are pre-norm residual layers with the same feed-forward part; they differ in who hears whom. Special tokens hear
every token and are heard by every token in all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.attention import attention
from kgnn.ops import Adjacency, dot_attention, spmm


class TokenGraph(NamedTuple):
    """Who may hear whom among the tokens of a batch.

    n_special: how many special tokens come first. Where all cells have the same genes, `hears` [special + genes,
    special + genes] links genes along edges, to themselves, and with the special tokens, and `near` [genes, genes]
    holds edges alone, each gene's weights summing to one. Where each cell has genes of its own, `linked` [cells, genes,
    genes] bool stands in their place. `present` [cells, genes] bool: what is no padding; None: all. `weight` [edges]:
    takes the place of the weights of `near`, for attribution to edges.
    """

    n_special: int
    hears: Adjacency | None = None
    near: Adjacency | None = None
    linked: Tensor | None = None
    present: Tensor | None = None
    weight: Tensor | None = None


def shared_graph(edge_index: Tensor, n_genes: int, n_special: int) -> TokenGraph:
    """The graph for cells that all have the same gene tokens; edge_index [2, edges], source and target, no loops."""
    every = torch.arange(n_special + n_genes)
    special = every[:n_special].repeat_interleave(len(every))
    both = torch.stack([special, every.repeat(n_special)])
    pairs = torch.cat([edge_index + n_special, torch.stack([every, every]), both, both.flip(0)], 1)
    hears = Adjacency(torch.unique(pairs, dim=1), n_nodes=len(every))
    return TokenGraph(n_special, hears, Adjacency(edge_index, n_nodes=n_genes, normalization="row"))


class Attention(nn.Module):
    """Multi-head attention of all tokens to all, by torch's scaled_dot_product_attention."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, graph: TokenGraph) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        heard = attention(q, k, v, self.mask(graph))
        return self.out(heard.transpose(1, 2).flatten(2))

    def mask(self, graph: TokenGraph) -> Tensor | None:
        if graph.present is None:
            return None
        return F.pad(graph.present, (graph.n_special, 0), value=True)[:, None, None]


class GraphAttention(Attention):
    """The same along edges only: a gene hears its neighbours, itself and the special tokens.

    With shared genes by the sparse core's fused attention, whose cost grows with edges and not with genes²; with
    genes of each cell's own by a mask.
    """

    def forward(self, x: Tensor, graph: TokenGraph) -> Tensor:
        if graph.hears is None:
            return super().forward(x, graph)
        parts = zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)  # contiguous, without copies
        q, k, v = (F.linear(x, weight, bias) for weight, bias in parts)
        return self.out(dot_attention(graph.hears, q, k, v, heads=self.heads))

    def mask(self, graph: TokenGraph) -> Tensor | None:
        linked, s = graph.linked, graph.n_special
        if linked is None:
            raise ValueError("attention along edges needs a graph; give shared_graph(...) or `linked`")
        itself = torch.eye(linked.shape[1], dtype=torch.bool, device=linked.device)
        mask = F.pad(linked | itself, (s, 0, s, 0), value=True)
        if graph.present is not None:
            mask = mask & F.pad(graph.present, (s, 0), value=True).unsqueeze(1)
        return mask.unsqueeze(1)

    def weights(self, x: Tensor, graph: TokenGraph) -> Tensor:
        """Attention along the edges of `graph.hears`, averaged over heads and cells, [edges] in its own order."""
        assert graph.hears is not None
        q, k, _ = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, -1))
        source, target = graph.hears.edge_index
        total = x.new_zeros(len(source))
        for cell in range(len(x)):
            score = (q[cell, target] * k[cell, source]).sum(-1) / q.shape[-1] ** 0.5
            place = target.unsqueeze(1).expand_as(score)
            top = score.new_full((x.shape[1], self.heads), -torch.inf).scatter_reduce(0, place, score, "amax")
            power = (score - top[target]).exp()
            total += (power / power.new_zeros(top.shape).index_add(0, target, power)[target]).mean(1)
        return total / len(x)


class Convolution(nn.Module):
    """Graph convolution with virtual nodes: a gene hears the mean of its neighbours and of the special tokens.

    GraphSAGE (Hamilton et al. 2017) with the virtual nodes of Gilmer et al. 2017; special tokens attend to all tokens.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.neighbour, self.special = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, graph: TokenGraph) -> Tensor:
        s = graph.n_special
        message = self.neighbour(x[:, s:])
        if graph.near is not None:
            heard = spmm(graph.near, message, graph.weight)
        elif graph.linked is not None:
            linked = graph.linked if graph.present is None else graph.linked & graph.present.unsqueeze(1)
            heard = (linked.to(x.dtype) @ message) / linked.sum(-1, keepdim=True).clamp_min(1)
        else:
            raise ValueError("a graph convolution needs a graph; give shared_graph(...) or `linked`")
        heard = F.gelu(heard + self.special(x[:, :s].mean(1, keepdim=True)))
        q = self.q(x[:, :s]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.kv(x).chunk(2, -1))
        mask = None if graph.present is None else F.pad(graph.present, (s, 0), value=True)[:, None, None]
        gathered = attention(q, k, v, mask).transpose(1, 2).flatten(2)
        return self.out(torch.cat([gathered, heard], 1))


class Layer(nn.Module):
    """x + mix(norm(x)), then x + feed(norm(x)); dropout on both."""

    def __init__(self, mix: Attention | Convolution, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.mix = mix
        self.norm, self.feed_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.feed = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: TokenGraph) -> Tensor:
        x = x + self.dropout(self.mix(self.norm(x), graph))
        return x + self.dropout(self.feed(self.feed_norm(x)))


class TokenEncoder(nn.Module):
    """Layers, one after the other, and a norm at the end. Shapes: [cells, tokens, channels] → the same."""

    def __init__(self, layers: list[Layer], channels: int) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(channels)

    def forward(self, x: Tensor, graph: TokenGraph) -> Tensor:
        for layer in self.layers:
            x = layer(x, graph)
        return self.norm(x)


MIXES: dict[str, tuple[type[Attention] | type[Convolution], ...]] = {
    "transformer": (Attention,),
    "graph_transformer": (GraphAttention,),
    "graph": (Convolution,),
    "alternating": (Convolution, Attention),
}


def make_token_encoder(
    name: str,
    channels: int = 64,
    *,
    layers: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.1,
    parameters: int | None = None,
) -> TokenEncoder:
    """Return an encoder by name: `transformer`, `graph_transformer`, `graph`, or `alternating` (graph, full, …).

    Args:
        hidden: width of the feed-forward parts, 4 × channels by default.
        parameters: instead of `hidden`, the number of parameters to come as near to as a width can.

    Raises:
        ValueError: an unknown name, channels that the heads do not divide, more parameters asked for than nothing.
    """
    if name not in MIXES:
        raise ValueError(f"unknown encoder {name!r}; choose {', '.join(MIXES)}")
    if channels % heads:
        raise ValueError(f"{channels} channels do not divide into {heads} heads")

    def build(width: int) -> TokenEncoder:
        mixes = [MIXES[name][number % len(MIXES[name])](channels, heads) for number in range(layers)]
        return TokenEncoder([Layer(mix, channels, width, dropout) for mix in mixes], channels)

    if parameters is None:
        return build(4 * channels if hidden is None else hidden)
    least = count_parameters(build(1))
    width = 1 + round((parameters - least) / (layers * (2 * channels + 1)))
    if width < 1:
        raise ValueError(f"{name} has at least {least} parameters with {layers} layers of {channels} channels")
    return build(width)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
