import numpy as np
import pytest
import torch
from scipy import sparse
from torch_geometric.nn import SGConv as PygSGConv

from kgnn.nn import SGConv
from kgnn.ops import Adjacency, spmm

CELLS, GENES, CHANNELS = 4, 30, 6


@pytest.fixture
def graph():
    generator = torch.Generator().manual_seed(0)
    pairs = (torch.rand(GENES, GENES, generator=generator) < 0.15).nonzero().T
    pairs = pairs[:, (pairs[0] != pairs[1]) & (pairs[1] != 5)]  # gene 5 hears nobody
    return pairs, torch.rand(pairs.shape[1], generator=generator, dtype=torch.double) + 0.1


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_sgconv_on_the_shared_graph_is_pygs_on_the_disjoint_union(graph, dtype, tolerance):
    edge_index, weight = graph
    ours, theirs = SGConv(CHANNELS, 5).to(dtype), PygSGConv(CHANNELS, 5, K=1).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    adjacency = Adjacency(edge_index, weight.to(dtype), n_nodes=GENES, normalization="symmetric", self_loops=True)
    x = torch.randn(CELLS, GENES, CHANNELS, dtype=dtype, requires_grad=True)
    out = ours(x, adjacency)

    union = torch.cat([edge_index + cell * GENES for cell in range(CELLS)], 1)
    x_union = x.detach().reshape(-1, CHANNELS).requires_grad_()
    expected = theirs(x_union, union, weight.to(dtype).repeat(CELLS))
    slope = torch.linspace(-1, 1, out.numel(), dtype=dtype).reshape(out.shape)
    (out * slope).sum().backward()
    (expected.reshape(out.shape) * slope).sum().backward()

    torch.testing.assert_close(out, expected.reshape(out.shape), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(x.grad, x_union.grad.reshape(x.shape), atol=tolerance, rtol=tolerance)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=10 * tolerance, rtol=10 * tolerance)


def test_spmm_is_scipys_product_for_any_leading_dimensions(graph):
    edge_index, weight = graph
    matrix = sparse.csr_matrix((weight.numpy(), (edge_index[1].numpy(), edge_index[0].numpy())), (GENES, GENES))
    adjacency = Adjacency(edge_index, weight, n_nodes=GENES)
    for leading in ((), (1,), (CELLS,), (2, 3)):
        x = torch.randn(*leading, GENES, CHANNELS, dtype=torch.double)
        expected = np.stack([matrix @ cell for cell in x.reshape(-1, GENES, CHANNELS).numpy()]).reshape(x.shape)
        np.testing.assert_allclose(spmm(adjacency, x).numpy(), expected, atol=1e-12)


def test_gradcheck(graph):
    adjacency = Adjacency(*graph, n_nodes=GENES, normalization="row")
    x = torch.randn(2, GENES, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: spmm(adjacency, x), x)
    bipartite = adjacency.rows(torch.tensor([3, 3, 11]))
    assert torch.autograd.gradcheck(lambda x: spmm(bipartite, x), x)


def test_edge_cases(graph):
    adjacency = Adjacency(*graph, n_nodes=GENES)
    assert (spmm(adjacency, torch.randn(CELLS, GENES, CHANNELS))[:, 5] == 0).all()
    assert spmm(adjacency, torch.randn(0, GENES, CHANNELS)).shape == (0, GENES, CHANNELS)
    nothing = Adjacency(torch.empty(2, 0, dtype=torch.long), n_nodes=GENES)
    assert (spmm(nothing, torch.randn(GENES, 2)) == 0).all()
    strided = torch.randn(CELLS, CHANNELS, GENES).transpose(1, 2)
    torch.testing.assert_close(spmm(adjacency, strided), spmm(adjacency, strided.contiguous()))
    assert spmm(adjacency, torch.randn(GENES, 2)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(GENES,), (CELLS, GENES + 1, CHANNELS), (GENES, CELLS, CHANNELS)])
def test_features_that_do_not_fit_are_refused(graph, shape):
    with pytest.raises(ValueError, match=r"must be \[..., sources, channels\]"):
        spmm(Adjacency(*graph, n_nodes=GENES), torch.randn(*shape))
