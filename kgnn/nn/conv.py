"""Graph convolutions on the shared graph."""

from torch import Tensor, nn

from kgnn.ops import Adjacency, spmm


class SGConv(nn.Module):
    """Simple graph convolution with one hop: y = (A x) Wᵀ + b (Wu et al., ICML 2019).

    The same as PyG's `SGConv(K=1)` when A is built with `normalization="symmetric", self_loops=True`; there on
    the disjoint union of one graph a cell, here on one graph for all.

    Shapes: x [..., genes, in_channels] → [..., genes, out_channels].
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        return self.lin(spmm(adjacency, x))
