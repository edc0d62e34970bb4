"""Explanations of a network with numbers set by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from kgnn.models.perturbation.explain import COLUMNS, conditions_told, edges_carried, source_weights
from kgnn.nn.condition_kernel import Bags, ConditionKernel, Rows
from kgnn.nn.knowledge import Channel, KnowledgeNetwork, Propagation
from kgnn.ops import Adjacency

NODES = pd.Index(list("ABCDE"))


def bags(*samples):
    genes = torch.tensor([NODES.get_loc(gene) for sample in samples for gene in sample])
    offsets = torch.tensor(np.cumsum([0, *map(len, samples)]))
    return Bags(genes, torch.full((len(genes),), -1.0), offsets, torch.zeros(len(samples), dtype=torch.int64))


def adjacency(edges):
    source, target, weight = zip(*edges, strict=True)
    numbers = torch.from_numpy(np.stack([NODES.get_indexer(source), NODES.get_indexer(target)]))
    return Adjacency(numbers, torch.tensor(weight), n_nodes=5)


def test_an_edge_carries_what_travels_over_it():
    """A → C (2) at once, A → B → C (3, −5) in two steps, A → D (1); another relation B → D, C ⇝ D along neither."""
    first = adjacency([("A", "C", 2.0), ("A", "B", 3.0), ("B", "C", -5.0), ("A", "D", 1.0), ("E", "A", 9.0)])
    second = adjacency([("A", "D", 4.0), ("B", "D", 1.0)])
    channels = [Channel("acts", first, 2), Channel("binds", second, 1)]
    network = KnowledgeNetwork(Propagation(channels, torch.tensor([0, 2, 3]), 5), ConditionKernel(), 1, 1)
    network.beta[[0, 4, 8]] = torch.tensor([0.5, 0.1, 0.25], dtype=torch.float64)  # acts, acts twice, binds
    table = edges_carried(network, bags("A"), torch.ones(1, 3), NODES, 10)
    expected = [  # gene C: −(2 × 0.5 − 15 × 0.1), gene D: −(0.5 + 4 × 0.25)
        ("C", "A", "B", "acts", 1.5),
        ("C", "B", "C", "acts", 1.5),
        ("C", "A", "C", "acts", -1.0),
        ("D", "A", "D", "binds", -1.0),
        ("D", "A", "D", "acts", -0.5),
    ]
    assert list(table.columns) == COLUMNS
    assert table["contribution"].abs().is_monotonic_decreasing
    rows = table.sort_values(["gene", "contribution", "source"], ascending=[True, False, True], ignore_index=True)
    wanted = pd.DataFrame(expected, columns=COLUMNS)
    wanted = wanted.sort_values(["gene", "contribution", "source"], ascending=[True, False, True], ignore_index=True)
    pd.testing.assert_frame_equal(rows, wanted, check_dtype=False, rtol=1e-6)
    one = edges_carried(network, bags("A"), torch.ones(1, 3), NODES, 1)
    assert one["gene"].unique().tolist() == ["D"]  # 1.5 in all, C 0.5
    assert list(edges_carried(network, bags("D"), torch.ones(1, 3), NODES, 3).columns) == COLUMNS
    assert not len(edges_carried(network, bags("D"), torch.ones(1, 3), NODES, 3))


def test_without_channels_no_edge_carries_anything():
    network = KnowledgeNetwork(Propagation([], torch.tensor([0, 2, 3]), 5), ConditionKernel(), 1, 1)
    table = edges_carried(network, bags("A"), torch.ones(1, 3), NODES, 10)
    assert list(table.columns) == COLUMNS
    assert not len(table)


@pytest.fixture
def told():
    """A network of three training conditions, and two sources: one with names, one without; E is in neither."""
    named = np.array([[3.0, 2, 1, 4, 0], [4, 1, 1, 2, 3], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    bare = np.array([[1.0, 0], [0, 1], [-0.6, 0.8], [0, 0], [0, 0]])
    named /= np.linalg.norm(named, axis=1, keepdims=True).clip(1e-12)
    sources = [Rows("in set", sparse.csr_array(named), list("vwxyz")), Rows("screen", sparse.csr_array(bare))]
    kernel = ConditionKernel(sources)
    kernel.gate.data = torch.tensor([0.2, 0.7, -0.4], dtype=torch.float64)
    rng = np.random.default_rng(0)
    network = KnowledgeNetwork(Propagation([], torch.tensor([3, 4]), 5), kernel, 3, 4)
    training = bags("A", "BC", "C")
    network.weights = torch.from_numpy(rng.normal(size=(3, 2)))
    network.bag_genes, network.bag_strength, network.bag_offsets, network.bag_line = training
    return network, named, bare


def test_conditions_tell_by_each_source_their_part_of_the_kernel_along_the_prediction(told):
    network, named, bare = told
    conditions = ["A", "B+C", "C"]
    table = conditions_told(network, bags("A"), torch.ones(1, 2), conditions, 100)
    weight = np.exp([0.2, 0.7, -0.4])
    gate = [weight / weight.sum()] * 3  # all of A, B and C are in both
    crowd = 2 ** -np.exp(float(network.kernel.log[6].detach()))
    with torch.no_grad():
        change = network(bags("A"), torch.ones(1, 2))[0][0].numpy()
    assert np.abs(change).max() > 0
    along = network.weights.numpy() @ change / (change @ change)
    expected = {}
    for number, name in enumerate(["the gene itself", "in set", "screen"]):
        cosine = [np.eye(5), named @ named.T, bare @ bare.T][number][0] * gate[0][number]
        for row, similarity in enumerate([cosine[0], crowd * (cosine[1] + cosine[2]), cosine[2]]):
            if similarity:
                expected[conditions[row], name] = similarity, similarity * along[row]
    found = {(row.condition, row.source): (row.similarity, row.share) for row in table.itertuples()}
    assert found.keys() == expected.keys()
    for key, pair in expected.items():
        assert found[key] == pytest.approx(pair)
    assert table["share"].abs().is_monotonic_decreasing
    pd.testing.assert_frame_equal(
        conditions_told(network, bags("A"), torch.ones(1, 2), conditions, 2), table.iloc[:2].reset_index(drop=True)
    )
    through = table.set_index(["condition", "source"])["through"]
    assert through["A", "in set"] == "y, v, w"  # 16, 9, 4
    assert through["B+C", "in set"] == "v, y, w"  # 3 × 4, 4 × 2, 2 × 1
    assert through["A", "the gene itself"] == through["A", "screen"] == ""
    of_c = conditions_told(network, bags("C"), torch.ones(1, 2), conditions, 100)
    of_c = of_c.set_index(["condition", "source"])["through"]
    assert of_c["C", "in set"] == "z"  # what they do not have in common is not named
    assert ("A", "in set") not in of_c.index


def test_sources_weigh_their_mean_gate_and_know_a_share_of_the_genes(told):
    network, _, _ = told
    table = source_weights(network.kernel, torch.tensor([0, 1, 3, 4]))
    weight = np.exp([0.2, 0.7, -0.4])
    expected = (2 * weight / weight.sum() + 2 * np.array([1, 0, 0])) / 4
    assert table.index.tolist() == ["the gene itself", "in set", "screen"]
    assert table.index.name == "source"
    np.testing.assert_allclose(table["weight"], expected)
    assert table["known"].tolist() == [1, 0.5, 0.5]
