"""How messages move: one sparse graph shared by all cells, multiplied with dense features."""

from kgnn.ops.adjacency import Adjacency
from kgnn.ops.spmm import spmm

__all__ = ["Adjacency", "spmm"]
