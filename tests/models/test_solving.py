"""What solving leaves in a network, against ridge regressions of scikit-learn and formulas written out."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import Ridge

from kgnn.models.perturbation import solving
from kgnn.models.perturbation.missing import OWN
from kgnn.models.perturbation.samples import Samples, left_out_blocks, make_bags
from kgnn.nn.condition_kernel import ConditionKernel, Rows
from kgnn.nn.knowledge import HOPS, Channel, KnowledgeNetwork, Propagation
from kgnn.ops import Adjacency

NODES = pd.Index([f"G{i}" for i in range(14)])  # the first 8 are measured
MEASURED = 8
SINGLES = ["G0", "G1", "G2", "G8", "G9", "G10", "G11"]
CONDITIONS = [*SINGLES, "G0+G8", "G1+G9", "G10+G12"]


def screen(names=CONDITIONS, n_lines=2, seed=0):
    """Random changes of the conditions in each line."""
    rng = np.random.default_rng(seed)
    line = np.repeat(np.arange(n_lines), len(names))
    states = rng.uniform(0.2, 3, (n_lines, MEASURED))
    cells = rng.integers(10, 400, len(line))
    lines = [f"line{i}" for i in range(n_lines)]
    return Samples(list(names) * n_lines, line, rng.normal(size=(len(line), MEASURED)), cells, states, lines)


def fitted(samples, linked=True, seed=0):
    """A network solved for samples, their bags and the kernel's numbers before."""
    rng = np.random.default_rng(7)
    source, target = np.array([0, 1, 8, 8, 9, 10, 3, 4]), np.array([3, 4, 5, 2, 6, 7, 6, 1])
    weight = torch.from_numpy(rng.normal(size=8)).float()
    edges = Adjacency(torch.from_numpy(np.stack([source, target])), weight, n_nodes=len(NODES))
    channels = [Channel("regulates", edges, HOPS)] if linked else []
    rows = rng.normal(size=(14, 4))
    rows[3:5] = 0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    bags = make_bags(samples.names, NODES, -0.7, samples.line)
    kernel = ConditionKernel([Rows("r", sparse.csr_array(rows))], len(samples.lines))
    propagation = Propagation(channels, torch.arange(MEASURED), len(NODES))
    network = KnowledgeNetwork(propagation, kernel, len(samples.names), len(bags.genes))
    before = kernel.gate.detach().clone(), kernel.log.detach().clone()
    history = solving.solve(network, bags, samples._replace(change=samples.change.copy()), seed)
    return network, bags, before, history


@pytest.fixture(scope="module")
def learned():
    samples = screen()
    return samples, *fitted(samples)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(solving, "STEPS", 10)


def elsewhere(samples, values=None):
    """The changes (or other values), 0 at the perturbed genes themselves."""
    change = (samples.change if values is None else values).copy()
    for row, name in enumerate(samples.names):
        change[row, [NODES.get_loc(gene) for gene in name.split("+") if NODES.get_loc(gene) < MEASURED]] = 0
    return change


def propagated(network, bags, samples):
    """The penalty that errs least, weights of the features, predictions of each sample by weights without it."""
    change = elsewhere(samples)
    features = network.propagation(bags, torch.from_numpy(samples.states[samples.line]).float()).double().numpy()
    n, _, width = features.shape
    trace = np.einsum("sgf,sgf->", features, features) / width
    tried = []
    for penalty in solving.PENALTIES:

        def weights(rows, penalty=penalty):
            ridge = Ridge(alpha=penalty * trace, fit_intercept=False)
            return ridge.fit(features[rows].reshape(-1, width), change[rows].ravel()).coef_

        along = np.stack([features[i] @ weights(np.arange(n) != i) for i in range(n)])
        tried.append((((along - change) ** 2).sum(), penalty, weights(np.arange(n) >= 0), along))
    return min(tried, key=lambda each: each[0])[1:]


def covariance(network, bags, numbers=None):
    """k, by the kernel with other numbers; that it is the formula is tested with the kernel."""
    kernel, now = network.kernel, (network.kernel.gate.data, network.kernel.log.data)
    kernel.gate.data, kernel.log.data = numbers or now
    reached = network.propagation.reached(bags)
    with torch.no_grad():
        found = kernel(bags, bags, reached, reached).numpy(), float(kernel.noise)
    kernel.gate.data, kernel.log.data = now
    return found


def without_each(k, noise, block, y):
    """Prediction of each row by the rows outside its block."""
    found = np.zeros_like(y)
    for i in range(len(y)):
        rest = ~block[i]
        found[i] = k[i, rest] @ np.linalg.solve(k[np.ix_(rest, rest)] + np.diag(noise[rest]), y[rest])
    return found


