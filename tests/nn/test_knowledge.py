"""The knowledge network against dense matrices written out by hand."""

import numpy as np
import pytest
import torch
from scipy import sparse

from kgnn.nn import knowledge
from kgnn.nn.condition_kernel import Bags, ConditionKernel, Rows
from kgnn.nn.knowledge import HOPS, Channel, KnowledgeNetwork, Propagation
from kgnn.ops import Adjacency


def bags(*samples, strength=-1.0, line=None):
    genes = torch.tensor([gene for sample in samples for gene in sample], dtype=torch.int64)
    offsets = torch.tensor(np.cumsum([0, *map(len, samples)]))
    values = torch.full((len(genes),), strength, dtype=torch.float64)
    return Bags(genes, values, offsets, torch.tensor(line or [0] * len(samples)))


@pytest.fixture
def chain():
    """0 → 1 → 2 → 3 with weights 2, −1, 0.5, and 0 → 3."""
    edges = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]])
    return Adjacency(edges, torch.tensor([2.0, -1.0, 0.5, 1.0]), n_nodes=5)


def test_signals_are_powers_of_the_matrix_times_the_targets_state(chain):
    measured = torch.tensor([1, 2, 3])
    propagation = Propagation([Channel("regulates", chain, HOPS)], measured, 5)
    state = torch.tensor([[1.0, 2.0, 4.0]])
    features = propagation(bags((0,)), state)[0]
    matrix = np.zeros((5, 5))
    matrix[[1, 2, 3, 3], [0, 1, 2, 0]] = [2, -1, 0.5, 1]  # [targets, sources]
    signal = np.array([-1.0, 0, 0, 0, 0])
    in_degree = np.array([1, 1, 2])
    for hop in range(HOPS):
        signal = matrix @ signal
        at = signal[[1, 2, 3]]
        expected = np.stack([at, at, at * state[0].numpy(), at / np.sqrt(in_degree)], 1)
        np.testing.assert_allclose(features[:, 4 * hop : 4 * hop + 4].numpy(), expected, rtol=1e-6)


def test_what_arrives_is_weighed_as_the_features_are(chain):
    channels = [Channel("regulates", chain, HOPS), Channel("alike", chain, 1)]
    propagation = Propagation(channels, torch.tensor([1, 2, 3]), 5)
    state = torch.tensor([[1.0, 2.0, 4.0], [0.5, 1.0, 3.0], [2.0, 1.0, 1.0]])
    samples = bags((0,), (1, 4), (0, 1))  # what arrives at 1 from 0 is not read where 1 is perturbed too
    propagation.set_scales(samples, state, torch.tensor([0.5, 1.0, 2.0]))
    beta = torch.linspace(-1, 1, propagation.n_features, dtype=torch.float64)
    expected = propagation(samples, state).double() @ beta
    assert expected.abs().sum() > 0
    torch.testing.assert_close(propagation.along(samples, state, beta), expected, rtol=1e-5, atol=1e-6)
    assert not propagation.along(samples, state, beta[:0]).any()


def test_scales_bring_features_to_unit_mean_square_over_the_training_samples(chain):
    channels = [Channel("regulates", chain, HOPS), Channel("alike", chain, 1)]
    propagation = Propagation(channels, torch.tensor([1, 2, 3]), 5)
    samples, state = bags((0,), (1, 4), (2,), (4,)), torch.tensor([[1.0, 2.0, 4.0]] * 4)
    raw = propagation(samples, state)
    spread = torch.tensor([0.5, 1.0, 2.0])
    propagation.set_scales(samples, state, spread)
    factor = torch.ones(3, 4)  # 1, spread, control expression and 1 / √in-degree of the genes
    factor[:, 1] = spread / spread.square().mean().sqrt()
    factor[:, 2] = 1 / state.square().mean().sqrt()
    expected = raw * factor.repeat(1, 4)
    expected = expected / expected.square().mean((0, 1)).sqrt()
    found = propagation(samples, state)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.square().mean((0, 1)), torch.ones(propagation.n_features))
    many = bags(*[(node % 5,) for node in range(130)])  # more than are read at a time
    whole = propagation(many, torch.ones(130, 3))
    torch.testing.assert_close(torch.cat([part for _, part in propagation.chunks(many, torch.ones(130, 3))]), whole)
    propagation.set_scales(bags((4,)), state[:1], spread)
    assert not propagation(samples, state).any(), "what never arrives in training says nothing"


