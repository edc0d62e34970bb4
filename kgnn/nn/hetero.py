"""From the typed graph to a vector a node: messages along every relation between every two types of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.errors import InputError
from kgnn.nn.conditions import REVERSE, Relation, TypedGraph
from kgnn.nn.typed_conv import TYPED_CONVS, TypedHGTConv
from kgnn.ops import TypedAdjacency
from kgnn.parts import check_number, check_options, options_of, resolve


class HeteroEncoder(nn.Module):
    """States of the nodes of all types, from what their relatives send along all relations and their reverses.

    Nodes of a type without features start from an embedding each; features go through a linear map a table, where a
    node has none a learned vector stands in, and several tables are summed. ReLU between the layers.

    Args:
        graph: which nodes and relations there are, and the graph of `forward` where none is given.
        kind: the layer, `"rgcn"` (Schlichtkrull et al., ESWC 2018), `"compgcn"` (Vashishth et al., ICLR 2020), `"hgt"`
            (Hu et al., WWW 2020), `"sage"` (Hamilton et al., NeurIPS 2017, a relation), or a class with the call of
            those in `kgnn.nn.typed_conv`.
        channels: of every state.
        layers: how far messages go.
        relation_dropout: share of the relations that are not heard in a training step, each with its reverse.
        edge_dropout: share of the edges, likewise; what remains is scaled up. Attention (`"hgt"`) takes neither.
        jumping: the states of all layers, the first among them, are summed with learned weights (jumping knowledge, Xu
            et al., ICML 2018); else the last layer's are returned.
        options: of the layer, such as `bases` (`"rgcn"`), `composition` (`"compgcn"`), `heads` (`"hgt"`).

    Raises:
        InputError: an unknown layer or option, numbers out of range.
    """

    def __init__(
        self,
        graph: TypedGraph,
        kind: str | type[nn.Module] = "rgcn",
        channels: int = 64,
        layers: int = 2,
        relation_dropout: float = 0.0,
        edge_dropout: float = 0.0,
        jumping: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        make = resolve(kind, TYPED_CONVS, "layer")
        known = [name for name in options_of(make) if name not in ("channels", "graph")]
        check_options(options, known, f"the layer {kind!r}")
        check_number(channels, "channels", 1, whole=True)
        check_number(layers, "layers", 0, whole=True)
        for name, share in (("relation_dropout", relation_dropout), ("edge_dropout", edge_dropout)):
            check_number(share, name, 0, 1)
            if share and make is TypedHGTConv:
                raise InputError(
                    f"{name} = {share}: attention hears all relations and edges; choose another layer, or 0"
                )
        self.graph, self.relation_dropout, self.edge_dropout = graph, relation_dropout, edge_dropout
        adjacency = graph.typed
        self.known = list(adjacency.relations)
        self.starts = nn.ModuleList(
            _Features(graph.features[kind], channels) if graph.features.get(kind) else _embedding(number, channels)
            for kind, number in graph.n_nodes.items()
        )
        self.layers = nn.ModuleList(make(channels, adjacency, **options) for _ in range(layers))
        vectors = torch.randn(len(self.known), channels) / channels**0.5
        self.relations = nn.Parameter(vectors) if getattr(make, "has_relations", False) else None
        self.shares = nn.Parameter(torch.zeros(layers + 1)) if jumping else None

    def forward(self, graph: TypedGraph | None = None) -> dict[str, Tensor]:
        """Return type → [nodes, channels].

        Args:
            graph: another graph of the same types and relations: a part of the encoder's own (`TypedGraph.sample`), or
                other edges between its nodes.

        Raises:
            InputError: other relations or nodes than the encoder was made for.
        """
        graph = self.graph if graph is None else graph
        return graph.typed.split(self.propagate(self.inputs(graph), graph))

    def inputs(self, graph: TypedGraph) -> Tensor:
        """Return [nodes, channels], what the nodes of all types start from, one type after the other."""
        self._check(graph)
        features, found = graph.features, []
        for kind, start in zip(graph.nodes, self.starts, strict=True):
            if isinstance(start, _Features):
                found.append(start(features[kind]))
            else:
                found.append(start.weight if graph.numbers is None else start(graph.numbers[kind]))
        return torch.cat(found)

    def propagate(self, x: Tensor, graph: TypedGraph) -> Tensor:
        """Return the states after all layers, [..., nodes, channels]; x the same, for example one a condition."""
        adjacency = graph.typed
        if self.training and (self.relation_dropout or self.edge_dropout):
            adjacency = _dropped(adjacency, self.relation_dropout, self.edge_dropout)
        states, relations = [x], self.relations
        for number, layer in enumerate(self.layers):
            x, relations = layer(F.relu(x) if number else x, adjacency, relations)
            states.append(x)
        if self.shares is None:
            return x
        return sum(share * state for share, state in zip(self.shares.softmax(0), states, strict=True))

    def _check(self, graph: TypedGraph) -> None:
        if graph is self.graph:
            return
        found, nodes = graph.typed.relations, self.graph.n_nodes
        if found != self.known:
            other = sorted({*found} ^ {*self.known}) or "their order"
            raise InputError(f"the graph's relations are not the encoder's: {other}; make a new encoder")
        if [*graph.nodes] != [*nodes] or (graph.numbers is None and graph.n_nodes != nodes):
            raise InputError(f"the graph has {graph.n_nodes} nodes, the encoder {nodes}; make a new encoder")


class _Features(nn.Module):
    """Tables of features [nodes, width] of one type, each through a linear map, summed."""

    def __init__(self, tables: Mapping[str, Tensor], channels: int) -> None:
        super().__init__()
        self.lins = nn.ModuleList(nn.Linear(table.shape[1], channels) for table in tables.values())
        self.missing = nn.Parameter(torch.randn(len(tables), channels) / channels**0.5)

    def forward(self, tables: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = torch.zeros((), device=self.missing.device)
        for table, lin, missing in zip(tables.values(), self.lins, self.missing, strict=True):
            none = table.isnan().all(1, keepdim=True)
            out = out + torch.where(none, missing, lin(table.nan_to_num().to(missing.dtype)))
        return out


def _embedding(number: int, channels: int) -> nn.Embedding:
    return nn.Embedding(number, channels, _weight=torch.randn(number, channels) / channels**0.5)


def _dropped(adjacency: TypedAdjacency, relations: float, edges: float) -> TypedAdjacency:
    """The same edges with weight 0 where they fall; a relation falls together with its reverse, and so does an edge
    where both are in one order, as `TypedGraph.typed` makes them."""
    device = adjacency.edge_weight.device

    @cache
    def of_relation(forward: Relation) -> Tensor:
        return _kept(1, relations, device)

    @cache
    def of_edges(forward: Relation, count: int) -> Tensor:
        return of_relation(forward) * _kept(count, edges, device)

    kept = [of_edges(_forward(*relation), n) for relation, n in zip(adjacency.relations, adjacency.counts, strict=True)]
    return adjacency.with_weight(adjacency.edge_weight * torch.cat([adjacency.edge_weight[:0], *kept]))


def _forward(source: str, name: str, target: str) -> Relation:
    """The relation that this one is, or is the reverse of."""
    return (target, name.removeprefix(REVERSE), source) if name.startswith(REVERSE) else (source, name, target)


def _kept(number: int, dropout: float, device: torch.device) -> Tensor:
    """[number]: 0 for the share `dropout` that falls, what keeps the expectation for the others."""
    return F.dropout(torch.ones(number, device=device), dropout)
