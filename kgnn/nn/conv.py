"""Graph convolutions on the shared graph.

Each has the name and the parameters of PyG's layer, so that a state saved there loads here; there a batch is the
disjoint union of one graph a cell, here one `Adjacency` serves all cells. Self loops and normalisation are the
graph's: `Adjacency(..., normalization="symmetric", self_loops=True)` for GCN and SGC, `self_loops=True` for GAT.

Shapes: x [..., genes, in_channels] → [..., genes, out_channels]; for a bipartite graph x is a pair
([..., sources, in_channels], [..., targets, in_channels]) where the layer looks at the target itself.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.ops import (
    Adjacency,
    HeteroAdjacency,
    RelationalAdjacency,
    dot_attention,
    gat_attention,
    gatv2_attention,
    relational_spmm,
    spmm,
    spmm_linear,
)
from kgnn.ops.spmm import Reduce

Pair = Tensor | tuple[Tensor, Tensor]


class SGConv(nn.Module):
    """Simple graph convolution: y = (A^hops x) Wᵀ + b (Wu et al., ICML 2019)."""

    def __init__(self, in_channels: int, out_channels: int, hops: int = 1) -> None:
        super().__init__()
        self.hops = hops
        self.lin = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        for _ in range(self.hops - 1):
            x = spmm(adjacency, x)
        return spmm_linear(adjacency, x, self.lin.weight, self.lin.bias)


class GCNConv(nn.Module):
    """Graph convolution: y = A x Wᵀ + b (Kipf & Welling, ICLR 2017)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        return spmm_linear(adjacency, x, self.lin.weight, self.bias)


class SAGEConv(nn.Module):
    """GraphSAGE: y[t] = W₁ · mean(x of t's neighbours) + W₂ x[t] (Hamilton et al., NeurIPS 2017).

    Args:
        aggr: `"mean"`, `"sum"` or `"max"` over the neighbours; the graph's weights multiply the messages.
    """

    def __init__(self, in_channels: int, out_channels: int, aggr: Reduce = "mean") -> None:
        super().__init__()
        self.aggr = aggr
        self.lin_l = nn.Linear(in_channels, out_channels)
        self.lin_r = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Pair, adjacency: Adjacency) -> Tensor:
        source, target = _pair(x)
        return self.lin_l(spmm(adjacency, source, reduce=self.aggr)) + self.lin_r(target)


class GINConv(nn.Module):
    """Graph isomorphism network: y[t] = net((1 + ε) x[t] + Σ x of t's neighbours) (Xu et al., ICLR 2019).

    Args:
        net: from in_channels to out_channels, such as an MLP.
        eps: ε.
        train_eps: learn ε.
    """

    def __init__(self, net: nn.Module, eps: float = 0.0, train_eps: bool = False) -> None:
        super().__init__()
        self.nn = net
        if train_eps:
            self.eps = nn.Parameter(torch.full((1,), eps))
        else:
            self.register_buffer("eps", torch.full((1,), eps))

    def forward(self, x: Pair, adjacency: Adjacency) -> Tensor:
        source, target = _pair(x)
        out: Tensor = self.nn(spmm(adjacency, source) + (1 + self.eps) * target)
        return out


class GATConv(nn.Module):
    """Graph attention: softmax over LeakyReLU(a₁·Wx[t] + a₂·Wx[s]) (Veličković et al., ICLR 2018).

    Output: [..., genes, heads · out_channels], the heads side by side.
    """

    def __init__(self, in_channels: int, out_channels: int, heads: int = 1, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.lin = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.att_src = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, out_channels)))
        self.att_dst = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, out_channels)))
        self.bias = nn.Parameter(torch.zeros(heads * out_channels))

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        value = self.lin(x)
        to, of = (self._score(value, a) for a in (self.att_dst, self.att_src))
        return gat_attention(adjacency, value, to, of, self.negative_slope) + self.bias

    @staticmethod
    def _score(value: Tensor, attention: Tensor) -> Tensor:
        """A number a node and head: value [..., heads · d] · attention [1, heads, d], as one product."""
        heads = attention.shape[1]
        blocks = torch.block_diag(*attention[0].unbind()).view(heads, -1)
        return F.linear(value, blocks.to(value.dtype))


class GATv2Conv(nn.Module):
    """Graph attention in which the target matters: a · LeakyReLU(W₁x[s] + W₂x[t]) (Brody et al., ICLR 2022).

    Output: [..., genes, heads · out_channels], the heads side by side.
    """

    def __init__(self, in_channels: int, out_channels: int, heads: int = 1, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.lin_l = nn.Linear(in_channels, heads * out_channels)
        self.lin_r = nn.Linear(in_channels, heads * out_channels)
        self.att = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, out_channels)))
        self.bias = nn.Parameter(torch.zeros(heads * out_channels))

    def forward(self, x: Pair, adjacency: Adjacency) -> Tensor:
        source, target = _pair(x)
        out = gatv2_attention(adjacency, self.lin_r(target), self.lin_l(source), self.att[0], self.negative_slope)
        return out + self.bias


