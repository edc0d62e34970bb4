"""What perturbed nodes do: the formula by hand, doses, and what each part of a batch changes."""

import numpy as np
import pytest
import torch

from kgnn.nn import ConditionBatch, HeteroEncoder
from kgnn.nn.perturbed import DoseCurve, NodeEffects
from tests.nn.test_hetero import make_graph

INF = float("inf")


@pytest.fixture
def network():
    """Genes A to D (A, C and D measured), sets X and Y; random weights everywhere."""
    torch.manual_seed(0)
    network = NodeEffects(HeteroEncoder(make_graph(), channels=6), 6, torch.tensor([0.0, 1.0, 0.0]))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    return network.eval()


def make_batch(nodes, offsets, doses=None, strengths=None):
    n = len(offsets) - 1
    state = torch.linspace(0.5, 3, 3 * n).view(n, 3)
    return ConditionBatch(
        torch.tensor(nodes),
        torch.tensor(offsets),
        torch.ones(n),
        torch.tensor(strengths or [-1.0] * len(nodes)),
        state,
        None,
        torch.tensor(doses or [INF] * len(nodes)),
    )


def mlp(x, module):
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in module.parameters())
    return np.maximum(x @ w1.T + b1, 0) @ w2.T + b2


def test_the_formula_by_hand(network):
    """Conditions: control; A at dose 2; set X; B (not measured), C activated and set X at dose 0.3."""
    conditions = [[], [(0, -1.0, 2.0)], [(4, -0.5, INF)], [(1, -1.0, INF), (2, 1.0, INF), (4, -1.0, 0.3)]]
    flat = [entry for condition in conditions for entry in condition]
    nodes, strengths, doses = (list(column) for column in zip(*flat, strict=True))
    batch = make_batch(nodes, np.cumsum([0, *map(len, conditions)]).tolist(), doses, strengths)
    found = network(batch).detach().numpy()

    states = {kind: z.detach().double().numpy() for kind, z in network.encoder().items()}
    z = np.concatenate([states["gene"], states["set"]])
    of_type, of_node = (p.detach().double().numpy() for p in network.dose.parameters())
    usual, kinds, measured = [0.0, 1.0], [0, 0, 0, 0, 1, 1], [0, 2, 3]
    pair, own = network.pair.weight.detach().double().numpy(), network.own_answer.detach().double().numpy()
    alpha, beta = network.own_effect.tolist()
    for c, condition in enumerate(conditions):
        x, e, moved, effects = batch.state[c].double().numpy(), np.zeros(6), np.zeros(3), []
        for p, strength, dose in condition:
            a_h, b_k = of_type[kinds[p]] + of_node @ z[p]
            h, k = np.exp(a_h), np.exp(usual[kinds[p]] + b_k)
            a = strength * (1 if dose == INF else dose**h / (dose**h + k**h))
            effects.append(a * mlp(z[p], network.effect))
            if p in measured:
                g = measured.index(p)
                moved[g] += a * (alpha + beta * x[g])
        for i, u in enumerate(effects):
            e += u
            for other in effects[:i]:
                e += (pair @ u) * (pair @ other)
        for g, node in enumerate(measured):
            v, w = mlp(z[node], network.answer) + own[g], mlp(z[node], network.by_level)
            expected = e @ v + x[g] * (e @ w) + moved[g]
            assert found[c, g] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert (found[0] == 0).all()
    assert (np.abs(found[1:]).max(1) > 0.1).all()


@pytest.mark.parametrize("nodes", [[0], [4], [1, 4]])
def test_each_gene_is_monotone_in_each_dose(network, nodes):
    doses = np.geomspace(1e-3, 1e3, 15).tolist()
    entries = [node for _ in doses for node in nodes]
    at = [dose if node == nodes[-1] else INF for dose in doses for node in nodes]
    batch = make_batch(entries, list(range(0, len(entries) + 1, len(nodes))), at)
    change = network(batch._replace(state=torch.ones(len(doses), 3))).detach().numpy()
    steps = np.diff(change, axis=0)
    assert ((steps >= -1e-5).all(0) | (steps <= 1e-5).all(0)).all()
    assert np.abs(change[-1] - change[0]).max() > 0.1


def test_the_curve_is_hill_s(network):
    curve = DoseCurve(2, torch.tensor([0.0, np.log(50.0)]).float())
    states, kinds = torch.randn(4, 2), torch.tensor([0, 0, 1, 1])
    found = curve(torch.tensor([1.0, 3.0, 50.0, INF]), states, kinds)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.75, 0.5, 1.0]))  # h = 1, k the usual dose at the start
    curve(torch.tensor([INF, 1e-30, 1e30, 1.0]), states, kinds).sum().backward()
    assert all(p.grad.isfinite().all() for p in curve.parameters())


def test_every_weight_learns(network):
    network(make_batch([0, 4, 5], [0, 2, 3], [2.0, 0.5, INF])).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert silent == []


def test_what_a_neighbour_is_reaches_the_prediction(network):
    """X is linked to A and C: the effect of X moves with both; D is linked to nothing and moves nothing but itself."""
    batch, genes = make_batch([4], [0, 1]), network.encoder.starts[0].weight
    before = network(batch).detach()
    for node, moves in ((0, True), (2, True), (3, False)):
        with torch.no_grad():
            genes[node] *= -1
            after = network(batch)
            genes[node] *= -1
        assert ((after - before).abs()[0, :2].max() > 1e-4) == moves
