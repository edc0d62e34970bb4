"""`Adjacency`, a graph made ready to multiply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kgnn.ops.csr import Csr

Normalization = Literal["none", "symmetric", "row"]
Reorder = Literal["none", "degree", "rcm"]


class Adjacency(nn.Module):
    """A weighted directed graph as a sparse matrix [targets, sources]: CSR and the CSR of its transpose.

    Built once and shared by all cells of all batches. It is a module without parameters so that it moves with the
    model to another device or precision; it takes no part in the model's state. Its weights stay in float32 when
    the model goes to a half precision.

    An edge keeps the number that it was given: `weight=` of `spmm`, what `sddmm` returns and what `edge_softmax`
    takes follow `edge_index`, whatever order the edges came in.

    Args:
        edge_index: [2, edges], row 0 source, row 1 target (PyG's convention), in any order.
        weight: [edges], floating point; ones by default.
        n_nodes: number of nodes, or `(n_targets, n_sources)` for a bipartite graph.
        normalization: `"none"`; `"symmetric"`, D^-1/2 A D^-1/2 with in-degrees D, as PyG's `gcn_norm` (Kipf &
            Welling 2017); `"row"`, each target's weights sum to one.
        self_loops: give every node without a self loop one of weight 1 before normalising.
        reorder: the order in which targets are worked through, for graphs whose features outgrow the cache:
            `"rcm"` (reverse Cuthill–McKee: neighbours one after the other, Cuthill & McKee 1969; square graphs),
            `"degree"` (hubs first). It changes no result.

    Attributes:
        indptr, indices, values: the matrix in CSR (int32), a row a target.
        t_indptr, t_indices, t_values: its transpose in CSR, a row a source.
        edge_order: [edges], which edge of `edge_index` each entry of the CSR is.
        t_position: [edges], which entry of the CSR each entry of the transpose is.

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
    edge_order: Tensor
    t_position: Tensor
    order: Tensor | None
    t_order: Tensor | None

    def __init__(
        self,
        edge_index: Tensor,
        weight: Tensor | None = None,
        *,
        n_nodes: int | tuple[int, int],
        normalization: Normalization = "none",
        self_loops: bool = False,
        reorder: Reorder = "none",
    ) -> None:
        super().__init__()
        self.shape = (n_nodes, n_nodes) if isinstance(n_nodes, int) else tuple(n_nodes)
        self._signed: Adjacency | None = None
        if weight is None:
            weight = torch.ones(edge_index.shape[-1], device=edge_index.device)
        check_edges(edge_index, weight, self.shape)
        source, target = edge_index.long()
        weight = weight.detach()
        if self_loops:
            source, target, weight = _add_self_loops(source, target, weight, self.shape)
        weight = _normalize(source, target, weight, self.shape, normalization)
        edge_order = torch.argsort(target * max(self.shape[1], 1) + source, stable=True)
        edge_order = edge_order.int()  # half the memory, here and below
        self.sorted = bool((edge_order.diff() > 0).all())
        source, target, values = source[edge_order].int(), target[edge_order].int(), weight[edge_order]
        t_position = torch.argsort(source, stable=True).int()  # a source's targets stay ascending
        buffers = {
            "indptr": _indptr(target, self.shape[0]),
            "indices": source,
            "values": values,
            "t_indptr": _indptr(source, self.shape[1]),
            "t_indices": target[t_position],
            "t_values": values[t_position],
            "edge_order": edge_order,
            "t_position": t_position,
            "order": _row_order(reorder, target, source, self.shape),
            "t_order": _row_order(reorder, source, target, self.shape[::-1]),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    @property
    def n_edges(self) -> int:
        return self.indices.shape[0]

    @property
    def signed(self) -> Adjacency:
        """The matrix [targets × 2, sources] of |weight|: rows 2t the edges of positive weight, 2t + 1 of negative."""
        if self._signed is None:
            source, target = self.edge_index
            weight = self.edge_weight
            rows = torch.stack([source, 2 * target + (weight < 0)])
            self._signed = Adjacency(rows, weight.abs(), n_nodes=(2 * self.shape[0], self.shape[1]))
        return self._signed

    @property
    def csr(self) -> Csr:
        """The pattern [targets, sources]."""
        return Csr(self.indptr, self.indices, self.shape[1], self.order)

    @property
    def t_csr(self) -> Csr:
        """The pattern of the transpose [sources, targets]."""
        return Csr(self.t_indptr, self.t_indices, self.shape[0], self.t_order)

    @property
    def edge_index(self) -> Tensor:
        """[2, edges], int64: the edges in the order that they were given, then the self loops that were added."""
        return self.from_csr_order(torch.stack([self.indices.long(), self.csr.rows], -1), 0).T

    @property
    def edge_weight(self) -> Tensor:
        """[edges], normalised, in the order of `edge_index`."""
        return self.from_csr_order(self.values, 0)

    def to_csr_order(self, per_edge: Tensor, dim: int) -> Tensor:
        """Bring a tensor with a dimension in the order of `edge_index` into that of the CSR."""
        return per_edge if self.sorted else _reorder(per_edge, dim, self.edge_order, _inverse(self.edge_order))

    def from_csr_order(self, per_entry: Tensor, dim: int) -> Tensor:
        """Bring a tensor with a dimension in the order of the CSR into that of `edge_index`."""
        return per_entry if self.sorted else _reorder(per_entry, dim, _inverse(self.edge_order), self.edge_order)

    def rows(self, rows: Tensor) -> Adjacency:
        """Return the graph of the edges into the targets `rows` [n], as a matrix [n, sources] in their order."""
        starts = self.indptr[rows].long()
        counts = self.indptr[rows + 1].long() - starts
        target = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        within = torch.arange(len(target), device=rows.device) - (counts.cumsum(0) - counts)[target]
        edge = starts[target] + within
        pairs = torch.stack([self.indices[edge].long(), target])
        return Adjacency(pairs, self.values[edge], n_nodes=(len(rows), self.shape[1]))

    def extra_repr(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]}, {self.n_edges} edges"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = {"values": self.values, "t_values": self.t_values}
        super()._apply(fn, recurse)
        hold_weights(self, before)
        return self