def test_samples_by_the_part_are_as_those_at_once(chain, monkeypatch):
    propagation = Propagation([Channel("regulates", chain, HOPS)], torch.tensor([1, 2, 3]), 5)
    samples, state = bags((4,), (0,), (2, 4), (4,), (1,)), torch.arange(1.0, 16).view(5, 3)
    beta = torch.ones(propagation.n_features, dtype=torch.float64)
    whole = propagation.along(samples, state, beta)
    assert whole[[1, 2, 4]].any(1).all()
    monkeypatch.setattr(knowledge, "MANY", 2)
    torch.testing.assert_close(propagation.along(samples, state, beta), whole)
    assert propagation.reached(samples).tolist() == [False, True, True, False, True]


def test_nothing_is_read_at_a_perturbed_gene_and_nothing_without_a_perturbation(chain):
    propagation = Propagation([Channel("regulates", chain, HOPS)], torch.arange(5), 5)
    features = propagation(bags((0, 1), ()), torch.ones(2, 5))
    assert (features[0, :2] == 0).all()
    assert (features[1] == 0).all()
    assert propagation.reached(bags((0,), (4,), ())).tolist() == [True, False, False]


def neighbours():
    """Cosine of genes 0 and 1: 0.6; gene 2 stands in no relation."""
    return Rows("relation", sparse.csr_array(np.array([[1.0, 0], [0.6, 0.8], [0, 0]])))


