"""What the closed form takes from a graph, by hand."""

import numpy as np
import pandas as pd
import torch

from kgnn import KnowledgeGraph
from kgnn.graph import load_gene_sets
from kgnn.models.perturbation.graphs import (
    channels,
    gene_graph,
    gene_relations,
    heaviest_graph,
    heaviest_graphs,
    perturbation_graph,
    profiles,
    typed_graph,
)
from kgnn.models.perturbation.knowledge import features
from kgnn.ops import spmm

NODES = pd.Index(["A", "B", "C", "D"], dtype=object)
LINKS = [("acts", 0.5), ("binds", 2.0), ("cuts", 1.0)]
ACTS, ALIKE = ("gene", "acts", "gene"), ("gene", "in_same_family", "gene")


def graph():
    edges = pd.DataFrame(
        {"source": ["A", "B", "D"], "target": ["C", "C", "B"], "weight": [3.0, 4.0, 2.0], "sign": [1, -1, 0]}
    )
    return KnowledgeGraph({"gene": ["D", "C", "B", "A"]}, {ACTS: edges})


def test_channels_by_hand():
    """Weights over the root of the squares' sum into a target; with signs over the sum of the signed sizes."""
    plain, signed = channels(gene_relations(graph(), NODES), 4)
    assert (plain.name, signed.name) == ("acts", "acts, signed")
    dense = [spmm(channel.adjacency, torch.eye(4)).numpy() for channel in (plain, signed)]
    expected = np.zeros((2, 4, 4))
    expected[0, 2, 0], expected[0, 2, 1], expected[0, 1, 3] = 3 / 5, 4 / 5, 1
    expected[1, 2, 0], expected[1, 2, 1] = 3 / 7, -4 / 7
    np.testing.assert_allclose(dense, expected, rtol=1e-6)


def test_profiles_by_hand():
    """Regulators, then targets, of each node."""
    (found,) = profiles(gene_relations(graph(), NODES), 4)
    expected = np.zeros((4, 8))
    expected[2, [4 + 0, 4 + 1]] = 1  # C is regulated by A and B
    expected[1, 4 + 3] = 1
    expected[0, 2] = expected[1, 2] = expected[3, 1] = 1
    dense = found.toarray()
    assert sorted(map(tuple, dense[:, :4] + dense[:, 4:])) == sorted(map(tuple, expected[:, :4] + expected[:, 4:]))
    assert dense.sum() == 6


def test_vectors_by_hand():
    """Centred over the known nodes, then of length 1; nothing where a node has none."""
    told = pd.DataFrame({"x": [1.0, 4.0, 1.0], "y": [0.0, 3.0, 6.0]}, index=["A", "B", "C"])
    found = features(graph().with_features("told", told), NODES)["told"]
    centred = told.to_numpy() - [2.0, 3.0]
    np.testing.assert_allclose(found[:3], centred / np.linalg.norm(centred, axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_array_equal(found[3], [0, 0])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 0], rtol=1e-6)


def test_features_stand_at_their_nodes():
    """Genes that the graph lacks stand before and between its own."""
    edges = pd.DataFrame({"source": ["B"], "target": ["D"]})
    told = pd.DataFrame({"x": [1.0, 2.0]}, index=["D", "B"])
    kg = KnowledgeGraph({"gene": ["B", "D"]}, {ACTS: edges}).with_features("told", told)
    found = typed_graph(kg, NODES, NODES[:1]).features["gene"]["told"]
    np.testing.assert_array_equal(found[:, 0], [np.nan, 2.0, np.nan, 1.0])


def test_the_typed_graph_holds_weights_with_their_signs():
    found = spmm(typed_graph(graph(), NODES, NODES).adjacencies[ACTS], torch.eye(4)).numpy()
    expected = np.zeros((4, 4))
    expected[2, 0], expected[2, 1], expected[1, 3] = 3, -4, 2
    np.testing.assert_array_equal(found, expected)


def test_of_edges_with_one_end_among_the_measured_genes_none_counts():
    told = pd.DataFrame({"source": ["A", "C"], "target": ["B", "A"]})
    kg = KnowledgeGraph({"gene": list("ABC")}, {("gene", "coexpressed", "gene"): told})
    assert pairs(gene_graph(kg, ["A", "B"])) == [(0, 0), (0, 1), (1, 1)]


def pairs(adjacency):
    return sorted(map(tuple, adjacency.edge_index.T.tolist()))


