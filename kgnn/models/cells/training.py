"""Training a cell network with Lightning: which masks, which objectives."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from kgnn.data.cells import CellRows, Kind
from kgnn.errors import InputError
from kgnn.models.cells.tokens import Genes, GraphOf, choose_genes, log_normalise, make_tokens, pick
from kgnn.nn.cells import CellNetwork, Encoded

MASKED = 0.15  # mean share of masked tokens; a cell's own share lies between none and twice that
HIDDEN = 0.5  # of those the share whose identity is hidden too, where identities are predicted
THINNED = 0.6  # share of counts that down-sampling removes (scPRINT)
WARM_UP = 0.1  # share of the steps in which the learning rate and the knowledge are faded in
SCORE = "val_loss"


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
