"""Convolutions between types: against PyG's layers with the same parameters, CompGCN against a literal loop."""

import pytest
import torch
import torch_geometric.nn as pyg

from kgnn.errors import InputError
from kgnn.nn.typed_conv import CompGCNConv, TypedHGTConv, TypedRGCNConv, TypedSAGEConv
from kgnn.ops import TypedAdjacency

C, NODES = 8, {"gene": 10, "set": 4, "cell": 3}
REGULATES, IN, REV_IN = ("gene", "regulates", "gene"), ("gene", "in", "set"), ("set", "rev_in", "gene")
SPEAKS = ("cell", "expresses", "gene")


@pytest.fixture
def edges():
    generator = torch.Generator().manual_seed(0)

    def pairs(source, target, number):
        ends = (torch.randint(NODES[kind], (number,), generator=generator) for kind in (source, target))
        return torch.stack(list(ends))

    members = pairs("gene", "set", 15)
    regulates = pairs("gene", "gene", 30)
    regulates[1, regulates[1] == 4] = 5  # gene 4 is regulated by nobody
    return {REGULATES: regulates, IN: members, REV_IN: members.flip(0), SPEAKS: pairs("cell", "gene", 6)}


def typed(edges, weights=None):
    ones = {relation: torch.ones(pairs.shape[1], dtype=torch.float64) for relation, pairs in edges.items()}
    return TypedAdjacency(edges, NODES, ones | (weights or {}))


def random_parameters(module):
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    return module


def states(*leading):
    torch.manual_seed(1)
    return {kind: torch.randn(*leading, n, C, dtype=torch.float64) for kind, n in NODES.items()}


def union(edges, graph):
    starts = {kind: part.start for kind, part in graph.slices.items()}
    pairs = [pair + torch.tensor([[starts[r[0]]], [starts[r[2]]]]) for r, pair in edges.items()]
    return torch.cat(pairs, 1), graph.edge_type


@pytest.mark.parametrize("bases", [None, 3])
def test_rgcn_is_pygs_on_the_union_with_the_same_state(edges, bases):
    graph = typed(edges)
    mine = random_parameters(TypedRGCNConv(C, graph, bases))
    theirs = pyg.RGCNConv(C, C, len(edges), num_bases=bases).double()
    theirs.load_state_dict(mine.state_dict())
    x = graph.join(states()).requires_grad_()
    slope = torch.randn(graph.n, C, dtype=torch.float64)
    out, expected = mine(x, graph)[0], theirs(x, *union(edges, graph))
    torch.testing.assert_close(out, expected)
    for (name, parameter), other in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        ours, wanted = (
            torch.autograd.grad((y * slope).sum(), p, retain_graph=True)[0]
            for y, p in ((out, parameter), (expected, other))
        )
        torch.testing.assert_close(ours, wanted, msg=name)


def test_sage_is_pygs_hetero_conv(edges):
    graph = typed(edges)
    mine = random_parameters(TypedSAGEConv(C, graph))
    layers = {relation: pyg.SAGEConv(C, C).double() for relation in edges}
    with torch.no_grad():
        for number, (relation, layer) in enumerate(layers.items()):
            kind = list(NODES).index(relation[2])
            relations_into = sum(r[2] == relation[2] for r in edges)
            layer.lin_l.weight.copy_(mine.weight[number].T)
            layer.lin_l.bias.copy_(mine.bias[kind] / relations_into)
            layer.lin_r.weight.copy_(mine.root[kind].T / relations_into)
    x = states()
    out = graph.split(mine(graph.join(x), graph)[0])
    with pytest.warns(UserWarning, match="cell"):  # nobody speaks to cells
        expected = pyg.HeteroConv(layers, aggr="sum")(x, edges)
    assert set(expected) == {"gene", "set"}
    for kind, value in expected.items():
        torch.testing.assert_close(out[kind], value)
    sum((value**2).sum() for value in expected.values()).backward()
    sum((out[kind] ** 2).sum() for kind in expected).backward()
    for number, (relation, layer) in enumerate(layers.items()):
        torch.testing.assert_close(mine.weight.grad[number], layer.lin_l.weight.grad.T)
        kind = list(NODES).index(relation[2])
        torch.testing.assert_close(mine.root.grad[kind], layer.lin_r.weight.grad.T)
        torch.testing.assert_close(mine.bias.grad[kind], layer.lin_l.bias.grad)


