"""GEARS, encoder and decoder together."""

import torch
from torch import Tensor, nn

from kgnn.nn.conditions import ConditionBatch
from kgnn.nn.heads import GearsDecoder


class GEARS(nn.Module):
    """GEARS (Roohani, Huang, Leskovec, Nat Biotechnol 2024): the change each distinct condition brings.

    Args:
        encoder: `GearsEncoder`, or a module of the same shapes.
        n_genes: measured genes.
        channels: the encoder's width.
        uncertainty: also give each gene's log-variance.

    Shapes: a `ConditionBatch` → change [conditions, genes] and log-variance [conditions, genes] or None. A cell's
    prediction is its control cell plus its condition's change. Strengths are not used.
    """

    def __init__(self, encoder: nn.Module, n_genes: int, *, channels: int = 64, uncertainty: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = GearsDecoder(n_genes, channels, uncertainty)

    def forward(self, batch: ConditionBatch) -> tuple[Tensor, Tensor | None]:
        counts = batch.counts.to(self.decoder.out_bias.dtype)
        base, shift = self.encoder(batch.nodes, batch.offsets, counts)
        # batch statistics over genes × cells need float32, also under mixed precision
        with torch.autocast(base.device.type, enabled=False):
            return self.decoder(base.to(counts.dtype), shift.to(counts.dtype), counts)
