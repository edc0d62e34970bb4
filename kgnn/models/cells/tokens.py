"""From expression to tokens: which genes a batch of cells shows, and their values."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kgnn.data.cells import Kind
from kgnn.nn.cells import CellTokens
from kgnn.nn.token_encoders import TokenGraph

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
