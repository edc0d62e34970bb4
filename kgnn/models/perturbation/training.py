"""Training a perturbation network with Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kgnn.data.batches import Batch
from kgnn.data.conditions import CONTROL
from kgnn.data.differential import top_de_genes
from kgnn.data.screen import Screen
from kgnn.models.perturbation.losses import Loss, TrainingCells, check_output, make_optimizer, make_schedule
from kgnn.nn.conditions import ConditionBatch

Inputs = Callable[[list[str], Tensor, Tensor], ConditionBatch]
SCORE = "val_mse_top20"
SETTLED_ON = 20  # batches


class PerturbationTraining(pl.LightningModule):
    """One step: the change of each distinct condition, added to the control cells, against the cells.

    The defaults are GEARS' recipe: Adam, the learning rate halved each epoch (Roohani et al. 2024). Logs `loss` and
    `val_mse_top20`, the squared error of the condition means on their top 20 DE genes.

    Args:
        network: maps a `kgnn.nn.ConditionBatch` to the change [conditions, genes], or to a pair of it and a
            log-variance of the same shape. A method `extra_loss` of it, of the same batch, is added to the loss.
        inputs: condition names, counts [conditions] and the state [(conditions,) genes] → `ConditionBatch`.
        screen: the cells; conditions, validation: canonical names.
        loss, optimizer, schedule: see `kgnn.models.perturbation.losses`.
        learning_rate, weight_decay: of the optimiser.
        by_group: whether validation conditions start from control cells of their own groups, as `Batch.state` has it.
        batches: of training, for `settle`; read at once.
    """

    control_mean: Tensor

    def __init__(
        self,
        network: nn.Module,
        inputs: Inputs,
        screen: Screen,
        conditions: list[str],
        validation: list[str],
        *,
        loss: Loss,
        optimizer: Any = "adam",
        schedule: Any = "halve",
        learning_rate: float = 1e-3,
        weight_decay: float = 5e-4,
        by_group: bool = False,
        batches: Iterable[Batch] = (),
    ) -> None:
        super().__init__()
        self.network, self.inputs, self.loss = network, inputs, loss
        self.optimizer, self.schedule = optimizer, schedule
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.register_buffer("control_mean", torch.from_numpy(screen.control_mean).float(), persistent=False)
        expressed = (screen.mean([CONTROL, *conditions]) > 0) | screen.is_effects
        expressed.loc[CONTROL] = True
        self.expressed = {str(name): torch.from_numpy(row.to_numpy()) for name, row in expressed.iterrows()}
        self.validation = _targets(screen, validation, by_group) if validation else None
        self.modes = [(part, part.training) for part in network.modules()]
        norms = (part for part, training in self.modes if training and isinstance(part, _BatchNorm))
        self.norms = [part for part in norms if part.track_running_stats]  # none that the user froze
        told = (one for one in batches if len({*one.conditions} - {CONTROL}) > 1)  # a variance takes two
        few = islice(told if self.norms else (), SETTLED_ON)
        self.few = [(one.conditions, _counts(one), one.state) for one in few]
        self.settled = False

    def changes(self, batch: ConditionBatch) -> tuple[Tensor, Tensor | None]:
        """Change of each condition, checked, and log-variance."""
        return check_output(self.network(batch), self.network, len(batch.counts), len(self.control_mean))

    def configure_optimizers(self) -> Any:
        fused = "mixed" not in str(self.trainer.precision)  # Lightning does not clip for a fused optimizer under AMP
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay, "fused": fused}
        optimizer = make_optimizer(self.optimizer, self.network.parameters(), **options)
        schedule = make_schedule(self.schedule, optimizer)
        return [optimizer], [] if schedule is None else [schedule]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        self.settled = False
        counts = _counts(batch)
        inputs = self._taken(batch.conditions, counts, batch.state)
        change, log_variance = self.changes(inputs)
        predicted = batch.control + change.index_select(0, batch.condition)
        if log_variance is not None:
            log_variance = log_variance.index_select(0, batch.condition)
        if batch.measured is not None:  # what is missing teaches nothing
            predicted = torch.where(batch.measured, predicted, batch.target)
            log_variance = None if log_variance is None else log_variance.where(batch.measured, 0.0)
        cells = TrainingCells(
            batch.control,
            self.control_mean,
            batch.condition,
            counts,
            torch.stack([self.expressed[name] for name in batch.conditions]).to(self.device),
            log_variance,
        )
        loss = self.loss(predicted, batch.target, cells)
        if hasattr(self.network, "extra_loss"):
            loss = loss + self.network.extra_loss(inputs)  # type: ignore[operator]
        self.log("loss", loss, prog_bar=True, batch_size=len(batch.condition))
        return loss

    def _taken(self, conditions: list[str], counts: Tensor, state: Tensor | None) -> ConditionBatch:
        return self.inputs(conditions, counts, self.control_mean if state is None else state.to(self.device))

    def settle(self) -> None:
        """Give batch norms the statistics of the network as it is, over the first batches of an epoch (Wu & Johnson,
        arXiv:2105.07576). Running ones lag: a mean that drifts with every step is soon far off where
        conditions differ by little, and predictions are then noise."""
        if self.settled or not self.few:
            return
        now = [(part, part.training) for part in self.network.modules()]
        momenta = [norm.momentum for norm in self.norms]
        _set_modes(self.modes)
        for norm in self.norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)  # dropout
            for one in self.few:
                self.network(self._taken(*one))
        for norm, momentum in zip(self.norms, momenta, strict=True):
            norm.momentum = momentum
        _set_modes(now)
        self.settled = True

    def on_validation_start(self) -> None:
        self.settle()

    def on_train_end(self) -> None:
        self.settle()

    def validation_step(self, _batch: Any, _: int) -> None:
        assert self.validation is not None
        names, observed, top, state = self.validation
        change, _log_variance = self.changes(self._taken(names, torch.ones(len(names)), state))
        error = (change - observed.to(self.device)).square()
        score = error.gather(1, top.to(self.device)).mean()
        self.log(SCORE, score, prog_bar=True, batch_size=len(names))


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for part, training in modes:
        part.training = training


def _counts(batch: Batch) -> Tensor:
    return torch.bincount(batch.condition, minlength=len(batch.conditions))


def _targets(screen: Screen, validation: list[str], by_group: bool) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Names, mean change [conditions, genes], numbers of the top DE genes [conditions, n], control state [(conditions,)
    genes]."""
    top = top_de_genes(screen, validation)
    change = torch.from_numpy(screen.changes(validation).to_numpy()).float()
    state = screen.reference(validation).to_numpy() if by_group else screen.control_mean
    best = torch.from_numpy(np.stack([top[name] for name in validation]))
    return validation, change, best, torch.from_numpy(np.array(state)).float()
