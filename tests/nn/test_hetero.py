"""The encoder of the whole typed graph: what it starts from, what reaches whom, dropout, parts of the graph."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kgnn.errors import InputError
from kgnn.nn import HeteroEncoder, TypedGraph
from kgnn.ops import Adjacency, typed_spmm

REGULATES, BINDS, MEMBER = ("gene", "regulates", "gene"), ("gene", "binds", "gene"), ("gene", "member_of", "set")
REV_REGULATES, REV_MEMBER = ("gene", "rev_regulates", "gene"), ("set", "rev_member_of", "gene")
KINDS = ["rgcn", "compgcn", "hgt", "sage"]
NAN = float("nan")


def make_graph(features=None, weights=(1.0, -2.0)):
    """A → B, B ⊣ C; B and C bind each other; A and C are in set X; D, and set Y, are alone."""
    nodes = {"gene": list("ABCD"), "set": ["X", "Y"], "cell": []}
    adjacencies = {
        REGULATES: Adjacency(torch.tensor([[0, 1], [1, 2]]), torch.tensor(weights), n_nodes=4),
        BINDS: Adjacency(torch.tensor([[1, 2], [2, 1]]), torch.tensor([0.5, 0.5]), n_nodes=4),
        MEMBER: Adjacency(torch.tensor([[0, 2], [0, 0]]), n_nodes=(2, 4)),
    }
    return TypedGraph(nodes, adjacencies, {}, features or {}, torch.tensor([0, 2, 3]))


@pytest.fixture
def graph():
    return make_graph()


def test_all_relations_both_ways_a_symmetric_one_once(graph):
    typed = graph.typed
    assert typed is graph.typed
    assert typed.relations == [REGULATES, REV_REGULATES, BINDS, MEMBER, REV_MEMBER]
    lists = {relation: (pairs.tolist(), weight.tolist()) for relation, (pairs, weight) in typed.edge_lists().items()}
    assert lists[REGULATES] == ([[0, 1], [1, 2]], [1, -1])
    assert lists[REV_REGULATES] == ([[1, 2], [0, 1]], [1, -1])
    assert lists[REV_MEMBER] == ([[0, 0], [0, 2]], [1, 1])
    assert lists[MEMBER][1] == [0.5, 0.5]
    back = Adjacency(torch.tensor([[0, 0], [0, 2]]), n_nodes=(4, 2))
    given = TypedGraph(graph.nodes, {MEMBER: graph.adjacencies[MEMBER], REV_MEMBER: back}, {}, {}, torch.arange(4))
    assert given.typed.relations == [MEMBER, REV_MEMBER], "reverses that the graph has are not made again"
    unequal = Adjacency(torch.tensor([[1, 2], [2, 1]]), torch.tensor([1.0, 2.0]), n_nodes=4)
    lopsided = TypedGraph(graph.nodes, {BINDS: unequal}, {}, {}, torch.arange(4))
    assert len(lopsided.typed.relations) == 2, "other weights the other way are no symmetric relation"


def test_a_symmetric_matrix_between_two_types_is_no_symmetric_relation():
    binds, nodes = ("ligand", "binds", "receptor"), {"gene": [], "ligand": ["l1", "l2"], "receptor": ["r1", "r2"]}
    each_its_own = Adjacency(torch.tensor([[0, 1], [0, 1]]), n_nodes=2)
    graph = TypedGraph(nodes, {binds: each_its_own}, {}, {}, torch.arange(0))
    assert graph.typed.relations == [binds, ("receptor", "rev_binds", "ligand")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("jumping", [True, False])
def test_every_type_has_states_and_every_parameter_a_gradient(graph, kind, jumping):
    torch.manual_seed(0)
    encoder = HeteroEncoder(graph, kind, channels=8, jumping=jumping)
    states = encoder()
    assert {name: tuple(x.shape) for name, x in states.items()} == {"gene": (4, 8), "set": (2, 8), "cell": (0, 8)}
    sum((x**2).sum() for x in states.values()).backward()
    ending = ("lin_relation.weight", "lins.cell.weight", "lins.cell.bias", "skip.cell")  # the last layer's z; no cells
    silent = [n for n, p in encoder.named_parameters() if p.numel() and p.grad is None and not n.endswith(ending)]
    assert not silent
    torch.testing.assert_close(encoder(graph), states)
    torch.testing.assert_close(HeteroEncoder(graph, kind, channels=8, layers=0)()["gene"].shape, states["gene"].shape)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_go_as_far_as_there_are_layers_along_every_relation(graph, kind):
    """The gradient of C's state: X and B at one step, A behind both at two, D and Y never."""
    torch.manual_seed(0)
    for layers, heard in ((1, {"B", "C", "X"}), (2, {"A", "B", "C", "X"})):
        encoder = HeteroEncoder(graph, kind, channels=8, layers=layers)
        encoder()["gene"][2].sum().backward()
        gene, node_set, _ = (start.weight.grad for start in encoder.starts)
        found = zip("ABCDXY", [*gene.abs().sum(1).tolist(), *node_set.abs().sum(1).tolist()], strict=True)
        assert {name for name, size in found if size > 0} == heard


