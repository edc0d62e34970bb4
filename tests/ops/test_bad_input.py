"""What does not fit is refused with words that say what would."""

import pytest
import torch

from kgnn.ops import (
    Adjacency,
    HeteroAdjacency,
    RelationalAdjacency,
    dot_attention,
    edge_softmax,
    gat_attention,
    gatv2_attention,
    relational_spmm,
    sddmm,
    signed_spmm,
    spmm,
    spmm_linear,
)
from tests.ops.conftest import SOURCES, TARGETS


def x(n=SOURCES, channels=6, dtype=torch.float64):
    return torch.randn(2, n, channels, dtype=dtype)


SHAPE = r"must be \[\.\.\., sources, channels\]"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: spmm(g, x(SOURCES + 1)), SHAPE),
        (lambda g: spmm(g, x()[0, :, 0]), SHAPE),
        (lambda g: spmm(g, x().transpose(0, 1)), SHAPE),
        (lambda g: spmm(g, x().long()), "must be floating point, not torch.int64"),
        (
            lambda g: spmm(g, x(), torch.ones(3)),
            r"weight \[3, 1\] must be \[\d+\], \[\d+, heads\] or \[2, \d+, heads\]",
        ),
        (lambda g: spmm(g, x(), torch.ones(7, g.n_edges, 1)), r"weight \[7, \d+, 1\] must be"),
        (lambda g: spmm(g, x(), torch.ones(g.n_edges, 4)), "6 channels do not fall into 4 heads"),
        (lambda g: spmm(g, x(), torch.ones(g.n_edges, dtype=torch.int64)), "must be floating point"),
        (lambda g: spmm(g, x(), reduce="median"), "reduce must be sum, mean or max, not 'median'"),
        (lambda g: sddmm(g, x(TARGETS), x(channels=4)), "must agree in all but the number of nodes"),
        (lambda g: sddmm(g, x(TARGETS).float(), x()), "must agree in all but the number of nodes"),
        (lambda g: sddmm(g, x(SOURCES), x()), r"must be \[\.\.\., targets, channels\]"),
        (lambda g: sddmm(g, x(TARGETS), x(), heads=4), "6 channels do not fall into 4 heads"),
        (lambda g: edge_softmax(g, torch.ones(4)), r"scores \[4\] must be"),
        (lambda g: gat_attention(g, x(), x(TARGETS, 3), x(channels=2)), "do not fit each other with 3 heads"),
        (lambda g: gatv2_attention(g, x(TARGETS), x(), torch.ones(2, 2)), r"attention \[2, 2\] must be \[heads, 6"),
        (lambda g: gatv2_attention(g, x(TARGETS, 4), x(), torch.ones(2, 3)), "do not fit each other"),
        (lambda g: dot_attention(g, x(TARGETS), x(), x().float()), "of one type"),
        (lambda g: dot_attention(g, x(TARGETS), x(), x(), heads=0), "0 heads"),
        (lambda g: spmm_linear(g, x(), torch.ones(3, 5).double()), r"weight \[3, 5\] must be \[out_channels, 6\]"),
        (lambda g: spmm_linear(g, x(), torch.ones(3, 6)), "features are torch.float64 on cpu, weight torch.float32"),
        (lambda g: spmm_linear(g, x(), torch.ones(3, 6).double(), torch.ones(3)), "bias torch.float32 on cpu; convert"),
        (lambda g: spmm_linear(g, x(), torch.ones(3, 6).double(), torch.ones(4)), r"bias \[4\] must be \[3\]"),
        (lambda g: spmm_linear(g, x(), torch.ones(3, 6, device="meta").double()), "weight torch.float64 on meta"),
        (lambda g: gatv2_attention(g, x(TARGETS), x(), torch.ones(2, 3, device="meta")), "are on meta, the graph"),
        (lambda g: spmm(g, torch.empty(2, SOURCES, 6, device="meta")), "features are on meta, the graph on cpu"),
        (lambda g: spmm(g, x(), torch.empty(g.n_edges, device="meta")), "are on meta, the graph on cpu"),
        (lambda g: signed_spmm(g, x(3)), "sources, channels"),
    ],
)
def test_features_and_weights_that_do_not_fit(graph, call, message):
    with pytest.raises(ValueError, match=message):
        call(graph)


EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Adjacency(EDGES.float().requires_grad_(), n_nodes=3), "must hold integers, not torch.float32"),
        (lambda: Adjacency(EDGES.bool(), n_nodes=3), "must hold integers, not torch.bool"),
        (lambda: Adjacency(EDGES, torch.ones(3, dtype=torch.long), n_nodes=3), "weight must be floating point"),
        (lambda: Adjacency(EDGES, torch.ones(3, device="meta"), n_nodes=3), "edge_index is on cpu, weight on meta"),
        (lambda: Adjacency(EDGES, torch.tensor([1.0, torch.inf, 1]), n_nodes=3), "NaN or infinite"),
        (lambda: Adjacency(EDGES, n_nodes=2**31), "more than 32-bit numbers can count"),
        (lambda: Adjacency(EDGES, n_nodes=3, reorder="random"), "reorder must be none, degree or rcm, not 'random'"),
        (lambda: Adjacency(EDGES, n_nodes=(3, 4), reorder="rcm"), "needs a square graph, not 3 × 4; use 'degree'"),
        (lambda: RelationalAdjacency(EDGES, torch.tensor([0, 1]), 2, n_nodes=3), r"edge_type must be \[3\] integers"),
        (lambda: RelationalAdjacency(EDGES, torch.tensor([0, 1, 2]), 2, n_nodes=3), r"in \[0, 2\); found 0 to 2"),
        (lambda: RelationalAdjacency(EDGES, torch.tensor([0, 1, 1]), 2, n_nodes=2), r"source numbers .* \[0, 2\)"),
        (lambda: RelationalAdjacency(EDGES, EDGES[0], 3, n_nodes=3, normalization="mean"), "must be none or row"),
        (lambda: HeteroAdjacency({("a", "to", "b"): EDGES}, {"a": 3}), "no number of nodes of type 'b'"),
        (lambda: HeteroAdjacency({("a", "to", "b"): EDGES}, {"a": 3, "b": 2}), r"target numbers must lie in \[0, 2\)"),
    ],
)
def test_graphs_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_of_relations_that_do_not_fit():
    graph = RelationalAdjacency(EDGES, EDGES[0], 3, n_nodes=3)
    with pytest.raises(ValueError, match=r"weight \[2, 6, 4\] must be \[3, 6, out_channels\]"):
        relational_spmm(graph, x(3), torch.ones(2, 6, 4).double())


def test_weights_that_are_nan_are_seen_in_the_result(graph):
    weight = torch.ones(graph.n_edges, dtype=torch.float64)
    weight[4] = torch.nan
    out = spmm(graph, x(), weight)
    assert out.isnan().any(0).any(-1).nonzero().ravel().tolist() == [int(graph.edge_index[1, 4])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_graph_in_another_precision_than_its_features(dtype):
    graph = Adjacency(EDGES, torch.tensor([0.1, 0.2, 0.3], dtype=dtype), n_nodes=3)
    for other in (torch.float32, torch.float64, torch.bfloat16):
        features = torch.arange(3).to(other).unsqueeze(-1)
        expected = torch.tensor([[0.6], [0.0], [0.2]]).to(other)
        torch.testing.assert_close(spmm(graph, features), expected, atol=1e-6, rtol=1e-2)
        weight = torch.eye(1, dtype=other)
        torch.testing.assert_close(spmm_linear(graph, features, weight), expected, atol=1e-6, rtol=1e-2)
