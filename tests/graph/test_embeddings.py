import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch_geometric.nn import Node2Vec

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph, embed_graph, from_networkx
from kgnn.graph.embeddings import random_walks, skip_gram_loss
from kgnn.graph.pagerank import pagerank_matrix, transition


@pytest.fixture(scope="module")
def blocks():
    """Two dense groups of 20 nodes with few edges between, and a lone node."""
    graph = nx.planted_partition_graph(2, 20, 0.5, 0.02, seed=0)
    graph.add_node(40)
    return from_networkx(graph)


@pytest.mark.parametrize("method", ["node2vec", "spectral", "pagerank"])
def test_vectors_tell_the_groups_apart_and_depend_on_the_seed_alone(blocks, method):
    options = {"epochs": 5, "walks": 5} if method == "node2vec" else {}
    table = embed_graph(blocks, method, dim=4, seed=1, **options)
    assert table.index.tolist() == blocks.nodes("gene").index.tolist()
    assert (table.loc["40"] == 0).all()
    x = table.drop(index="40").sort_index(key=lambda names: names.astype(int)).to_numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    same, other = x[:20] @ x[:20].T, x[:20] @ x[20:].T
    assert same.mean() > other.mean() + 0.2
    assert table.equals(embed_graph(blocks, method, dim=4, seed=1, **options))
    if method == "node2vec":
        assert not table.equals(embed_graph(blocks, method, dim=4, seed=2, **options))
    assert blocks.with_features(method, table).features("gene")[method].shape == (41, 4)


def test_spectral_vectors_are_eigenvectors(blocks):
    part = blocks.largest_component()
    vectors = embed_graph(part, "spectral", dim=5).to_numpy(np.float64)
    links = part.to_scipy(part.relations[0]).toarray().astype(float)
    scale = 1 / np.sqrt(links.sum(1))
    normalised = scale[:, None] * links * scale
    values = np.sort(np.linalg.eigvalsh(normalised))[::-1][1:6]
    np.testing.assert_allclose(normalised @ vectors, vectors * values, atol=1e-5)


def test_small_loose_pieces_take_no_channels():
    """Regularised: eigenvectors of A / √((d + τ)(d′ + τ)), of the groups rather than of the loose pairs."""
    graph = nx.planted_partition_graph(2, 20, 0.5, 0.02, seed=0)
    graph.add_edges_from((100 + n, 200 + n) for n in range(6))
    kg = from_networkx(graph)
    links = kg.to_scipy(kg.relations[0]).toarray().astype(float)
    links = (links + links.T) / 2
    degree = links.sum(1)
    scale = 1 / np.sqrt(degree + 2 * degree.mean())
    values, vectors = np.linalg.eigh(scale[:, None] * links * scale)
    found = embed_graph(kg, "spectral", dim=2, tau=2.0)
    np.testing.assert_allclose(np.abs(found), np.abs(vectors[:, np.argsort(-values)][:, :2]), atol=1e-5)
    loose = [int(name) >= 100 for name in found.index]
    assert np.abs(found[loose]).to_numpy().max() < 1e-5
    assert np.abs(embed_graph(kg, "spectral", dim=2)[loose]).to_numpy().max() > 0.1, "else they take them"


