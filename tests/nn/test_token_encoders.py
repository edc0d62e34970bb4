"""Encoders of tokens: sparse against dense, padding, who hears whom, equal parameters."""

import pytest
import torch
from torch.nn import functional as F

from kgnn.nn.token_encoders import (
    MIXES,
    GraphAttention,
    TokenGraph,
    count_parameters,
    make_token_encoder,
    shared_graph,
)

S, T, D = 3, 7, 8
EDGES = torch.tensor([[0, 1, 2, 3, 5, 0], [1, 0, 3, 2, 4, 4]])


def dense():
    linked = torch.zeros(2, T, T, dtype=torch.bool)
    linked[:, EDGES[1], EDGES[0]] = True
    return linked


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(2, S + T, D)


@pytest.mark.parametrize("name", MIXES)
def test_shared_genes_give_what_a_mask_gives(name, x):
    torch.manual_seed(0)
    encoder = make_token_encoder(name, D, heads=2).eval()
    sparse = encoder(x, shared_graph(EDGES, T, S))
    assert sparse.shape == x.shape
    torch.testing.assert_close(sparse, encoder(x, TokenGraph(S, linked=dense())), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXES)
def test_padding_changes_nothing(name, x):
    torch.manual_seed(0)
    encoder = make_token_encoder(name, D, heads=2).eval()
    present = torch.ones(2, T, dtype=torch.bool)
    present[:, 5:] = False
    padded = encoder(x, TokenGraph(S, linked=dense(), present=present))[:, : S + 5]
    other = x.clone()
    other[:, S + 5 :] = 7.0
    torch.testing.assert_close(padded, encoder(other, TokenGraph(S, linked=dense(), present=present))[:, : S + 5])
    short = encoder(x[:, : S + 5], TokenGraph(S, linked=dense()[:, :5, :5]))
    torch.testing.assert_close(padded, short, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["graph_transformer", "graph"])
def test_in_one_layer_genes_hear_neighbours_and_special_tokens_only(name, x):
    torch.manual_seed(0)
    encoder = make_token_encoder(name, D, heads=2, layers=1).eval()
    graph = shared_graph(EDGES, T, S)
    before = encoder(x, graph)
    for gene, hearers in ((0, {0, 1, 4}), (6, {6}), (2, {2, 3})):
        moved = x.clone()
        moved[:, S + gene] += torch.randn(D)
        changed = (encoder(moved, graph) - before).abs().amax((0, 2)) > 1e-6
        assert set(changed[S:].nonzero().flatten().tolist()) == hearers
        assert changed[:S].all()  # special tokens hear all
    moved = x.clone()
    moved[:, 0] += torch.randn(D)
    assert ((encoder(moved, graph) - before).abs().amax((0, 2)) > 1e-6).all()  # and are heard by all


def test_attention_weights_are_the_softmax_over_edges(x):
    torch.manual_seed(0)
    mix, graph = GraphAttention(D, 2), shared_graph(EDGES, T, S)
    found = mix.weights(x, graph)
    q, k, _ = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in mix.qkv(x).chunk(3, -1))
    allowed = F.pad(dense() | torch.eye(T, dtype=torch.bool), (S, 0, S, 0), value=True).unsqueeze(1)
    full = (q @ k.transpose(2, 3) / 2).masked_fill(~allowed, -torch.inf).softmax(-1).mean((0, 1))
    source, target = graph.hears.edge_index
    torch.testing.assert_close(found, full[target, source])


def test_encoders_can_have_equal_numbers_of_parameters():
    counts = [count_parameters(make_token_encoder(name, 16, parameters=8_000)) for name in MIXES]
    assert max(counts) - min(counts) <= 2 * (2 * 16 + 1)
    assert abs(counts[0] - 8_000) <= 2 * 16 + 1
    with pytest.raises(ValueError, match="at least"):
        make_token_encoder("graph", 16, parameters=100)
    with pytest.raises(ValueError, match="do not divide"):
        make_token_encoder("graph", 10, heads=4)
    with pytest.raises(ValueError, match="unknown encoder"):
        make_token_encoder("rnn")


def test_a_graph_encoder_without_a_graph_says_so(x):
    for name in ("graph", "graph_transformer"):
        with pytest.raises(ValueError, match="graph"):
            make_token_encoder(name, D, heads=2)(x, TokenGraph(S))
