"""`TypedAdjacency`, all relations of a typed graph made ready to multiply together.

The nodes of all types are numbered one type after the other, so that features are one array [..., nodes, channels]. For
each type of target there is one CSR, a row a target × relation into the type, columns all nodes; for each type of
source one of the transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kgnn.ops.adjacency import check_edges, hold_weights
from kgnn.ops.csr import Csr
from kgnn.ops.relational import HeteroAdjacency, Relation

NEGATIVE = "_negative"


class Block(NamedTuple):
    """The edges at the nodes of one type: a row of `csr` is node × relation, of those that `relations` numbers."""

    kind: str
    relations: list[int]
    csr: Csr
    values: Tensor


class TypedAdjacency(nn.Module):
    """Relations between nodes of several types, made ready to multiply together.

    It is a module without parameters, as `Adjacency` is: it moves with the model, takes no part in its state, and holds
    its weights in float32 when the model goes to a half precision.

    Args:
        edge_indices: (source type, name, target type) → [2, edges], row 0 source, row 1 target, each numbered within
            its type.
        n_nodes: number of nodes of each type.
        weights: relation → [edges], floating point, of either sign; ones where there are none.
        normalization: `"row"`: the sizes of a target's weights of one relation sum to one, signs are kept (the mean,
            R-GCN's 1 / c_{t,r}); `"none"`.

    Attributes:
        relations: in the order of the weight matrices.
        slices: type → where its nodes stand among all.
        into, out_of: type → numbers of the relations into it and out of it.
        edge_weight: [edges], normalised, one relation after the other; edge_type: [edges], their relations' numbers.

    Raises:
        ValueError: as `Adjacency`; a type without a number of nodes; weights of no relation.
    """

    edge_weight: Tensor
    _totals: Tensor | None
    _attention: HeteroAdjacency | None
    indptr: Tensor
    indices: Tensor
    values: Tensor
    edges: Tensor
    t_indptr: Tensor
    t_indices: Tensor
    t_values: Tensor
    t_edges: Tensor

    def __init__(
        self,
        edge_indices: Mapping[Relation, Tensor],
        n_nodes: Mapping[str, int],
        weights: Mapping[Relation, Tensor] | None = None,
        normalization: Literal["none", "row"] = "row",
    ) -> None:
        super().__init__()
        if normalization not in ("none", "row"):
            raise ValueError(f"normalization must be none or row, not {normalization!r}")
        for relation in weights or {}:
            if relation not in edge_indices:
                raise ValueError(f"weights of {relation}: there is no such relation")
        self.relations, self.n_nodes = list(edge_indices), dict(n_nodes)
        self.slices: dict[str, slice] = {}
        self.n = 0
        for kind, number in n_nodes.items():
            self.slices[kind] = slice(self.n, self.n + number)
            self.n += number
        pairs, of_edges = [], []
        for relation, edge_index in edge_indices.items():
            weight = (weights or {}).get(relation, torch.ones(edge_index.shape[-1], device=edge_index.device)).detach()
            shape = self._shape(relation)
            check_edges(edge_index, weight, shape)
            pairs.append(edge_index.long())
            of_edges.append(_mean(edge_index[1], weight, shape[0]) if normalization == "row" else weight)
        self.counts = [pair.shape[1] for pair in pairs]
        self.into = {kind: self._numbers(2, kind) for kind in n_nodes}
        self.out_of = {kind: self._numbers(0, kind) for kind in n_nodes}
        by_target = self._stack(self.into, [pair.flip(0) for pair in pairs], 0)
        by_source = self._stack(self.out_of, pairs, 2)
        weight = torch.cat(of_edges) if of_edges else torch.ones(0)
        patterns = dict(zip(("indptr", "indices", "edges"), by_target, strict=True))
        patterns |= dict(zip(("t_indptr", "t_indices", "t_edges"), by_source, strict=True))
        self._register(patterns, weight)

    @property
    def n_edges(self) -> int:
        return sum(self.counts)

    @property
    def edge_type(self) -> Tensor:
        counts = torch.tensor(self.counts, device=self.indices.device)
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def with_weight(self, edge_weight: Tensor) -> TypedAdjacency:
        """Return the same edges with other weights [edges], in the order of `edge_weight`; the pattern is shared."""
        if edge_weight.shape != self.edge_weight.shape:
            raise ValueError(f"edge_weight {list(edge_weight.shape)} must be [{self.n_edges}]")
        other = TypedAdjacency.__new__(TypedAdjacency)
        nn.Module.__init__(other)
        for name in ("relations", "n_nodes", "slices", "n", "counts", "into", "out_of"):
            setattr(other, name, getattr(self, name))
        patterns = ("indptr", "indices", "edges", "t_indptr", "t_indices", "t_edges")
        other._register({name: getattr(self, name) for name in patterns}, edge_weight.detach())
        return other

    def targets(self) -> Iterator[Block]:
        """The edges into each type that hears somebody."""
        return self._blocks(self.into, self.indptr, self.indices, self.values)

    def sources(self) -> Iterator[Block]:
        """The same edges out of each type that is heard; columns are the targets."""
        return self._blocks(self.out_of, self.t_indptr, self.t_indices, self.t_values)

    @property
    def totals(self) -> Tensor:
        """[nodes, relations]: the sum of a target's weights of each relation."""
        if self._totals is None:
            self._totals = self.edge_weight.new_zeros(self.n, len(self.relations))
            for block in self.targets():
                sums = self.edge_weight.new_zeros(block.csr.n_rows).index_add(0, block.csr.rows, block.values)
                self._totals[self.slices[block.kind], block.relations] = sums.view(-1, len(block.relations))
        return self._totals

    @property
    def attention(self) -> HeteroAdjacency:
        """The relations for `kgnn.nn.HGTConv`; edges of negative weight are a relation of their own, `…_negative`.
        Sizes of weights take no part in attention."""
        if self._attention is None:
            edges: dict[Relation, Tensor] = {}
            for (source, name, target), (pairs, weight) in self.edge_lists().items():
                edges[source, name, target] = pairs[:, weight >= 0]
                if (weight < 0).any():
                    edges[source, name + NEGATIVE, target] = pairs[:, weight < 0]
            self._attention = HeteroAdjacency(edges, self.n_nodes)
        return self._attention

    def edge_lists(self) -> dict[Relation, tuple[Tensor, Tensor]]:
        """Return relation → [2, edges], sources and targets numbered within their types, and [edges], their weights."""
        pairs = torch.empty(2, self.n_edges, dtype=torch.int64, device=self.indices.device)
        entry = 0
        for block in self.targets():
            edges = self.edges[entry : entry + block.csr.n_entries].long()
            pairs[:, edges] = torch.stack([block.csr.indices.long(), block.csr.rows // len(block.relations)])
            entry += len(edges)
        found = zip(self.relations, pairs.split(self.counts, 1), self.edge_weight.split(self.counts), strict=True)
        starts = {kind: torch.tensor([[part.start], [0]], device=pairs.device) for kind, part in self.slices.items()}
        return {relation: (of_r - starts[relation[0]], weight) for relation, of_r, weight in found}

    def join(self, x: Mapping[str, Tensor]) -> Tensor:
        """Return type → [..., nodes of the type, channels] as one array [..., nodes, channels]."""
        return torch.cat([x[kind] for kind in self.slices], -2)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Return one array [..., nodes, channels] as type → [..., nodes of the type, channels], without a copy."""
        return {kind: x[..., part, :] for kind, part in self.slices.items()}

    def extra_repr(self) -> str:
        return f"{self.n} nodes of {len(self.n_nodes)} types, {self.n_edges} edges of {len(self.relations)} relations"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._totals = None  # summed again from the weights, which keep their precision
        before = {name: getattr(self, name) for name in ("edge_weight", "values", "t_values")}
        super()._apply(fn, recurse)
        hold_weights(self, before)
        return self

    def _shape(self, relation: Relation) -> tuple[int, int]:
        for node_type in (relation[0], relation[2]):
            if node_type not in self.n_nodes:
                raise ValueError(f"relation {relation}: there is no number of nodes of type {node_type!r}")
        return self.n_nodes[relation[2]], self.n_nodes[relation[0]]

    def _numbers(self, end: int, kind: str) -> list[int]:
        return [number for number, relation in enumerate(self.relations) if relation[end] == kind]

    def _stack(self, numbers: dict[str, list[int]], pairs: list[Tensor], end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Row pointers (each type's from 0), columns and edge numbers; pairs: [2, edges], rows and columns."""
        device = pairs[0].device if pairs else None
        edges = torch.arange(self.n_edges, device=device).split(self.counts) if pairs else ()
        indptr, indices, order = [], [], []
        for kind, of_type in numbers.items():
            if not of_type:
                continue
            row = torch.cat([pairs[r][0] * len(of_type) + slot for slot, r in enumerate(of_type)])
            column = torch.cat([pairs[r][1] + self.slices[self.relations[r][end]].start for r in of_type])
            sort = torch.argsort(row * max(self.n, 1) + column, stable=True)
            n_rows = self.n_nodes[kind] * len(of_type)
            indptr.append(nn.functional.pad(torch.bincount(row, minlength=n_rows).cumsum(0), (1, 0)).int())
            indices.append(column[sort].int())
            order.append(torch.cat([edges[r] for r in of_type])[sort].int())
        if not indptr:
            return (torch.zeros(0, dtype=torch.int32, device=device),) * 3
        return torch.cat(indptr), torch.cat(indices), torch.cat(order)

    def _register(self, patterns: dict[str, Tensor], weight: Tensor) -> None:
        values = {"edge_weight": weight, "values": weight[patterns["edges"]], "t_values": weight[patterns["t_edges"]]}
        for name, buffer in (patterns | values).items():
            self.register_buffer(name, buffer, persistent=False)
        self.register_buffer("_totals", None, persistent=False)
        self._attention = None

    def _blocks(
        self, numbers: dict[str, list[int]], indptr: Tensor, indices: Tensor, values: Tensor
    ) -> Iterator[Block]:
        row = entry = 0
        for kind, of_type in numbers.items():
            if not of_type:
                continue
            rows = self.n_nodes[kind] * len(of_type) + 1
            entries = sum(self.counts[r] for r in of_type)
            here = slice(entry, entry + entries)
            csr = Csr(indptr[row : row + rows], indices[here], self.n)
            yield Block(kind, of_type, csr, values[here])
            row, entry = row + rows, entry + entries


def _mean(target: Tensor, weight: Tensor, n_targets: int) -> Tensor:
    """Weights over the sum of their sizes into each target."""
    total = torch.zeros(n_targets, dtype=weight.dtype, device=weight.device).index_add(0, target.long(), weight.abs())
    return weight / total.clamp_min(torch.finfo(weight.dtype).tiny)[target.long()]
