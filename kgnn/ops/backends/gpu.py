"""The backend `triton`: kernels for CUDA; with TRITON_INTERPRET=1 they run, slowly, on the CPU, to be tested."""

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kgnn.errors import InputError
from kgnn.ops.csr import Csr

KINDS = {"gat": 0, "gatv2": 1, "dot": 2}
EDGES = 8  # edges in flight a program, at most
TILE = 2048  # bytes of edges × channels that attention keeps in flight: several such tiles, in one warp's registers
MAX_BLOCK = 128  # channels a program
GRID = 65_535  # programs that CUDA takes in the second and third dimension of a grid
CELLS = 1 << 15  # cells a launch


def missing(device: str, dtype: torch.dtype) -> str:
    """Return why such features cannot be computed here, or ""."""
    if find_spec("triton") is None:
        return "triton is not installed (pip install kgnn[gpu])"
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton's kernels need CUDA (on the CPU: TRITON_INTERPRET=1, for tests)"
    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if device not in ("cpu", "cuda"):
        return f"Triton's kernels are for CUDA, not for {device}"
    return "" if dtype.is_floating_point else f"features must be floating point, not {dtype}"


def about() -> str:
    import triton

    return f"Triton {triton.__version__}" + (", interpreted" if os.environ.get("TRITON_INTERPRET") == "1" else "")


# operations; see plain.py for their shapes


