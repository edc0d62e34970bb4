"""Parts drawn around seeds: everything within reach where all is drawn, each neighbour as likely where not."""

from collections import Counter

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kgnn.ops import Adjacency, TypedAdjacency, sample_neighbours
from kgnn.ops.sampling import sample_rows
from tests.ops.test_typed import typed_graphs


@given(typed_graphs(), st.integers(0, 3), st.data())
@settings(deadline=None, max_examples=60)
def test_with_all_neighbours_it_is_what_reaches_the_seeds(found, layers, data):
    """Against a breadth-first search by networkx."""
    nodes, edges, weights = found
    graph = TypedAdjacency(edges, nodes, weights)
    seeds = {k: data.draw(st.lists(st.integers(0, n - 1), unique=True)) if n else [] for k, n in nodes.items()}
    part = sample_neighbours(graph, {k: torch.tensor(v, dtype=torch.int64) for k, v in seeds.items()}, [99] * layers)
    names = {kind: [(kind, n) for n in numbers.tolist()] for kind, numbers in part.nodes.items()}
    whole = nx.MultiDiGraph()
    whole.add_nodes_from((kind, n) for kind, size in nodes.items() for n in range(size))
    for relation, pairs in edges.items():
        for (s, t), w in zip(pairs.T.tolist(), weights[relation].tolist(), strict=True):
            whole.add_edge((relation[2], t), (relation[0], s), (relation, w, len(whole.edges)))  # as messages are asked
    starts = [(kind, n) for kind, numbers in seeds.items() for n in numbers]
    depth = nx.multi_source_dijkstra_path_length(whole, starts, weight=None) if starts else {}
    assert {name for of_kind in names.values() for name in of_kind} == {n for n, d in depth.items() if d <= layers}
    for kind, numbers in seeds.items():
        assert part.nodes[kind][: len(numbers)].tolist() == numbers, "seeds come first, in their order"
    assert part.graph.relations == graph.relations
    for relation, (pairs, weight) in part.graph.edge_lists().items():
        mine = Counter(
            (names[relation[2]][t], names[relation[0]][s], round(w, 4))
            for (s, t), w in zip(pairs.T.tolist(), weight.tolist(), strict=True)
        )
        theirs = Counter()
        for t, s, (r, w, _) in whole.edges(keys=True):
            total = sum(abs(key[1]) for _, _, key in whole.out_edges(t, keys=True) if key[0] == relation)
            if r == relation and depth.get(t, 99) < layers:
                theirs[t, s, round(w / total, 4)] += 1
        assert mine == theirs


def test_rows_are_drawn_without_replacement_each_neighbour_as_often():
    source = torch.arange(7)
    graph = Adjacency(torch.stack([source.repeat(2), torch.tensor([0] * 7 + [2] * 7)]), n_nodes=(3, 7))
    graph = Adjacency(graph.edge_index[:, :9], n_nodes=(3, 7))  # 7 into the first, none, 2 into the last
    generator = torch.Generator().manual_seed(0)
    drawn = Counter()
    for _ in range(3000):
        rows, entries = sample_rows(graph.csr, torch.tensor([2, 0, 1]), 3, generator)
        assert sorted(rows.tolist()) == [0, 0, 0, 2, 2]
        assert sorted(entries[rows == 2].tolist()) == [7, 8]
        into_first = entries[rows == 0].tolist()
        assert len(set(into_first)) == 3
        drawn.update(into_first)
    assert set(drawn) == set(range(7))
    expected = 3000 * 3 / 7
    deviation = (3000 * 3 / 7 * 4 / 7) ** 0.5
    assert all(abs(count - expected) < 4 * deviation for count in drawn.values()), drawn


def test_fanout_and_seed():
    generator = torch.Generator().manual_seed(0)
    edges = {("a", "r", "a"): torch.randint(50, (2, 2000), generator=generator)}
    graph = TypedAdjacency(edges, {"a": 50})
    seeds = {"a": torch.tensor([5, 3])}
    first, same, other = (
        sample_neighbours(graph, seeds, [4, 2], torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    pairs, weight = first.graph.edge_lists()["a", "r", "a"]
    into = torch.bincount(pairs[1])
    assert into[:2].tolist() == [4, 4]
    assert set(into[2:].tolist()) <= {0, 2}
    torch.testing.assert_close(
        torch.zeros(len(into)).index_add(0, pairs[1], weight)[into > 0], torch.ones((into > 0).sum())
    )
    assert torch.equal(pairs, same.graph.edge_lists()["a", "r", "a"][0])
    assert not torch.equal(first.nodes["a"], other.nodes["a"])


def test_seeds_that_do_not_fit_are_refused():
    graph = TypedAdjacency({("a", "r", "a"): torch.tensor([[0], [1]])}, {"a": 2})
    for seeds, text in (({"b": [0]}, "type 'b'"), ({"a": [2]}, r"lie in \[0, 2\)"), ({"a": [1, 1]}, "repeated")):
        with pytest.raises(ValueError, match=text):
            sample_neighbours(graph, {kind: torch.tensor(numbers) for kind, numbers in seeds.items()}, [1])
    with pytest.raises(ValueError, match=r"fanout \[2, -1\] must not be negative"):
        sample_neighbours(graph, {"a": torch.tensor([1])}, [2, -1])
