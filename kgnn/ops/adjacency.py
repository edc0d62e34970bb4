"""`Adjacency`, a graph made ready to multiply."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["none", "symmetric", "row"]


class Adjacency(nn.Module):
    """A weighted directed graph as a sparse matrix [targets, sources]: CSR and the CSR of its transpose.

    Built once and shared by all cells of all batches. It is a module without parameters so that it moves with the
    model to another device or precision; it takes no part in the model's state.

    Args:
        edge_index: [2, edges], row 0 source, row 1 target (PyG's convention).
        weight: [edges], floating point; ones by default.
        n_nodes: number of nodes, or `(n_targets, n_sources)` for a bipartite graph.
        normalization: `"none"`; `"symmetric"`, D^-1/2 A D^-1/2 with in-degrees D, as PyG's `gcn_norm` (Kipf &
            Welling 2017); `"row"`, each target's weights sum to one.
        self_loops: give every node without a self loop one of weight 1 before normalising.

    Attributes:
        indptr, indices, values: the matrix in CSR, a row a target.
        t_indptr, t_indices, t_values: its transpose in CSR, a row a source.

    Raises:
        ValueError: shapes that do not fit, node numbers out of range, weights that are not finite, negative
            weights under a normalization.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    t_indptr: Tensor
    t_indices: Tensor
    t_values: Tensor

    def __init__(
        self,
        edge_index: Tensor,
        weight: Tensor | None = None,
        *,
        n_nodes: int | tuple[int, int],
        normalization: Normalization = "none",
        self_loops: bool = False,
    ) -> None:
        super().__init__()
        self.shape = (n_nodes, n_nodes) if isinstance(n_nodes, int) else tuple(n_nodes)
        if weight is None:
            weight = torch.ones(edge_index.shape[-1], device=edge_index.device)
        _check(edge_index, weight, self.shape)
        source, target = edge_index.long()
        weight = weight.detach()
        if self_loops:
            source, target, weight = _add_self_loops(source, target, weight, self.shape)
        weight = _normalize(source, target, weight, self.shape, normalization)
        for prefix, row, column, n_rows in (
            ("", target, source, self.shape[0]),
            ("t_", source, target, self.shape[1]),
        ):
            order = torch.argsort(row * max(self.shape) + column, stable=True)
            indptr = torch.zeros(n_rows + 1, dtype=torch.long, device=row.device)
            indptr[1:] = torch.bincount(row, minlength=n_rows).cumsum(0)
            self.register_buffer(f"{prefix}indptr", indptr, persistent=False)
            self.register_buffer(f"{prefix}indices", column[order], persistent=False)
            self.register_buffer(f"{prefix}values", weight[order], persistent=False)

    @property
    def n_edges(self) -> int:
        return self.indices.shape[0]

    def rows(self, rows: Tensor) -> Adjacency:
        """Return the graph of the edges into the targets `rows` [n], as a matrix [n, sources] in their order."""
        starts, counts = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        target = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        within = torch.arange(len(target), device=rows.device) - (counts.cumsum(0) - counts)[target]
        edge = starts[target] + within
        pairs = torch.stack([self.indices[edge], target])
        return Adjacency(pairs, self.values[edge], n_nodes=(len(rows), self.shape[1]))

    def extra_repr(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]}, {self.n_edges} edges"


def _check(edge_index: Tensor, weight: Tensor, shape: tuple[int, ...]) -> None:
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must be [2, edges], not {list(edge_index.shape)}")
    if edge_index.is_floating_point():
        raise ValueError(f"edge_index must hold integers, not {edge_index.dtype}")
    if weight.shape != edge_index.shape[1:]:
        raise ValueError(f"weight must be [{edge_index.shape[1]}], one an edge, not {list(weight.shape)}")
    if not torch.isfinite(weight).all():
        raise ValueError("weight holds NaN or infinite values")
    for name, row, size in (("source", edge_index[0], shape[1]), ("target", edge_index[1], shape[0])):
        if row.numel() and (int(row.min()) < 0 or int(row.max()) >= size):
            raise ValueError(f"{name} numbers must lie in [0, {size}); found {int(row.min())} to {int(row.max())}")


def _add_self_loops(
    source: Tensor, target: Tensor, weight: Tensor, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    if shape[0] != shape[1]:
        raise ValueError(f"self loops need as many sources as targets, not {shape[1]} and {shape[0]}")
    bare = torch.ones(shape[0], dtype=torch.bool, device=source.device)
    bare[source[source == target]] = False
    loops = bare.nonzero().ravel()
    ones = torch.ones(len(loops), dtype=weight.dtype, device=weight.device)
    return torch.cat([source, loops]), torch.cat([target, loops]), torch.cat([weight, ones])


def _normalize(
    source: Tensor, target: Tensor, weight: Tensor, shape: tuple[int, ...], normalization: Normalization
) -> Tensor:
    if normalization == "none":
        return weight
    if (weight < 0).any():
        raise ValueError(f"{normalization} normalization needs weights of at least 0; give |weight|")
    degree = torch.zeros(shape[0], dtype=weight.dtype, device=weight.device).index_add(0, target, weight)
    if normalization == "row":
        return weight / degree.clamp_min(torch.finfo(weight.dtype).tiny)[target]
    if normalization == "symmetric":
        if shape[0] != shape[1]:
            raise ValueError(f"symmetric normalization needs a square graph, not {shape[0]} × {shape[1]}")
        scale = torch.where(degree > 0, degree, torch.inf).rsqrt()
        return scale[target] * weight * scale[source]
    raise ValueError(f"normalization must be none, symmetric or row, not {normalization!r}")