def test_the_kernel_is_the_formula():
    kernel = ConditionKernel([neighbours()])
    kernel.gate.data = torch.tensor([0.3, 0.9], dtype=torch.float64)
    a = bags((0,), (0, 1), (2,), strength=1.0)
    reached = torch.tensor([True, False, False])
    found = kernel(a, a, reached, reached).detach().numpy()
    gamma, shared, _, iota, _, tau, omega = kernel.log.exp().detach().numpy()
    gate = np.exp([0.3, 0.9]) / np.exp([0.3, 0.9]).sum()
    alike = gate[0] * np.eye(3) + gate[1] * np.array([[1, 0.6, 0], [0.6, 1, 0], [0, 0, 0]])
    alike[2] = alike[:, 2] = [0, 0, 1]  # gene 2 stands in no relation: its gate is all on identity
    x = np.array([[1, 0, 0], [2**-omega, 2**-omega, 0], [0, 0, 1]])
    expected = x @ (alike + gamma) @ x.T + shared
    pair = x[1] @ alike @ x[1]
    weight = x[1, 0]
    together = weight**4 * (alike[0, 0] * alike[1, 1] + alike[0, 1] ** 2)
    assert pair > 0
    expected[1, 1] += iota * together
    expected *= np.outer([tau, 1, 1], [tau, 1, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.linalg.eigvalsh(found).min() > -1e-9
    np.testing.assert_allclose(kernel.variance(a, reached).detach(), np.diag(expected), rtol=1e-6)
    np.testing.assert_allclose(
        kernel.of_controls(a, a, reached, reached).detach(), shared * np.outer([tau, 1, 1], [tau, 1, 1])
    )
    genes = torch.arange(3)
    at_hand = kernel(a, a, reached, reached, kernel.similarities(genes, genes)).detach()
    np.testing.assert_allclose(at_hand, expected, rtol=1e-6)


def test_samples_are_taken_by_number():
    of = bags((0,), (1, 2), (3,), line=[0, 1, 0]).of([2, 1])
    assert of.genes.tolist() == [3, 1, 2]
    assert of.offsets.tolist() == [0, 1, 3]
    assert of.line.tolist() == [0, 1]


def test_a_gate_is_shared_among_the_sources_that_know_a_gene():
    rows = np.array([[1.0, 0], [0.6, 0.8], [0, 0], [0, 1]])
    relation = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    kernel = ConditionKernel([Rows("r", sparse.csr_array(relation)), Rows("f", sparse.csr_array(rows))])
    kernel.gate.data = torch.tensor([0.3, 0.9, -0.2], dtype=torch.float64)
    genes = torch.arange(3)
    found = kernel.similarities(genes, genes)
    np.testing.assert_allclose(found[2], [[1, 0.6, 0], [0.6, 1, 0], [0, 0, 0]])
    gates = kernel.gates(torch.tensor([0, 2, 3])).detach().numpy()
    share = np.exp([0.3, 0.9, -0.2]) / np.exp([0.3, 0.9, -0.2]).sum()
    np.testing.assert_allclose(gates[:, 0], share)
    np.testing.assert_allclose(gates[:, 1], [1, 0, 0])  # neither neighbours nor a vector
    np.testing.assert_allclose(gates[:, 2], [1 / (1 + np.exp(-0.5)), 0, 1 / (1 + np.exp(0.5))])


def test_interaction_is_nothing_between_pairs_that_nothing_links():
    kernel = ConditionKernel([])
    a, b = bags((0, 1), strength=1.0), bags((2, 3), strength=1.0)
    none = torch.zeros(1, dtype=torch.bool)
    with torch.no_grad():
        with_term = kernel(a, b, none, none)
        kernel.log[3] = -30.0
        torch.testing.assert_close(with_term, kernel(a, b, none, none))


def test_lines_share_a_part():
    kernel = ConditionKernel([], n_lines=2)
    a = bags((0,), (0,), line=[0, 1])
    none = torch.zeros(2, dtype=torch.bool)
    k = kernel(a, a, none, none).detach()
    torch.testing.assert_close(k[0, 1] / k[0, 0], torch.tensor(0.5, dtype=torch.float64))  # ρ starts at one half


def test_variance_shrinks_where_something_was_measured():
    propagation = Propagation([], torch.arange(3), 4)
    network = KnowledgeNetwork(propagation, ConditionKernel([]), 1, 1, controls=False)
    seen, other = bags((0,)), bags((3,))
    y = torch.tensor([[0.0, 3.0, 4.0]], dtype=torch.float64)
    with torch.no_grad():
        none = torch.zeros(1, dtype=torch.bool)
        k = network.kernel(seen, seen, none, none)
        network.factor = (k + 1e-9).sqrt()  # of one sample
        network.weights = y / (k + 1e-9)
        network.gene_scale = torch.ones(3, dtype=torch.float64)
        network.bag_genes, network.bag_strength, network.bag_offsets, network.bag_line = seen
        change, variance = network(seen, torch.ones(1, 3))
        _, unseen = network(other, torch.ones(1, 3))
        nothing, none_at_all = network(bags(()), torch.ones(1, 3))
        network.controls = True
        without, _ = network(seen, torch.ones(1, 3))
    np.testing.assert_allclose(change[0, 1:].numpy(), [3, 4], rtol=1e-6)
    part = 1 - float((network.kernel.log[1].exp() / k).detach())  # all but the noise of the controls
    np.testing.assert_allclose(without[0, 1:].numpy(), [3 * part, 4 * part], rtol=1e-6)
    assert change[0, 0] == 0  # its own strength times an effect that was never learned
    assert (unseen > 0).all()
    assert (variance[0] > 0).all()
    assert (nothing == 0).all()
    assert (none_at_all == 0).all()
