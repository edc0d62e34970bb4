"""Losses, optimisers and schedules by name, and how one's own are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from kgnn.errors import InputError
from kgnn.nn.losses import gears_loss
from kgnn.parts import options_of, resolve


class TrainingCells(NamedTuple):
    """The cells of a step, for a loss that asks for them as `batch`.

    control [cells, genes]: the control cell paired with each; control_mean [genes]; condition [cells]: number of each
    cell's condition in the batch; counts [conditions]; expressed [conditions, genes]: whether the condition's mean is
    above zero; log_variance [cells, genes], or None.
    """

    control: Tensor
    control_mean: Tensor
    condition: Tensor
    counts: Tensor
    expressed: Tensor
    log_variance: Tensor | None


Loss = Callable[..., Tensor]


def mse(predicted: Tensor, observed: Tensor, batch: TrainingCells) -> Tensor:
    """Mean squared error, every condition of the batch counting alike."""
    error = (predicted - observed).square().mean(1)
    weight = 1 / (batch.counts[batch.condition] * len(batch.counts))
    return (error * weight).sum()


def autofocus(predicted: Tensor, observed: Tensor, batch: TrainingCells, **options: Any) -> Tensor:
    """GEARS' loss, see `kgnn.nn.gears_loss`, which has the options."""
    return gears_loss(
        predicted,
        observed,
        batch.control_mean,
        batch.condition,
        batch.expressed,
        log_variance=batch.log_variance,
        **options,
    )


LOSSES: dict[str, Loss] = {"mse": mse, "gears": autofocus}
OPTIMIZERS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SCHEDULES: dict[str, Any] = {"halve": partial(StepLR, step_size=1, gamma=0.5), "constant": None}


def read_loss(loss: Any) -> Loss:
    """A loss by name, import string, function, module or class of one: `loss(predicted, observed)`, [cells, genes]
    each, with a third parameter named `batch` the `TrainingCells` too; returns one number."""
    found: Any = resolve(loss, LOSSES, "loss")
    found = found() if inspect.isclass(found) else found
    function = found.forward if isinstance(found, nn.Module) else found
    if not callable(function):
        raise InputError(f"loss {loss!r} cannot be called; give a function of predicted and observed expression")
    try:
        asks = "batch" in options_of(function)
    except ValueError:  # written in C
        asks = False

    def call(predicted: Tensor, observed: Tensor, batch: TrainingCells) -> Tensor:
        value = found(predicted, observed, batch=batch) if asks else found(predicted, observed)
        if not isinstance(value, Tensor) or value.ndim:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"the loss returned {shape}; it must return one number, a tensor without dimensions")
        return value

    return call


def make_optimizer(optimizer: Any, parameters: Iterable[nn.Parameter], **options: Any) -> Optimizer:
    """An optimiser by name, import string, class or function of the parameters (`functools.partial` for options)."""
    return _make(resolve(optimizer, OPTIMIZERS, "optimizer"), list(parameters), Optimizer, "optimizer", options)


def make_schedule(schedule: Any, optimizer: Optimizer) -> LRScheduler | None:
    """A learning-rate schedule that steps once an epoch, by name, import string, class or function of the optimiser."""
    found = resolve(schedule, SCHEDULES, "schedule")
    return None if found is None else _make(found, optimizer, LRScheduler, "schedule", {})


def _make(make: Any, of: Any, kind: type, what: str, options: dict[str, Any]) -> Any:
    if not callable(make):
        raise InputError(f"{what} {make!r} cannot be called; give a class, or a function that makes one")
    set_already = getattr(make, "keywords", {})
    takes = [name for name in options_of(make) if name not in set_already]
    try:
        found = make(of, **{name: value for name, value in options.items() if name in takes})
    except TypeError as error:
        raise InputError(f"{what} {make!r} cannot be made: {error}; set its options by functools.partial") from None
    if not isinstance(found, kind):
        raise InputError(f"{what} {make!r} gave a {type(found).__name__}, not a torch {kind.__name__}")
    return found


def check_output(found: Any, network: nn.Module, conditions: int, genes: int) -> tuple[Tensor, Tensor | None]:
    """Return change and log-variance, or refuse what a network returned."""
    parts = found if isinstance(found, tuple | list) else (found, None)
    shapes = [
        list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts if part is not None
    ]
    if len(parts) != 2 or parts[0] is None or any(shape != [conditions, genes] for shape in shapes):
        raise InputError(
            f"{type(network).__name__}.forward returned {' and '.join(map(str, shapes))}; it must return the change of "
            f"each gene in each condition, [conditions, genes] = [{conditions}, {genes}], or a pair of that and a "
            "log-variance of the same shape"
        )
    return parts[0], parts[1]
