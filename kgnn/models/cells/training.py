"""Training a cell network with Lightning: which genes, which masks, which objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kgnn.data.cells import CellRows, Kind, ShuffledCells
from kgnn.errors import InputError
from kgnn.models.lightning import Run, run_trainer
from kgnn.nn.cells import CellNetwork, CellTokens, Encoded
from kgnn.nn.token_encoders import TokenGraph
from kgnn.parts import check_number, check_options, options_of

Genes = Literal["all", "variable", "sampled", "expressed"]
GraphOf = Callable[[Tensor, Tensor | None], TokenGraph]

OBJECTIVES = {
    "gene": 0.0,
    "value": 1.0,
    "denoise": 0.0,
    "bottleneck": 0.0,
    "classify": 1.0,
    "dissimilar": 0.1,
    "coherence": 0.0,
    "relation": 0.0,
}
MASKED = 0.15  # mean share of masked tokens; a cell's own share lies between none and twice that
HIDDEN = 0.5  # of those the share whose identity is hidden too, where identities are predicted
THINNED = 0.6  # share of counts that down-sampling removes (scPRINT)
WARM_UP = 0.1  # share of the steps in which the learning rate and the knowledge are faded in
SCORE = "val_loss"


def log_normalise(x: Tensor, kind: Kind) -> Tensor:
    """log1p of counts per 10,000; log-normalised values as they are."""
    return x if kind == "log" else torch.log1p(1e4 * x / x.sum(1, keepdim=True).clamp_min(1))


def choose_genes(x: Tensor, genes: Genes, context: int, chosen: Tensor, training: bool) -> tuple[Tensor, Tensor | None]:
    """Return the gene tokens of a batch and what of them is no padding.

    Args:
        x: [cells, vocabulary]; chosen: the genes of `all` and `variable`.

    Returns:
        genes [tokens] and None where all cells have the same: `all`, `variable`, or `sampled` (those that any cell of
        the batch expresses first, then others, at random in training, the most widely expressed ones otherwise).
        `expressed`: [cells, tokens], each cell's own expressed genes (at random in training, the largest values
        otherwise), and [cells, tokens] bool, False for padding.
    """
    if genes in ("all", "variable"):
        return chosen, None
    n = min(context, x.shape[1])
    if genes == "sampled":
        order = (x > 0).float().mean(0)
        order = (order > 0) + torch.rand_like(order) if training else order
        return order.topk(n).indices.sort().values, None
    order = (x > 0) + torch.rand_like(x) if training else x
    most = max(1, min(n, int((x > 0).sum(1).max())))
    found = order.topk(most, dim=1).indices
    return found, x.gather(1, found) > 0


def make_tokens(
    x: Tensor, species: Tensor | None, kind: Kind, genes: Tensor, present: Tensor | None, graph: GraphOf
) -> CellTokens:
    """The tokens of cells [cells, vocabulary] at these genes."""
    value = log_normalise(x, kind)
    total = x.sum(1) if kind == "counts" else x.expm1().sum(1)
    return CellTokens(genes, pick(x, genes), pick(value, genes), value, total, graph(genes, present), species)


def pick(x: Tensor, genes: Tensor) -> Tensor:
    """[cells, tokens] of [cells, vocabulary]."""
    return x[:, genes] if genes.ndim == 1 else x.gather(1, genes)


class Training:
    """How to train: the options of `CellModel.fit`, checked before anything is read.

    Raises:
        InputError: numbers that make no sense, options that `lightning.pytorch.Trainer` does not have.
    """

    def __init__(
        self,
        max_epochs: int = 20,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        validation: float = 0.0,
        patience: int | None = None,
        seed: int = 0,
        ckpt_path: str | Path | None = None,
        **trainer: Any,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("max_epochs", max_epochs, 0), ("seed", seed, 0)):
            check_number(value, name, least, whole=True)
        if not 0 <= validation < 1:
            raise InputError(f"validation is a share of the cells, from 0 to less than 1, not {validation}")
        check_options(trainer, options_of(pl.Trainer), "fit")
        self.max_epochs, self.batch_size, self.validation, self.patience = max_epochs, batch_size, validation, patience
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, seed
        self.ckpt_path, self.trainer = ckpt_path, trainer


class CellTraining(pl.LightningModule):
    """The weighted sum of the objectives that have a weight; AdamW, warm-up, then a cosine to zero.

    Args:
        network: the network. weights: objective → weight. kind: of the values.
        genes, context, chosen: see `choose_genes`. graph: genes and padding → who hears whom.
        aligned: column of the labels that the ontology's losses look at.
    """

    def __init__(
        self,
        network: CellNetwork,
        weights: dict[str, float],
        *,
        kind: Kind,
        genes: Genes,
        context: int,
        chosen: Tensor,
        graph: GraphOf,
        aligned: int | None,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        super().__init__()
        self.network, self.weights, self.kind, self.aligned = network, weights, kind, aligned
        self.genes, self.context, self.graph = genes, context, graph
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.register_buffer("chosen", chosen, persistent=False)
        self.history: list[float] = []  # mean training loss of each epoch
        self._losses: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, betas=(0.9, 0.98)
        )
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=max(1, int(WARM_UP * steps)))
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - int(WARM_UP * steps)))
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [max(1, int(WARM_UP * steps))])
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    @property
    def warmup(self) -> float:
        steps = WARM_UP * max(1, int(self.trainer.estimated_stepping_batches))
        return min(1.0, (self.global_step + 1) / max(1.0, steps))

    def losses(self, rows: CellRows) -> dict[str, Tensor]:
        """Every objective that has a weight, for a batch."""
        weights, network = self.weights, self.network
        counts = weights["denoise"] > 0 or weights["bottleneck"] > 0
        masking = weights["gene"] > 0 or weights["value"] > 0
        x = thin(rows.x) if counts else rows.x
        genes, present = choose_genes(x, self.genes, self.context, self.chosen, self.training)
        batch = make_tokens(x, rows.species, self.kind, genes, present, self.graph)
        warmup = self.warmup if self.training else 1.0
        masked = hidden = None
        if masking:
            share = 2 * MASKED * torch.rand(len(x), 1, device=x.device) if self.training else MASKED
            masked = torch.rand_like(batch.value) < share
            masked = masked if present is None else masked & present
            hidden = masked & (torch.rand_like(batch.value) < (HIDDEN if weights["gene"] > 0 else 0.0))
        encoded = network.encode(batch, masked, hidden if weights["gene"] > 0 else None, warmup)
        again = encoded
        if weights["relation"] > 0:
            seen = choose_genes(rows.x, self.genes, self.context, self.chosen, self.training)
            whole = make_tokens(rows.x, rows.species, self.kind, *seen, self.graph)
            again = network.encode(whole, warmup=warmup)
        with torch.autocast(x.device.type, enabled=False):
            encoded, again = (Encoded(*(part.float() for part in found)) for found in (encoded, again))
            found: dict[str, Tensor] = {}
            if masked is not None and hidden is not None:
                value = pick(log_normalise(rows.x, self.kind), genes)
                found["gene"], found["value"] = network.masked_losses(encoded, batch, value, masked, hidden)
            if counts:
                found["denoise"], found["bottleneck"] = network.count_losses(encoded, batch, pick(rows.x - x, genes))
            if weights["classify"] > 0 and network.labels:
                each = [
                    network.classification_loss(name, encoded, rows.labels[:, number])
                    for number, name in enumerate(network.labels)
                ]
                found["classify"] = torch.stack(each).mean()
            if weights["dissimilar"] > 0 and len(network.labels) > 1:
                found["dissimilar"] = network.dissimilarity(encoded)
            if self.aligned is not None and (weights["coherence"] > 0 or weights["relation"] > 0):
                both = network.alignment_losses(again, encoded, rows.labels[:, self.aligned])
                found["coherence"], found["relation"] = both
        return {name: loss for name, loss in found.items() if weights[name] > 0}

    def _total(self, rows: CellRows) -> Tensor:
        return torch.stack([self.weights[name] * loss for name, loss in self.losses(rows).items()]).sum()

    def training_step(self, rows: CellRows, _: int) -> Tensor:
        loss = self._total(rows)
        self.log("loss", loss, prog_bar=True, batch_size=len(rows.x))
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.history.append(float(torch.stack(self._losses).mean()))
        self._losses.clear()
        held_out = float(self.trainer.callback_metrics.get(SCORE, 0.0))
        if not math.isfinite(self.history[-1] + held_out):
            raise InputError(f"training diverged in epoch {self.current_epoch + 1}; lower learning_rate=")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = list(self.history)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint["history"])

    def on_validation_epoch_start(self) -> None:
        self._state = torch.get_rng_state()
        torch.manual_seed(0)  # the same masks each epoch

    def on_validation_epoch_end(self) -> None:
        torch.set_rng_state(self._state)

    def validation_step(self, rows: CellRows, _: int) -> None:
        self.log(SCORE, self._total(rows), prog_bar=True, batch_size=len(rows.x), sync_dist=True)


def thin(counts: Tensor) -> Tensor:
    """Down-sample half of the cells: each count is kept with the probability 0.4, independently (scPRINT).

    What is taken away is then predicted. Given the cell's rates it is independent of what is left (molecular
    cross-validation, Batson et al. 2019), so that copying the input gains nothing; scPRINT predicts the full counts.
    """
    some = torch.rand(len(counts), 1, device=counts.device) < 0.5
    return torch.where(some, torch.binomial(counts, torch.full_like(counts, 1 - THINNED)), counts)


def train_cells(task: CellTraining, cells: ShuffledCells, validation: ShuffledCells | None, training: Training) -> Run:
    """Fit; with validation cells leave the best epoch's weights. The history is the loss on them, else in training."""
    if not training.max_epochs:
        return Run([], None)
    trainer = dict(training.trainer)
    if trainer.get("strategy") == "ddp":  # which heads have a gradient depends on the objectives and the labels
        trainer["strategy"] = "ddp_find_unused_parameters_true"
    loaders = [None if part is None else DataLoader(part, batch_size=None) for part in (cells, validation)]
    run = run_trainer(
        task,
        *loaders,
        monitor=SCORE,
        max_epochs=training.max_epochs,
        patience=training.patience,
        ckpt_path=training.ckpt_path,
        defaults={"gradient_clip_val": 1.0},
        **trainer,
    )
    return run if validation is not None else run._replace(history=task.history)
