import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph.edges import is_symmetric

REL, OTHER, IN = ("gene", "regulates", "gene"), ("gene", "binds", "gene"), ("gene", "in_set", "set")
GENES = [f"G{i}" for i in range(8)]
rows = st.lists(
    st.tuples(
        st.sampled_from(GENES), st.sampled_from(GENES), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([-1, 0, 1]),
        st.sampled_from(["one", "two"]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


def graph_of(rows, relation=REL):
    table = pd.DataFrame(rows, columns=["source", "target", "weight", "sign", "origin"])
    return KnowledgeGraph({"gene": GENES}, {relation: table})


def stored(kg, relation=REL):
    if relation not in kg.relations:
        return {}
    edges = kg.edges(relation, by_origin=True)
    return {(e.source, e.target, e.origin): (e.weight, e.sign) for e in edges.itertuples()}


def pairs(kg, relation=REL):
    return {key[:2] for key in stored(kg, relation)}


@given(rows, st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([1, -1, (0, 1), None]), st.sampled_from(["one", None]))
def test_filter_keeps_what_a_loop_keeps(rows, weight, sign, origin):
    kg = graph_of(rows)
    if origin and origin not in kg.origins:
        return
    signs = (-1, 0, 1) if sign is None else (sign,) if isinstance(sign, int) else sign
    expected = {
        key: value
        for key, value in stored(kg).items()
        if (origin and key[2] != origin) or (value[0] >= weight and value[1] in signs)
    }
    assert stored(kg.filter(REL, origin=origin, min_weight=weight, sign=sign)) == expected


def test_filter_by_confidence_and_only_where_asked(small_kg):
    table = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "confidence": [5, 2], "origin": "dorothea"})
    kg = small_kg | KnowledgeGraph({"gene": list("ABC")}, {REL: table})
    kept = kg.filter(min_confidence="C", origin="dorothea")
    assert set(kept.edges(REL, by_origin=True)["origin"]) == {"dorothea", "one", "two"}
    assert len(kept.edges(REL, by_origin=True)) == len(kg.edges(REL, by_origin=True)) - 1
    assert len(kg.filter(REL, min_confidence=2).edges(REL)) == 2  # edges without a confidence go
    with pytest.raises(InputError, match="min_confidence 'Z'"):
        kg.filter(min_confidence="Z")
    with pytest.raises(InputError, match="no source 'string'"):
        kg.filter(origin="string")
    with pytest.raises(InputError, match="no relation"):
        kg.filter(("gene", "eats", "gene"))


@given(rows)
def test_undirected_is_the_symmetric_closure_of_each_origin(rows):
    kg = graph_of(rows)
    both = kg.undirected()
    before, after = stored(kg), stored(both)
    assert set(after) == set(before) | {(b, a, o) for a, b, o in before}
    assert {key: after[key] for key in before} == before
    assert all(after[key] in (before.get(key), before.get((key[1], key[0], key[2]))) for key in after)


def test_reverse_adds_relations_as_pyg_does(small_kg):
    kg = KnowledgeGraph(
        {"gene": ["A", "B"], "set": ["s"]}, {IN: pd.DataFrame({"source": ["A", "B"], "target": ["s", "s"]})}
    )
    both = kg.reverse()
    assert both.relations == [IN, ("set", "rev_in_set", "gene")]
    assert pairs(both, ("set", "rev_in_set", "gene")) == {("s", "A"), ("s", "B")}
    assert both.reverse() == both


@given(rows, st.integers(1, 3))
def test_nearest_keeps_k_sources_a_target(rows, k):
    kg = graph_of(rows)
    expected = set()
    for _, part in kg.edges(REL).groupby("target"):
        order = sorted(part.itertuples(), key=lambda e: (-e.weight, GENES.index(e.source)))
        expected |= {(e.source, e.target) for e in order[:k]}
    assert pairs(kg.nearest(k)) == expected


def test_nearest_needs_one(small_kg):
    with pytest.raises(InputError, match="k = 0"):
        small_kg.nearest(0)
    assert len(small_kg.nearest(1, REL).edges(("gene", "coexpressed", "gene"))) == 1


@given(rows)
def test_the_largest_component_is_that_of_networkx(rows):
    kg = graph_of(rows)
    graph = nx.Graph()
    graph.add_nodes_from(GENES)
    graph.add_edges_from(pairs(kg))
    sizes = sorted(map(len, nx.connected_components(graph)))
    largest = kg.largest_component()
    assert len(largest.nodes("gene")) == sizes[-1]
    assert set(largest.nodes("gene").index) in list(nx.connected_components(graph))
    report = kg.report()
    assert report.components == {
        "number": len(sizes), "nodes in the largest": sizes[-1], "nodes without an edge": sizes.count(1)
    }  # fmt: skip


@given(rows, st.lists(st.sampled_from(GENES), min_size=1, unique=True), st.integers(0, 2))
def test_subset_with_neighbours_is_a_ball(rows, names, hops):
    kg = graph_of(rows)
    graph = nx.Graph(list(pairs(kg)))
    graph.add_nodes_from(GENES)
    ball = set().union(*(nx.single_source_shortest_path_length(graph, name, hops) for name in names))
    part = kg.subset(names, neighbours=hops)
    assert set(part.nodes("gene").index) == ball
    assert part.nodes("gene").index.tolist()[: len(names)] == names
    assert pairs(part) == {(a, b) for a, b in pairs(kg) if {a, b} <= ball}


def test_neighbours_cross_node_types_and_others_go():
    table = pd.DataFrame({"source": ["G0", "G1"], "target": ["s", "t"]})
    kg = KnowledgeGraph({"gene": GENES, "set": ["s", "t"]}, {IN: table})
    part = kg.subset(["G0"], neighbours=1)
    assert part.nodes("set").index.tolist() == ["s"]
    assert kg.subset(["G0"]).nodes("set").index.tolist() == ["s", "t"]


# random controls


def degrees(kg):
    counts = {}
    for side in ("source", "target"):
        edges = kg.edges(REL)
        counts[side] = edges[side].value_counts().to_dict()
    return counts


@given(rows, st.integers(0, 99))
def test_rewiring_keeps_degrees_and_what_travels_with_the_source(rows, seed):
    kg = graph_of(rows)
    wired = kg.rewire(seed)
    assert degrees(wired) == degrees(kg)
    assert wired == kg.rewire(seed)
    for name in ("weight", "sign", "origin"):
        mine, theirs = (sorted(zip(e["source"], e[name], strict=True)) for e in (
            g.edges(REL, by_origin=True) for g in (kg, wired)))  # fmt: skip
        if not is_symmetric(kg.tables.edges[REL]):
            assert mine == theirs


def random_graph(symmetric, seed=0, n=60):
    graph = nx.gnm_random_graph(n, 200, seed=seed, directed=not symmetric)
    matrix = nx.to_scipy_sparse_array(graph, dtype=float)
    from kgnn.graph import from_scipy

    return from_scipy(matrix, [f"N{i}" for i in range(n)], relation="regulates")


@pytest.mark.parametrize("symmetric", [False, True])
def test_rewiring_moves_nearly_all_edges_and_a_symmetric_graph_stays_symmetric(symmetric):
    kg = random_graph(symmetric)
    wired = kg.rewire(0)
    assert len(pairs(wired) & pairs(kg)) < 0.2 * len(pairs(kg))
    assert degrees(wired) == degrees(kg)
    assert is_symmetric(wired.tables.edges[REL]) == symmetric
    assert not any(a == b for a, b in pairs(wired))
    assert wired != kg.rewire(1)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_dropping_and_adding_edges_at_random(symmetric, share):
    kg = random_graph(symmetric)
    n = len(pairs(kg))
    less, more = kg.drop_edges(share, 0), kg.add_random_edges(share, 0)
    assert len(pairs(less)) == n - round(share * n)
    assert pairs(less) <= pairs(kg)
    assert len(pairs(more)) == n + round(share * n)
    assert more.drop_source("random") == kg if share else more == kg
    if share < 1:
        assert is_symmetric(less.tables.edges[REL]) == is_symmetric(more.tables.edges[REL]) == symmetric
    assert less == kg.drop_edges(share, 0)
    assert more == kg.add_random_edges(share, 0)
    assert not share or more != kg.add_random_edges(share, 1)


def test_shares_that_cannot_be():
    kg = random_graph(False, n=15)
    with pytest.raises(InputError, match="share = 2; it must be a number from 0 to 1"):
        kg.drop_edges(2, 0)
    with pytest.raises(InputError, match="it must be a number of 0 or more"):
        kg.add_random_edges(-1, 0)
    with pytest.raises(InputError, match="has no room for 600 more edges"):
        kg.add_random_edges(3, 0)


# features and columns


def test_features_follow_every_operation(small_kg):
    values = pd.DataFrame({"a": [1.0, 2.0]}, index=["B", "D"])
    kg = small_kg.with_features("x", values)
    assert np.nan_to_num(kg.features("gene")["x"], nan=-1).ravel().tolist() == [-1, 1, -1, 2]
    assert kg.subset(["D", "B"]).features("gene")["x"].ravel().tolist() == [2, 1]
    other = KnowledgeGraph({"gene": ["A", "E"]}, {}, features={"gene": {"x": np.array([[7.0], [8.0]])}})
    assert np.nan_to_num((kg | other).features("gene")["x"], nan=-1).ravel().tolist() == [7, 1, -1, 2, 8]
    with pytest.raises(InputError, match="none of the 1 names"):
        small_kg.with_features("x", pd.DataFrame({"a": [1.0]}, index=["Z"]))
    with pytest.raises(InputError, match=r"feature 'x' has the shape \(3, 1\); the graph has 4 gene nodes"):
        small_kg.with_features("x", np.ones((3, 1)))
    with pytest.raises(InputError, match="has 1 channels in one graph and 2 in another"):
        kg | KnowledgeGraph({"gene": ["A"]}, {}, features={"gene": {"x": np.ones((1, 2))}})


def test_node_columns(small_kg):
    kg = small_kg.with_node_column("species", "human").with_node_column("length", {"A": 5})
    assert kg.nodes("gene")["species"].tolist() == ["human"] * 4
    assert kg.nodes("gene")["length"].fillna(0).tolist() == [5, 0, 0, 0]
    assert "species" not in small_kg.nodes("gene")


def test_more_origins_than_bits_in_a_number():
    names = [f"s{i:03}" for i in range(130)]
    kg = KnowledgeGraph({"gene": GENES}, {REL: pd.DataFrame({"source": "G0", "target": "G1", "origin": names})})
    assert kg.edges(REL)["origin"].tolist() == ["|".join(names)]


@pytest.mark.parametrize(("one", "other"), [("human", "mouse"), ("mouse", "human")])
def test_a_gene_of_two_species_is_refused(small_kg, one, other):
    first, second = (small_kg.with_node_column("species", species) for species in (one, other))
    with pytest.raises(InputError, match=f"gene 'A' is {one} in one graph and {other} in another"):
        first | second
    assert (first | first).nodes("gene")["species"].tolist() == [one] * 4
