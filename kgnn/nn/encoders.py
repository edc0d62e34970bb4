"""Encoders: from genes, graph and perturbation to a state of every gene in every condition."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.conv import SGConv
from kgnn.nn.norm import CountedBatchNorm, CountedMLP
from kgnn.ops import Adjacency

POSITION_SHARE = 0.2  # how much of the co-expression message joins a gene's embedding, as in GEARS


class GearsEncoder(nn.Module):
    """GEARS' encoder, steps 1 to 3 (Roohani, Huang, Leskovec, Nat Biotechnol 2024).

    base[g] = MLP( ReLU(BN(E_gene[g])) + 0.2 · SGConv_co(E_pos)[g] ) and, for a condition c with perturbed genes
    S_c, shift[c] = MLP( Σ_{p∈S_c} SGConv_GO(E_pert)[p] ), zero for controls. A gene's state in a condition is
    base[g] + shift[c]: nothing depends on the cell, so both factors are computed once a gene and once a distinct
    condition, with the batch-norm statistics of the full batch of cells.

    Args:
        gene_graph: [genes, genes], symmetric normalisation with self loops.
        perturbation_graph: [perturbable genes, perturbable genes], likewise.
        channels: width d.

    Shapes: perturbed [entries] (numbers of perturbable genes, conditions one after the other), offsets
    [conditions + 1] (where each one begins), counts [conditions] (cells of each in the batch)
    → base [genes, channels], shift [conditions, channels].
    """

    def __init__(self, gene_graph: Adjacency, perturbation_graph: Adjacency, channels: int = 64) -> None:
        super().__init__()
        self.gene_graph, self.perturbation_graph = gene_graph, perturbation_graph
        self.gene_embedding = nn.Parameter(torch.randn(gene_graph.shape[0], channels))
        self.position_embedding = nn.Parameter(torch.randn(gene_graph.shape[0], channels))
        self.perturbation_embedding = nn.Parameter(torch.randn(perturbation_graph.shape[0], channels))
        self.gene_norm = CountedBatchNorm(channels)
        self.gene_conv = SGConv(channels, channels)
        self.perturbation_conv = SGConv(channels, channels)
        self.base_mlp = CountedMLP(channels, channels, channels)
        self.shift_mlp = CountedMLP(channels, channels, channels)

    def forward(self, perturbed: Tensor, offsets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        return self._base(counts), self._shift(perturbed, offsets, counts)

    def _base(self, counts: Tensor) -> Tensor:
        genes = self._bounded(self.gene_embedding)
        positions = self._bounded(self.position_embedding)
        every_cell = counts.sum().expand(len(genes))
        x = self.gene_norm(genes, every_cell).relu() + POSITION_SHARE * self.gene_conv(positions, self.gene_graph)
        return self.base_mlp(x, every_cell)

    def _shift(self, perturbed: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
        embedding = self._bounded(self.perturbation_embedding)
        is_perturbed = offsets.diff() > 0
        shift = embedding.new_zeros(len(counts), embedding.shape[1])
        if not is_perturbed.any():
            return shift
        distinct, position = perturbed.unique(return_inverse=True)
        messages = self.perturbation_conv(embedding, self.perturbation_graph.rows(distinct))
        summed = F.embedding_bag(position, messages, offsets, mode="sum", include_last_offset=True)
        moved = self.shift_mlp(summed[is_perturbed], counts[is_perturbed])
        return shift.masked_scatter(is_perturbed.unsqueeze(-1), moved.to(shift.dtype))

    def _bounded(self, embedding: nn.Parameter) -> Tensor:
        """Hold every row's norm at 1 or less, as `nn.Embedding(max_norm=1)`; in eval mode on a copy."""
        if self.training:
            with torch.no_grad():
                norms = embedding.norm(dim=1, keepdim=True)
                embedding.mul_(torch.where(norms > 1, 1 / (norms + 1e-7), 1))
            return embedding
        norms = embedding.norm(dim=1, keepdim=True)
        return embedding * torch.where(norms > 1, 1 / (norms + 1e-7), 1)
