"""What a network is given: conditions as offsets, and the typed graph against PyG and by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from kgnn.nn.conditions import ConditionBatch, TypedGraph
from kgnn.ops import Adjacency, spmm

REGULATES, MEMBER = ("gene", "regulates", "gene"), ("gene", "member_of", "complex")
NAN = float("nan")


@pytest.fixture
def graph():
    """A → B (2), B ⊣ C (0.5), and A, C in the complex X; C and A are measured, in that order."""
    adjacencies = {
        REGULATES: Adjacency(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, -0.5]), n_nodes=3),
        MEMBER: Adjacency(torch.tensor([[0, 2], [0, 0]]), n_nodes=(2, 3)),
    }
    vectors = {"v": torch.tensor([[1.0, 2.0], [NAN, NAN], [3.0, 4.0]]), "w": torch.tensor([[5.0], [6.0], [NAN]])}
    nodes = {"gene": ["A", "B", "C"], "complex": ["X", "Y"]}
    signs = {REGULATES: torch.tensor([1, -1], dtype=torch.int8), MEMBER: torch.zeros(2, dtype=torch.int8)}
    return TypedGraph(nodes, adjacencies, signs, {"gene": vectors}, torch.tensor([2, 0]))


def test_a_graph_counts_its_nodes_and_measured_genes(graph):
    assert graph.n_nodes == {"gene": 3, "complex": 2}
    assert graph.n_genes == 2
    assert graph.relations == [REGULATES, MEMBER]
    assert list(graph.adjacencies) == [REGULATES, MEMBER]
    assert graph.features["gene"]["v"].shape == (3, 2)


def test_messages_go_from_sources_to_targets(graph):
    sent = torch.tensor([[1.0], [10.0], [100.0]])
    assert spmm(graph.adjacencies[REGULATES], sent).flatten().tolist() == [0, 2, -5]
    assert spmm(graph.adjacencies[MEMBER], sent).flatten().tolist() == [101, 0]


def test_it_is_a_valid_hetero_data(graph):
    data = graph.hetero
    assert data.validate(raise_on_error=True)
    assert data is graph.hetero, "made once"
    assert (data.node_types, data.edge_types) == (["gene", "complex"], [REGULATES, MEMBER])
    assert {kind: data[kind].num_nodes for kind in data.node_types} == {"gene": 3, "complex": 2}
    assert data.node_names == {"gene": ["A", "B", "C"], "complex": ["X", "Y"]}
    assert data[REGULATES].edge_index.tolist() == [[0, 1], [1, 2]]
    assert data[REGULATES].edge_weight.tolist() == [2.0, 0.5]
    assert data[REGULATES].edge_sign.tolist() == [1, -1]
    assert data[REGULATES].edge_sign.dtype == torch.int8
    assert data[MEMBER].edge_index.tolist() == [[0, 2], [0, 0]]
    assert data["gene"].v.tolist() == [[1, 2], [0, 0], [3, 4]]
    assert data["gene"].x.tolist() == [[1, 2, 5], [0, 0, 6], [3, 4, 0]]
    assert "x" not in data["complex"]
    assert graph.features["gene"]["v"].isnan().any(), "the features themselves still tell what is missing"


def test_layers_of_pyg_take_it(graph):
    """The sum of what the neighbours send, by PyG's own layer and by `spmm`."""
    from torch_geometric.nn import GraphConv

    data, layer = graph.hetero, GraphConv(3, 2, bias=False)
    sign, weight = data[REGULATES].edge_sign, data[REGULATES].edge_weight
    found = layer(data["gene"].x, data[REGULATES].edge_index, sign * weight)
    x = data["gene"].x
    expected = layer.lin_rel(spmm(graph.adjacencies[REGULATES], x)) + layer.lin_root(x)
    torch.testing.assert_close(found, expected)


def test_it_has_no_part_in_the_state_of_a_network_and_moves_with_it(graph):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.graph, self.out = graph, nn.Linear(2, 2)

    holder = Holder()
    assert set(holder.state_dict()) == {"out.weight", "out.bias"}
    assert not list(graph.parameters())
    moved = copy.deepcopy(holder).to("meta").graph
    assert moved.measured.device.type == "meta"
    assert moved.adjacencies[REGULATES].indices.device.type == "meta"
    assert moved.features["gene"]["v"].device.type == "meta"
    assert graph.features["gene"]["v"].device.type == "cpu"


def test_what_belongs_to_which_condition(graph):
    offsets = torch.tensor([0, 0, 1, 3, 3])
    batch = ConditionBatch(torch.tensor([2, 0, 2]), offsets, torch.tensor([5, 1, 1, 2]), graph=graph)
    assert batch.condition.tolist() == [1, 2, 2]
    assert batch.condition.dtype == torch.int64
    assert batch.hetero is graph.hetero
    assert (batch.strengths, batch.state) == (None, None)
    none = ConditionBatch(torch.tensor([], dtype=torch.int64), torch.tensor([0, 0]), torch.tensor([3]))
    assert none.condition.tolist() == []


def test_features_of_other_types_and_none_at_all():
    graph = TypedGraph({"gene": ["A"]}, {}, {}, {}, torch.tensor([0]))
    assert (graph.relations, graph.adjacencies, graph.features) == ([], {}, {})
    assert graph.hetero["gene"].num_nodes == 1
    assert graph.hetero.edge_types == []
    np.testing.assert_array_equal(graph.measured, [0])
