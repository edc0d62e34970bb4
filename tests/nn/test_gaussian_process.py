"""Kernel, network and left-out loss against loops over genes and Gaussian processes of scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from kgnn.nn.closed_form import left_out_operator
from kgnn.nn.knowledge import HOPS, Channel, KnowledgeNetwork, LeftOut, Propagation, left_out_loss
from kgnn.ops import Adjacency
from tests.nn.literal import NODES, UNKNOWN, alike, covariance, gates, make_bags, make_kernel, make_sources, posterior


@given(seed=st.integers(0, 10_000), n_lines=st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=25)
def test_the_kernel_is_its_formula(seed, n_lines):
    rng = np.random.default_rng(seed)
    features = make_sources(rng)
    kernel = make_kernel(rng, features, n_lines)
    a, b = make_bags(rng, 4), make_bags(rng, 3, lines=(0, 1, -1))
    reached = [torch.from_numpy(rng.random(n) < 0.5) for n in (4, 3)]
    expected = covariance(kernel, features, a, b, *reached)
    with torch.no_grad():
        np.testing.assert_allclose(kernel(a, b, *reached), expected, rtol=1e-8, atol=1e-12)
        own = covariance(kernel, features, b, b, reached[1], reached[1])
        np.testing.assert_allclose(kernel.variance(b, reached[1]), own.diagonal(), rtol=1e-8)
    assert np.linalg.eigvalsh(own).min() > -1e-9


def test_parts_of_the_kernel_and_the_gates():
    rng = np.random.default_rng(4)
    features = make_sources(rng)
    kernel = make_kernel(rng, features)
    a, b = make_bags(rng, 5), make_bags(rng, 6, most=1)
    none = [torch.zeros(n, dtype=torch.bool) for n in (5, 6)]
    gate = kernel.gate.detach().numpy()
    with torch.no_grad():
        parts, of_controls, whole = (f(a, b, *none) for f in (kernel.parts, kernel.of_controls, kernel))
        mean_effect = kernel.log[0].exp()
        kernel.log[0] = -torch.inf
        without = kernel(a, b, *none)
    assert parts.shape == (4, 5, 6)
    np.testing.assert_allclose(parts.sum(0) + of_controls, without, rtol=1e-8)  # b has no pairs: no interactions
    assert mean_effect > 0
    assert (whole - without).abs().max() > 1e-3
    genes = np.arange(NODES)
    expected = np.stack([gates(gate, features, gene) for gene in genes], 1)
    np.testing.assert_allclose(kernel.gates(torch.from_numpy(genes)).detach(), expected, rtol=1e-8)
    assert expected[:, UNKNOWN].tolist() == [1, 0, 0, 0]
    told = sum(kernel.gated(torch.from_numpy(genes), torch.tensor([6, 0]))).detach()
    hand = [[alike(gate, features, p, q) for q in (6, 0)] for p in genes]
    np.testing.assert_allclose(told, hand, rtol=1e-8, atol=1e-10)


def solved(rng, features, training, change, noise, channels, controls):
    """A network whose buffers are the solution for a kernel with random numbers."""
    propagation = Propagation(channels, torch.arange(NODES, NODES + change.shape[1]), NODES + change.shape[1])
    kernel = make_kernel(rng, features)
    network = KnowledgeNetwork(propagation, kernel, len(change), len(training.genes), controls)
    reached = propagation.reached(training)
    with torch.no_grad():
        matrix = kernel(training, training, reached, reached) + kernel.noise * torch.from_numpy(np.diag(noise))
    network.factor = torch.linalg.cholesky(matrix)
    network.weights = torch.linalg.inv(matrix) @ torch.from_numpy(change)
    network.gene_scale = torch.from_numpy(rng.uniform(0.5, 2, change.shape[1]))
    network.bag_genes, network.bag_strength, network.bag_offsets, network.bag_line = training
    return network


@pytest.mark.parametrize(("most", "lines", "linked"), [(1, (0,), False), (3, (0, 1), True)])
def test_mean_and_variance_are_those_of_a_gaussian_process_of_scikit_learn(most, lines, linked):
    """Single genes in one line without edges; then pairs, two lines and genes of which a signal arrives."""
    rng = np.random.default_rng(most)
    n, n_test, n_genes = 9, 5, 6
    features, both = make_sources(rng), make_bags(rng, n + n_test, lines, most)
    edges = Adjacency(torch.tensor([[0, 1, 2], [NODES, NODES + 1, NODES]]), torch.ones(3), n_nodes=NODES + n_genes)
    channels = [Channel("regulates", edges, HOPS)] if linked else []
    change, noise = rng.normal(size=(n, n_genes)), rng.uniform(0.5, 2, n + n_test)
    training, test = both.take(slice(0, n)), both.take(slice(n, n + n_test))
    network = solved(rng, features, training, change, noise[:n], channels, controls=False)
    reached = network.propagation.reached(both)
    assert set(reached.tolist()) == ({True, False} if linked else {False})
    matrix = covariance(network.kernel, features, both, both, reached, reached)
    level = float(network.kernel.noise.detach())
    mean, variance = posterior(matrix, level * noise, change, range(n), range(n, n + n_test))
    with torch.no_grad():
        found, spread = network(test, torch.ones(n_test, n_genes))
        np.testing.assert_allclose(found, mean, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(spread, np.outer(variance + level, network.gene_scale), rtol=1e-7)
        network.controls = True
        without, spread_without = network(test, torch.ones(n_test, n_genes))
    shared = float(network.kernel.log[1].exp().detach())
    common = matrix.copy()
    tau = float(network.kernel.log[5].exp().detach())
    odds = float(network.kernel.log[4].exp().detach())
    for i, j in np.ndindex(*common.shape):
        apart = 1 if both.line[i] == both.line[j] else odds / (1 + odds)
        common[i, j] = shared * apart * tau ** int(reached[i]) * tau ** int(reached[j])
    dual = np.linalg.solve(matrix[:n, :n] + level * np.diag(noise[:n]), change)
    np.testing.assert_allclose(without, mean - common[n:, :n] @ dual, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(spread_without, spread)


@pytest.fixture
def left_out():
    """A kernel, samples with pairs in two lines, and three ways to leave some out."""
    rng = np.random.default_rng(8)
    features, bags = make_sources(rng), make_bags(rng, 9)
    kernel = make_kernel(rng, features)
    reached, noise = torch.from_numpy(rng.random(9) < 0.5), rng.uniform(0.25, 4, 9)
    of = [set(bags.take(slice(i, i + 1)).genes.tolist()) for i in range(9)]
    sharing = np.array([[len(a & b) > 1 or a == b for b in of] for a in of])
    blocks = [np.eye(9, dtype=bool), sharing, (bags.line[:, None] == bags.line).numpy()]
    assert all(not block.all(1).any() and block.diagonal().all() for block in blocks)
    assert {1, 2, 3} <= set(bags.size.int().tolist())
    assert sharing.sum() > 9
    y, p = rng.normal(size=(2, 9, 30))
    return kernel, features, bags, reached, noise, blocks, y, p


@pytest.mark.parametrize("around", [False, True])
def test_the_left_out_loss_is_that_of_refitting_without_each_block(left_out, around):
    """`around`: around the mean of the rows outside the block."""
    kernel, features, bags, reached, noise, blocks, y, p = left_out
    matrix = covariance(kernel, features, bags, bags, reached, reached)
    level, share = float(kernel.noise.detach()) * noise, 0.3
    y, p = (x - x.mean(1, keepdims=True) for x in (y, p))
    products = LeftOut(*(torch.from_numpy(product) for product in (y @ y.T, y @ p.T, p @ p.T)))
    for block in blocks:
        mean = torch.from_numpy(~block / (~block).sum(1, keepdims=True)) if around else None
        with torch.no_grad():
            k = kernel(bags, bags, reached, reached)
            operator = left_out_operator(k, kernel.noise * torch.from_numpy(noise), torch.from_numpy(block))
            found = float(left_out_loss(operator, torch.tensor(share, dtype=torch.float64), products, mean))
        predicted, truth = np.zeros_like(y), np.zeros_like(y)
        for i, others in enumerate(~block):
            less_y, less_p = (x - around * x[others].mean(0) for x in (y, p))
            rest = posterior(matrix, level, less_y - share * less_p, np.flatnonzero(others), [i])[0][0]
            predicted[i], truth[i] = share * less_p[i] + rest, less_y[i]
        if not around:
            np.testing.assert_allclose(share * p + operator.numpy() @ (y - share * p), predicted, rtol=1e-7, atol=1e-9)
        correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted, truth, strict=True)])
        error = ((predicted - truth) ** 2).sum() / (truth**2).sum()
        assert found == pytest.approx(1 - correlation + 0.5 * error, rel=1e-8)


@pytest.mark.parametrize("at_hand", [False, True])
def test_the_left_out_loss_has_the_gradient_of_finite_differences(left_out, at_hand):
    kernel, _, bags, reached, noise, blocks, y, p = left_out
    genes = bags.genes.unique()
    similarities = kernel.similarities(genes, genes) if at_hand else None
    products = LeftOut(*(torch.from_numpy(product) for product in (y @ y.T, y @ p.T, p @ p.T)))

    def loss(gate, log, share):
        k = functional_call(kernel, {"gate": gate, "log": log}, (bags, bags, reached, reached, similarities))
        level = log[2].exp() * torch.from_numpy(noise)
        losses = []
        for block in blocks:
            mean = torch.from_numpy(~block / (~block).sum(1, keepdims=True)) if len(losses) else None
            operator = left_out_operator(k, level, torch.from_numpy(block))
            losses.append(left_out_loss(operator, share, products, mean))
        return torch.stack(losses)

    given = kernel.gate.detach(), kernel.log.detach(), torch.tensor(0.3, dtype=torch.float64)
    given = tuple(each.clone().requires_grad_() for each in given)
    assert torch.autograd.gradcheck(loss, given)
    gradients = torch.autograd.grad(loss(*given)[0], given)
    assert all(gradient.abs().min() > 1e-6 for gradient in gradients)  # every number has a say
