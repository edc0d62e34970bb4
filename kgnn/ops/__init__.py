"""How messages move: one sparse graph shared by all cells, multiplied with dense features."""

from kgnn.ops.adjacency import Adjacency
from kgnn.ops.attention import dot_attention, gat_attention, gatv2_attention
from kgnn.ops.backends import describe, set_backend
from kgnn.ops.backends.buffers import release as release_buffers
from kgnn.ops.relational import HeteroAdjacency, RelationalAdjacency, relational_spmm, signed_spmm, spmm_linear
from kgnn.ops.sampling import sample_neighbours
from kgnn.ops.spmm import edge_softmax, sddmm, spmm
from kgnn.ops.typed import TypedAdjacency
from kgnn.ops.typed_spmm import typed_spmm

__all__ = [
    "Adjacency",
    "HeteroAdjacency",
    "RelationalAdjacency",
    "TypedAdjacency",
    "describe",
    "dot_attention",
    "edge_softmax",
    "gat_attention",
    "gatv2_attention",
    "relational_spmm",
    "release_buffers",
    "sample_neighbours",
    "sddmm",
    "set_backend",
    "signed_spmm",
    "spmm",
    "spmm_linear",
    "typed_spmm",
]
