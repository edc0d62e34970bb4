import numpy as np
import pytest
import torch

from kgnn.nn import gears_loss, losses
from tests.peer_code import cell_gears

CONDITION = torch.tensor([0, 1, 0, 2, 1, 0])
GENES = 9


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.rand(6, GENES, generator=generator, dtype=torch.double) for _ in range(2))
    control = torch.rand(GENES, generator=generator, dtype=torch.double)
    expressed = torch.rand(3, GENES, generator=generator) < 0.7
    log_variance = torch.randn(6, GENES, generator=generator, dtype=torch.double)
    return prediction.requires_grad_(), target, control, expressed, log_variance


def by_hand(prediction, target, control, expressed, gamma=2, weight=0.1, log_variance=None, reg=1.0, soft=None):
    total = 0.0
    for c in range(3):
        cells, genes = np.flatnonzero(CONDITION.numpy() == c), np.flatnonzero(expressed[c].numpy())
        part = 0.0
        for cell in cells:
            for g in genes:
                p, y = float(prediction[cell, g].detach()), float(target[cell, g])
                error = abs(p - y) ** (2 + gamma)
                if log_variance is not None:
                    error *= 1 + reg * np.exp(-float(log_variance[cell, g]))
                direction = np.sign(p - float(control[g])) if soft is None else np.tanh(soft * (p - float(control[g])))
                part += error + weight * (np.sign(y - float(control[g])) - direction) ** 2
        total += part / (len(cells) * len(genes))
    return total / 3


def test_loss_is_the_formula(batch):
    prediction, target, control, expressed, log_variance = batch
    loss = gears_loss(prediction, target, control, CONDITION, expressed)
    assert loss.item() == pytest.approx(by_hand(prediction, target, control, expressed))
    loss = gears_loss(
        prediction, target, control, CONDITION, expressed,
        log_variance=log_variance, uncertainty_weight=0.5, soft_sign=3.0, gamma=1.0, direction_weight=0.3,
    )  # fmt: skip
    expected = by_hand(
        prediction, target, control, expressed, gamma=1, weight=0.3, log_variance=log_variance, reg=0.5, soft=3.0
    )
    assert loss.item() == pytest.approx(expected)


def test_loss_and_gradient_are_those_of_cell_gears(batch):
    utils = cell_gears("utils")
    prediction, target, control, expressed, log_variance = batch
    names = [f"c{number}" for number in CONDITION]
    kept = {f"c{number}": np.flatnonzero(row.numpy()) for number, row in enumerate(expressed)}
    options = {"ctrl": control, "direction_lambda": 0.1, "dict_filter": kept}
    theirs = utils.loss_fct(prediction, target, names, **options)
    ours = gears_loss(prediction, target, control, CONDITION, expressed)
    torch.testing.assert_close(ours, theirs, check_dtype=False)
    torch.testing.assert_close(
        torch.autograd.grad(ours, prediction)[0], torch.autograd.grad(theirs, prediction)[0], check_dtype=False
    )
    with torch.no_grad():  # with gradients theirs stops on a CPU: it adds to a leaf in place
        theirs = utils.uncertainty_loss_fct(prediction, log_variance, target, names, reg=1.0, **options)
        ours = gears_loss(prediction, target, control, CONDITION, expressed, log_variance=log_variance)
    torch.testing.assert_close(ours, theirs, check_dtype=False)


def test_only_the_soft_sign_has_a_gradient(batch):
    prediction, target, control, expressed, _ = batch
    for soft_sign, moves in ((None, False), (5.0, True)):
        with_term, without = (
            torch.autograd.grad(
                gears_loss(
                    prediction, target, control, CONDITION, expressed, direction_weight=weight, soft_sign=soft_sign
                ),
                prediction,
            )[0]
            for weight in (1.0, 0.0)
        )
        assert bool((with_term != without).any()) is moves


@pytest.mark.parametrize("block", [1, 20, 1 << 20])
@pytest.mark.parametrize("gamma", [2.0, 1.0])
@pytest.mark.parametrize("soft_sign", [None, 3.0])
def test_gradients_in_blocks_of_any_size(batch, block, gamma, soft_sign, monkeypatch):
    monkeypatch.setattr(losses, "BLOCK", block)
    prediction, target, control, expressed, log_variance = batch
    options = {"gamma": gamma, "soft_sign": soft_sign, "direction_weight": 0.3, "uncertainty_weight": 0.5}

    def loss(prediction, log_variance):
        return gears_loss(prediction, target, control, CONDITION, expressed, log_variance=log_variance, **options)

    assert torch.autograd.gradcheck(loss, (prediction, log_variance.requires_grad_()))
    assert torch.autograd.gradcheck(lambda p: loss(p, None), (prediction,))