def test_the_first_loss_is_that_of_refitting_without_each_block_and_learning_lowers_it(learned):
    samples, network, bags, before, history = learned
    _, _, along = propagated(network, bags, samples)
    k, level = covariance(network, bags, before)
    noise = level * (samples.cells.mean() / samples.cells).clip(0.25, 4)
    change, losses = elsewhere(samples), []
    blocks = [block.numpy() for block in left_out_blocks(samples)]
    assert len(blocks) == 3  # the condition, conditions with a gene in common, the line
    change, along = (x - x.mean(1, keepdims=True) for x in (change, along))
    for block in blocks:
        for centred in (False, True):
            told, y = np.zeros_like(change), np.zeros_like(change)
            for i, rest in enumerate(~block):
                less_y, less_p = (x - centred * x[rest].mean(0) for x in (change, along))
                told[i] = 0.5 * less_p[i] + without_each(k, noise, block, less_y - 0.5 * less_p)[i]
                y[i] = less_y[i]
            correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(told, y, strict=True)])
            losses.append(1 - correlation + 0.5 * ((told - y) ** 2).sum() / (y**2).sum())
    assert history[0] == pytest.approx(np.mean(losses), rel=1e-5)
    assert len(history) == solving.STEPS
    assert history[-1] < history[0] - 0.005  # the changes are noise


@pytest.mark.parametrize("linked", [False, True])
def test_weights_factor_and_scale_are_those_of_the_learned_kernel(learned, linked):
    samples, network, bags, *_ = learned if linked else (screen(), *fitted(screen(), linked))
    change, along, share = elsewhere(samples), 0.0, 1.0
    if linked:
        _, beta, along = propagated(network, bags, samples)
        share = network.beta.numpy() @ beta / (beta @ beta)
        np.testing.assert_allclose(network.beta, share * beta, rtol=1e-3, atol=1e-6)
        assert 0 < share < 1
    k, level = covariance(network, bags)
    noise = level * (samples.cells.mean() / samples.cells).clip(0.25, 4)
    rest = change - share * along
    matrix = k + np.diag(noise)
    np.testing.assert_allclose(network.factor, np.linalg.cholesky(matrix), atol=1e-9)
    np.testing.assert_allclose(network.weights, np.linalg.solve(matrix, rest), rtol=1e-3, atol=1e-5)
    same = np.array([[a == b for b in samples.names] for a in samples.names])
    error = rest - without_each(k, noise, same, rest)
    variance = np.zeros(len(k))
    for i in range(len(k)):
        others = np.arange(len(k)) != i
        part = np.linalg.solve(matrix[np.ix_(others, others)], k[others, i])
        variance[i] = matrix[i, i] - k[i, others] @ part
    told = elsewhere(samples, np.ones_like(samples.change))  # at the perturbed gene itself nothing is predicted
    scale = (told * error**2 / variance[:, None]).sum(0) / told.sum(0)
    np.testing.assert_allclose(network.gene_scale, scale, rtol=1e-3)
    np.testing.assert_allclose(network.reference, samples.states.mean(0))
    for found, expected in zip(network.training_bags, bags, strict=True):
        assert torch.equal(found, expected)


def test_own_effects_are_a_line_in_expression_drawn_to_what_was_measured(learned, quick):
    samples, network, *_ = learned
    level = samples.states.mean(0)
    at = [(row, NODES.get_loc(gene)) for row, name in enumerate(samples.names) for gene in name.split("+")]
    at = [(row, gene) for row, gene in at if gene < MEASURED]
    y = np.array([samples.change[place] / -0.7 for place in at])
    x = np.array([[1, level[gene]] for _, gene in at])
    line = np.linalg.solve(x.T @ x + 1e-3 * np.eye(2), x.T @ y)
    for gene in range(MEASURED):
        own = [value for value, (_, which) in zip(y, at, strict=True) if which == gene]
        expected = (sum(own) + line @ [1, level[gene]]) / (len(own) + 1)
        assert float(network.own[gene]) == pytest.approx(expected)
    none, _, _, _ = fitted(screen(["G8", "G9", "G10", "G11"], 1))
    assert not none.own.any()


def test_what_is_propagated_without_noise_is_hardly_shrunk(learned, quick):
    samples, network, bags, *_ = learned
    features = network.propagation(bags, torch.from_numpy(samples.states[samples.line]).float()).double().numpy()
    clear = samples._replace(change=features @ np.linspace(-1, 1, features.shape[2]))
    network, bags, *_ = fitted(clear)
    penalty, beta, _ = propagated(network, bags, clear)
    assert penalty == min(solving.PENALTIES) == 1e-4
    share = network.beta.numpy() @ beta / (beta @ beta)
    np.testing.assert_allclose(network.beta, share * beta, rtol=1e-3, atol=1e-6)


def test_many_samples_learn_on_some_and_are_solved_with_all(monkeypatch, quick):
    monkeypatch.setattr(solving, "LEARN_ON", 12)
    samples = screen()
    network, bags, _, _ = fitted(samples, seed=3)
    some = np.sort(np.random.default_rng(3).choice(20, 12, replace=False))
    learned = samples.of(some)
    _, beta, _ = propagated(network, bags.of(some), learned)
    share = network.beta.numpy() @ beta / (beta @ beta)
    np.testing.assert_allclose(network.beta, share * beta, rtol=1e-3, atol=1e-6)
    state = torch.from_numpy(samples.states[samples.line]).float()
    along = network.propagation(bags, state).double().numpy() @ network.beta.numpy()
    k, level = covariance(network, bags)
    noise = level * (learned.cells.mean() / samples.cells).clip(0.25, 4)
    expected = np.linalg.solve(k + np.diag(noise), elsewhere(samples) - along)
    np.testing.assert_allclose(network.weights, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("n", "cut"), [(12, True), (11, False)])
