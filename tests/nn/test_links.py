"""Decoders against PyG's models of knowledge graphs, and both directions against each other."""

import pytest
import torch
from torch_geometric.nn import kge

from kgnn.errors import InputError
from kgnn.nn.links import DECODERS

N, R, D = 7, 3, 8
PEERS = {"distmult": kge.DistMult, "complex": kge.ComplEx, "rotate": kge.RotatE, "transe": kge.TransE}


@pytest.fixture
def triples():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(high, (20,), generator=generator) for high in (N, R, N))


def pyg(name, decoder, states):
    """PyG's model with the decoder's numbers."""
    half = name in ("complex", "rotate")
    options = {"margin": 0.0} if name == "rotate" else {"p_norm": 2.0} if name == "transe" else {}
    peer = PEERS[name](N, R, D // 2 if half else D, **options)
    with torch.no_grad():
        if half:
            peer.node_emb.weight.copy_(states[:, : D // 2])
            peer.node_emb_im.weight.copy_(states[:, D // 2 :])
        else:
            peer.node_emb.weight.copy_(states)
        if name == "complex":
            peer.rel_emb.weight.copy_(decoder.relations[:, : D // 2])
            peer.rel_emb_im.weight.copy_(decoder.relations[:, D // 2 :])
        else:
            peer.rel_emb.weight.copy_(decoder.angles if name == "rotate" else decoder.relations)
    return peer


def scores(decoder, states, head, relation, tail):
    return decoder.compare(decoder.towards_target(states[head], relation), states[tail].unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("name", DECODERS)
def test_scores_are_those_of_pyg(name, triples):
    torch.manual_seed(1)
    states = torch.nn.functional.normalize(torch.randn(N, D))  # PyG's TransE has h and t on the unit sphere
    decoder = DECODERS[name](R, D)
    found = scores(decoder, states, *triples)
    expected = pyg(name, decoder, states)(*triples)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.std() > 1e-3


@pytest.mark.parametrize("name", DECODERS)
def test_sources_are_asked_for_with_the_same_score(name, triples):
    torch.manual_seed(2)
    states, decoder = torch.randn(N, D), DECODERS[name](R, D)
    head, relation, tail = triples
    backward = decoder.compare(decoder.towards_source(states[tail], relation), states[head].unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(backward, scores(decoder, states, *triples), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_all_candidates_at_once_are_as_one_by_one(name, triples):
    torch.manual_seed(3)
    states, decoder = torch.randn(N, D), DECODERS[name](R, D)
    head, relation, _ = triples
    every = decoder.compare(decoder.towards_target(states[head], relation), states)
    one = [scores(decoder, states, head, relation, torch.full_like(head, node)) for node in range(N)]
    torch.testing.assert_close(every, torch.stack(one, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["complex", "rotate"])
def test_complex_numbers_come_in_pairs(name):
    with pytest.raises(InputError, match="7 is odd"):
        DECODERS[name](R, 7)


def test_what_is_symmetric_and_what_is_not(triples):
    torch.manual_seed(4)
    states = torch.randn(N, D)
    head, relation, tail = triples
    for name, symmetric in {"distmult": True, "complex": False, "rotate": False, "transe": False}.items():
        decoder = DECODERS[name](R, D)
        turned = scores(decoder, states, tail, relation, head)
        assert torch.allclose(scores(decoder, states, *triples), turned, atol=1e-5) == symmetric
