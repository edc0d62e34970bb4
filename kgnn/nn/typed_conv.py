"""Graph convolutions between nodes of several types, all relations in one product.

Each is made as `Conv(channels, graph, **options)` with the `TypedAdjacency` it is to work on, and maps
x [..., nodes, channels], the nodes of all types one type after the other, to the same shape. `relations`
[relations, channels] are vectors of the relations, for those that have some; they come back for the next layer.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from kgnn.errors import InputError
from kgnn.nn.conditions import REVERSE
from kgnn.nn.conv import HGTConv
from kgnn.ops import TypedAdjacency, typed_spmm

State = tuple[Tensor, Tensor | None]
COMPOSITIONS = ("subtraction", "product", "correlation")


class TypedRGCNConv(nn.Module):
    """Relational graph convolution: y[t] = Σ_r mean_{s of r}(x[s]) W_r + x[t] W₀ + b (Schlichtkrull et al., ESWC 2018).

    Args:
        bases: W_r = Σ_b comp[r, b] · weight[b] with so many bases; a matrix a relation by default.
    """

    def __init__(self, channels: int, graph: TypedAdjacency, bases: int | None = None) -> None:
        super().__init__()
        n_relations = len(graph.relations)
        self.weight = _glorot(bases or n_relations, channels, channels)
        self.comp = nn.Parameter(torch.randn(n_relations, bases) / sqrt(bases)) if bases else None
        self.root = _glorot(channels, channels)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, graph: TypedAdjacency, relations: Tensor | None = None) -> State:
        weight = self.weight if self.comp is None else torch.einsum("rb,bio->rio", self.comp, self.weight)
        types = len(graph.n_nodes)
        root, bias = self.root.expand(types, -1, -1), self.bias.expand(types, -1)
        return typed_spmm(graph, x, weight, root, bias), relations


class TypedSAGEConv(nn.Module):
    """GraphSAGE a relation, summed: y[t] = Σ_r W_r · mean_{s of r}(x[s]) + W_T x[t] + b_T, T the type of t (Hamilton et
    al., NeurIPS 2017). PyG's `HeteroConv` of `SAGEConv`, whose W_T is the sum of a matrix a relation.
    """

    def __init__(self, channels: int, graph: TypedAdjacency) -> None:
        super().__init__()
        self.weight = _glorot(len(graph.relations), channels, channels)
        self.root = _glorot(len(graph.n_nodes), channels, channels)
        self.bias = nn.Parameter(torch.zeros(len(graph.n_nodes), channels))

    def forward(self, x: Tensor, graph: TypedAdjacency, relations: Tensor | None = None) -> State:
        return typed_spmm(graph, x, self.weight, self.root, self.bias), relations


class CompGCNConv(nn.Module):
    """y[t] = Σ_r mean_{s of r} W_λ(r) φ(x[s], z_r) + W_S φ(x[t], z_S) + b; z ← W_rel z (Vashishth et al., ICLR 2020).

    λ(r) tells relations as they are from reverses. φ is linear in x, so that a relation's composition is a part of its
    matrix, φ(x, z) W = x Φ(z) W, and no message is made. The paper's sum is a mean of each relation here.

    Args:
        composition: φ, `"subtraction"` x − z, `"product"` x ∘ z, or `"correlation"`, circular:
            φ(x, z)_k = Σ_i x_i z_{(k + i) mod channels}.

    Raises:
        InputError: another composition.
    """

    has_relations = True

    def __init__(self, channels: int, graph: TypedAdjacency, composition: str = "correlation") -> None:
        super().__init__()
        if composition not in COMPOSITIONS:
            raise InputError(f"composition must be {', '.join(COMPOSITIONS)}, not {composition!r}")
        self.composition = composition
        reverse = [relation[1].startswith(REVERSE) for relation in graph.relations]
        self.register_buffer("direction", torch.tensor(reverse, dtype=torch.int64), persistent=False)
        self.weight = _glorot(3, channels, channels)  # as they are, reverses, self loop
        self.loop = _glorot(1, channels)
        self.lin_relation = nn.Linear(channels, channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, graph: TypedAdjacency, relations: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.direction, Tensor)
        vectors = torch.cat([relations, self.loop.to(relations.dtype)])
        weight = torch.cat([self.weight[self.direction], self.weight[2:]])
        types = len(graph.n_nodes)
        if self.composition == "subtraction":
            matrices, shift = weight, torch.bmm(vectors.unsqueeze(1), weight).squeeze(1)
            bias = self.bias - shift[-1]
        else:
            phi = _product(vectors) if self.composition == "product" else _correlation(vectors)
            matrices, shift, bias = torch.bmm(phi, weight), None, self.bias
        root, bias = matrices[-1].expand(types, -1, -1), bias.expand(types, -1)
        out = typed_spmm(graph, x, matrices[:-1], root, bias)
        if shift is not None:
            out = out - graph.totals.to(x.dtype) @ shift[:-1]
        return out, self.lin_relation(relations)


class TypedHGTConv(nn.Module):
    """`HGTConv`, attention over all that a node hears (Hu et al., WWW 2020); nodes of types that hear nobody keep x.

    Edges of negative weight are relations of their own; sizes of weights take no part.
    """

    def __init__(self, channels: int, graph: TypedAdjacency, heads: int = 4) -> None:
        super().__init__()
        relations = [r for into in graph.attention.relations.values() for r in into]
        self.conv = HGTConv(channels, channels, list(graph.n_nodes), relations, heads)

    def forward(self, x: Tensor, graph: TypedAdjacency, relations: Tensor | None = None) -> State:
        of_type = graph.split(x)
        return graph.join(of_type | self.conv(of_type, graph.attention)), relations


def _product(z: Tensor) -> Tensor:
    return torch.diag_embed(z)


def _correlation(z: Tensor) -> Tensor:
    """[relations, channels, channels]: Φ[i, k] = z[(k + i) mod channels]."""
    number = torch.arange(z.shape[1], device=z.device)
    return z[:, (number.unsqueeze(1) + number) % z.shape[1]]


TYPED_CONVS: dict[str, type[nn.Module]] = {
    "rgcn": TypedRGCNConv,
    "compgcn": CompGCNConv,
    "hgt": TypedHGTConv,
    "sage": TypedSAGEConv,
}


def _glorot(*shape: int) -> nn.Parameter:
    """Uniform within √(6 / (in + out)) of the last two dimensions (Glorot & Bengio, AISTATS 2010)."""
    bound = sqrt(6 / sum(shape[-2:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
