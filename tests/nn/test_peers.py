"""Peers: no perturbation, no change; what the mask lets through; the graph transformer on a complete graph."""

import pytest
import torch

from kgnn.nn import ConditionBatch
from kgnn.nn.peers import PEERS, GraphTransformer, Transformer
from kgnn.ops import Adjacency

N = 6


def graph(pairs, n=N):
    edges = torch.tensor(pairs).T if pairs else torch.zeros(2, 0, dtype=torch.int64)
    return Adjacency(edges, n_nodes=n, normalization="symmetric", self_loops=True)


def make(name, pairs):
    torch.manual_seed(0)
    network = PEERS[name](graph([]), graph(pairs, N + 2), torch.rand(N), torch.arange(2, N + 2), channels=8)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


@pytest.mark.parametrize("name", PEERS)
def test_one_row_a_condition_and_nothing_for_controls(name):
    network = make(name, [(0, 2), (2, 3)])
    change = network(ConditionBatch(torch.tensor([0, 1, 4]), torch.tensor([0, 1, 1, 3]), torch.ones(3)))
    assert change.shape == (3, N)
    assert (change[1] == 0).all()
    assert (change[[0, 2]] != 0).any(1).all()
    change.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_attention_along_all_edges_is_full_attention():
    every = [(a, b) for a in range(2, N + 2) for b in range(2, N + 2) if a != b]
    full, along = make("transformer", every), make("graph_transformer", every)
    along.load_state_dict(full.state_dict())
    for network in (full, along):
        network.mark.data.zero_()  # the two mark a perturbed gene's surroundings differently
    batch = ConditionBatch(torch.tensor([0, 3]), torch.tensor([0, 1, 2]), torch.ones(2))
    torch.testing.assert_close(full(batch), along(batch), rtol=1e-4, atol=1e-5)
    assert isinstance(full, Transformer)
    assert isinstance(along, GraphTransformer)


def test_a_perturbed_gene_that_is_not_measured_marks_what_hears_it():
    network = make("graph_transformer", [(0, 2), (1, 4)])
    marks = network.marks(ConditionBatch(torch.tensor([0, 1]), torch.tensor([0, 1, 2]), torch.ones(2)))
    assert (marks[0] > 0).nonzero().ravel().tolist() == [0]
    assert (marks[1] > 0).nonzero().ravel().tolist() == [2]
