"""What a network that predicts perturbations is given: conditions, the state they start from, the typed graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kgnn.ops import Adjacency

Relation = tuple[str, str, str]


class TypedGraph(nn.Module):
    """The knowledge as numbers: for each relation a sparse matrix, for each node type its features.

    A module without parameters, so that it moves with the network that holds it.

    Args:
        nodes: node type → names of its nodes; `gene` holds every gene that can be perturbed.
        adjacencies: relation → `Adjacency` [targets, sources], weights negative where an edge represses.
        signs: relation → [edges] int8, in the order of the adjacency's edges: −1, 1, 0 where it is unknown.
        features: node type → name → [nodes, channels], NaN where a node has none.
        measured: [genes], which gene node each measured gene is.
    """

    measured: Tensor

    def __init__(
        self,
        nodes: Mapping[str, list[str]],
        adjacencies: Mapping[Relation, Adjacency],
        signs: Mapping[Relation, Tensor],
        features: Mapping[str, Mapping[str, Tensor]],
        measured: Tensor,
    ) -> None:
        super().__init__()
        self.nodes, self.relations, self.signs = dict(nodes), list(adjacencies), dict(signs)
        self._matrices = nn.ModuleList(adjacencies.values())
        self._features = {kind: dict(tables) for kind, tables in features.items()}
        self.register_buffer("measured", measured, persistent=False)

    @property
    def n_nodes(self) -> dict[str, int]:
        return {kind: len(names) for kind, names in self.nodes.items()}

    @property
    def n_genes(self) -> int:
        """Number of measured genes."""
        return len(self.measured)

    @property
    def adjacencies(self) -> dict[Relation, Adjacency]:
        return dict(zip(self.relations, self._matrices, strict=True))  # type: ignore[arg-type]

    @property
    def features(self) -> dict[str, dict[str, Tensor]]:
        device = self.measured.device
        return {kind: {name: x.to(device) for name, x in found.items()} for kind, found in self._features.items()}

    @cached_property
    def hetero(self) -> Any:
        """The same as a PyG `HeteroData` on the CPU: `edge_index`, `edge_weight`, `edge_sign`; features, `x` side by
        side with 0 where there are none; `data.node_names[type]`."""
        from torch_geometric.data import HeteroData

        data = HeteroData()
        data.node_names = self.nodes
        for kind, number in self.n_nodes.items():
            data[kind].num_nodes = number
            for name, matrix in self._features.get(kind, {}).items():
                data[kind][name] = matrix.nan_to_num()
            if self._features.get(kind):
                data[kind].x = torch.cat([x.nan_to_num() for x in self._features[kind].values()], 1)
        for relation, adjacency in self.adjacencies.items():
            data[relation].edge_index = adjacency.edge_index.cpu()
            data[relation].edge_weight = adjacency.edge_weight.cpu().abs()
            data[relation].edge_sign = self.signs[relation]
        return data


class ConditionBatch(NamedTuple):
    """The distinct conditions of a step, what a network's `forward` takes.

    nodes [entries]: perturbed gene nodes, conditions one after the other; offsets [conditions + 1]: where each
    condition begins, none perturbed for control; counts [conditions]: cells of each in the batch; strengths [entries]:
    −1 knock-out, between −1 and 0 knock-down, above 0 activation; state [conditions, genes]: mean control expression
    that the change starts from; graph: the knowledge. The last three may be absent where no network asks for them.

    A network returns the change [conditions, genes], or a pair of it and a log-variance of the same shape.
    """

    nodes: Tensor
    offsets: Tensor
    counts: Tensor
    strengths: Tensor = None  # type: ignore[assignment]
    state: Tensor = None  # type: ignore[assignment]
    graph: TypedGraph = None  # type: ignore[assignment]

    @property
    def condition(self) -> Tensor:
        """[entries], the condition each entry belongs to."""
        numbers = torch.arange(len(self.counts), device=self.nodes.device)
        return torch.repeat_interleave(numbers, self.offsets.diff())

    @property
    def hetero(self) -> Any:
        """The graph as a PyG `HeteroData`."""
        return self.graph.hetero
