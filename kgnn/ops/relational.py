"""Several relations in one product: each with its own matrix of weights (R-GCN), or told apart by sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kgnn.ops.adjacency import Adjacency
from kgnn.ops.backends import choose
from kgnn.ops.spmm import accumulator, as_cells, spmm

Relation = tuple[str, str, str]


class RelationalAdjacency(nn.Module):
    """Edges of R relations as one sparse matrix [targets × relations, sources], and one with a row a source × relation.

    Args:
        edge_index: [2, edges], row 0 source, row 1 target.
        edge_type: [edges], integers in [0, n_relations).
        n_relations: R.
        n_nodes: number of nodes, or `(n_targets, n_sources)`.
        weight: [edges]; ones by default.
        normalization: `"row"`: the weights of a target's edges of one relation sum to one, R-GCN's 1 / c_{t,r};
            `"none"`.

    Raises:
        ValueError: as `Adjacency`; edge types out of range.
    """

    def __init__(
        self,
        edge_index: Tensor,
        edge_type: Tensor,
        n_relations: int,
        *,
        n_nodes: int | tuple[int, int],
        weight: Tensor | None = None,
        normalization: Literal["none", "row"] = "row",
    ) -> None:
        super().__init__()
        self.shape = (n_nodes, n_nodes) if isinstance(n_nodes, int) else (n_nodes[0], n_nodes[1])
        self.n_relations = n_relations
        if normalization not in ("none", "row"):
            raise ValueError(f"normalization must be none or row, not {normalization!r}")
        if edge_type.shape != edge_index.shape[1:] or edge_type.is_floating_point():
            raise ValueError(f"edge_type must be [{edge_index.shape[-1]}] integers, one an edge")
        if edge_type.numel() and (int(edge_type.min()) < 0 or int(edge_type.max()) >= n_relations):
            found = f"{int(edge_type.min())} to {int(edge_type.max())}"
            raise ValueError(f"edge types must lie in [0, {n_relations}); found {found}")
        Adjacency(edge_index, weight, n_nodes=self.shape)  # refuses what is wrong in the caller's own numbers
        source, target = edge_index.long()
        rows = torch.stack([source, target * n_relations + edge_type])
        stacked = (self.shape[0] * n_relations, self.shape[1])
        self.by_target = Adjacency(rows, weight, n_nodes=stacked, normalization=normalization)
        rows = torch.stack([target, source * n_relations + edge_type])
        stacked = (self.shape[1] * n_relations, self.shape[0])
        self.by_source = Adjacency(rows, self.by_target.edge_weight, n_nodes=stacked)

    @property
    def n_edges(self) -> int:
        return self.by_target.n_edges

    def extra_repr(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]}, {self.n_edges} edges of {self.n_relations} relations"


class HeteroAdjacency(nn.Module):
    """All relations into each type of node as one sparse matrix, for attention over the relations together.

    Args:
        edge_indices: [2, edges] of each relation `(source type, name, target type)`.
        n_nodes: number of nodes of each type.

    Attributes:
        relations: for each type of target its relations; `into(type)` is the matrix [targets, sources of its first
            relation, of its second, …].

    Raises:
        ValueError: as `Adjacency`; a type without a number of nodes.
    """

    def __init__(self, edge_indices: Mapping[Relation, Tensor], n_nodes: Mapping[str, int]) -> None:
        super().__init__()
        self.n_nodes = dict(n_nodes)
        self.relations: dict[str, list[Relation]] = {}
        for relation in edge_indices:
            for node_type in (relation[0], relation[2]):
                if node_type not in n_nodes:
                    raise ValueError(f"relation {relation}: there is no number of nodes of type {node_type!r}")
            self.relations.setdefault(relation[2], []).append(relation)
        self.by_target = nn.ModuleDict()
        for target, relations in self.relations.items():
            parts, sources = [], 0
            for relation in relations:
                edge_index = edge_indices[relation].long()
                size = n_nodes[relation[0]]
                Adjacency(edge_index, n_nodes=(n_nodes[target], size))  # refuses what is wrong in the caller's numbers
                parts.append(torch.stack([edge_index[0] + sources, edge_index[1]]))
                sources += size
            self.by_target[target] = Adjacency(torch.cat(parts, 1), n_nodes=(n_nodes[target], sources))

    def into(self, node_type: str) -> Adjacency:
        """Return the matrix of all relations into a type of node."""
        adjacency = self.by_target[node_type]
        assert isinstance(adjacency, Adjacency)
        return adjacency


def relational_spmm(adjacency: RelationalAdjacency, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return y[..., t] = Σ_r Σ_s A_r[t, s] · x[..., s] W_r + bias (R-GCN, Schlichtkrull et al., ESWC 2018).

    The relations' sums of a few cells and their product with all W_r come one after the other, so that no array of
    all relations' messages of all cells is made.

    Args:
        adjacency: the relations.
        x: [..., sources, in_channels].
        weight: [relations, in_channels, out_channels]; for a basis decomposition
            `torch.einsum("rb,bio->rio", coefficients, bases)`.
        bias: [out_channels].

    Returns:
        [..., targets, out_channels].

    Raises:
        ValueError: shapes, devices or types that do not fit.
    """
    if weight.ndim != 3 or weight.shape[:2] != (adjacency.n_relations, x.shape[-1]):
        raise ValueError(
            f"weight {list(weight.shape)} must be [{adjacency.n_relations}, {x.shape[-1]}, out_channels]: "
            "relations, input channels, output channels"
        )
    return _transform(adjacency.by_target, adjacency.by_source, False, adjacency.shape, x, weight, bias)