@pytest.mark.parametrize("kind", KINDS)
def test_signs_matter(kind):
    torch.manual_seed(0)
    encoder = HeteroEncoder(make_graph(), kind, channels=8)
    states, other = encoder()["gene"], encoder(make_graph(weights=(-1.0, 2.0)))["gene"]
    assert (states[1] - other[1]).abs().max() > 1e-3
    torch.testing.assert_close(encoder(make_graph())["gene"], states)


def test_rgcn_with_jumping_is_its_formula(graph):
    torch.manual_seed(0)
    encoder = HeteroEncoder(graph, "rgcn", channels=8, bases=2)
    nn.init.normal_(encoder.shares)
    first, second = encoder.layers
    x0 = torch.cat([start.weight for start in encoder.starts])

    def layer(conv, x):
        weight = torch.einsum("rb,bio->rio", conv.comp, conv.weight)
        return typed_spmm(graph.typed, x, weight) + x @ conv.root + conv.bias

    x1 = layer(first, x0)
    x2 = layer(second, F.relu(x1))
    a, b, c = torch.softmax(encoder.shares, 0)
    torch.testing.assert_close(torch.cat(list(encoder().values())), a * x0 + b * x1 + c * x2)


def test_features_go_through_a_map_a_table_and_a_learned_vector_stands_for_those_that_lack_them():
    v = torch.tensor([[1.0, 2.0], [NAN, NAN], [3.0, 4.0], [5.0, 6.0]])
    w = torch.tensor([[1.0], [NAN], [NAN], [2.0]])
    graph = make_graph({"gene": {"v": v, "w": w}})
    encoder = HeteroEncoder(graph, channels=8)
    genes, sets, _ = encoder.starts
    nn.init.normal_(genes.missing)
    x = encoder.inputs(graph)
    of_v, of_w = (x.nan_to_num() @ lin.weight.T + lin.bias for x, lin in zip((v, w), genes.lins, strict=True))
    torch.testing.assert_close(x[0], of_v[0] + of_w[0])
    torch.testing.assert_close(x[1], genes.missing.sum(0))
    torch.testing.assert_close(x[2], of_v[2] + genes.missing[1])
    torch.testing.assert_close(x[4:], sets.weight)
    assert encoder()["gene"].isfinite().all()


def test_a_batch_of_conditions_shares_the_graph(graph):
    torch.manual_seed(0)
    encoder = HeteroEncoder(graph, "compgcn", channels=8, composition="product")
    marks = torch.randn(3, graph.typed.n, 8)
    x = encoder.inputs(graph) + marks
    torch.testing.assert_close(
        encoder.propagate(x, graph), torch.stack([encoder.propagate(of_condition, graph) for of_condition in x])
    )


def test_dropout_is_for_training_falls_both_ways_and_keeps_the_expectation(graph):
    torch.manual_seed(0)
    encoder = HeteroEncoder(graph, "sage", channels=8, layers=1, edge_dropout=0.5, jumping=False)
    with torch.no_grad():
        whole = encoder.eval()()["gene"]
        torch.testing.assert_close(encoder()["gene"], whole)
        encoder.train()
        drawn = torch.stack([encoder()["gene"] for _ in range(4000)])
    assert (drawn[0] - whole).abs().max() > 1e-3
    torch.testing.assert_close(drawn.mean(0), whole, atol=0.05, rtol=0)
    torch.manual_seed(3)
    first = encoder()["gene"]
    torch.manual_seed(3)
    torch.testing.assert_close(encoder()["gene"], first, rtol=0, atol=0)


def test_dropout_takes_a_reverse_that_stands_before_its_relation(graph):
    back = Adjacency(torch.tensor([[0, 0], [0, 2]]), n_nodes=(4, 2))
    given = TypedGraph(graph.nodes, {REV_MEMBER: back, MEMBER: graph.adjacencies[MEMBER]}, {}, {}, torch.arange(4))
    assert given.typed.relations == [REV_MEMBER, MEMBER]
    torch.manual_seed(0)
    encoder = HeteroEncoder(given, "sage", channels=8, layers=1, edge_dropout=0.5, jumping=False)
    whole = encoder.eval()()["set"]
    drawn = torch.stack([encoder.train()()["set"] for _ in range(20)])
    assert ((drawn - whole).abs().amax((1, 2)) > 1e-3).any()


def test_dropout_has_nothing_to_do_without_relations(graph):
    alone = TypedGraph(graph.nodes, {}, {}, {}, torch.arange(4))
    encoder = HeteroEncoder(alone, "sage", channels=8, edge_dropout=0.5)
    torch.testing.assert_close(encoder.train()(), encoder.eval()())


