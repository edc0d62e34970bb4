import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph import Ontology, load_cell_ontology
from kgnn.graph.pagerank import pagerank_matrix, pagerank_operator

IS_A = ("cell_type", "is_a", "cell_type")
N = 9
dags = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=16).map(
    lambda pairs: sorted({(max(p), min(p)) for p in pairs if p[0] != p[1]})
)


def ontology_of(edges):
    names = [f"T:{i}" for i in range(N)]
    table = pd.DataFrame([(names[a], names[b]) for a, b in edges], columns=["source", "target"])
    nodes = pd.DataFrame({"label": [f"term {i}" for i in range(N)]}, index=names)
    return Ontology(KnowledgeGraph({"cell_type": nodes}, {IS_A: table}))


@given(dags, st.integers(0, N - 1), st.integers(0, N - 1))
def test_the_hierarchy_agrees_with_networkx(edges, a, b):
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(range(N))
    ontology = ontology_of(edges)
    name = "T:{}".format
    assert set(ontology.ancestors(name(a))) == {name(i) for i in nx.descendants(graph, a)}
    assert set(ontology.descendants(name(a))) == {name(i) for i in nx.ancestors(graph, a)}
    common = (nx.descendants(graph, a) | {a}) & (nx.descendants(graph, b) | {b})
    lowest = {i for i in common if not common & nx.ancestors(graph, i)}
    assert set(ontology.lowest_common_ancestors(name(a), name(b))) == {name(i) for i in lowest}
    ways = nx.single_source_shortest_path_length(graph, a)
    roots = [i for i in ways if graph.out_degree(i) == 0]
    longest = (
        max(len(path) - 1 for root in roots for path in nx.all_simple_paths(graph, a, root)) if a not in roots else 0
    )
    assert ontology.depth(name(a)) == longest


@given(dags, st.sampled_from([0.5, 0.9]))
def test_pagerank_of_all_terms_agrees_with_networkx_a_term(edges, alpha):
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(N))
    found = ontology_of(edges).pagerank(alpha).to_numpy()
    for i in range(N):
        expected = nx.pagerank(graph, alpha, personalization={i: 1}, tol=1e-10, max_iter=1000)
        np.testing.assert_allclose(found[i], [expected[j] for j in range(N)], atol=1e-7)
    some = ontology_of(edges).pagerank(alpha, starts=["T:3", "T:1"])
    assert some.index.tolist() == ["T:3", "T:1"]
    np.testing.assert_allclose(some, found[[3, 1]], atol=1e-12)


def test_a_dead_end_of_a_directed_graph_restarts_as_in_networkx():
    graph = nx.DiGraph([(0, 1), (1, 2), (0, 3)])
    found = pagerank_matrix(nx.to_scipy_sparse_array(graph, range(4), dtype=float), 0.9)
    for i in range(4):
        expected = nx.pagerank(graph, 0.9, personalization={i: 1}, dangling={i: 1}, tol=1e-12, max_iter=5000)
        np.testing.assert_allclose(found[i], [expected[j] for j in range(4)], atol=1e-8)


@given(dags)
def test_the_operator_is_the_matrix(edges):
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(N))
    matrix = nx.to_scipy_sparse_array(graph, range(N), dtype=float)
    dense = pagerank_matrix(matrix, 0.8)
    times, transposed = pagerank_operator(matrix, 0.8)
    np.testing.assert_allclose(times(np.eye(N)), dense, atol=1e-7)
    np.testing.assert_allclose(transposed(np.eye(N)), dense.T, atol=1e-7)


@pytest.fixture(scope="module")
def cl(real_data):
    return Ontology(load_cell_ontology(real_data / "kg" / "cl.obo"))


def test_the_real_ontology(cl):
    assert cl.lowest_common_ancestors("CL:0000624", "CL:0000625") == ["CL:0000791"]  # CD4 and CD8 αβ T: mature αβ T
    assert "CL:0000000" in cl.ancestors("CL:0000084")
    assert cl.depth("CL:0000000") == 0
    assert "CL:0000624" in cl.descendants("CL:0000084")
    ranks = cl.pagerank()
    np.testing.assert_allclose(ranks.sum(axis=1), 1, atol=1e-9)
    with pytest.raises(InputError, match="no term 'CL:9999999'"):
        cl.ancestors("CL:9999999")


def test_labels_are_matched_by_id_name_and_exact_synonym(cl):
    labels = ["CL:0000084", "CL_0000236", "T cell", "NATURAL KILLER CELL", "T-lymphocyte", "T cells", "blorb"]
    found = cl.match(labels)
    assert found["how"].tolist() == ["id", "id", "name", "name", "synonym", "none", "none"]
    assert found["term"].tolist()[:5] == ["CL:0000084", "CL:0000236", "CL:0000084", "CL:0000623", "CL:0000084"]
    assert found.loc["T cells", "suggestions"].startswith("T cell (CL:0000084)")
    assert found.loc["blorb", "suggestions"] == ""


def test_an_ambiguous_synonym_matches_none_and_names_the_terms():
    nodes = pd.DataFrame(
        {"label": ["a", "b"], "synonyms": ["same|x", "Same"], "alt_ids": ["T:9", ""]}, index=["T:0", "T:1"]
    )
    kg = KnowledgeGraph({"cell_type": nodes}, {IS_A: pd.DataFrame({"source": ["T:1"], "target": ["T:0"]})})
    found = Ontology(kg).match(["same", "X", "T:9"])
    assert found.loc["same", ["term", "how", "suggestions"]].tolist() == [None, "ambiguous", "T:0|T:1"]
    assert found["how"].tolist() == ["ambiguous", "synonym", "alt_id"]


def test_a_graph_without_a_hierarchy_or_with_a_circle_is_refused(small_kg):
    with pytest.raises(InputError, match="no relation part_of between cell_type"):
        Ontology(small_kg, relations=["part_of"])
    with pytest.raises(InputError, match="goes in a circle at or above A"):
        Ontology(
            KnowledgeGraph(
                {"t": ["A", "B"]}, {("t", "is_a", "t"): pd.DataFrame({"source": ["A", "B"], "target": ["B", "A"]})}
            ),
            "t",
        )
