"""Each convolution on the shared graph is PyG's layer of the same name on the disjoint union, with the same state."""

import pytest
import torch
import torch_geometric.nn as pyg

from kgnn import nn as ours
from kgnn.ops import Adjacency, HeteroAdjacency, RelationalAdjacency
from tests.ops.reference import union

CELLS, GENES, CHANNELS, OUT = 3, 20, 8, 6
GENERATOR = torch.Generator().manual_seed(0)
EDGES = torch.randint(GENES, (2, 90), generator=GENERATOR).unique(dim=1)
EDGES = EDGES[:, (EDGES[0] != EDGES[1]) & (EDGES[1] != 4)]  # gene 4 hears nobody
WEIGHT = torch.rand(EDGES.shape[1], generator=GENERATOR, dtype=torch.float64) + 0.1
KIND = torch.randint(3, (EDGES.shape[1],), generator=GENERATOR)


def plain():
    return Adjacency(EDGES, n_nodes=GENES)


def symmetric():
    return Adjacency(EDGES, WEIGHT, n_nodes=GENES, normalization="symmetric", self_loops=True)


def with_loops():
    return Adjacency(EDGES, n_nodes=GENES, self_loops=True, reorder="rcm")


def relations():
    ones = torch.ones_like(WEIGHT)
    return RelationalAdjacency(EDGES, KIND, 3, n_nodes=GENES, weight=ones)


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(CHANNELS, 5), torch.nn.ReLU(), torch.nn.Linear(5, OUT))


LAYERS = {  # theirs, ours, our graph, what else theirs takes an edge
    "SGC": (lambda m: m.SGConv(CHANNELS, OUT), symmetric, WEIGHT),
    "SGC, 2 hops": (
        lambda m: m.SGConv(CHANNELS, OUT, **({"K": 2} if m is pyg else {"hops": 2})),
        symmetric,
        WEIGHT,
    ),
    "GCN": (lambda m: m.GCNConv(CHANNELS, OUT), symmetric, WEIGHT),
    "GraphSAGE mean": (lambda m: m.SAGEConv(CHANNELS, OUT), plain, None),
    "GraphSAGE max": (lambda m: m.SAGEConv(CHANNELS, OUT, aggr="max"), plain, None),
    "GIN": (lambda m: m.GINConv(mlp(), eps=0.3), plain, None),
    "GIN, learned": (lambda m: m.GINConv(mlp(), train_eps=True), plain, None),
    "GAT": (lambda m: m.GATConv(CHANNELS, 2, heads=3), with_loops, None),
    "GATv2": (lambda m: m.GATv2Conv(CHANNELS, 2, heads=3), with_loops, None),
    "R-GCN": (lambda m: m.RGCNConv(CHANNELS, OUT, 3), relations, KIND),
    "R-GCN, bases": (lambda m: m.RGCNConv(CHANNELS, OUT, 3, num_bases=2), relations, KIND),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_pygs(name):
    make, graph, per_edge = LAYERS[name]
    theirs, mine = make(pyg).double(), make(ours).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, generator=GENERATOR)
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(CELLS, GENES, CHANNELS, dtype=torch.float64, requires_grad=True)
    flat = x.detach().reshape(-1, CHANNELS).requires_grad_()
    extra = () if per_edge is None else (per_edge.repeat(CELLS),)
    out, expected = mine(x, graph()), theirs(flat, union(EDGES, (GENES, GENES), CELLS), *extra)
    slope = torch.randn_like(out)
    (out * slope).sum().backward()
    (expected.reshape(out.shape) * slope).sum().backward()
    torch.testing.assert_close(out, expected.reshape(out.shape))
    torch.testing.assert_close(x.grad, flat.grad.reshape(x.shape))
    theirs_by_name = dict(theirs.named_parameters())
    for key, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs_by_name[key].grad, msg=key)


@pytest.mark.parametrize("out_channels", [8, 4], ids=["skip connection", "other width"])
def test_hgt_attends_over_all_relations_into_a_type_as_pyg(out_channels):
    types, nodes = ["gene", "term"], {"gene": 20, "term": 7}
    triples = [("gene", "regulates", "gene"), ("term", "holds", "gene"), ("gene", "in", "term")]
    theirs = pyg.HGTConv(8, out_channels, (types, triples), heads=2).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, generator=GENERATOR)
    mine = ours.HGTConv(8, out_channels, types, triples, heads=2).double()
    mine.load_state_dict(theirs.state_dict())
    edges = {
        (s, name, t): torch.stack([torch.randint(nodes[s], (40,)), torch.randint(nodes[t], (40,))])
        for s, name, t in triples
    }
    x = {name: torch.randn(CELLS, n, 8, dtype=torch.float64) for name, n in nodes.items()}
    out = mine(x, HeteroAdjacency(edges, nodes))
    expected = [theirs({name: value[cell] for name, value in x.items()}, edges) for cell in range(CELLS)]
    for name, value in out.items():
        torch.testing.assert_close(value, torch.stack([of_cell[name] for of_cell in expected]))
    for result in (out, *expected):
        sum((value**2).sum() for value in result.values()).backward()
    theirs_by_name = dict(theirs.named_parameters())
    for key, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs_by_name[key].grad, msg=key)


@pytest.mark.parametrize("make", [lambda: ours.SAGEConv(8, 4), lambda: ours.GATv2Conv(8, 2, heads=2)])
def test_bipartite_graphs_take_a_pair(make):
    torch.manual_seed(0)
    layer = make()
    theirs = {
        ours.SAGEConv: lambda: pyg.SAGEConv(8, 4),
        ours.GATv2Conv: lambda: pyg.GATv2Conv(8, 2, heads=2, add_self_loops=False),
    }
    theirs = theirs[type(layer)]()
    theirs.load_state_dict(layer.state_dict())
    edges = torch.stack([torch.randint(9, (30,)), torch.randint(5, (30,))])
    source, target = torch.randn(9, 8), torch.randn(5, 8)
    expected = theirs((source, target), edges)
    torch.testing.assert_close(layer((source, target), Adjacency(edges, n_nodes=(5, 9))), expected)
