import pytest
import torch

from kgnn.ops import Adjacency, HeteroAdjacency, RelationalAdjacency, relational_spmm, signed_spmm, spmm, spmm_linear
from kgnn.ops.backends import plain_dense
from tests.ops import reference

N, RELATIONS, CELLS = 11, 3, 5


@pytest.fixture
def edges():
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(N, (2, 70), generator=generator)
    edge_index[1, edge_index[1] == 4] = 5  # node 4 hears nobody
    kind = torch.randint(RELATIONS, (70,), generator=generator)
    return edge_index, kind, torch.rand(70, generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("normalization", ["none", "row"])
@pytest.mark.parametrize("block", [0, 1 << 30])
def test_relations_are_summed_each_through_its_own_matrix(edges, normalization, block, monkeypatch):
    monkeypatch.setitem(plain_dense.BLOCK_BYTES, "cpu", block)
    edge_index, kind, weight = edges
    graph = RelationalAdjacency(edge_index, kind, RELATIONS, n_nodes=N, weight=weight, normalization=normalization)
    assert "70 edges of 3 relations" in repr(graph)
    x = torch.randn(CELLS, N, 4, dtype=torch.float64, requires_grad=True)
    matrices = torch.randn(RELATIONS, 4, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    out = relational_spmm(graph, x, matrices, bias)
    expected = bias
    for r in range(RELATIONS):
        of_r = Adjacency(edge_index[:, kind == r], weight[kind == r], n_nodes=N, normalization=normalization)
        expected = expected + reference.spmm(of_r, x) @ matrices[r]
    torch.testing.assert_close(out, expected)
    slope = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad((y * slope).sum(), (x, matrices, bias)) for y in (out, expected))
    torch.testing.assert_close(ours, theirs)
    inputs = (x.detach()[:2].requires_grad_(), matrices, bias)
    assert torch.autograd.gradcheck(lambda *parts: relational_spmm(graph, *parts), inputs)


def test_spmm_linear_is_linear_of_spmm_on_a_bipartite_graph(edges):
    edge_index, _, weight = edges
    graph = Adjacency(edge_index[:, edge_index[1] < 7], weight[edge_index[1] < 7], n_nodes=(7, N))
    x = torch.randn(2, CELLS, N, 4, dtype=torch.float64, requires_grad=True)
    lin = torch.nn.Linear(4, 3).double()
    out, expected = spmm_linear(graph, x, lin.weight, lin.bias), lin(spmm(graph, x))
    torch.testing.assert_close(out, expected)
    slope = torch.randn_like(out)
    leaves = (x, lin.weight, lin.bias)
    torch.testing.assert_close(*(torch.autograd.grad((y * slope).sum(), leaves) for y in (out, expected)))
    with torch.autocast("cpu", torch.bfloat16):
        assert spmm_linear(graph.float(), x.float(), lin.weight.float()).dtype == torch.bfloat16


def test_signed_edges_arrive_apart(edges):
    edge_index, _, weight = edges
    weight = weight * torch.where(torch.arange(70) % 3 == 0, -1, 1)
    graph = Adjacency(edge_index, weight, n_nodes=N)
    x = torch.randn(CELLS, N, 4, dtype=torch.float64)
    out = signed_spmm(graph, x)
    for number, sign in enumerate((1, -1)):
        expected = reference.spmm(graph, x, (weight * sign).clamp_min(0))
        torch.testing.assert_close(out[..., number, :], expected)
    assert graph.signed is graph.signed


def test_empty_relations_and_no_cells():
    graph = RelationalAdjacency(torch.empty(2, 0).long(), torch.empty(0).long(), 2, n_nodes=3)
    weight = torch.ones(2, 4, 5, requires_grad=True)
    for cells in (0, 2):
        x = torch.ones(cells, 3, 4, requires_grad=True)
        out = relational_spmm(graph, x, weight)
        assert (out == 0).all()
        out.sum().backward()
        assert (x.grad == 0).all()


def test_relations_into_a_type_stand_side_by_side():
    edges = {("gene", "regulates", "gene"): [[0, 2], [1, 1]], ("cell", "expresses", "gene"): [[1], [0]]}
    graph = HeteroAdjacency({name: torch.tensor(pairs) for name, pairs in edges.items()}, {"gene": 3, "cell": 2})
    merged = graph.into("gene")
    assert merged.shape == (3, 5)
    assert sorted(map(tuple, merged.edge_index.T.tolist())) == [(0, 1), (2, 1), (4, 0)]
    assert graph.relations == {"gene": list(edges)}


@pytest.mark.parametrize(("channels", "out_channels"), [(8, 16), (16, 8)])
@pytest.mark.parametrize("cells", [1, 5])
def test_the_compiled_product_over_many_blocks_of_rows(channels, out_channels, cells):
    """Widths that the compiled kernel takes, more rows than one of its blocks, fewer cells than threads and more."""
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(301, (2, 2000), generator=generator)
    kind = torch.randint(RELATIONS, (2000,), generator=generator)
    weight = torch.rand(2000, generator=generator, dtype=torch.float64)
    x = torch.randn(cells, 301, channels, dtype=torch.float64, generator=generator).requires_grad_()
    matrices = torch.randn(RELATIONS, channels, out_channels, dtype=torch.float64, generator=generator).requires_grad_()
    bias = torch.randn(out_channels, dtype=torch.float64, generator=generator).requires_grad_()
    graph = RelationalAdjacency(edge_index, kind, RELATIONS, n_nodes=301, weight=weight)
    single = Adjacency(edge_index, weight, n_nodes=301)
    expected = bias
    for r in range(RELATIONS):
        of_r = Adjacency(edge_index[:, kind == r], weight[kind == r], n_nodes=301, normalization="row")
        expected = expected + reference.spmm(of_r, x) @ matrices[r]
    pairs = [
        (relational_spmm(graph, x, matrices, bias), expected),
        (spmm_linear(single, x, matrices[0].T, bias), reference.spmm(single, x) @ matrices[0] + bias),
    ]
    for out, wanted in pairs:
        torch.testing.assert_close(out, wanted)
        slope = torch.randn(out.shape, dtype=torch.float64, generator=generator)
        ours, theirs = (torch.autograd.grad((y * slope).sum(), (x, matrices, bias)) for y in (out, wanted))
        torch.testing.assert_close(ours, theirs)
