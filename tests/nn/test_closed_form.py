"""Left-out predictions against solving again without the rows; pooled ridge against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from kgnn.nn.closed_form import left_out_operator, pooled_ridge
from kgnn.nn.knowledge import LeftOut, left_out_loss

torch.manual_seed(0)


def problem(n, seed):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n + 2))
    return torch.tensor(root @ root.T / n), torch.tensor(rng.uniform(0.1, 2, n)), rng


@given(n=st.integers(2, 9), seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_left_out_predictions_are_those_of_a_fit_without_the_block(n, seed):
    kernel, noise, rng = problem(n, seed)
    linked = np.eye(n, dtype=bool)
    for row in range(n):  # random blocks, never all rows
        linked[row, rng.permutation(n)[: rng.integers(0, n - 1)]] = True
        if linked[row].all():
            linked[row, (row + 1) % n] = False
    y = torch.tensor(rng.standard_normal((n, 3)))
    predicted = left_out_operator(kernel, noise, torch.tensor(linked)) @ y
    for row in range(n):
        rest = ~linked[row]
        solved = torch.linalg.solve(kernel[rest][:, rest] + torch.diag(noise[rest]), y[rest])
        torch.testing.assert_close(predicted[row], kernel[row, rest] @ solved, rtol=1e-6, atol=1e-8)


def test_left_out_operator_has_the_right_gradient():
    kernel, noise, _ = problem(4, 1)
    blocks = torch.eye(4, dtype=torch.bool)
    blocks[0, 1] = blocks[1, 0] = True

    def through(noise, scale):
        return left_out_operator(scale * kernel, noise, blocks)

    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(through, (noise.requires_grad_(), scale))


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_pooled_ridge_is_ridge_over_all_entries(penalty):
    rng = np.random.default_rng(0)
    f, y = rng.standard_normal((5, 20, 3)), rng.standard_normal((5, 20))
    gram, moment = np.einsum("cgm,cgn->cmn", f, f), np.einsum("cgm,cg->cm", f, y)
    beta, without = pooled_ridge(torch.tensor(gram), torch.tensor(moment), penalty)
    alpha = penalty * np.trace(gram.sum(0)) / 3
    for rows, found in [(range(5), beta), *(([r for r in range(5) if r != out], without[out]) for out in range(5))]:
        model = Ridge(alpha=alpha, fit_intercept=False).fit(f[list(rows)].reshape(-1, 3), y[list(rows)].ravel())
        np.testing.assert_allclose(found.numpy(), model.coef_, rtol=1e-8)


def test_the_loss_from_products_is_the_loss_from_predictions():
    kernel, noise, rng = problem(6, 3)
    y, p = (torch.tensor(rng.standard_normal((6, 50))) for _ in range(2))
    y, p = y - y.mean(1, keepdim=True), p - p.mean(1, keepdim=True)
    blocks, share = torch.eye(6, dtype=torch.bool), torch.tensor(0.4, dtype=torch.float64)
    found = left_out_loss(left_out_operator(kernel, noise, blocks), share, LeftOut(y @ y.T, y @ p.T, p @ p.T))
    predicted = share * p + left_out_operator(kernel, noise, blocks) @ (y - share * p)
    correlation = torch.nn.functional.cosine_similarity(predicted, y)
    expected = 1 - correlation.mean() + 0.5 * (predicted - y).square().sum() / y.square().sum()
    torch.testing.assert_close(found, expected)


def test_the_loss_is_finite_where_nothing_is_predicted_or_nothing_changes():
    y = torch.tensor([[1.0, -1.0], [0.0, 0.0]], dtype=torch.float64)
    operator, share = torch.zeros(2, 2, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    found = left_out_loss(operator, share, LeftOut(y @ y.T, 0 * y @ y.T, 0 * y @ y.T))
    assert float(found) == 1.5  # no correlation, and all of the squared error
