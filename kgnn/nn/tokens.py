"""Tokens of a cell: its genes with their expression and prior knowledge, and special tokens before them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Value = Literal["continuous", "rank", "binned"]
BINS = 51  # scGPT's number of expression bins
RANK_CHANNELS = 16  # of the sinusoidal code of a rank


class GeneTokens(nn.Module):
    """A gene's token: identity, expression and prior knowledge, concatenated and fused (GeneCompass, Yang et al. 2024).

    token = Linear(QuickGELU(LayerNorm(Linear([E[g] ; value ; W_r k_r[g] for each source r])))). What depends on the
    gene alone is computed once a gene, not once a cell. A masked token's value is replaced by a learned vector; so is
    its identity where it is hidden too. Sources' vectors are fixed and may be missing for some genes (NaN: the
    source's own learned vector stands in). A warm-up factor from 0 to 1 scales them early in training.

    Args:
        n_genes: genes of the vocabulary.
        channels: width of a token.
        knowledge: source → vectors [genes, any width]; whichever sources are given are used.
        value: how expression enters: `continuous`, the value itself (GeneCompass); `rank`, the share of the cell's
            expressed genes that it exceeds, as sinusoids (after Geneformer); `binned`, one of 51 bins of the cell's
            non-zero values (scGPT).
        position: [genes], genomic position, sinusoidally encoded and added (scPRINT); NaN where unknown.
        prior: [genes], the gene whose vectors each gene reads: orthologues share priors (GeneCompass).

    Shapes: genes [tokens] (the same in each cell) or [cells, tokens]; value [cells, tokens] log-normalised; masked and
    hidden [cells, tokens] bool → [cells, tokens, channels].
    """

    def __init__(
        self,
        n_genes: int,
        channels: int,
        *,
        knowledge: Mapping[str, Tensor] | None = None,
        value: Value = "continuous",
        position: Tensor | None = None,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.sources = value, list(knowledge or {})
        self.embedding = nn.Parameter(0.1 * torch.randn(n_genes, channels))
        self.known = nn.ParameterList()  # lists: a source may have any name
        self.readers = nn.ModuleList()
        for number, table in enumerate((knowledge or {}).values()):
            table = table.float() if prior is None else table.float()[prior]
            known = table.isfinite().all(1, keepdim=True)
            mean, spread = table[known[:, 0]].mean(0), table[known[:, 0]].std().clamp_min(1e-6)
            self.register_buffer(f"table_{number}", torch.where(known, (table - mean) / spread, 0.0))
            self.register_buffer(f"known_{number}", known.float())
            self.readers.append(nn.Linear(table.shape[1], channels))
            self.known.append(nn.Parameter(torch.zeros(channels)))
        width = {"continuous": 1, "rank": RANK_CHANNELS, "binned": channels}[value]
        if value == "binned":
            self.bins = nn.Embedding(BINS, channels)
        self.identity_in = nn.Linear(channels * (1 + len(self.sources)), channels)
        self.value_in = nn.Linear(width, channels, bias=False)
        self.masked = nn.Parameter(0.1 * torch.randn(channels))
        self.hidden = nn.Parameter(0.1 * torch.randn(channels))
        self.norm, self.out = nn.LayerNorm(channels), nn.Linear(channels, channels)
        code = None if position is None else sinusoids(position.nan_to_num(0.0), channels) * ~position.isnan()[:, None]
        self.register_buffer("position", code)

    def tables(self) -> dict[str, Tensor]:
        """Source → its vectors [genes, width], standardised."""
        return {source: getattr(self, f"table_{number}") for number, source in enumerate(self.sources)}

    def identities(self, warmup: float = 1.0) -> Tensor:
        """Embedding and knowledge of each gene, before its expression: [genes, channels]."""
        parts: list[Tensor] = [self.embedding]
        for number, (read, missing) in enumerate(zip(self.readers, self.known, strict=True)):
            table, known = getattr(self, f"table_{number}"), getattr(self, f"known_{number}")
            parts.append(warmup * torch.where(known > 0, read(table), missing))
        return self.identity_in(torch.cat(parts, 1))

    def forward(
        self,
        genes: Tensor,
        value: Tensor,
        masked: Tensor | None = None,
        hidden: Tensor | None = None,
        warmup: float = 1.0,
    ) -> Tensor:
        identity = F.embedding(genes, self.identities(warmup))
        x = self.value_in(self._value(value, masked))
        if masked is not None:
            x = torch.where(masked.unsqueeze(-1), self.masked, x)
        if hidden is not None:
            identity = torch.where(hidden.unsqueeze(-1), self.hidden, identity)
        x = self.norm(x + identity)
        x = self.out(x * torch.sigmoid(1.702 * x))  # QuickGELU
        position = self.position
        if position is None:
            return x
        place = F.embedding(genes, position)  # type: ignore[arg-type]
        return x + (place if hidden is None else place * ~hidden.unsqueeze(-1))

    def _value(self, value: Tensor, masked: Tensor | None) -> Tensor:
        if self.kind == "continuous":
            return value.unsqueeze(-1)
        shown = value if masked is None else value.masked_fill(masked, 0.0)  # a masked value must not tell the others'
        share = ranks(shown)
        if self.kind == "rank":
            return sinusoids(share * 1000, RANK_CHANNELS) * (shown > 0).unsqueeze(-1)
        return self.bins((share * (BINS - 1)).ceil().long())


class SpecialTokens(nn.Module):
    """Tokens before the genes: the cell, its depth, one a class, its species (scPRINT, Kalfon et al. 2025).

    Depth: a small MLP of log(1 + total counts). Species: one vector each (GeneCompass). The cell and the classes: a
    learned vector + a linear map of the cell's profile, (value − mean) · P over the whole vocabulary. P starts at the
    principal components of the training cells (`set_profile`), so that before any message has passed the tokens know
    what a linear model knows; attention from learned vectors alone, as published, has to find that first, which takes
    far more cells.

    Shapes: centred [cells, vocabulary], value − mean, 0 where masked; total [cells]; species [cells] or None
    → [cells, special tokens, channels], in the order of `names`.
    """

    mean: Tensor

    def __init__(self, n_genes: int, classes: list[str], channels: int, n_species: int = 1) -> None:
        super().__init__()
        self.names = ["cell", "depth", *classes] + (["species"] if n_species > 1 else [])
        self.vectors = nn.Parameter(0.1 * torch.randn(2 + len(classes), channels))
        self.depth = nn.Sequential(nn.Linear(1, channels), nn.GELU(), nn.Linear(channels, channels))
        self.species = nn.Embedding(n_species, channels) if n_species > 1 else None
        self.register_buffer("mean", torch.zeros(n_genes))
        self.profile = nn.Parameter(torch.randn(n_genes, channels) / n_genes**0.5)
        self.reads = nn.Parameter(torch.eye(channels).repeat(1 + len(classes), 1, 1))

    @torch.no_grad()
    def set_profile(self, mean: Tensor, components: Tensor) -> None:
        """Start from mean [vocabulary] and components [vocabulary, at most channels], of unit variance over cells."""
        self.mean.copy_(mean)
        self.profile[:, : components.shape[1]] = components

    def forward(self, centred: Tensor, total: Tensor, species: Tensor | None = None) -> Tensor:
        read = torch.einsum("cd,kde->cke", centred @ self.profile, self.reads)
        depth = self.depth(total.log1p().unsqueeze(-1) / 10).unsqueeze(1)
        parts = [self.vectors[:1] + read[:, :1], self.vectors[1:2] + depth, self.vectors[2:] + read[:, 1:]]
        if self.species is not None:
            number = torch.zeros(len(total), dtype=torch.int64, device=total.device) if species is None else species
            parts.append(self.species(number).unsqueeze(1))
        return torch.cat(parts, 1)


def ranks(value: Tensor) -> Tensor:
    """Share of the cell's expressed genes with a value of at most this one, 0 where not expressed; [cells, tokens].

    Equal values have equal ranks (the largest of theirs).
    """
    ordered = value.sort(dim=1).values.contiguous()
    place = torch.searchsorted(ordered, value.contiguous(), right=True)
    zeros = (value <= 0).sum(1, keepdim=True)
    share = (place - zeros) / (value.shape[1] - zeros).clamp_min(1)
    return torch.where(value > 0, share, 0.0)


def sinusoids(position: Tensor, channels: int) -> Tensor:
    """Sinusoidal code (Vaswani et al. 2017) of positions [...]: [..., channels], channels even."""
    rate = torch.exp(torch.arange(0, channels, 2, device=position.device) * (-math.log(10_000.0) / channels))
    angle = position.unsqueeze(-1).float() * rate
    return torch.cat([angle.sin(), angle.cos()], -1)
