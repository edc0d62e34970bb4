"""Losses, optimisers and schedules by name and one's own, against torch's and hand calculations."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, RMSprop
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, ReduceLROnPlateau

from kgnn import PerturbationModel
from kgnn.data import read_screen, training_batches
from kgnn.errors import InputError
from kgnn.models.perturbation.losses import TrainingCells, make_optimizer, make_schedule, read_loss
from tests.models.own import QUICK, Own, Sum, Watch, same_weights, weights_of

ONE = {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}
PREDICTED = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0], [2.0, 2.0]])
OBSERVED = torch.tensor([[1.0, 4.0], [2.0, 4.0], [3.0, 1.0], [2.0, 4.0]])


@pytest.fixture
def cells():
    """Three cells of condition 0, one of condition 1; the second gene of condition 1 is not expressed."""
    return TrainingCells(
        control=torch.tensor([[0.0, 1.0]] * 4),
        control_mean=torch.tensor([0.5, 3.0]),
        condition=torch.tensor([0, 0, 1, 0]),
        counts=torch.tensor([3, 1]),
        expressed=torch.tensor([[True, True], [True, False]]),
        log_variance=None,
    )


def test_mse_counts_every_condition_alike(cells):
    by_cell = [(0 + 4) / 2, (1 + 0) / 2, (9 + 0) / 2, (0 + 4) / 2]
    expected = ((by_cell[0] + by_cell[1] + by_cell[3]) / 3 + by_cell[2]) / 2
    assert read_loss("mse")(PREDICTED, OBSERVED, cells).item() == pytest.approx(expected)


def test_gears_is_autofocus_and_direction_by_hand(cells):
    """Error to the fourth power; the direction is wrong once (cell 0, second gene: 2 below 3, 4 above) and once more
    in cell 3; where the one cell of condition 1 is not expressed nothing counts, at 0 < 0.5 < 3 its first gene does."""
    error = ((0 + 2**4) + (1 + 0) + (0 + 2**4)) / 6, 3**4 / 1
    direction = (4 + 4) / 6, 4 / 1
    expected = sum(e + 0.1 * d for e, d in zip(error, direction, strict=True)) / 2
    assert read_loss("gears")(PREDICTED, OBSERVED, cells).item() == pytest.approx(expected)
    named = read_loss("kgnn.models.perturbation.losses:autofocus")
    assert named(PREDICTED, OBSERVED, cells).item() == pytest.approx(expected)
    variance = cells._replace(log_variance=torch.full((4, 2), 0.5))
    factor = 1 + np.exp(-0.5)
    expected = sum(factor * e + 0.1 * d for e, d in zip(error, direction, strict=True)) / 2
    assert read_loss("gears")(PREDICTED, OBSERVED, variance).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss", [nn.HuberLoss, nn.HuberLoss(), F.huber_loss, "torch.nn:HuberLoss", partial(F.huber_loss, delta=1.0)]
)
def test_a_loss_by_class_instance_function_and_import_string(cells, loss):
    expected = F.huber_loss(PREDICTED, OBSERVED)
    assert torch.equal(read_loss(loss)(PREDICTED, OBSERVED, cells), expected)


def test_an_instance_keeps_its_options(cells):
    found = read_loss(nn.HuberLoss(delta=0.25))(PREDICTED, OBSERVED, cells)
    assert torch.equal(found, F.huber_loss(PREDICTED, OBSERVED, delta=0.25))


class WithCells(nn.Module):
    def forward(self, predicted, observed, batch):
        return (predicted - observed).mean() + batch.counts.max()


@pytest.mark.parametrize("loss", [WithCells, WithCells(), WithCells().forward])
def test_a_parameter_named_batch_gets_the_cells(cells, loss):
    assert read_loss(loss)(PREDICTED, OBSERVED, cells).item() == pytest.approx(-6 / 8 + 3)


def test_a_loss_without_that_parameter_gets_two_arguments(cells):
    seen = []
    read_loss(lambda *both: seen.append(both) or both[0].sum())(PREDICTED, OBSERVED, cells)
    assert [torch.equal(a, b) for a, b in zip(seen[0], (PREDICTED, OBSERVED), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (nn.MSELoss(reduction="none"), r"the loss returned \[4, 2\]; it must return one number"),
        (lambda p, o: (p - o).square().mean(1), r"the loss returned \[4\]"),
        (lambda p, o: float((p - o).square().mean()), "the loss returned float"),
        (lambda p, o: None, "the loss returned NoneType"),
    ],
)
def test_what_is_no_single_number_is_refused(cells, loss, match):
    with pytest.raises(InputError, match=match):
        read_loss(loss)(PREDICTED, OBSERVED, cells)


def test_what_is_no_loss_is_refused():
    with pytest.raises(InputError, match=r"unknown loss 'msee'; did you mean mse.; choose mse, gears"):
        read_loss("msee")
    with pytest.raises(InputError, match="loss 3 cannot be called"):
        read_loss(3)


def test_a_function_of_torch_without_a_signature_can_be_a_loss(cells):
    found = read_loss(torch.dist)(PREDICTED, OBSERVED, cells)
    assert found.item() == pytest.approx(np.sqrt(4 + 1 + 9 + 4))


# optimisers


def parameters():
    return [nn.Parameter(torch.tensor([1.0, -2.0]))]


OPTIONS = {"lr": 0.125, "weight_decay": 0.5, "fused": False}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        (RMSprop, RMSprop),
        ("torch.optim:NAdam", torch.optim.NAdam),
    ],
)
def test_optimizers_get_what_they_take(name, kind):
    found = make_optimizer(name, iter(parameters()), **OPTIONS)
    assert type(found) is kind
    (group,) = found.param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.125, 0.5, 1)


def test_what_a_partial_has_set_stays():
    (group,) = make_optimizer(partial(SGD, lr=0.5, momentum=0.9), parameters(), **OPTIONS).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 0.5)


def test_a_function_makes_an_optimizer():
    (group,) = make_optimizer(lambda p: SGD(p, lr=0.3), parameters(), **OPTIONS).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.3, 0)
    (group,) = make_optimizer(lambda p, lr: SGD(p, lr=2 * lr), parameters(), **OPTIONS).param_groups
    assert group["lr"] == 0.25


@pytest.mark.parametrize(
    ("optimizer", "match"),
    [
        ("adan", "unknown optimizer 'adan'; did you mean adam"),
        (3, "optimizer 3 cannot be called"),
        (lambda p: p, "gave a list, not a torch Optimizer"),
        (lambda p: ExponentialLR(SGD(p), 0.5), "gave a ExponentialLR, not a torch Optimizer"),
        (lambda p, needed: SGD(p), "cannot be made.*needed.*functools.partial"),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer, match):
    with pytest.raises(InputError, match=match):
        make_optimizer(optimizer, parameters(), **OPTIONS)


# schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("halve", [1, 1 / 2, 1 / 4]),
        ("constant", [1, 1, 1]),
        (partial(ExponentialLR, gamma=0.1), [1, 1 / 10, 1 / 100]),
        (lambda optimizer: ConstantLR(optimizer, 0.5, total_iters=2), [1 / 2, 1 / 2, 1]),
        ("torch.optim.lr_scheduler:LinearLR", [1 / 3, 1 / 3 + 2 / 15, 1 / 3 + 4 / 15]),
    ],
)
def test_schedules_step_once_an_epoch(screen, schedule, expected):
    watch = Watch()
    options = QUICK | {"max_epochs": 3, "schedule": schedule, "callbacks": [watch]}
    PerturbationModel(encoder=Own).fit(screen, **options)
    np.testing.assert_allclose(watch.rates, 0.01 * np.array(expected))


@pytest.mark.parametrize(
    ("schedule", "match"),
    [
        ("halv", "unknown schedule 'halv'; did you mean halve"),
        (0.5, "schedule 0.5 cannot be called"),
        (lambda optimizer: 0.5, "gave a float, not a torch LRScheduler"),
        (ExponentialLR, "cannot be made.*gamma.*functools.partial"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule, match):
    with pytest.raises(InputError, match=match):
        make_schedule(schedule, SGD(parameters()))


def test_a_schedule_that_needs_a_score_is_refused(screen):
    with pytest.raises(InputError, match="monitor"):
        PerturbationModel(encoder=Own).fit(screen, schedule=ReduceLROnPlateau, **ONE)


# in training


@pytest.mark.parametrize("loss", ["mse", nn.HuberLoss])
@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam)])
def test_training_is_what_torch_does_with_the_same_batches(screen, name, kind, loss):
    """Three epochs of small batches, gradients clipped at 1, the rate halved: written out."""
    read = read_screen(screen)
    conditions, genes = read.conditions[:5], list(read.genes)
    torch.manual_seed(1)
    own = Sum(len(genes), len(genes))
    network = copy.deepcopy(own)
    options = ONE | {"max_epochs": 3, "batch_size": 20, "learning_rate": 0.5, "weight_decay": 0.01}
    split = {"train": conditions, "val": [], "test": []}
    model = PerturbationModel(encoder=own).fit(screen, split, seed=4, optimizer=name, loss=loss, **options)

    optimizer = kind(network.parameters(), lr=0.5, weight_decay=0.01)
    batches = training_batches(read, conditions, 20, seed=4)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.5 / 2**epoch
        for batch in batches:
            perturbed = [[genes.index(gene) for gene in name.split("+") if gene] for name in batch.conditions]
            change = torch.stack([network.out(-network.vectors.weight[rows].sum(0)) for rows in perturbed])
            predicted = batch.control + change[batch.condition]
            if loss == "mse":
                errors = (predicted - batch.target).square().mean(1)
                value = torch.stack([errors[batch.condition == c].mean() for c in range(len(change))]).mean()
            else:
                value = F.huber_loss(predicted, batch.target)
            optimizer.zero_grad()
            value.backward()
            for parameter in network.parameters():
                parameter.grad.clamp_(-1, 1)
            optimizer.step()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(model.network_.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def fit(encoder, screen, **options):
    model = PerturbationModel(encoder=encoder, channels=4)
    return model.fit(screen, **QUICK | {"max_epochs": 1} | options)


def test_each_encoder_has_its_own_default_loss(screen):
    for encoder, own, other in ((Own, "mse", "gears"), ("cpa", "mse", "gears"), ("gears", "gears", "mse")):
        default, same, different = (weights_of(fit(encoder, screen, loss=loss)) for loss in (None, own, other))
        assert same_weights(default, same)
        assert not same_weights(default, different)


def test_options_of_gears_reach_its_loss_unless_another_is_given(screen):
    plain, directed, replaced, mse = (
        weights_of(PerturbationModel(encoder="gears", channels=4, **options).fit(screen, **ONE, loss=loss))
        for options, loss in (
            ({}, None),
            ({"soft_sign": 5.0, "direction_weight": 3.0}, None),
            ({"soft_sign": 5.0, "direction_weight": 3.0}, "mse"),
            ({}, "mse"),
        )
    )
    assert not same_weights(plain, directed)
    assert same_weights(replaced, mse)


def test_a_loss_sees_the_cells_of_the_step(screen):
    seen = []

    def loss(predicted, observed, batch):
        seen.append((predicted.detach(), observed, batch))
        return (predicted - observed).square().mean()

    fit(Own, screen, loss=loss, batch_size=50)
    read = read_screen(screen)
    batches = training_batches(read, read.conditions, 50, seed=0)
    for (predicted, observed, cells), batch in zip(seen, batches, strict=True):
        assert torch.equal(observed, batch.target)
        assert torch.equal(cells.control, batch.control)
        assert torch.equal(cells.condition, batch.condition)
        assert cells.counts.tolist() == [int((batch.condition == n).sum()) for n in range(len(batch.conditions))]
        np.testing.assert_allclose(cells.control_mean, read.control_mean, rtol=1e-6)
        assert cells.log_variance is None
        for number, name in enumerate(batch.conditions):
            mean = read.mean([name]).to_numpy()[0]
            assert cells.expressed[number].tolist() == [True] * len(mean) if not name else (mean > 0).tolist()
        control = batch.condition == batch.conditions.index("")
        assert torch.equal(predicted[control], batch.control[control])


def test_one_s_own_optimizer_and_schedule_train(screen):
    watch = Watch()
    settings = {"optimizer": partial(SGD, lr=0.25), "schedule": "constant", "callbacks": [watch], "max_epochs": 2}
    model = fit(Own, screen, **settings)
    assert watch.rates == [0.25, 0.25]
    assert not same_weights(weights_of(model), watch.states[0])
    for wrong, match in (({"optimizer": lambda p: None}, "gave a NoneType"), ({"schedule": lambda o: o}, "gave a SGD")):
        with pytest.raises(InputError, match=match):
            fit(Own, screen, **settings | wrong)


def test_losses_by_import_string_of_one_s_own(screen, module):
    module("my_losses", "def l1(predicted, observed):\n    return (predicted - observed).abs().mean()\n")
    found, expected = (weights_of(fit(Own, screen, loss=loss)) for loss in ("my_losses:l1", nn.L1Loss))
    assert same_weights(found, expected)
