"""The typed product against PyG's layers, and on random typed graphs against dense matrices."""

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st

from kgnn.ops import TypedAdjacency, typed_spmm

NODES = {"gene": 12, "set": 5, "lonely": 3, "cell": 7}
COUNTS = {  # a relation without edges, two between the same types, types that only hear or only speak
    ("gene", "regulates", "gene"): 40,
    ("gene", "binds", "gene"): 25,
    ("gene", "in", "set"): 20,
    ("set", "rev_in", "gene"): 20,
    ("cell", "expresses", "gene"): 9,
    ("set", "unused", "set"): 0,
}


def random_edges(nodes=NODES, counts=COUNTS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ends = {r: [torch.randint(nodes[r[end]], (n,), generator=generator) for end in (0, 2)] for r, n in counts.items()}
    return {relation: torch.stack(pair) for relation, pair in ends.items()}


def random_weights(counts=COUNTS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {r: torch.randn(n, generator=generator, dtype=torch.float64) for r, n in counts.items()}


def ones(edges):
    return {relation: torch.ones(pair.shape[1], dtype=torch.float64) for relation, pair in edges.items()}


def dense(edges, nodes, weights, normalization, x, matrices):
    """Each relation as a dense matrix, its rows divided by the sum of their sizes for the mean."""
    out = dict.fromkeys(nodes, 0)
    for (relation, (source, target)), matrix in zip(edges.items(), matrices, strict=True):
        a = torch.zeros(nodes[relation[2]], nodes[relation[0]], dtype=torch.float64)
        sizes = torch.zeros(nodes[relation[2]], dtype=torch.float64)
        for s, t, w in zip(source.tolist(), target.tolist(), weights[relation].tolist(), strict=True):
            a[t, s] += w
            sizes[t] += abs(w)
        if normalization == "row":
            a = a / torch.where(sizes > 0, sizes, 1).unsqueeze(1)
        out[relation[2]] = out[relation[2]] + a @ x[relation[0]] @ matrix
    return out


@pytest.mark.parametrize("normalization", ["none", "row"])
@pytest.mark.parametrize(("channels", "out_channels"), [(3, 4), (8, 16)], ids=["any width", "compiled"])
def test_it_is_the_sum_of_dense_products(backend, normalization, channels, out_channels):
    edges, weights = random_edges(), random_weights()
    graph = TypedAdjacency(edges, NODES, weights, normalization)
    assert "114 edges of 6 relations" in repr(graph)
    x = {k: torch.randn(2, n, channels, dtype=torch.float64, requires_grad=True) for k, n in NODES.items()}
    matrices = torch.randn(len(edges), channels, out_channels, dtype=torch.float64, requires_grad=True)
    out = graph.split(typed_spmm(graph, graph.join(x), matrices))
    expected = dense(edges, NODES, weights, normalization, x, matrices)
    for kind in NODES:
        torch.testing.assert_close(out[kind], torch.zeros_like(out[kind]) + expected[kind])
    slopes = {kind: torch.randn_like(y) for kind, y in out.items()}
    leaves = (*x.values(), matrices)
    ours, theirs = (
        torch.autograd.grad(sum((y[k] * slopes[k]).sum() for k in NODES), leaves, allow_unused=True)
        for y in (out, expected)
    )
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.zeros_like(mine) if wanted is None else wanted)


def test_gradients_are_those_of_finite_differences():
    graph = TypedAdjacency(random_edges(), NODES, random_weights())
    x = torch.randn(2, graph.n, 2, dtype=torch.float64, requires_grad=True)
    shapes = (len(COUNTS), 2, 3), (len(NODES), 2, 3), (len(NODES), 3)
    parts = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *parts: typed_spmm(graph, *parts), (x, *parts))


def test_each_type_adds_its_own_states_through_its_matrix_and_its_bias(backend):
    edges, graph = random_edges(), TypedAdjacency(random_edges(), NODES, random_weights())
    x = torch.randn(3, graph.n, 8, dtype=torch.float64, requires_grad=True)
    shapes = (len(edges), 8, 16), (len(NODES), 8, 16), (len(NODES), 16)
    weight, root, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    own = [part @ w + b for part, w, b in zip(graph.split(x).values(), root, bias, strict=True)]
    expected = typed_spmm(graph, x, weight) + torch.cat(own, 1)
    out = typed_spmm(graph, x, weight, root, bias)
    torch.testing.assert_close(out, expected)
    slope = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad((y * slope).sum(), (x, weight, root, bias)) for y in (out, expected))
    torch.testing.assert_close(ours, theirs)