def test_the_heaviest_edges_into_each_gene_by_hand():
    """A regulation passes both ways, a similarity as written; between equals the first source counts."""
    alike = pd.DataFrame({"source": ["A", "B", "D"], "target": ["C", "C", "C"], "weight": [2.0, 5.0, 2.0]})
    told = pd.DataFrame({"source": ["A"], "target": ["B"]})
    relations = {("gene", "shares_gene_sets", "gene"): alike, ("gene", "coexpressed", "gene"): told}
    kg = graph() | KnowledgeGraph({"gene": ["D", "C", "B", "A"]}, relations)
    loops = [(n, n) for n in range(4)]
    acts, alike = [(0, 2), (1, 2), (3, 1), (2, 0), (2, 1), (1, 3)], [(0, 2), (1, 2), (3, 2)]
    every = heaviest_graphs(kg, NODES, 20)
    assert [pairs(one) for one in every] == [sorted(acts + loops), sorted(alike + loops)]
    one = heaviest_graphs(kg, NODES, 1)  # of 3 and 4 into C the second, of 2 and 4 into B as well
    assert pairs(one[0]) == sorted([(1, 2), (2, 1), (2, 0), (1, 3), *loops])
    assert pairs(heaviest_graphs(kg, NODES, 2)[1]) == sorted([(1, 2), (0, 2), *loops])
    # together: into C 3 of A, 5 of B, 2 of D
    assert pairs(heaviest_graph(kg, NODES, 1)) == sorted([(1, 2), (2, 1), (2, 0), (1, 3), *loops])
    assert pairs(heaviest_graph(kg, NODES, 2)) == sorted([(0, 2), (1, 2), (3, 1), (2, 1), (2, 0), (1, 3), *loops])
    assert [pairs(one) for one in heaviest_graphs(None, NODES, 20)] == [loops]
    more = pd.DataFrame({"source": ["D"], "target": ["C"], "weight": [0.1]})  # light, yet the heaviest of its source
    kg |= KnowledgeGraph({"gene": ["D", "C"]}, {("gene", "binds", "gene"): more})
    assert pairs(heaviest_graph(kg, NODES, 1)) == sorted([(1, 2), (2, 1), (2, 0), (1, 3), (3, 2), (2, 3), *loops])


def test_genes_are_alike_by_the_sets_they_share(tmp_path):
    """Jaccard by hand; the graph that `load_gene_sets` makes of the same file by default."""
    sets = {"one": "ABC", "two": ["A,2.0", "B,0.5"], "three": "CD", "alone": "D"}  # weights of members play no part
    (tmp_path / "sets.gmt").write_text("".join("\t".join([name, "", *of]) + "\n" for name, of in sets.items()))
    members, similar = (load_gene_sets(tmp_path / "sets.gmt", relation=r) for r in ("member_of", "shares_gene_sets"))
    third = 1 / 3
    alike = torch.tensor([[1, 1, third, 0], [1, 1, third, 0], [third, third, 1, third], [0, 0, third, 1]])
    scale = alike.sum(1).rsqrt()
    found = spmm(perturbation_graph(members, NODES), torch.eye(4))
    torch.testing.assert_close(found, scale[:, None] * alike * scale)
    torch.testing.assert_close(found, spmm(perturbation_graph(similar, NODES), torch.eye(4)))
    torch.testing.assert_close(found, spmm(perturbation_graph(turned(members), NODES), torch.eye(4)))
    part = spmm(perturbation_graph(members, NODES[:2]), torch.eye(2))  # others are left out
    torch.testing.assert_close(part, torch.full((2, 2), 0.5))
    assert [pairs(one) for one in heaviest_graphs(members | graph(), NODES, 1)] == [
        sorted([(1, 2), (2, 1), (2, 0), (1, 3)] + [(n, n) for n in range(4)]),
        sorted([(1, 0), (0, 1), (0, 2), (2, 3)] + [(n, n) for n in range(4)]),
    ]


def turned(kg):
    """The same told as links from sets to genes."""
    (relation,) = kg.relations
    edges = kg.edges(relation).rename(columns={"source": "target", "target": "source"})
    nodes = {kind: list(kg.nodes(kind).index) for kind in kg.node_types}
    return KnowledgeGraph(nodes, {(relation[2], "holds", "gene"): edges[["source", "target", "weight"]]})


def test_each_gene_hears_the_20_most_alike_the_first_by_name_of_those_equally_so():
    genes = [f"X{number:02d}" for number in range(30)]
    told = pd.DataFrame({"source": genes, "target": "f"})
    kg = KnowledgeGraph({"gene": genes, "family": ["f"]}, {("gene", "in", "family"): told})
    found = perturbation_graph(kg, genes).edge_index
    for number in (0, 20, 25):
        heard = set(found[0][found[1] == number].tolist())
        assert heard == {*[n for n in range(30) if n != number][:20], number}


def test_of_several_links_the_heaviest_counts():
    told = [(name, pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [weight]})) for name, weight in LINKS]
    kg = KnowledgeGraph({"gene": ["A", "B"]}, {("gene", name, "gene"): edges for name, edges in told})
    found = spmm(perturbation_graph(kg, ["A", "B"]), torch.eye(2))
    torch.testing.assert_close(found, torch.tensor([[1, 2], [2, 1]]) / 3)
