"""The network of cell models: what is masked cannot be seen by any way, losses look at what they should."""

import pytest
import torch
from torch.nn import functional as F

from kgnn.nn.cells import CellNetwork, CellTokens, LabelTree
from kgnn.nn.losses import hierarchical_loss, zinb_log_likelihood
from kgnn.nn.token_encoders import TokenGraph, make_token_encoder
from kgnn.nn.tokens import GeneTokens, SpecialTokens

GENES, CELLS = 9, 4


@pytest.fixture
def network():
    torch.manual_seed(0)
    tree = LabelTree(
        below=torch.tensor([[True, False, False], [True, True, False], [False, False, True]]),
        leaf=torch.tensor([0, -1, 2]),
        inner=torch.tensor([[1], [1], [0]]),
        level=torch.tensor([[9, 5, 1], [5, 9, 1], [1, 1, 9]]),
        ancestor=torch.zeros(3, 3, dtype=torch.bool),
        tree=True,
    )
    special = SpecialTokens(GENES, ["type"], 8)
    encoder = make_token_encoder("transformer", 8, heads=2)
    return CellNetwork(GeneTokens(GENES, 8), special, encoder, {"type": tree}, "type").eval()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    counts = torch.poisson(torch.rand(CELLS, GENES) * 4)
    value = torch.log1p(counts)
    genes = torch.tensor([0, 2, 3, 5, 8])
    return CellTokens(genes, counts[:, genes], value[:, genes], value, counts.sum(1), TokenGraph(3))


def test_a_masked_value_is_seen_neither_in_its_token_nor_in_the_profile(network, batch):
    masked = torch.zeros(CELLS, 5, dtype=torch.bool)
    masked[:, 1] = True
    other = batch._replace(value=batch.value.clone(), profile=batch.profile.clone())
    other.value[:, 1] += 3
    other.profile[:, 2] += 3
    before, after = network.encode(batch, masked), network.encode(other, masked)
    torch.testing.assert_close(before.special, after.special, rtol=0, atol=0)
    torch.testing.assert_close(before.genes, after.genes, rtol=0, atol=0)
    assert not torch.equal(network.encode(batch).genes, network.encode(other).genes)


def test_values_start_at_what_the_components_say(network, batch):
    torch.manual_seed(2)
    components = torch.linalg.qr(torch.randn(GENES, 3)).Q
    mean, spread, kept = torch.rand(GENES), torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.9, 0.5, 0.0])
    network.start_from(mean, components, spread, kept, torch.rand(GENES) + 0.1)
    torch.testing.assert_close(network.special.profile[:, :3], components / spread)
    masked = torch.zeros(CELLS, 5, dtype=torch.bool)
    masked[:, 1] = True  # gene 2
    found = network.values(network.encode(batch, masked), batch)
    for cell in range(CELLS):
        centred = batch.profile[cell] - mean
        centred[2] = 0
        expected = mean + sum(kept[k] * (centred @ components[:, k]) * components[:, k] for k in range(2))
        torch.testing.assert_close(found[cell], expected[batch.genes])
    at_mean = batch._replace(profile=batch.profile.clone())
    at_mean.profile[:, 2] = mean[2]  # what is masked counts as the mean
    torch.testing.assert_close(network.encode(batch, masked).scores, network.encode(at_mean).scores)
    own = batch._replace(genes=batch.genes.expand(CELLS, -1))  # genes of each cell's own
    torch.testing.assert_close(network.values(network.encode(own, masked), own), found)
    identity, loading = network.gene_vectors().split([network.spread.numel(), 3], 1)
    for part, expected in ((identity, network.tokens.identities()), (loading, components * spread)):
        torch.testing.assert_close(part.square().sum(1).mean(), torch.tensor(1.0))
        torch.testing.assert_close(part / part.norm(), expected / expected.norm())


def test_classification_is_hierarchical_with_outputs_for_inner_terms(network, batch):
    state = network.encode(batch)
    label = torch.tensor([0, 1, -1, 2])
    logits = network.class_logits("type", state)
    assert logits.shape == (CELLS, 4)
    known, tree = label >= 0, network.labels["type"]
    expected = hierarchical_loss(logits[known, :3], tree.leaf[label[known]], tree.below[label[known]])
    inner = F.binary_cross_entropy_with_logits(logits[known, 3], torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(network.classification_loss("type", state, label), expected + inner)
    assert float(network.classification_loss("type", state, torch.full((CELLS,), -1))) == 0


def test_alignment_looks_at_the_cell_token_of_labelled_cells(network, batch):
    state, again = network.encode(batch), network.encode(batch)
    label = torch.tensor([0, 1, -1, 2])
    found = network.alignment_losses(state, again, label)
    rows = label >= 0
    alone = [type(part)(part.special[rows], part.genes[rows], part.scores[rows]) for part in (state, again)]
    for one, other in zip(found, network.alignment_losses(*alone, label[rows]), strict=True):
        torch.testing.assert_close(one, other)
    moved = state._replace(special=state.special.clone())
    moved.special[:, 1:] += 1
    assert network.alignment_losses(moved, again, label)[0] == found[0]
    assert [float(x) for x in network.alignment_losses(state, again, torch.full((CELLS,), -1))] == [0, 0]


def test_count_losses_pass_over_cells_with_nothing_to_predict_and_over_padding(network, batch):
    state = network.encode(batch)
    target = torch.tensor([[1.0, 0, 2, 0, 4]]).repeat(CELLS, 1)
    target[2] = 0
    rows = torch.tensor([0, 1, 3])
    for gene_state, found in zip((state.genes, None), network.count_losses(state, batch, target), strict=True):
        given = None if gene_state is None else gene_state[rows]
        parts = network.decoder(state.special[rows], batch.genes[None], target[rows].sum(1), given)
        torch.testing.assert_close(parts[0].exp().sum(1), target[rows].sum(1))
        torch.testing.assert_close(found, -zinb_log_likelihood(target[rows], *parts).mean())
    assert [float(x) for x in network.count_losses(state, batch, torch.zeros(CELLS, 5))] == [0, 0]
    present = torch.ones(CELLS, 5, dtype=torch.bool)
    present[:, 4] = False
    padded = batch._replace(graph=TokenGraph(3, present=present))
    other = target.clone()
    other[:, 4] = 100
    for one, two in zip(
        network.count_losses(state, padded, target), network.count_losses(state, padded, other), strict=True
    ):
        torch.testing.assert_close(one, two)