def spmm(csr: Csr, weight: Tensor, x: Tensor) -> Tensor:
    x, (weight, w_cell, heads) = _rows_contiguous(x), _weights(weight)
    cells, _, channels = x.shape
    out = x.new_empty(cells, csr.n_rows, channels)
    block = _block(channels)
    _launch(
        "spmm", (csr.n_rows, -(-channels // block), cells), csr.indptr, csr.indices, weight, x, out, csr.n_rows,
        channels, channels // heads, heads, w_cell, x.stride(0), x.stride(1),
        ACC=_acc(x), EDGES=_edges(x, block, 2 * TILE), BLOCK=block,
    )  # fmt: skip
    return out


def spmm_max(csr: Csr, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    x, (weight, w_cell, heads) = _rows_contiguous(x), _weights(weight)
    cells, _, channels = x.shape
    out = x.new_empty(cells, csr.n_rows, channels)
    arg = torch.empty(out.shape, dtype=torch.int32, device=x.device)
    block = _block(channels)
    _launch(
        "spmm_max", (csr.n_rows, -(-channels // block), cells), csr.indptr, csr.indices, weight, x, out, arg,
        csr.n_rows, channels, channels // heads, heads, w_cell, x.stride(0), x.stride(1), ACC=_acc(x), BLOCK=block,
    )  # fmt: skip
    return out, arg


def spmm_max_backward(csr: Csr, t_csr: Csr, t_position: Tensor, weight: Tensor, grad: Tensor, arg: Tensor) -> Tensor:
    grad, (weight, w_cell, heads) = grad.contiguous(), _weights(weight)
    cells, _, channels = grad.shape
    out = grad.new_empty(cells, csr.n_columns, channels)
    block = _block(channels)
    _launch(
        "spmm_max_backward", (csr.n_columns, -(-channels // block), cells), t_csr.indptr, t_csr.indices, t_position,
        weight, grad, arg, out, csr.n_columns, csr.n_rows, channels, channels // heads, heads, w_cell,
        ACC=_acc(grad), BLOCK=block,
    )  # fmt: skip
    return out


def sddmm(csr: Csr, a: Tensor, b: Tensor, heads: int, total: bool) -> Tensor:
    a, b = _rows_contiguous(a), _rows_contiguous(b)
    cells, _, channels = a.shape
    out = torch.empty(1 if total else cells, csr.n_entries, heads, dtype=_accumulator(a), device=a.device)
    _launch(
        "sddmm", (csr.n_rows, heads, len(out)), csr.indptr, csr.indices, a, b, out, cells, csr.n_entries,
        channels // heads, heads, a.stride(0), a.stride(1), b.stride(0), b.stride(1),
        ACC=_acc(a), TOTAL=total, EDGES=EDGES, BLOCK=_block(channels // heads),
    )  # fmt: skip
    return out


def edge_softmax(csr: Csr, scores: Tensor) -> Tensor:
    scores = scores.contiguous()
    cells, edges, heads = scores.shape
    out = torch.empty_like(scores)
    _launch("edge_softmax", (csr.n_rows, heads, cells), csr.indptr, scores, out, edges, heads, EDGES=32)
    return out


def edge_softmax_backward(csr: Csr, p: Tensor, grad: Tensor) -> Tensor:
    p, grad = p.contiguous(), grad.contiguous()
    cells, edges, heads = p.shape
    out = torch.empty_like(p)
    _launch("edge_softmax_backward", (csr.n_rows, heads, cells), csr.indptr, p, grad, out, edges, heads, EDGES=32)
    return out


def attention(
    csr: Csr, kind: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int
) -> tuple[Tensor, Tensor]:
    q, k, v = _rows_contiguous(q), _rows_contiguous(k), _rows_contiguous(v)
    cells, _, channels = v.shape
    out = v.new_empty(cells, csr.n_rows, channels)
    lse = torch.empty(cells, csr.n_rows, heads, dtype=_accumulator(v), device=v.device)
    _launch(
        "attention", (csr.n_rows, heads, cells), csr.indptr, csr.indices, q, k, v, v if a is None else a, out, lse,
        csr.n_rows, channels // heads, heads, *_strides(q, k, v), **_shape(kind, v, heads, constant),
    )  # fmt: skip
    return out, lse


def attention_backward(
    csr: Csr,
    t_csr: Csr,
    kind: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    constant: float,
    heads: int,
    lse: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    q, k, v, grad = (_rows_contiguous(part) for part in (q, k, v, grad))
    cells, _, channels = v.shape
    width = channels // heads
    grad_q, grad_k, grad_v = (torch.empty_like(part, memory_format=torch.contiguous_format) for part in (q, k, v))
    delta = torch.empty_like(lse)
    # a's gradient is summed over targets and cells afterwards, in one order
    of_target = lse.new_empty(cells, csr.n_rows, channels) if a is not None else lse
    strides, shape, weights = _strides(q, k, v, grad), _shape(kind, v, heads, constant), v if a is None else a
    _launch(
        "attention_targets", (csr.n_rows, heads, cells), csr.indptr, csr.indices, q, k, v, weights, grad, lse,
        grad_q, delta, of_target, csr.n_rows, width, heads, *strides, **shape,
    )  # fmt: skip
    _launch(
        "attention_sources", (csr.n_columns, heads, cells), t_csr.indptr, t_csr.indices, q, k, v, weights, grad, lse,
        delta, grad_k, grad_v, csr.n_columns, csr.n_rows, width, heads, *strides, **shape,
    )  # fmt: skip
    grad_a = None if a is None else of_target.sum((0, 1)).view_as(a)
    return grad_q, None if kind == "gatv2" else grad_k, grad_v, grad_a


def _launch(kernel: str, grid: tuple[int, int, int], *arguments: Any, **constants: Any) -> None:
    """Start a kernel, some cells at a time; the grid is (rows, heads or blocks of channels, cells)."""
    rows, parts, cells = grid
    if parts > GRID:
        raise InputError(
            f"{parts:,} heads or blocks of {MAX_BLOCK} channels: a CUDA launch takes {GRID:,}; give some of them at a "
            "time, or compute in PyTorch with kgnn.ops.set_backend('torch')"
        )
    with torch.cuda.device_of(arguments[0]):
        for first in range(0, cells, CELLS):
            launch = getattr(_kernels(), kernel)[rows, parts, min(CELLS, cells - first)]
            launch(first, *arguments, **{"num_warps": 1, **constants})


@cache
def _kernels() -> Any:
    from kgnn.ops.backends import triton_kernels

    return triton_kernels


def _acc(x: Tensor) -> Any:
    import triton.language as tl

    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _shape(kind: str, v: Tensor, heads: int, constant: float) -> dict[str, Any]:
    block = _power_of_two(v.shape[-1] // heads)
    warps = min(16, max(1, 2 * block * _accumulator(v).itemsize // TILE))
    tile = {"EDGES": _edges(v, block, TILE), "BLOCK": block, "num_warps": warps}
    return {"CONSTANT": constant, "KIND": KINDS[kind], "ACC": _acc(v), **tile}


def _strides(*parts: Tensor) -> list[int]:
    return [stride for part in parts for stride in (part.stride(0), part.stride(1))]


def _weights(weight: Tensor) -> tuple[Tensor, int, int]:
    weight = weight.contiguous()
    return weight, weight[0].numel() if len(weight) > 1 else 0, weight.shape[-1]


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _edges(x: Tensor, block: int, tile: int) -> int:
    return min(EDGES, max(1, tile // (block * _accumulator(x).itemsize)))


def _block(channels: int) -> int:
    return min(MAX_BLOCK, _power_of_two(channels))


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
