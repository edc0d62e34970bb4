"""Tokens: what they are made of, and that what is masked cannot be seen."""

import math

import pytest
import torch

from kgnn.nn.tokens import GeneTokens, SpecialTokens, ranks, sinusoids

GENES = torch.arange(6)


@pytest.fixture
def value():
    return torch.tensor([[0.0, 1.0, 2.0, 0.0, 3.0, 1.0], [1.0, 0.0, 0.0, 2.0, 2.0, 5.0]])


@pytest.mark.parametrize("kind", ["continuous", "rank", "binned"])
def test_a_masked_value_and_a_hidden_identity_cannot_be_seen(value, kind):
    torch.manual_seed(0)
    tokens = GeneTokens(6, 8, value=kind, position=torch.arange(6.0))
    masked = torch.zeros(2, 6, dtype=torch.bool)
    masked[0, 4] = True
    other = value.clone()
    other[0, 4] = 0.7
    torch.testing.assert_close(tokens(GENES, value, masked), tokens(GENES, other, masked), rtol=0, atol=0)
    assert not torch.equal(tokens(GENES, value), tokens(GENES, other))
    swapped = torch.tensor([0, 1, 2, 3, 5, 4]).expand(2, -1)
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[:, 4] = True
    same = tokens(GENES.expand(2, -1), value, hidden, hidden), tokens(swapped, value, hidden, hidden)
    torch.testing.assert_close(same[0][:, 4], same[1][:, 4], rtol=0, atol=0)


def test_a_token_is_geneCompass_formula(value):
    torch.manual_seed(0)
    table = torch.randn(6, 3)
    tokens = GeneTokens(6, 4, knowledge={"a.family": table})
    standard = (table - table.mean(0)) / table.std()
    read = tokens.readers[0](standard)
    joined = torch.cat([tokens.embedding, 0.5 * read], 1) @ tokens.identity_in.weight.T + tokens.identity_in.bias
    x = tokens.norm(joined + value.unsqueeze(-1) * tokens.value_in.weight[:, 0])
    expected = tokens.out(x * torch.sigmoid(1.702 * x))
    torch.testing.assert_close(tokens(GENES, value, warmup=0.5), expected)
    shuffled = torch.tensor([[3, 1, 5], [0, 2, 4]])
    torch.testing.assert_close(
        tokens(shuffled, value.gather(1, shuffled), warmup=0.5),
        expected.gather(1, shuffled[..., None].expand(-1, -1, 4)),
    )


def test_genes_without_knowledge_read_a_learned_vector_and_orthologues_share_priors():
    torch.manual_seed(0)
    table = torch.randn(6, 3)
    table[2] = torch.nan
    tokens = GeneTokens(6, 4, knowledge={"k": table}, prior=torch.tensor([0, 1, 2, 0, 4, 5]))
    assert tokens.identities().isfinite().all()
    vectors = tokens.tables()["k"]
    torch.testing.assert_close(vectors[3], vectors[0])
    tokens.known[0].data += 1
    moved = tokens.identities()
    tokens.known[0].data -= 1
    assert (moved != tokens.identities()).any(1).tolist() == [False, False, True, False, False, False]


def test_ranks_are_shares_of_expressed_genes():
    found = ranks(torch.tensor([[0.0, 5.0, 1.0, 1.0, 0.0, 9.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.75, 0.5, 0.5, 0.0, 1.0]]))
    assert (ranks(torch.zeros(1, 3)) == 0).all()


def test_sinusoids_by_hand():
    found = sinusoids(torch.tensor([3.0]), 4)[0]
    expected = [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_special_tokens_start_from_the_profile_and_know_depth_and_species(value):
    special = SpecialTokens(6, ["type", "batch"], 4, n_species=2)
    assert special.names == ["cell", "depth", "type", "batch", "species"]
    components = torch.randn(6, 3)
    special.set_profile(value.mean(0), components)
    total = torch.tensor([100.0, 1000.0])
    centred = value - value.mean(0)
    found = special(centred, total, torch.tensor([0, 1]))
    assert found.shape == (2, 5, 4)
    torch.testing.assert_close(special.mean, value.mean(0))
    profile = centred @ special.profile
    torch.testing.assert_close(found[:, 0], special.vectors[0] + profile)
    torch.testing.assert_close(found[:, 2], special.vectors[2] + profile)
    torch.testing.assert_close(found[:, 4], special.species.weight[[0, 1]])
    again = special(centred, total * 10, torch.tensor([0, 1]))
    assert (again != found).any(2).tolist() == [[False, True, False, False, False]] * 2
