"""Training a perturbation network with Lightning."""

import copy
import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kgnn.data.batches import Batch
from kgnn.data.conditions import CONTROL
from kgnn.data.differential import top_de_genes
from kgnn.data.screen import Screen
from kgnn.nn.losses import gears_loss

logger = logging.getLogger("kgnn")

Bags = Callable[[list[str]], tuple[Tensor, Tensor]]
VALIDATION_SCORE = "val_mse_top20"


class PerturbationTraining(pl.LightningModule):
    """GEARS' recipe: Adam, the learning rate halved each epoch, the autofocus loss (Roohani et al. 2024).

    Args:
        network: takes perturbed genes, offsets and counts, see `kgnn.nn.GEARS`.
        bags: condition names → perturbed genes and offsets.
        control_mean: [genes].
        expressed: training condition → [genes], whether its mean is above zero.
        validation: names of the validation conditions, their mean expression [conditions, genes], and the numbers
            of their top DE genes [conditions, n]; None without validation.
        loss: options of `gears_loss`; None: mean squared error, every condition of the batch counting alike.
    """

    def __init__(
        self,
        network: nn.Module,
        bags: Bags,
        control_mean: Tensor,
        expressed: dict[str, Tensor],
        validation: tuple[list[str], Tensor, Tensor] | None,
        *,
        learning_rate: float,
        weight_decay: float,
        loss: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self.network, self.bags, self.expressed, self.validation = network, bags, expressed, validation
        self.learning_rate, self.weight_decay, self.loss = learning_rate, weight_decay, loss
        self.register_buffer("control_mean", control_mean, persistent=False)

    def configure_optimizers(self) -> Any:
        fused = "mixed" not in str(self.trainer.precision)  # Lightning does not clip for a fused optimizer under AMP
        optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused
        )
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        perturbed, offsets = (part.to(self.device) for part in self.bags(batch.conditions))
        counts = torch.bincount(batch.condition, minlength=len(batch.conditions))
        change, log_variance = self.network(perturbed, offsets, counts)
        predicted = batch.control + change.index_select(0, batch.condition)
        if self.loss is None:
            error = (predicted - batch.target).square().mean(1)
            weight = 1 / (counts[batch.condition] * len(counts))
            loss = (error * weight).sum()
            self.log("loss", loss, prog_bar=True, batch_size=len(batch.condition))
            return loss
        loss = gears_loss(
            predicted,
            batch.target,
            self.control_mean,
            batch.condition,
            torch.stack([self.expressed[name] for name in batch.conditions]).to(self.device),
            log_variance=None if log_variance is None else log_variance.index_select(0, batch.condition),
            **self.loss,
        )
        self.log("loss", loss, prog_bar=True, batch_size=len(batch.condition))
        return loss

    def validation_step(self, _batch: Any, _: int) -> None:
        assert self.validation is not None
        names, mean, top = self.validation
        perturbed, offsets = (part.to(self.device) for part in self.bags(names))
        change, _ = self.network(perturbed, offsets, torch.ones(len(names), device=self.device))
        error = (self.control_mean + change - mean.to(self.device)).square()
        score = error.gather(1, top.to(self.device)).mean()
        self.log(VALIDATION_SCORE, score, prog_bar=True, batch_size=len(names))


def make_task(
    network: nn.Module, bags: Bags, screen: Screen, conditions: list[str], validation: list[str], **options: Any
) -> PerturbationTraining:
    """Prepare training on the cells of `conditions`; `options` as for `PerturbationTraining`."""
    expressed = screen.mean([CONTROL, *conditions]) > 0
    expressed.loc[CONTROL] = True
    targets = None
    if validation:
        top = top_de_genes(screen, validation)
        mean = torch.from_numpy(screen.mean(validation).to_numpy()).float()
        targets = validation, mean, torch.from_numpy(np.stack([top[name] for name in validation]))
    masks = {name: torch.from_numpy(row.to_numpy()) for name, row in expressed.iterrows()}
    control_mean = torch.from_numpy(screen.control_mean).float()
    return PerturbationTraining(network, bags, control_mean, masks, targets, **options)


class KeepBest(Callback):
    """Hold the network's state of the best validation epoch in memory and put it back at the end."""

    def __init__(self, name: str = VALIDATION_SCORE) -> None:
        self.name = name
        self.score, self.epoch, self.history = float("inf"), -1, []  # type: ignore[var-annotated]
        self.state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.name])
        self.history.append(score)
        if score < self.score:
            self.score, self.epoch = score, trainer.current_epoch
            self.state = copy.deepcopy(pl_module.network.state_dict())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.state:
            pl_module.network.load_state_dict(self.state)
            logger.info(
                "best epoch %d of %d, %s %.5f",
                self.epoch + 1,
                len(self.history),
                self.name,
                self.score,
            )


def train(
    task: PerturbationTraining, batches: DataLoader, *, max_epochs: int, patience: int, **trainer: Any
) -> list[float]:
    """Fit and leave the best epoch's weights in the network; return the validation score of each epoch."""
    best = KeepBest()
    callbacks: list[Callback] = [*trainer.pop("callbacks", [])]
    validation: DataLoader | None = None
    if task.validation is not None:
        callbacks += [best, EarlyStopping(VALIDATION_SCORE, patience=patience, check_finite=True)]
        validation = DataLoader([0])  # type: ignore[arg-type]
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
        "gradient_clip_algorithm": "value",
        "num_sanity_val_steps": 0,
    }
    with warnings.catch_warnings():  # Lightning 2.6 calls a function that PyTorch 2.13 deprecates
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        pl.Trainer(max_epochs=max_epochs, callbacks=callbacks, **(options | trainer)).fit(task, batches, validation)
    return best.history
