"""The backend `native`, sparse products and dense ones together; see plain_dense.py for what is computed.

The dense products of a block of rows happen in the core's own caches. Widths that are no multiple of the vectors'
are left to plain PyTorch.
"""

import ctypes

import torch
from torch import Tensor

from kgnn.ops.backends import buffers, plain_dense
from kgnn.ops.backends.native_library import call, csr_struct, rows_contiguous, strides, threads
from kgnn.ops.csr import Csr

WIDTH = 8  # numbers: widths must be multiples of it


def transform(
    csr: Csr, values: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, spmm: plain_dense.Spmm
) -> Tensor:
    relations, channels, out_channels = weight.shape
    if not _fits(x, channels, out_channels):
        return plain_dense.transform(csr, values, x, weight, bias, spmm)
    x, weight = rows_contiguous(x), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    out = buffers.empty((len(x), csr.n_rows // relations, out_channels), x.dtype, x.device)
    features = (x, strides(x), len(x), channels)
    call("transform", x, csr_struct(csr), values, relations, *features, weight, bias, out_channels, out, threads())
    return out


def transform_backward(
    csr: Csr,
    values: Tensor,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    of_x: bool,
    of_weight: bool,
    spmm: plain_dense.Spmm,
) -> tuple[Tensor | None, Tensor | None]:
    relations, channels, out_channels = weight.shape
    if not _fits(x, channels, out_channels):
        return plain_dense.transform_backward(csr, values, grad, x, weight, of_x, of_weight, spmm)
    x, grad = rows_contiguous(x), rows_contiguous(grad)
    back = weight.transpose(1, 2).reshape(relations * out_channels, channels).contiguous()
    grad_x = buffers.empty(tuple(x.shape), x.dtype, x.device) if of_x else None
    grad_weight = weight.new_empty(channels, relations * out_channels) if of_weight else None
    received = (grad, strides(grad), len(x), out_channels)
    features = (x, strides(x), channels)
    results = (grad_x, grad_weight, threads())
    call("transform_backward", x, csr_struct(csr), values, relations, *received, back, *features, *results)
    if grad_weight is not None:
        grad_weight = grad_weight.unflatten(1, (relations, out_channels)).transpose(0, 1)
    return grad_x, grad_weight


def pair_moments(a: Tensor, b: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    if not _fits(a, a.shape[1]):
        return plain_dense.pair_moments(a, b, share)
    pairs = _Pairs(a, b, share)
    first, second = a.new_empty(a.shape[1]), a.new_empty(a.shape[1], a.shape[1])
    call("pair_moments", a, pairs.struct, first, second)
    return first, second


def pair_moments_backward(
    a: Tensor, b: Tensor, share: Tensor, grad_first: Tensor, grad_second: Tensor
) -> tuple[Tensor, Tensor]:
    if not _fits(a, a.shape[1]):
        return plain_dense.pair_moments_backward(a, b, share, grad_first, grad_second)
    pairs = _Pairs(a, b, share)
    grad_a, grad_b = torch.empty_like(pairs.a), torch.empty_like(pairs.b)
    symmetric = (grad_second + grad_second.T).contiguous()
    call("pair_moments_backward", a, pairs.struct, grad_first.contiguous(), symmetric, grad_a, grad_b)
    return grad_a, grad_b


def pair_mlp(a: Tensor, b: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor) -> tuple[Tensor, Tensor]:
    if not _fits(a, *weight1.shape, len(weight2)):
        return plain_dense.pair_mlp(a, b, weight1, bias1, weight2)
    pairs = _Pairs(a, b, None, weight1, bias1, weight2)
    out = buffers.empty((len(a), len(b), len(weight2)), a.dtype, a.device)
    total = a.new_empty(out.shape[1:])
    call("pair_mlp", a, pairs.struct, out, total)
    return out, total


def pair_values(a: Tensor, b: Tensor, weight1: Tensor, bias1: Tensor, of_gene: Tensor) -> Tensor:
    if not _fits(a, *weight1.shape):
        return plain_dense.pair_values(a, b, weight1, bias1, of_gene)
    pairs = _Pairs(a, b, None, weight1, bias1)
    out = buffers.empty((len(a), len(b)), a.dtype, a.device)
    call("pair_values", a, pairs.struct, of_gene.to(a.dtype).contiguous(), out)
    return out


def pair_mlp_backward(
    a: Tensor,
    b: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    out: Tensor,
    grad: Tensor,
    scaled: Tensor,
    slope: Tensor,
    intercept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    if not _fits(a, *weight1.shape, len(weight2)):
        parts = (a, b, weight1, bias1, weight2, out, grad, scaled, slope, intercept)
        return plain_dense.pair_mlp_backward(*parts)
    pairs = _Pairs(a, b, None, weight1, bias1, weight2)
    given = [part.to(a.dtype).contiguous() for part in (out, grad, scaled, slope, intercept)]
    whole = torch.contiguous_format
    grads = [torch.empty_like(part, memory_format=whole) for part in (a, b, weight1, bias1, weight2)]
    call("pair_mlp_backward", a, pairs.struct, *given, *grads)
    grad_a, grad_b, grad_weight1, grad_bias1, grad_weight2 = grads
    return grad_a, grad_b, grad_weight1, grad_bias1, grad_weight2


class _PairStruct(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("genes", "conditions", "inputs", "hidden", "outputs")),
        *((name, ctypes.c_void_p) for name in ("a", "b", "share", "w1", "w1_t", "b1", "w2", "w2_t")),
        ("threads", ctypes.c_int),
    )


class _Pairs:
    """The arrays of a pair MLP, contiguous and kept alive, and the structure that points to them."""

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        share: Tensor | None,
        weight1: Tensor | None = None,
        bias1: Tensor | None = None,
        weight2: Tensor | None = None,
    ) -> None:
        self.a, self.b = a.contiguous(), b.to(a.dtype).contiguous()
        transposed = [None if weight is None else weight.T for weight in (weight1, weight2)]
        rest = (share, weight1, transposed[0], bias1, weight2, transposed[1])
        self.parts = [None if part is None else part.to(a.dtype).contiguous() for part in rest]
        hidden = 0 if weight1 is None else len(weight1)
        outputs = 0 if weight2 is None else len(weight2)
        pointers = [None if part is None else part.data_ptr() for part in (self.a, self.b, *self.parts)]
        self.struct = _PairStruct(len(a), len(b), a.shape[1], hidden, outputs, *pointers, torch.get_num_threads())


def _fits(x: Tensor, *widths: int) -> bool:
    return x.dtype in (torch.float32, torch.float64) and all(width % WIDTH == 0 for width in widths)