def spmm_linear(adjacency: Adjacency, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return A x Wᵀ + bias, `torch.nn.functional.linear` of `spmm`, without an array of A x of all cells.

    Args:
        adjacency: A, [targets, sources].
        x: [..., sources, in_channels]; weight: [out_channels, in_channels]; bias: [out_channels].

    Returns:
        [..., targets, out_channels].
    """
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f"weight {list(weight.shape)} must be [out_channels, {x.shape[-1]}]")
    return _transform(adjacency, adjacency, True, adjacency.shape, x, weight.T.unsqueeze(0), bias)


def signed_spmm(adjacency: Adjacency, x: Tensor) -> Tensor:
    """Return what comes along edges of positive and of negative weight apart, both weighted by |w|.

    Args:
        adjacency: weights of either sign, for example activation and repression.
        x: [..., sources, channels].

    Returns:
        [..., targets, 2, channels]: 0 the positive edges' sum, 1 the negative ones'.
    """
    out = spmm(adjacency.signed, x)
    return out.unflatten(-2, (adjacency.shape[0], 2))


def _transform(
    by_target: Adjacency,
    by_source: Adjacency,
    transposed: bool,
    shape: tuple[int, ...],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):  # as torch.nn.functional.linear does
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    cells = as_cells(x, shape[1], "sources", by_target)
    if bias is not None and bias.shape != weight.shape[-1:]:
        raise ValueError(f"bias {list(bias.shape)} must be [{weight.shape[-1]}]")
    for name, part in (("weight", weight), ("bias", bias)):
        if part is not None and (part.dtype, part.device) != (x.dtype, x.device):
            raise ValueError(f"features are {x.dtype} on {x.device}, {name} {part.dtype} on {part.device}; convert one")
    out: Tensor = _Transform.apply(cells, weight, bias, by_target, by_source, transposed, shape)
    return out.reshape(*x.shape[:-2], shape[0], weight.shape[-1])


class _Transform(torch.autograd.Function):
    """x [cells, sources, in], weight [R, in, out] → [cells, targets, out], some cells at a time.

    `by_source` gives, for a gradient of the output, each source's sum a relation: the transpose (`transposed`) of the
    matrix it is given, or that matrix."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        by_target: Adjacency,
        by_source: Adjacency,
        transposed: bool,
        shape: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.by_source, ctx.transposed = by_source, transposed
        ctx.has_bias = bias is not None
        if not x.numel() or not weight.numel():
            out = x.new_zeros(len(x), shape[0], weight.shape[-1])
            return out if bias is None else out + bias
        values = by_target.values.to(accumulator(x.dtype))
        return choose("transform", x)(by_target.csr, values, x, weight, bias, choose("spmm", x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_bias = grad.sum((0, 1)) if ctx.has_bias and ctx.needs_input_grad[2] else None
        if not x.numel() or not weight.numel():
            return torch.zeros_like(x), torch.zeros_like(weight), grad_bias, None, None, None, None
        by_source = ctx.by_source
        csr, values = (by_source.t_csr, by_source.t_values) if ctx.transposed else (by_source.csr, by_source.values)
        function = choose("transform_backward", x)
        wanted = ctx.needs_input_grad[:2]
        values = values.to(accumulator(x.dtype))
        grad_x, grad_weight = function(csr, values, grad, x, weight, *wanted, choose("spmm", grad))
        return grad_x, grad_weight, grad_bias, None, None, None, None