def union(edges, graph):
    """[2, edges] over the nodes of all types, and each edge's relation."""
    starts = {kind: part.start for kind, part in graph.slices.items()}
    pairs = [pair + torch.tensor([[starts[r[0]]], [starts[r[2]]]]) for r, pair in edges.items()]
    kinds = [torch.full((pair.shape[1],), number) for number, pair in enumerate(edges.values())]
    return torch.cat(pairs, 1), torch.cat(kinds)


@pytest.mark.parametrize("make", [pyg.RGCNConv, pyg.FastRGCNConv])
@pytest.mark.parametrize("bases", [None, 2])
def test_it_is_pygs_rgcn_on_the_union(make, bases):
    edges = random_edges()
    graph = TypedAdjacency(edges, NODES, ones(edges))
    theirs = make(8, 16, len(edges), num_bases=bases, bias=False, root_weight=False).double()
    x = torch.randn(graph.n, 8, dtype=torch.float64, requires_grad=True)
    expected = theirs(x, *union(edges, graph))
    weight = theirs.weight if bases is None else torch.einsum("rb,bio->rio", theirs.comp, theirs.weight)
    out = typed_spmm(graph, x, weight.view(len(edges), 8, 16))
    torch.testing.assert_close(out, expected)
    slope = torch.randn_like(out)
    leaves = (x, *theirs.parameters())
    ours, wanted = (torch.autograd.grad((y * slope).sum(), leaves) for y in (out, expected))
    torch.testing.assert_close(ours, wanted)


def test_it_is_pygs_hetero_conv_of_sage():
    edges = {relation: pair for relation, pair in random_edges().items() if pair.shape[1]}
    layers = {r: pyg.SAGEConv(8, 16, root_weight=False, bias=False).double() for r in edges}
    theirs = pyg.HeteroConv(layers, aggr="sum")
    graph = TypedAdjacency(edges, NODES, ones(edges))
    x = {kind: torch.randn(n, 8, dtype=torch.float64) for kind, n in NODES.items()}
    expected = theirs(x, edges)
    weight = torch.stack([layers[relation].lin_l.weight.T for relation in edges])
    out = graph.split(typed_spmm(graph, graph.join(x), weight))
    assert set(expected) == {"gene", "set"}
    for kind, value in expected.items():
        torch.testing.assert_close(out[kind], value)


@st.composite
def typed_graphs(draw):
    """Nodes, edges and weights of any typed graph: types without nodes, relations without edges, isolated nodes."""
    nodes = {kind: draw(st.integers(0, 5)) for kind in draw(st.sampled_from(["a", "ab", "abc"]))}
    ends = st.tuples(st.sampled_from(list(nodes)), st.sampled_from("rs"), st.sampled_from(list(nodes)))
    edges, weights = {}, {}
    for relation in draw(st.lists(ends, unique=True, max_size=5)):
        possible = nodes[relation[0]] and nodes[relation[2]]
        pair = st.tuples(*(st.integers(0, max(0, nodes[relation[end]] - 1)) for end in (0, 2)))
        pairs = draw(st.lists(pair, max_size=12 if possible else 0))
        edges[relation] = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
        size = st.sampled_from([-2.0, -0.5, 1.0, 3.0])
        weights[relation] = torch.tensor([draw(size) for _ in pairs], dtype=torch.float64)
    return nodes, edges, weights