@pytest.mark.parametrize(("relations", "edges"), [(0.5, 0.0), (0.0, 0.5), (0.4, 0.4)])
def test_what_falls(graph, relations, edges):
    from kgnn.nn.hetero import _dropped

    torch.manual_seed(0)
    fallen = 0
    for _ in range(50):
        weights = _dropped(graph.typed, relations, edges).edge_weight / graph.typed.edge_weight
        of_relation = dict(zip(graph.typed.relations, weights.split(graph.typed.counts), strict=True))
        kept = 1 / (1 - relations) / (1 - edges)
        assert set(weights.tolist()) <= {0.0, torch.tensor(kept).item()} or torch.allclose(
            weights[weights > 0], torch.tensor(kept)
        )
        for relation, back in ((REGULATES, REV_REGULATES), (MEMBER, REV_MEMBER)):
            assert torch.equal(of_relation[relation] > 0, of_relation[back] > 0)
            if not edges:
                assert len(set(of_relation[relation].tolist())) == 1
        fallen += int((weights == 0).sum())
    assert fallen > 0


def test_a_reverse_falls_with_its_relation_wherever_it_stands_and_whatever_edges_are_drawn(graph):
    from kgnn.nn.hetero import _dropped

    back = Adjacency(torch.tensor([[0], [2]]), n_nodes=(4, 2))
    given = TypedGraph(graph.nodes, {REV_MEMBER: back, MEMBER: graph.adjacencies[MEMBER]}, {}, {}, torch.arange(4))
    assert given.typed.relations == [REV_MEMBER, MEMBER]
    torch.manual_seed(0)
    weights = torch.stack([_dropped(given.typed, 0.5, 0.0).edge_weight for _ in range(30)]) > 0
    assert (weights == weights[:, :1]).all()
    assert 0 < weights[:, 0].sum() < 30


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_holds_all_neighbours_gives_its_seeds_the_states_of_the_whole(kind):
    torch.manual_seed(0)
    vectors = {"set": {"v": torch.randn(2, 3)}}
    graph = make_graph(vectors)
    encoder = HeteroEncoder(graph, kind, channels=8)
    part = graph.sample({"gene": torch.tensor([2, 1])}, [9, 9])
    assert part.nodes == {"gene": ["C", "B", "A"], "set": ["X"], "cell": []}
    assert part.features["set"]["v"].tolist() == vectors["set"]["v"][:1].tolist()
    assert list(part.adjacencies) == graph.relations
    assert [part.nodes["gene"][n] for n in part.measured] == ["C", "A"]
    states = encoder(part)
    torch.testing.assert_close(states["gene"][:2], encoder()["gene"][[2, 1]])
    few = graph.sample({"set": torch.tensor([1, 0])}, [1], torch.Generator().manual_seed(0))
    assert few.n_nodes == {"gene": 1, "set": 2, "cell": 0}
    assert encoder(few)["set"].shape == (2, 8)


def test_a_layer_of_ones_own_and_a_state_that_is_saved(graph):
    class Mean(nn.Module):
        def __init__(self, channels, graph, factor=1.0):
            super().__init__()
            self.factor = factor

        def forward(self, x, graph, relations=None):
            eye = torch.eye(x.shape[-1]).expand(len(graph.relations), -1, -1)
            return self.factor * typed_spmm(graph, x, eye), relations

    encoder = HeteroEncoder(graph, Mean, channels=4, layers=1, jumping=False, factor=2.0)
    states, gene = encoder(), encoder.starts[0].weight
    torch.testing.assert_close(states["set"][0], gene[0] + gene[2])
    names = set(encoder.state_dict())
    assert names == {"starts.0.weight", "starts.1.weight", "starts.2.weight"}, "the graph is no part of the state"
    assert copy.deepcopy(encoder).to("meta").graph.typed.indices.device.type == "meta"


def test_what_does_not_fit_is_refused(graph):
    for options, text in (
        ({"kind": "rgnc"}, "unknown layer 'rgnc'; did you mean rgcn"),
        ({"kind": "sage", "bases": 3}, "the layer 'sage' has no option 'bases'"),
        ({"edge_dropout": 1.5}, "edge_dropout = 1.5"),
        ({"kind": "hgt", "edge_dropout": 0.1}, "attention hears all relations and edges"),
        ({"layers": -1}, "layers = -1"),
    ):
        with pytest.raises(InputError, match=text):
            HeteroEncoder(graph, **options)
    encoder = HeteroEncoder(graph)
    fewer = TypedGraph(graph.nodes, {REGULATES: graph.adjacencies[REGULATES]}, {}, {}, torch.arange(4))
    with pytest.raises(InputError, match=r"not the encoder's: .*binds"):
        encoder(fewer)
    nodes = {**graph.nodes, "cell": ["T"]}
    with pytest.raises(InputError, match=r"'cell': 1.*make a new encoder"):
        encoder(TypedGraph(nodes, graph.adjacencies, {}, {}, torch.arange(4)))