def test_hgt_is_pygs_with_negative_edges_as_relations_of_their_own(edges):
    sign = torch.where(torch.arange(30) % 3 == 0, -1.0, 1.0)
    graph = typed(edges, {REGULATES: sign})
    represses = ("gene", "regulates_negative", "gene")
    apart = {REGULATES: edges[REGULATES][:, sign > 0], represses: edges[REGULATES][:, sign < 0]}
    apart |= {relation: edges[relation] for relation in (REV_IN, SPEAKS, IN)}
    mine = random_parameters(TypedHGTConv(C, graph, heads=2))
    theirs = pyg.HGTConv(C, C, (list(NODES), list(apart)), heads=2).double()
    assert mine.conv.relations == list(apart)
    theirs.load_state_dict(mine.conv.state_dict())
    x = states()
    out = graph.split(mine(graph.join(x), graph)[0])
    expected = theirs(x, apart)
    for kind in ("gene", "set"):
        torch.testing.assert_close(out[kind], expected[kind])
    torch.testing.assert_close(out["cell"], x["cell"], msg="who hears nobody keeps its state")
    sum((out[kind] ** 2).sum() for kind in ("gene", "set")).backward()
    sum((expected[kind] ** 2).sum() for kind in ("gene", "set")).backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in mine.conv.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs_by_name[name].grad, msg=name)


def compose(composition, x, z):
    if composition == "subtraction":
        return x - z
    if composition == "product":
        return x * z
    return torch.fft.irfft(torch.fft.rfft(x).conj() * torch.fft.rfft(z), n=len(x))  # as the paper's code


def compgcn(layer, x, edges, weights, vectors):
    """The formula, an edge at a time."""
    out = {kind: [] for kind in NODES}
    for kind, number in NODES.items():
        for t in range(number):
            y = compose(layer.composition, x[kind][t], layer.loop[0]) @ layer.weight[2] + layer.bias
            for r, (relation, (source, target)) in enumerate(edges.items()):
                weight = weights.get(relation, torch.ones(len(source)))
                total = sum(abs(w) for w, to in zip(weight.tolist(), target.tolist(), strict=True) if to == t)
                for s, to, w in zip(source.tolist(), target.tolist(), weight.tolist(), strict=True):
                    if relation[2] == kind and to == t:
                        message = compose(layer.composition, x[relation[0]][s], vectors[r])
                        y = y + w / total * message @ layer.weight[1 if relation == REV_IN else 0]
            out[kind].append(y)
    return torch.cat([torch.stack(ys) for ys in out.values()]), vectors @ layer.lin_relation.weight.T


@pytest.mark.parametrize("composition", ["subtraction", "product", "correlation"])
def test_compgcn_is_its_formula(edges, composition):
    weights = {REGULATES: torch.randn(30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)}
    graph = typed(edges, weights)
    layer = random_parameters(CompGCNConv(C, graph, composition))
    x = {kind: value.requires_grad_() for kind, value in states().items()}
    vectors = torch.randn(len(edges), C, dtype=torch.float64, requires_grad=True)
    found = layer(graph.join(x), graph, vectors)
    expected = compgcn(layer, x, edges, weights, vectors)
    leaves = (*x.values(), vectors, *layer.parameters())
    slopes = [torch.randn_like(y) for y in found]
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted)
    ours, theirs = (
        torch.autograd.grad(sum((y * slope).sum() for y, slope in zip(ys, slopes, strict=True)), leaves)
        for ys in (found, expected)
    )
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(InputError, match="composition must be subtraction, product, correlation"):
        CompGCNConv(C, graph, "sum")


@pytest.mark.parametrize(
    "make", [TypedRGCNConv, TypedSAGEConv, TypedHGTConv, CompGCNConv, lambda *a: CompGCNConv(*a, "subtraction")]
)
def test_a_batch_of_conditions_is_each_condition_alone(edges, make):
    graph = typed(edges)
    layer = random_parameters(make(C, graph))
    vectors = torch.randn(len(edges), C, dtype=torch.float64)
    x = graph.join(states(3))
    alone = torch.stack([layer(of_condition, graph, vectors)[0] for of_condition in x])
    torch.testing.assert_close(layer(x, graph, vectors)[0], alone)
