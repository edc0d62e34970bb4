"""What a network that predicts perturbations is given: conditions, the state they start from, the typed graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kgnn.ops import Adjacency, TypedAdjacency, sample_neighbours

Relation = tuple[str, str, str]
REVERSE = "rev_"


class TypedGraph(nn.Module):
    """The knowledge as numbers: for each relation a sparse matrix, for each node type its features.

    A module without parameters, so that it moves with the network that holds it.

    Args:
        nodes: node type → names of its nodes; `gene` holds every gene that can be perturbed.
        adjacencies: relation → `Adjacency` [targets, sources], weights negative where an edge represses.
        signs: relation → [edges] int8, in the order of the adjacency's edges: −1, 1, 0 where it is unknown.
        features: node type → name → [nodes, channels], NaN where a node has none.
        measured: [genes], which gene node each measured gene is.

    Attributes:
        numbers: of a part (`sample`): type → which node of the whole each of its nodes is.
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
        self._features: dict[str, dict[str, str]] = {}  # what each table's buffer is called
        for of_kind, (kind, tables) in enumerate(features.items()):
            self._features[kind] = {name: f"features_{of_kind}_{number}" for number, name in enumerate(tables)}
            for name, buffer in self._features[kind].items():
                self.register_buffer(buffer, tables[name], persistent=False)
        self.register_buffer("measured", measured, persistent=False)
        self.numbers: dict[str, Tensor] | None = None
        self._typed: TypedAdjacency | None = None

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
    def typed(self) -> TypedAdjacency:
        """All relations and their reverses `rev_…`, for `kgnn.ops.typed_spmm`: weights of a relation into a node sum to
        one in size and keep their signs. A symmetric relation is its own reverse."""
        if self._typed is None:
            pairs, weights = {}, {}
            for relation, adjacency in self.adjacencies.items():
                pairs[relation], weights[relation] = adjacency.edge_index, adjacency.edge_weight
                back = relation[2], REVERSE + relation[1], relation[0]
                symmetric = relation[0] == relation[2] and _symmetric(adjacency)
                if not (relation[1].startswith(REVERSE) or back in self.relations or symmetric):
                    pairs[back], weights[back] = pairs[relation].flip(0), weights[relation]
            self._typed = TypedAdjacency(pairs, self.n_nodes, weights)
        return self._typed

    def sample(
        self, seeds: Mapping[str, Tensor], fanout: Sequence[int], generator: torch.Generator | None = None
    ) -> TypedGraph:
        """Return the part around some nodes, by `kgnn.ops.sample_neighbours`.

        Args:
            seeds: type → numbers of nodes, which come first among the part's.
            fanout: edges a relation and node, one number a layer.

        Returns:
            Nodes, features and drawn edges; `typed` holds the same relations as here, weights and signs are its: an
            unknown sign counts as positive.
        """
        numbers, typed = sample_neighbours(self.typed, seeds, fanout, generator)
        nodes = {kind: [self.nodes[kind][n] for n in part.tolist()] for kind, part in numbers.items()}
        sizes, matrices, signs = typed.n_nodes, {}, {}
        for relation, (pairs, weight) in typed.edge_lists().items():
            if relation in self.relations:
                matrices[relation] = Adjacency(pairs, weight, n_nodes=(sizes[relation[2]], sizes[relation[0]]))
                signs[relation] = weight.sign().to(torch.int8)
        found = self.features.items()
        features = {kind: {name: x[numbers[kind]] for name, x in tables.items()} for kind, tables in found}
        measured = torch.isin(numbers["gene"], self.measured).nonzero().ravel()
        part = TypedGraph(nodes, matrices, signs, features, measured)
        part.numbers, part._typed = numbers, typed
        return part

    @property
    def features(self) -> dict[str, dict[str, Tensor]]:
        return {kind: {name: getattr(self, of) for name, of in found.items()} for kind, found in self._features.items()}

    @cached_property
    def hetero(self) -> Any:
        """The same as a PyG `HeteroData` on the CPU: `edge_index`, `edge_weight`, `edge_sign`; features, `x` side by
        side with 0 where there are none; `data.node_names[type]`."""
        from torch_geometric.data import HeteroData

        data = HeteroData()
        data.node_names = self.nodes
        for kind, number in self.n_nodes.items():
            data[kind].num_nodes = number
            tables = {name: x.cpu().nan_to_num() for name, x in self.features.get(kind, {}).items()}
            for name, matrix in tables.items():
                data[kind][name] = matrix
            if tables:
                data[kind].x = torch.cat(list(tables.values()), 1)
        for relation, adjacency in self.adjacencies.items():
            data[relation].edge_index = adjacency.edge_index.cpu()
            data[relation].edge_weight = adjacency.edge_weight.cpu().abs()
            data[relation].edge_sign = self.signs[relation]
        return data


def _symmetric(adjacency: Adjacency) -> bool:
    """Whether every edge is there in both directions, with one weight."""
    pairs = ((adjacency.indptr, adjacency.t_indptr), (adjacency.indices, adjacency.t_indices))
    return all(torch.equal(*pair) for pair in (*pairs, (adjacency.values, adjacency.t_values)))


class ConditionBatch(NamedTuple):
    """The distinct conditions of a step, what a network's `forward` takes.

    nodes [entries]: perturbed gene nodes, conditions one after the other; offsets [conditions + 1]: where each
    condition begins, none perturbed for control; counts [conditions]: cells of each in the batch; strengths [entries]:
    −1 knock-out, between −1 and 0 knock-down, above 0 activation; state [conditions, genes]: mean control expression
    that the change starts from; graph: the knowledge; doses [entries], above 0, infinite where none is told. The last
    four may be absent where no network asks for them.

    A network returns the change [conditions, genes], or a pair of it and a log-variance of the same shape.
    """

    nodes: Tensor
    offsets: Tensor
    counts: Tensor
    strengths: Tensor = None  # type: ignore[assignment]
    state: Tensor = None  # type: ignore[assignment]
    graph: TypedGraph = None  # type: ignore[assignment]
    doses: Tensor = None  # type: ignore[assignment]

    @property
    def condition(self) -> Tensor:
        """[entries], the condition each entry belongs to."""
        numbers = torch.arange(len(self.counts), device=self.nodes.device)
        return torch.repeat_interleave(numbers, self.offsets.diff())

    @property
    def hetero(self) -> Any:
        """The graph as a PyG `HeteroData`."""
        return self.graph.hetero