def hold_weights(module: nn.Module, before: dict[str, Tensor]) -> None:
    """Bring weights that a module's move made half precision back: sums over neighbours are made in float32."""
    for name, values in before.items():
        moved = getattr(module, name)
        if moved.dtype in (torch.float16, torch.bfloat16):
            setattr(module, name, values.to(moved.device, torch.float32))


class _Reorder(torch.autograd.Function):
    """`x` taken along `dim` by a permutation; its gradient by the inverse, which `index_select`'s would add up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(there, back)
        ctx.dim = dim
        return x.index_select(dim, there)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        there, back = ctx.saved_tensors
        return _reorder(grad, ctx.dim, back, there), None, None, None


def _reorder(x: Tensor, dim: int, there: Tensor, back: Tensor) -> Tensor:
    moved: Tensor = _Reorder.apply(x, dim, there, back)
    return moved


def _inverse(permutation: Tensor) -> Tensor:
    inverse = torch.empty_like(permutation)
    inverse[permutation.long()] = torch.arange(len(permutation)).to(permutation)
    return inverse


def _indptr(rows: Tensor, n_rows: int) -> Tensor:
    indptr = torch.zeros(n_rows + 1, dtype=torch.int32, device=rows.device)
    indptr[1:] = torch.bincount(rows, minlength=n_rows).cumsum(0)
    return indptr


def _row_order(reorder: Reorder, row: Tensor, column: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    if reorder == "none":
        return None
    if reorder == "degree":
        return torch.argsort(torch.bincount(row, minlength=shape[0]), descending=True, stable=True).int()
    if reorder != "rcm":
        raise ValueError(f"reorder must be none, degree or rcm, not {reorder!r}")
    if shape[0] != shape[1]:
        raise ValueError(f"reorder='rcm' needs a square graph, not {shape[0]} × {shape[1]}; use 'degree'")
    from scipy import sparse
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    ones = np.ones(len(row), dtype=np.int8)
    pattern = sparse.coo_matrix((ones, (row.cpu().numpy(), column.cpu().numpy())), shape).tocsr()
    order = reverse_cuthill_mckee((pattern + pattern.T).tocsr(), symmetric_mode=True)
    return torch.from_numpy(order.astype(np.int32)).to(row.device)


def check_edges(edge_index: Tensor, weight: Tensor, shape: tuple[int, ...]) -> None:
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must be [2, edges], not {list(edge_index.shape)}")
    if edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool:
        raise ValueError(f"edge_index must hold integers, not {edge_index.dtype}")
    if max(edge_index.shape[1], *shape) > torch.iinfo(torch.int32).max // 2:
        raise ValueError(f"{edge_index.shape[1]} edges or {max(shape)} nodes are more than 32-bit numbers can count")
    if weight.shape != edge_index.shape[1:]:
        raise ValueError(f"weight must be [{edge_index.shape[1]}], one an edge, not {list(weight.shape)}")
    if not weight.is_floating_point():
        raise ValueError(f"weight must be floating point, not {weight.dtype}")
    if weight.device != edge_index.device:
        raise ValueError(f"edge_index is on {edge_index.device}, weight on {weight.device}; move one to the other")
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