def test_the_whole_graph_is_embedded_through_nodes_of_all_types():
    """Genes that only a complex links; eigenvectors of the written-out matrix over both types."""
    rng = np.random.default_rng(0)
    genes, complexes = [f"g{n}" for n in range(12)], [f"c{n}" for n in range(5)]
    member = np.array([(f"g{n}", f"c{c}") for n in range(12) for c in sorted({n % 5, int(rng.integers(5))})])
    inside = np.array([("c0", "c1"), ("c3", "c4")])
    kg = KnowledgeGraph(
        {"gene": genes, "complex": complexes},
        {
            ("gene", "member_of", "complex"): pd.DataFrame(member, columns=["source", "target"]).assign(origin="o"),
            ("complex", "near", "complex"): pd.DataFrame(inside, columns=["source", "target"]).assign(origin="o"),
        },
    )
    names = [*kg.nodes("gene").index, *kg.nodes("complex").index]
    links = np.zeros((17, 17))
    for source, target in [*member, *inside]:
        links[names.index(source), names.index(target)] += 0.5
        links[names.index(target), names.index(source)] += 0.5
    scale = 1 / np.sqrt(links.sum(1))
    values, vectors = np.linalg.eigh(scale[:, None] * links * scale)
    expected = vectors[:, np.argsort(-values)][:, 1:4]
    for kind, rows in (("gene", slice(12)), ("complex", slice(12, 17))):
        found = embed_graph(kg, "spectral", dim=3, whole=True, node_type=kind)
        assert found.index.tolist() == kg.nodes(kind).index.tolist()
        np.testing.assert_allclose(np.abs(found), np.abs(expected[rows]), atol=1e-5)
    with pytest.raises(InputError, match="no relation within gene nodes"):
        embed_graph(kg, "spectral", dim=3)
    with pytest.raises(InputError, match="leaves the gene nodes; whole=True embeds those of all types"):
        embed_graph(kg, "spectral", dim=3, relations=[("gene", "member_of", "complex")])


def test_pagerank_vectors_are_the_best_of_their_rank(blocks):
    part = blocks.largest_component()
    dense = pagerank_matrix(sparse.csr_array(part.to_scipy(part.relations[0]), dtype=float), 0.85)
    _, values, right = np.linalg.svd(dense)
    left = embed_graph(part, "pagerank", dim=6).to_numpy(np.float64) / np.sqrt(values[:6])
    np.testing.assert_allclose(left.T @ left, np.eye(6), atol=1e-2)
    np.testing.assert_allclose(np.abs(np.sum((dense @ right[:6].T) * left, axis=0)), values[:6], rtol=1e-2)


def test_the_loss_is_that_of_pyg():
    torch.manual_seed(0)
    table = torch.nn.Embedding(10, 4)
    near, far = torch.randint(10, (30, 2)), torch.randint(10, (30, 2))
    theirs = Node2Vec.loss(type("Model", (), {"embedding": table, "embedding_dim": 4, "EPS": 1e-15})(), near, far)
    # theirs scores near and far pairs from starts of their own
    mine = skip_gram_loss(table(near[:, 0]), table(near[:, 1]), table(near[:, 0]))
    near_part = torch.nn.functional.softplus(-(table(near[:, 0]) * table(near[:, 1])).sum(1)).mean()
    far_part = torch.nn.functional.softplus((table(far[:, 0]) * table(far[:, 1])).sum(1)).mean()
    torch.testing.assert_close(theirs, near_part + far_part)
    self_part = torch.nn.functional.softplus((table(near[:, 0]) ** 2).sum(1)).mean()
    torch.testing.assert_close(mine, near_part + self_part)


@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.25, 4), (4, 0.25)])
def test_second_order_walks_have_the_probabilities_of_the_paper(p, q):
    # 0–1–2–3 and 0–2: from 0 over 1 (neighbours 0, 2), and over 2 (neighbours 0, 1, 3)
    graph = nx.Graph([(0, 1), (1, 2), (2, 3), (0, 2)])
    walk, _ = transition(nx.to_scipy_sparse_array(graph, range(4), dtype=float))
    rng = np.random.default_rng(0)
    paths = np.concatenate([random_walks(walk, 3, rng, p, q) for _ in range(20_000)])
    over = paths[(paths[:, 0] == 0) & (paths[:, 1] == 2), 2]
    weights = np.array([1 / p, 1, 1 / q])  # back to 0; 1 is a neighbour of 0; 3 is not
    expected = weights / weights.sum()
    found = [np.mean(over == node) for node in (0, 1, 3)]
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert all(graph.has_edge(a, b) for a, b in paths[:200, :2])


def test_what_cannot_be_embedded_is_refused(blocks, small_kg):
    with pytest.raises(InputError, match="method 'deepwalk' is unknown"):
        embed_graph(blocks, "deepwalk")
    with pytest.raises(InputError, match="40 gene nodes with an edge cannot have 64 channels"):
        embed_graph(blocks)
    with pytest.raises(InputError, match="no relation within family nodes"):
        embed_graph(small_kg, node_type="family")