class RGCNConv(nn.Module):
    """Relational graph convolution: y[t] = Σ_r mean_{s of r}(x[s]) W_r + x[t] W₀ + b (Schlichtkrull et al., ESWC 2018).

    Args:
        num_relations: R; the graph is a `RelationalAdjacency`, normalised by row for the mean.
        num_bases: W_r = Σ_b comp[r, b] · weight[b] with so many bases; a matrix a relation by default.
    """

    def __init__(self, in_channels: int, out_channels: int, num_relations: int, num_bases: int | None = None) -> None:
        super().__init__()
        n_matrices = num_bases or num_relations
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_matrices, in_channels, out_channels)))
        self.comp = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_relations, n_matrices))) if num_bases else None
        self.root = nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_channels, out_channels)))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Pair, adjacency: RelationalAdjacency) -> Tensor:
        source, target = _pair(x)
        weight = self.weight if self.comp is None else torch.einsum("rb,bio->rio", self.comp, self.weight)
        return relational_spmm(adjacency, source, weight, self.bias) + target @ self.root


class HGTConv(nn.Module):
    """Heterogeneous graph transformer: attention with keys and values a relation (Hu et al., WWW 2020).

    Args:
        in_channels, out_channels: channels of every type of node.
        node_types, relations: of the graph, relations as (source type, name, target type).
        heads: the channels fall into so many.

    Shapes: x {type: [..., nodes, in_channels]} → {type: [..., nodes, out_channels]} of the types that hear somebody.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        node_types: list[str],
        relations: list[tuple[str, str, str]],
        heads: int = 1,
    ) -> None:
        super().__init__()
        self.heads, self.relations = heads, list(relations)
        width = out_channels // heads
        shape = (heads * len(relations), width, width)
        self.kqv_lin = _lins({name: nn.Linear(in_channels, 3 * out_channels) for name in node_types})
        self.out_lin = _lins({name: nn.Linear(out_channels, out_channels) for name in node_types})
        self.k_rel = nn.ParameterDict({"weight": nn.init.xavier_uniform_(torch.empty(shape))})
        self.v_rel = nn.ParameterDict({"weight": nn.init.xavier_uniform_(torch.empty(shape))})
        self.skip = nn.ParameterDict({name: torch.ones(1) for name in node_types})
        self.p_rel = nn.ParameterDict({"__".join(relation): torch.ones(1, heads) for relation in relations})

    def forward(self, x: dict[str, Tensor], adjacency: HeteroAdjacency) -> dict[str, Tensor]:
        kqv_lins, out_lins = _named(self.kqv_lin), _named(self.out_lin)
        parts = {name: kqv_lins[name](of_type).chunk(3, -1) for name, of_type in x.items()}
        out = {}
        for target, relations in adjacency.relations.items():
            keys = [self._project(parts[r[0]][0], self.k_rel["weight"], r, self.p_rel["__".join(r)]) for r in relations]
            values = [self._project(parts[r[0]][2], self.v_rel["weight"], r, None) for r in relations]
            query, key, value = parts[target][1], torch.cat(keys, -2), torch.cat(values, -2)
            heard = dot_attention(adjacency.into(target), query, key, value, heads=self.heads)
            y = out_lins[target](F.gelu(heard))
            if y.shape[-1] == x[target].shape[-1]:
                share = self.skip[target].sigmoid()
                y = share * y + (1 - share) * x[target]
            out[target] = y
        return out

    def _project(self, x: Tensor, weight: Tensor, relation: tuple[str, str, str], prior: Tensor | None) -> Tensor:
        """A relation's keys or values of its sources: each head by its own matrix, keys times the relation's prior."""
        number = self.relations.index(relation)
        matrices = weight.unflatten(0, (self.heads, len(self.relations)))[:, number]
        if prior is not None:
            matrices = matrices * prior.view(-1, 1, 1)
        return torch.einsum("...hd,hde->...he", x.unflatten(-1, (self.heads, -1)), matrices).flatten(-2)


def _pair(x: Pair) -> tuple[Tensor, Tensor]:
    return x if isinstance(x, tuple) else (x, x)


def _lins(lins: dict[str, nn.Module]) -> nn.ModuleDict:
    """A linear layer a type of node, named as PyG's `HeteroDictLinear` names them."""
    return nn.ModuleDict({"lins": nn.ModuleDict(lins)})


def _named(lins: nn.ModuleDict) -> nn.ModuleDict:
    inner = lins["lins"]
    assert isinstance(inner, nn.ModuleDict)
    return inner
