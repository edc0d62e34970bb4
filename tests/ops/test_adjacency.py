import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from kgnn.ops import Adjacency

N = 7
edges = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, N - 1), st.floats(0.125, 3, width=32)),
    max_size=25,
    unique_by=lambda edge: edge[:2],
)


def build(rows):
    table = torch.tensor([edge[:2] for edge in rows], dtype=torch.long).reshape(-1, 2).T
    return table, torch.tensor([edge[2] for edge in rows], dtype=torch.double)


def dense(adjacency, transposed=False):
    prefix = "t_" if transposed else ""
    parts = [getattr(adjacency, prefix + name).numpy() for name in ("values", "indices", "indptr")]
    shape = adjacency.shape[::-1] if transposed else adjacency.shape
    return sparse.csr_matrix(tuple(parts), shape).toarray()


@given(edges, st.booleans())
def test_symmetric_normalization_is_that_of_pyg(rows, self_loops):
    edge_index, weight = build(rows)
    adjacency = Adjacency(edge_index, weight, n_nodes=N, normalization="symmetric", self_loops=self_loops)
    theirs = gcn_norm(edge_index, weight, N, add_self_loops=self_loops, dtype=torch.double)
    expected = np.zeros((N, N))
    for (source, target), value in zip(theirs[0].T.tolist(), theirs[1].tolist(), strict=True):
        expected[target, source] += value
    np.testing.assert_allclose(dense(adjacency), expected, atol=1e-12)
    np.testing.assert_allclose(dense(adjacency, transposed=True), expected.T, atol=1e-12)


@given(edges)
def test_row_normalization_and_transpose(rows):
    edge_index, weight = build(rows)
    plain = dense(Adjacency(edge_index, weight, n_nodes=N))
    adjacency = Adjacency(edge_index, weight, n_nodes=N, normalization="row")
    sums = plain.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense(adjacency), np.divide(plain, sums, out=np.zeros_like(plain), where=sums > 0))
    assert adjacency.n_edges == len(rows)


@given(edges, st.lists(st.integers(0, N - 1), max_size=10))
def test_rows_are_the_rows_of_the_matrix_in_order(rows, chosen):
    adjacency = Adjacency(*build(rows), n_nodes=N)
    picked = adjacency.rows(torch.tensor(chosen, dtype=torch.long))
    np.testing.assert_array_equal(dense(picked), dense(adjacency)[chosen].reshape(len(chosen), N))


def test_bipartite_graphs_empty_graphs_and_isolated_nodes():
    bipartite = Adjacency(torch.tensor([[4], [1]]), n_nodes=(2, 5))
    assert dense(bipartite).nonzero() == (1, 4)
    empty = Adjacency(torch.empty(2, 0, dtype=torch.long), n_nodes=3, normalization="symmetric", self_loops=True)
    np.testing.assert_array_equal(dense(empty), np.eye(3))
    assert "3 × 3, 3 edges" in repr(empty)


def test_moves_with_the_model_and_is_no_part_of_its_state():
    model = torch.nn.Sequential(Adjacency(torch.tensor([[0], [1]]), n_nodes=2))
    assert model.state_dict() == {}
    assert model.double()[0].values.dtype == torch.double
    assert model[0].indices.dtype == torch.int32
    assert model.bfloat16()[0].values.dtype == torch.float32  # sums over neighbours are made there


@pytest.mark.parametrize(
    ("edge_index", "weight", "options", "message"),
    [
        ([[0, 1, 2]], None, {}, r"must be \[2, edges\]"),
        ([[0.0], [1.0]], None, {}, "must hold integers"),
        ([[0], [1]], [1.0, 2.0], {}, "one an edge"),
        ([[0], [1]], [float("nan")], {}, "NaN or infinite"),
        ([[0], [9]], None, {}, r"target numbers must lie in \[0, 3\); found 9 to 9"),
        ([[-1], [0]], None, {}, r"source numbers must lie in \[0, 3\); found -1"),
        ([[0], [1]], [-1.0], {"normalization": "symmetric"}, "at least 0"),
        ([[0], [1]], None, {"normalization": "columns"}, "must be none, symmetric or row"),
        ([[0], [1]], None, {"n_nodes": (2, 3), "self_loops": True}, "as many sources as targets"),
        ([[0], [1]], None, {"n_nodes": (2, 3), "normalization": "symmetric"}, "needs a square graph"),
    ],
)
def test_wrong_graphs_are_refused(edge_index, weight, options, message):
    weight = None if weight is None else torch.tensor(weight)
    with pytest.raises(ValueError, match=message):
        Adjacency(torch.tensor(edge_index), weight, **({"n_nodes": 3} | options))


def test_edges_keep_their_numbers_whatever_order_they_came_in():
    edge_index = torch.tensor([[2, 0, 2, 1], [1, 1, 0, 1]])
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    adjacency = Adjacency(edge_index, weight, n_nodes=3, self_loops=True)
    loops = torch.tensor([[0, 2], [0, 2]])  # node 1 has one of its own
    assert torch.equal(adjacency.edge_index, torch.cat([edge_index, loops], 1))
    assert adjacency.edge_weight.tolist() == [1, 2, 3, 4, 1, 1]
    per_edge = torch.arange(6)
    assert torch.equal(adjacency.from_csr_order(adjacency.to_csr_order(per_edge, 0), 0), per_edge)
    assert adjacency.indices.tolist() == [0, 2, 0, 1, 2, 2]


@given(edges, st.booleans())
def test_gradients_follow_the_edges_to_the_order_of_the_matrix_and_back(rows, to_csr):
    table, weight = build(rows)
    adjacency, n = Adjacency(table, weight, n_nodes=N), len(rows)
    entries = torch.randn(n, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(n, dtype=torch.float64)
    move = adjacency.to_csr_order if to_csr else adjacency.from_csr_order
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix[torch.arange(n), move(torch.arange(n), 0)] = 1.0
    (found,) = torch.autograd.grad(move(entries, 0), entries, grad)
    assert torch.equal(found, matrix.T @ grad)


@given(edges, st.sampled_from(["degree", "rcm"]))
def test_the_order_of_work_is_a_permutation_and_changes_no_matrix(rows, reorder):
    edge_index, weight = build(rows)
    adjacency = Adjacency(edge_index, weight, n_nodes=N, reorder=reorder)
    for order in (adjacency.order, adjacency.t_order):
        assert sorted(order.tolist()) == list(range(N))
    np.testing.assert_array_equal(dense(adjacency), dense(Adjacency(edge_index, weight, n_nodes=N)))
    if reorder == "degree":
        degree = adjacency.indptr.diff()[adjacency.order.long()].tolist()
        assert degree == sorted(degree, reverse=True)


def test_rcm_brings_the_neighbours_of_a_shuffled_path_together():
    n = 200
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    path = torch.stack([shuffled[:-1], shuffled[1:]])
    order = Adjacency(torch.cat([path, path.flip(0)], 1), n_nodes=n, reorder="rcm").order.long()
    place = torch.empty(n, dtype=torch.long)
    place[order] = torch.arange(n)
    assert int((place[path[0]] - place[path[1]]).abs().max()) == 1  # the bandwidth of a path
