import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.data import Data

from kgnn.errors import InputError
from kgnn.graph import from_edge_index, from_networkx, from_pyg, from_scipy

INTERACTS = ("gene", "interacts", "gene")
NAMES = list("ABCD")
matrices = st.lists(st.sampled_from([0.0, 0.5, -2.0]), min_size=16, max_size=16).map(lambda x: np.reshape(x, (4, 4)))


@given(matrices)
def test_a_matrix_comes_back_as_it_was_but_for_its_diagonal(values):
    kg = from_scipy(sparse.csc_matrix(values), NAMES)
    np.fill_diagonal(values, 0)
    np.testing.assert_array_equal(kg.to_scipy(INTERACTS).toarray(), np.abs(values))
    np.testing.assert_array_equal(kg.to_scipy(INTERACTS, signed=True).toarray(), np.minimum(values, 0))
    assert kg.nodes("gene").index.tolist() == NAMES


def test_a_matrix_between_two_types():
    kg = from_scipy(np.array([[1, 0], [0, 3]]), ["A", "B"], target_names=["x", "y"], target_type="set", relation="in")
    assert kg.edges(("gene", "in", "set"))[["source", "target", "weight"]].to_numpy().tolist() == [
        ["A", "x", 1.0],
        ["B", "y", 3.0],
    ]


def test_edge_index_with_weights_and_signs():
    index = torch.tensor([[0, 1, 1, 3], [1, 2, 2, 3]])
    kg = from_edge_index(index, NAMES, weight=torch.tensor([0.5, -1, 2, 1]), relation="regulates", origin="mine")
    edges = kg.edges(("gene", "regulates", "gene"))
    assert edges[["source", "target", "weight", "sign", "origin"]].to_numpy().tolist() == [
        ["A", "B", 0.5, 0, "mine"],
        ["B", "C", 2.0, -1, "mine"],
    ]
    assert (kg.account[0]["rows_read"], kg.account[0]["merged"], kg.account[0]["self_loops"]) == (4, 1, 1)


@pytest.mark.parametrize(
    ("index", "options", "message"),
    [
        (np.zeros((3, 2), int), {}, "must be whole numbers"),
        (np.zeros((2, 2)), {}, "must be whole numbers"),
        (np.array([[0], [9]]), {}, "the gene number 9"),
        (np.array([[-1], [0]]), {}, "there are 4 names"),
        (np.array([[0], [1]]), {"weight": np.array([np.nan])}, "one finite number an edge"),
        (np.array([[0], [1]]), {"weight": np.ones(2)}, "one finite number an edge"),
        (np.array([[0], [1]]), {"sign": np.ones(2)}, "signs of shape"),
        (np.array([[0], [1]]), {"target_type": "set"}, "give target_names if, and only if"),
    ],
)
def test_bad_edge_indices_are_refused(index, options, message):
    with pytest.raises(InputError, match=message):
        from_edge_index(index, NAMES, **options)
    with pytest.raises(InputError, match="a matrix of shape"):
        from_scipy(np.eye(3), NAMES)
    with pytest.raises(InputError, match="'A' stands twice"):
        from_edge_index(np.array([[0], [1]]), ["A", "A"])


def test_networkx_and_back(small_kg):
    graph = small_kg.to_networkx()
    assert graph.number_of_edges() == sum(len(small_kg.edges(rel)) for rel in small_kg.relations)
    assert graph.nodes["cell_type", "CL:0"]["label"] == "cell"
    again = from_networkx(graph)
    for relation in small_kg.relations:
        pd.testing.assert_frame_equal(again.edges(relation), small_kg.edges(relation))
    assert again.nodes("cell_type")["label"].to_dict() == {"CL:0": "cell", "CL:1": "T cell"}


def test_undirected_networkx_gives_both_directions():
    graph = nx.karate_club_graph()
    kg = from_networkx(graph, node_type="member", relation="knows")
    matrix = kg.to_scipy(("member", "knows", "member"))
    expected = nx.to_scipy_sparse_array(graph, nodelist=[int(name) for name in kg.nodes("member").index])
    np.testing.assert_allclose(matrix.toarray(), expected.toarray())


def test_odd_networkx_is_refused():
    with pytest.raises(InputError, match="two nodes are both called '1'"):
        from_networkx(nx.Graph([(1, "1")]))
    graph = nx.DiGraph()
    graph.add_edge("A", "B", weight="strong")
    with pytest.raises(InputError, match="the edge A–B has the weight 'strong'"):
        from_networkx(graph)


def test_hetero_data_and_back(small_kg):
    kg = small_kg.with_features("x", np.eye(4, dtype=np.float32))
    again = from_pyg(kg.to_hetero())
    for relation in kg.relations:
        columns = ["source", "target", "weight", "sign"]
        pd.testing.assert_frame_equal(again.edges(relation)[columns], kg.edges(relation)[columns])
    np.testing.assert_array_equal(again.features("gene")["x"], np.eye(4))


def test_plain_data_with_edge_attributes():
    data = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), edge_attr=torch.tensor([[0.5], [2.0]]), num_nodes=3)
    kg = from_pyg(data, ["A", "B", "C"], relation="binds")
    assert kg.edges(("gene", "binds", "gene"))["weight"].tolist() == [0.5, 2.0]
    assert from_pyg(data).nodes("gene").index.tolist() == ["0", "1", "2"]


def test_entries_in_two_halves_are_one_edge():
    split = sparse.csr_matrix(([1.0, 1.0, 0.5, -0.5], [1, 1, 2, 2], [0, 2, 4, 4, 4]), shape=(4, 4))
    for matrix in (split, split.tocoo()):
        assert from_scipy(matrix, NAMES).edges(INTERACTS)[["source", "target", "weight"]].to_numpy().tolist() == [
            ["A", "B", 2.0]
        ]
        assert matrix.nnz == 4
