"""The backend `native`: C++ kernels for the CPU; see native_library.py for how they come about."""

import ctypes

import torch
from torch import Tensor

from kgnn.ops.backends import buffers, native_library
from kgnn.ops.backends.native_dense import (
    pair_mlp,
    pair_mlp_backward,
    pair_moments,
    pair_moments_backward,
    pair_values,
    transform,
    transform_backward,
)
from kgnn.ops.backends.native_library import (
    SUFFIX,
    CsrStruct,
    StridesStruct,
    call,
    csr_struct,
    rows_contiguous,
    strides,
    threads,
)
from kgnn.ops.csr import Csr

KINDS = {"gat": 0, "gatv2": 1, "dot": 2}

__all__ = [
    "attention",
    "attention_backward",
    "edge_softmax",
    "edge_softmax_backward",
    "pair_mlp",
    "pair_mlp_backward",
    "pair_moments",
    "pair_moments_backward",
    "pair_values",
    "sddmm",
    "spmm",
    "spmm_max",
    "spmm_max_backward",
    "transform",
    "transform_backward",
]


def missing(device: str, dtype: torch.dtype) -> str:
    """Return why such features cannot be computed here, or ""; compiles when that has not been done yet."""
    if device != "cpu":
        return "the compiled kernels run on the CPU"
    if dtype not in SUFFIX:
        return f"the compiled kernels do not take {dtype}"
    return native_library.load()[1]


def about() -> str:
    compiler = " ".join(native_library.compiler()[0])
    return f"compiled for this processor by {compiler}, {torch.get_num_threads()} threads"


# operations; see plain.py for their shapes


def spmm(csr: Csr, weight: Tensor, x: Tensor) -> Tensor:
    x = rows_contiguous(x)
    out = buffers.empty((len(x), csr.n_rows, x.shape[-1]), x.dtype, x.device)
    call("spmm", x, csr_struct(csr), *_weights(weight), x, strides(x), len(x), x.shape[-1], out, threads())
    return out


def spmm_max(csr: Csr, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    x = rows_contiguous(x)
    out = buffers.empty((len(x), csr.n_rows, x.shape[-1]), x.dtype, x.device)
    arg = buffers.empty(tuple(out.shape), torch.int32, x.device)
    call("spmm_max", x, csr_struct(csr), *_weights(weight), x, strides(x), len(x), x.shape[-1], out, arg, threads())
    return out, arg


def spmm_max_backward(csr: Csr, t_csr: Csr, t_position: Tensor, weight: Tensor, grad: Tensor, arg: Tensor) -> Tensor:
    del t_csr, t_position
    grad = grad.contiguous()
    cells, _, channels = grad.shape
    out = grad.new_zeros(cells, csr.n_columns, channels, dtype=weight.dtype)
    call(
        "spmm_max_backward",
        grad,
        csr_struct(csr),
        *_weights(weight),
        grad,
        arg.contiguous(),
        cells,
        channels,
        csr.n_columns,
        out,
        threads(),
    )
    return out.to(grad.dtype)


def sddmm(csr: Csr, a: Tensor, b: Tensor, heads: int, total: bool) -> Tensor:
    a, b = rows_contiguous(a), rows_contiguous(b)
    cells = len(a)
    dtype = _accumulator(a.dtype)
    shape = (1 if total else cells, csr.n_entries, heads)
    if total and not cells:
        return torch.zeros(shape, dtype=dtype)
    out = buffers.empty(shape, dtype, a.device)
    parts = (a, strides(a), b, strides(b))
    call("sddmm", a, csr_struct(csr), heads, *parts, cells, a.shape[-1], ctypes.c_int(total), out, threads())
    return out


def edge_softmax(csr: Csr, scores: Tensor) -> Tensor:
    out = buffers.empty(tuple(scores.shape), scores.dtype, scores.device).copy_(scores)
    call("edge_softmax", out, csr_struct(csr), out.shape[-1], len(out), out, threads())
    return out


def edge_softmax_backward(csr: Csr, p: Tensor, grad: Tensor) -> Tensor:
    out = buffers.empty(tuple(grad.shape), grad.dtype, grad.device).copy_(grad)
    call("edge_softmax_backward", out, csr_struct(csr), out.shape[-1], len(out), p.contiguous(), out, threads())
    return out


def attention(
    csr: Csr, kind: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int
) -> tuple[Tensor, Tensor]:
    q, k, v = rows_contiguous(q), rows_contiguous(k), rows_contiguous(v)
    out = buffers.empty((len(v), csr.n_rows, v.shape[-1]), v.dtype, v.device)
    lse = buffers.empty((len(v), csr.n_rows, heads), _accumulator(v.dtype), v.device)
    call("attention", v, ctypes.c_int(KINDS[kind]), _attention(csr, q, k, v, a, constant, heads), out, lse)
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
    q, k, v, grad = rows_contiguous(q), rows_contiguous(k), rows_contiguous(v), rows_contiguous(grad)
    grad_q = buffers.empty(tuple(q.shape), q.dtype, q.device)
    grad_k = None if kind == "gatv2" else buffers.empty(tuple(k.shape), k.dtype, k.device)
    grad_v = buffers.empty(tuple(v.shape), v.dtype, v.device)
    grad_a = None if a is None else torch.empty_like(a, dtype=lse.dtype)
    delta = buffers.empty(tuple(lse.shape), lse.dtype, lse.device)
    number = ctypes.c_int(KINDS[kind])
    to_targets = _attention(csr, q, k, v, a, constant, heads)
    to_sources = _attention(t_csr, q, k, v, a, constant, heads)
    call("attention_targets", v, number, to_targets, grad, strides(grad), lse, grad_q, delta, grad_a)
    call("attention_sources", v, number, to_sources, grad, strides(grad), lse, delta, csr.n_rows, grad_k, grad_v)
    return grad_q, grad_k, grad_v, grad_a


# what the C functions take


class _Attention(ctypes.Structure):
    _fields_ = (
        ("graph", CsrStruct),
        *((name, ctypes.c_int64) for name in ("cells", "heads", "width")),
        *((name, ctypes.c_void_p) for name in "qkva"),
        *((name, StridesStruct) for name in ("qs", "ks", "vs")),
        ("constant", ctypes.c_double),
        ("threads", ctypes.c_int),
    )


def _attention(csr: Csr, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int) -> _Attention:
    pointers = (q.data_ptr(), k.data_ptr(), v.data_ptr(), None if a is None else a.data_ptr())
    steps = (strides(q), strides(k), strides(v))
    width = v.shape[-1] // heads
    return _Attention(csr_struct(csr), len(v), heads, width, *pointers, *steps, constant, torch.get_num_threads())


def _weights(weight: Tensor) -> tuple[Tensor, int, int]:
    """The weights, how far it is from one cell's to the next's (0: shared), heads."""
    weight = weight.contiguous()
    return weight, weight[0].numel() if len(weight) > 1 else 0, weight.shape[-1]


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