@given(typed_graphs(), st.sampled_from(["none", "row"]), st.sampled_from([0, 1, 3]))
@settings(deadline=None, max_examples=60)
def test_any_typed_graph(found, normalization, cells):
    nodes, edges, weights = found
    graph = TypedAdjacency(edges, nodes, weights, normalization)
    generator = torch.Generator().manual_seed(0)
    x = {k: torch.randn(cells, n, 8, dtype=torch.float64, generator=generator) for k, n in nodes.items()}
    matrices = torch.randn(len(edges), 8, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    joined = graph.join(x).requires_grad_()
    out = typed_spmm(graph, joined, matrices)
    expected = dense(edges, nodes, weights, normalization, graph.split(joined), matrices)
    wanted = torch.cat([torch.zeros(cells, n, 8).double() + expected[kind] for kind, n in nodes.items()], 1)
    torch.testing.assert_close(out, wanted)
    ours = torch.autograd.grad(out.square().sum(), (joined, matrices))
    theirs = (
        torch.autograd.grad(wanted.square().sum(), (joined, matrices), allow_unused=True)
        if wanted.requires_grad
        else (None, None)
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.zeros_like(mine) if other is None else other)


def test_other_weights_on_the_same_edges():
    edges = random_edges()
    graph, weights = TypedAdjacency(edges, NODES, normalization="none"), random_weights()
    other = graph.with_weight(torch.cat(list(weights.values())))
    expected = TypedAdjacency(edges, NODES, weights, "none")
    x, matrices = torch.randn(graph.n, 8, dtype=torch.float64), torch.randn(len(edges), 8, 8, dtype=torch.float64)
    torch.testing.assert_close(typed_spmm(other, x, matrices), typed_spmm(expected, x, matrices))
    assert other.indices.data_ptr() == graph.indices.data_ptr(), "the pattern is shared"
    assert graph.edge_type.tolist() == [r for r, n in enumerate(COUNTS.values()) for _ in range(n)]
    with pytest.raises(ValueError, match="must be \\[114\\]"):
        graph.with_weight(torch.ones(3))


def test_totals_are_what_ones_send():
    edges, weights = random_edges(), random_weights()
    graph = TypedAdjacency(edges, NODES, weights)
    ones = torch.ones(graph.n, 1, dtype=torch.float64)
    for number in range(len(edges)):
        only = torch.zeros(len(edges), 1, 1, dtype=torch.float64)
        only[number] = 1
        torch.testing.assert_close(graph.totals[:, number], typed_spmm(graph, ones, only)[:, 0])


def test_in_attention_negative_edges_are_a_relation_of_their_own():
    relation = ("set", "holds", "gene")
    pairs, weight = torch.tensor([[0, 4, 2], [11, 3, 3]]), torch.tensor([1.0, -2.0, 0.0])
    graph = TypedAdjacency({("gene", "in", "set"): pairs.flip(0), relation: pairs}, NODES, {relation: weight})
    found = graph.attention
    assert found is graph.attention
    assert found.relations == {"set": [("gene", "in", "set")], "gene": [relation, ("set", "holds_negative", "gene")]}
    assert sorted(map(tuple, found.into("gene").edge_index.T.tolist())) == [(0, 11), (2, 3), (5 + 4, 3)]
    assert sorted(map(tuple, found.into("set").edge_index.T.tolist())) == [(3, 2), (3, 4), (11, 0)]


def test_it_moves_with_its_model_and_keeps_its_weights_in_float32():
    graph = TypedAdjacency(random_edges(), NODES)
    assert not graph.state_dict()
    half = graph.to(torch.bfloat16)
    assert half.values.dtype == half.t_values.dtype == half.edge_weight.dtype == torch.float32
    x, matrices = torch.randn(graph.n, 8), torch.randn(len(COUNTS), 8, 8)
    low = typed_spmm(half, x.bfloat16(), matrices.bfloat16())
    torch.testing.assert_close(low.float(), typed_spmm(graph, x, matrices), rtol=0.05, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert typed_spmm(graph, x, matrices).dtype == torch.bfloat16
    weighted = TypedAdjacency(random_edges(), NODES, random_weights()).float()
    totals = weighted.totals
    torch.testing.assert_close(weighted.to(torch.bfloat16).float().totals, totals)
    assert graph.to("meta").indices.device.type == "meta"


def test_what_does_not_fit_is_refused():
    edges, graph = random_edges(), TypedAdjacency(random_edges(), NODES)
    x, matrices = torch.ones(graph.n, 4), torch.ones(len(edges), 4, 2)
    with pytest.raises(ValueError, match="no number of nodes of type 'cell'"):
        TypedAdjacency(edges, {"gene": 12, "set": 5})
    with pytest.raises(ValueError, match="source numbers must lie in \\[0, 4\\)"):
        TypedAdjacency({("set", "holds", "gene"): torch.tensor([[4], [0]])}, {"gene": 12, "set": 4})
    with pytest.raises(ValueError, match=r"weights of .*'regulate', 'gene'.*no such relation"):
        TypedAdjacency(edges, NODES, {("gene", "regulate", "gene"): torch.ones(40)})
    with pytest.raises(ValueError, match="none or row, not 'mean'"):
        TypedAdjacency(edges, NODES, normalization="mean")
    with pytest.raises(ValueError, match="27 nodes"):
        typed_spmm(graph, x[1:], matrices)
    with pytest.raises(ValueError, match="weight \\[5, 4, 2\\] must be \\[6, 4, 2\\]"):
        typed_spmm(graph, x, matrices[:5])
    with pytest.raises(ValueError, match="convert one"):
        typed_spmm(graph, x.double(), matrices)