def test_where_samples_are_many_the_leading_programmes_stay(monkeypatch, quick, n, cut):
    monkeypatch.setattr(solving, "PROGRAMMES", 3)
    names = [f"G{i}" for i in range(8, 14)] + [f"G{i}+G{i + 1}" for i in range(8, 13)] + ["G8+G10"]
    samples = screen(names[:n], 1)
    network, bags, _, _ = fitted(samples, linked=False)
    k, level = covariance(network, bags)
    noise = level * (samples.cells.mean() / samples.cells).clip(0.25, 4)
    leading = np.linalg.svd(samples.change)[2][: 3 if cut else MEASURED]
    expected = np.linalg.solve(k + np.diag(noise), samples.change) @ leading.T @ leading
    assert network.programmes.shape == (3 if cut else 0, MEASURED)
    found = network.weights @ network.programmes if cut else network.weights
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_strong_prior_holds_the_kernel_at_its_start_and_none_lets_it_go(monkeypatch, quick):
    moved = []
    for prior in (1e6, solving.PRIOR, 0.0):
        monkeypatch.setattr(solving, "PRIOR", prior)
        network, _, (gate, log), _ = fitted(screen(), linked=False)
        kernel = network.kernel.requires_grad_(False)
        moved.append(float((kernel.gate - gate).square().sum() + (kernel.log - log).square().sum()))
    assert moved[0] < 0.01 < moved[1] < moved[2]


def test_what_was_not_measured_has_no_say_and_the_rest_is_a_dense_formula(quick):
    samples = screen(SINGLES)
    seen = np.random.default_rng(5).random(samples.change.shape) < 0.6
    found = []
    for nothing in (0.0, 1e3):
        holes = samples._replace(change=np.where(seen, samples.change, nothing), seen=seen)
        network, bags, _, _ = fitted(holes, linked=False)
        found.append(network)
    for name in ("weights", "offset", "gene_scale"):
        torch.testing.assert_close(getattr(found[0], name), getattr(found[1], name), rtol=1e-9, atol=1e-12)
    for row, name in enumerate(samples.names):  # nor has what happens at the perturbed gene itself
        if NODES.get_loc(name) < MEASURED:
            seen[row, NODES.get_loc(name)] = False
    total, number = np.where(seen, samples.change, 0).sum(0), seen.sum(0)
    mean = (total + 5 * total.sum() / number.sum()) / (number + 5)
    np.testing.assert_allclose(network.offset, mean)
    rest = np.where(seen, samples.change - mean, 0)
    unit = rest / np.linalg.norm(rest, axis=0)
    genes = OWN * np.eye(MEASURED) + (1 - OWN) * unit.T @ unit
    k, level = covariance(network, bags)
    noise = level * (samples.cells.mean() / samples.cells).clip(0.25, 4)
    at = np.flatnonzero(seen.ravel())
    full = np.kron(k, genes)[np.ix_(at, at)] + np.diag(np.repeat(noise, MEASURED)[at])
    dual = np.zeros(rest.size)
    dual[at] = np.linalg.solve(full, rest.ravel()[at])
    np.testing.assert_allclose(network.weights, dual.reshape(rest.shape) @ genes, atol=5e-3)


def test_a_condition_of_few_cells_is_noisier_within_bounds():
    found = solving.noise_levels(np.array([1, 25, 50, 100, 10_000]), 100.0)
    np.testing.assert_allclose(found, [4, 4, 2, 1, 0.25])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("tells", "low", "high"), [(False, 0.0, 0.07), (True, 0.7, 1.0)])
def test_a_source_weighs_as_much_as_it_tells(tells, low, high, missing):
    """Changes are of a common mean and noise, or follow the rows of the only source."""
    rng = np.random.default_rng(0)
    nodes = pd.Index([f"G{i}" for i in range(140)])  # the last 60 are perturbed, the others measured
    rows = np.zeros((140, 8))
    rows[80:] = rng.normal(size=(60, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    change = 0.5 * rng.normal(size=80) + rng.normal(size=(60, 80))
    if tells:
        change = change + 3 * rows[80:] @ rng.normal(size=(8, 80))
    seen = rng.random(change.shape) < 0.9 if missing else None
    line, cells = np.zeros(60, int), np.full(60, 100)
    samples = Samples(list(nodes[80:]), line, change, cells, np.ones((1, 80)), ["line"], seen)
    kernel = ConditionKernel([Rows("r", sparse.csr_array(rows))], 1)
    network = KnowledgeNetwork(Propagation([], torch.arange(80), 140), kernel, 60, 60)
    history = solving.solve(network, make_bags(samples.names, nodes, -1.0, line), samples)
    assert history[-1] < history[0] - 0.05 * tells
    assert low <= float(kernel.gate.softmax(0)[1].detach()) <= high
