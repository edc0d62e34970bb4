"""Objectives of cell models against SciPy's densities, literal loops and hand calculations."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit
from torch.nn import functional as F

from kgnn.nn.losses import (
    Coherence,
    dissimilarity_loss,
    hierarchical_loss,
    masked_gene_loss,
    masked_value_loss,
    nb_log_likelihood,
    relational_alignment_loss,
    zinb_log_likelihood,
)


def test_negative_binomial_is_scipys():
    rng = np.random.default_rng(0)
    count = torch.tensor(rng.integers(0, 40, 200), dtype=torch.float64)
    mean, theta = (torch.tensor(rng.uniform(0.05, 30, 200)) for _ in range(2))
    expected = stats.nbinom.logpmf(count.numpy(), theta.numpy(), (theta / (theta + mean)).numpy())
    np.testing.assert_allclose(nb_log_likelihood(count, mean.log(), theta.log()), expected, rtol=1e-9)
    zero = torch.tensor(rng.normal(size=200))
    inflated = np.log(
        np.where(count.numpy() == 0, expit(zero.numpy()), 0) + np.exp(expected) * (1 - expit(zero.numpy()))
    )
    np.testing.assert_allclose(zinb_log_likelihood(count, mean.log(), theta.log(), zero), inflated, rtol=1e-9)


def test_zinb_has_a_gradient_where_the_mean_is_tiny():
    log_mean = torch.tensor([-30.0, -30.0], requires_grad=True)
    zinb_log_likelihood(
        torch.tensor([0.0, 3.0]), log_mean, torch.zeros(2), torch.tensor([50.0, -50.0])
    ).sum().backward()
    assert log_mean.grad.isfinite().all()


def literal_alignment(state, again, level, ancestor, temperature):
    """scCello's loss as its code runs it: loops over anchors, levels, positives."""
    h = F.normalize(state, dim=-1) / math.sqrt(temperature)
    second = F.normalize(again, dim=-1) / math.sqrt(temperature)
    lowest, total = int(level.min()), []
    for a in range(len(h)):
        for one in sorted(set(level.flatten().tolist())):
            if one <= lowest:
                continue
            negatives = [n for n in range(len(h)) if level[a, n] < one and not ancestor[a, n]]
            below = sum(torch.exp(h[a] @ h[n]) for n in negatives)
            losses = []
            for p in range(len(h)):
                if level[a, p] >= one:
                    near = torch.exp(h[a] @ (second[a] if p == a else h[p]))
                    losses.append(-torch.log(near / (near + below)))
            total.append(torch.stack(losses).mean() if losses else torch.zeros((), dtype=h.dtype))
    return torch.stack(total).mean()


def test_relational_alignment_is_the_literal_loop():
    rng = torch.Generator().manual_seed(0)
    kind = torch.tensor([0, 0, 1, 2, 2, 3, 1])
    levels = torch.tensor([[6, 4, 3, 1], [4, 6, 2, 1], [3, 2, 6, 1], [1, 1, 1, 6]])
    above = torch.zeros(4, 4, dtype=torch.bool)
    above[0, 3] = above[1, 3] = True
    state, again = (torch.randn(7, 5, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2))
    pairs = kind[:, None], kind[None]
    found = relational_alignment_loss(state, again, levels[pairs], above[pairs])
    expected = literal_alignment(state, again, levels[pairs], above[pairs], 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    for mine, theirs in zip(
        torch.autograd.grad(found, (state, again)), torch.autograd.grad(expected, (state, again)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-12)


def test_relational_alignment_without_negatives_or_levels_has_a_gradient():
    state = torch.randn(3, 4, requires_grad=True)
    same = torch.full((3, 3), 6)
    relational_alignment_loss(state, state.detach(), same, torch.zeros(3, 3, dtype=torch.bool)).backward()
    assert (state.grad == 0).all()
    two = torch.tensor([[6, 1], [1, 6]])
    state = torch.randn(2, 4, requires_grad=True)
    relational_alignment_loss(state, state.detach(), two, torch.ones(2, 2, dtype=torch.bool)).backward()
    assert state.grad.isfinite().all()


def test_hierarchical_loss_by_hand():
    logit = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0]], dtype=torch.float64)
    leaf = torch.tensor([1, -1])
    below = torch.tensor([[False, True, False], [True, True, False]])  # the second cell: an inner term above 0 and 1
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    first = -math.log(1 - sigmoid(1.0)) - math.log(sigmoid(-2.0)) - math.log(1 - sigmoid(0.5))
    above = math.log(math.exp(0.3) + math.exp(0.7))
    second = -math.log(1 - sigmoid(-1.0)) - math.log(sigmoid(above))
    assert float(hierarchical_loss(logit, leaf, below)) == pytest.approx((first + second) / 2, rel=1e-9)


def test_masked_losses_look_at_masked_positions_only():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    masked = torch.tensor([[True, False], [False, True]])
    assert float(masked_value_loss(value + torch.tensor([[1.0, 5.0], [7.0, 9.0]]), value, masked)) == (1 + 81) / 2
    assert float(masked_value_loss(value, value + 1, torch.zeros_like(masked))) == 0
    embedding = torch.eye(3)
    right, wrong = (masked_gene_loss(embedding[[0]], embedding, torch.tensor([gene])) for gene in (0, 1))
    assert float(right) == pytest.approx(math.log(1 + 2 * math.exp(-10)), rel=1e-2)
    assert float(wrong) == pytest.approx(10 + math.log(1 + 2 * math.exp(-10)))
    assert float(masked_gene_loss(torch.zeros(0, 3), embedding, torch.zeros(0, dtype=torch.int64))) == 0


def test_dissimilarity_is_the_mean_squared_cosine_of_pairs():
    tokens = torch.tensor([[[1.0, 0], [0, 2], [3, 3]]])
    assert float(dissimilarity_loss(tokens)) == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert float(dissimilarity_loss(tokens[:, :1])) == 0


def test_coherence_by_hand():
    torch.manual_seed(0)
    part = Coherence(3, 4).double()
    state, kind = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    h = F.normalize(state, dim=1) / math.sqrt(0.1)
    c = F.normalize(part.prototype, dim=1) / math.sqrt(0.1)
    score = torch.exp(h @ c.T)
    expected = -torch.log(score[range(5), kind] / score.sum(1)).mean()
    expected = expected + (c @ part.affine.weight.T + part.affine.bias)[kind].sub(h).square().mean()
    torch.testing.assert_close(part(state, kind), expected)
