"""The backend `native`: the C++ kernels of `cpp/`, compiled for this processor when they are first needed.

They are plain C functions, called through ctypes: nothing of them depends on PyTorch's version, and compiling takes
some ten seconds, once, with any C++17 compiler. The library is kept in the cache folder under a hash of all that it
depends on.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kgnn.files import cache_folder
from kgnn.ops.backends import buffers
from kgnn.ops.csr import Csr

SOURCES = Path(__file__).parent / "cpp"
FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-march=native"]
SUFFIX = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}
KINDS = {"gat": 0, "gatv2": 1, "dot": 2}
log = logging.getLogger(__name__)


def missing(device: str, dtype: torch.dtype) -> str:
    """Return why such features cannot be computed here, or ""; compiles when that has not been done yet."""
    if device != "cpu":
        return "the compiled kernels run on the CPU"
    if dtype not in SUFFIX:
        return f"the compiled kernels do not take {dtype}"
    return _load()[1]


def about() -> str:
    return f"compiled for this processor by {' '.join(_compiler())}, {torch.get_num_threads()} threads"


# operations; see plain.py for their shapes


def spmm(csr: Csr, weight: Tensor, x: Tensor) -> Tensor:
    x = _rows_contiguous(x)
    out = buffers.empty((len(x), csr.n_rows, x.shape[-1]), x.dtype, x.device)
    _call("spmm", x, _csr(csr), *_weights(weight), x, _strides(x), len(x), x.shape[-1], out, _threads())
    return out


def spmm_max(csr: Csr, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    x = _rows_contiguous(x)
    out = buffers.empty((len(x), csr.n_rows, x.shape[-1]), x.dtype, x.device)
    arg = buffers.empty(tuple(out.shape), torch.int32, x.device)
    _call("spmm_max", x, _csr(csr), *_weights(weight), x, _strides(x), len(x), x.shape[-1], out, arg, _threads())
    return out, arg


def spmm_max_backward(csr: Csr, t_csr: Csr, t_position: Tensor, weight: Tensor, grad: Tensor, arg: Tensor) -> Tensor:
    del t_csr, t_position
    grad = grad.contiguous()
    cells, _, channels = grad.shape
    out = grad.new_zeros(cells, csr.n_columns, channels, dtype=weight.dtype)
    _call(
        "spmm_max_backward",
        grad,
        _csr(csr),
        *_weights(weight),
        grad,
        arg.contiguous(),
        cells,
        channels,
        csr.n_columns,
        out,
        _threads(),
    )
    return out.to(grad.dtype)


def sddmm(csr: Csr, a: Tensor, b: Tensor, heads: int, total: bool) -> Tensor:
    a, b = _rows_contiguous(a), _rows_contiguous(b)
    cells = len(a)
    dtype = _accumulator(a.dtype)
    shape = (1 if total else cells, csr.n_entries, heads)
    if total and not cells:
        return torch.zeros(shape, dtype=dtype)
    out = buffers.empty(shape, dtype, a.device)
    parts = (a, _strides(a), b, _strides(b))
    _call("sddmm", a, _csr(csr), heads, *parts, cells, a.shape[-1], ctypes.c_int(total), out, _threads())
    return out


def edge_softmax(csr: Csr, scores: Tensor) -> Tensor:
    out = buffers.empty(tuple(scores.shape), scores.dtype, scores.device).copy_(scores)
    _call("edge_softmax", out, _csr(csr), out.shape[-1], len(out), out, _threads())
    return out


def edge_softmax_backward(csr: Csr, p: Tensor, grad: Tensor) -> Tensor:
    out = buffers.empty(tuple(grad.shape), grad.dtype, grad.device).copy_(grad)
    _call("edge_softmax_backward", out, _csr(csr), out.shape[-1], len(out), p.contiguous(), out, _threads())
    return out


def attention(
    csr: Csr, kind: str, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int
) -> tuple[Tensor, Tensor]:
    q, k, v = _rows_contiguous(q), _rows_contiguous(k), _rows_contiguous(v)
    out = buffers.empty((len(v), csr.n_rows, v.shape[-1]), v.dtype, v.device)
    lse = buffers.empty((len(v), csr.n_rows, heads), _accumulator(v.dtype), v.device)
    _call("attention", v, ctypes.c_int(KINDS[kind]), _attention(csr, q, k, v, a, constant, heads), out, lse)
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
    q, k, v, grad = _rows_contiguous(q), _rows_contiguous(k), _rows_contiguous(v), _rows_contiguous(grad)
    grad_q = buffers.empty(tuple(q.shape), q.dtype, q.device)
    grad_k = None if kind == "gatv2" else buffers.empty(tuple(k.shape), k.dtype, k.device)
    grad_v = buffers.empty(tuple(v.shape), v.dtype, v.device)
    grad_a = None if a is None else torch.empty_like(a, dtype=lse.dtype)
    delta = buffers.empty(tuple(lse.shape), lse.dtype, lse.device)
    number = ctypes.c_int(KINDS[kind])
    to_targets = _attention(csr, q, k, v, a, constant, heads)
    to_sources = _attention(t_csr, q, k, v, a, constant, heads)
    _call("attention_targets", v, number, to_targets, grad, _strides(grad), lse, grad_q, delta, grad_a)
    _call("attention_sources", v, number, to_sources, grad, _strides(grad), lse, delta, csr.n_rows, grad_k, grad_v)
    return grad_q, grad_k, grad_v, grad_a


# what the C functions take


class _Csr(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("indptr", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
    )


class _Strides(ctypes.Structure):
    _fields_ = (("cell", ctypes.c_int64), ("node", ctypes.c_int64))


class _Attention(ctypes.Structure):
    _fields_ = (
        ("graph", _Csr),
        *((name, ctypes.c_int64) for name in ("cells", "heads", "width")),
        *((name, ctypes.c_void_p) for name in "qkva"),
        *((name, _Strides) for name in ("qs", "ks", "vs")),
        ("constant", ctypes.c_double),
        ("threads", ctypes.c_int),
    )


def _csr(csr: Csr) -> _Csr:
    return _Csr(
        csr.n_rows,
        csr.indptr.data_ptr(),
        csr.indices.data_ptr(),
        None if csr.order is None else csr.order.data_ptr(),
    )


def _attention(csr: Csr, q: Tensor, k: Tensor, v: Tensor, a: Tensor | None, constant: float, heads: int) -> _Attention:
    pointers = (q.data_ptr(), k.data_ptr(), v.data_ptr(), None if a is None else a.data_ptr())
    strides = (_strides(q), _strides(k), _strides(v))
    width = v.shape[-1] // heads
    return _Attention(_csr(csr), len(v), heads, width, *pointers, *strides, constant, torch.get_num_threads())


def _weights(weight: Tensor) -> tuple[Tensor, int, int]:
    """The weights, how far it is from one cell's to the next's (0: shared), heads."""
    weight = weight.contiguous()
    return weight, weight[0].numel() if len(weight) > 1 else 0, weight.shape[-1]


def _strides(x: Tensor) -> _Strides:
    return _Strides(x.stride(0), x.stride(1))


def _rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())


def _call(name: str, features: Tensor, *arguments: Any) -> None:
    """Call a C function; tensors go as pointers, structures by reference, numbers as 64-bit integers."""
    library, reason = _load()
    assert library is not None, reason
    converted: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, ctypes.Structure):
            converted.append(ctypes.byref(argument))
        elif isinstance(argument, int):
            converted.append(ctypes.c_int64(argument))
        else:
            converted.append(argument)
    getattr(library, f"{name}_{SUFFIX[features.dtype]}")(*converted)


# compiling


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library, or None and why there is none."""
    try:
        compiler = _compiler()
        if not compiler:
            return None, "no C++ compiler (c++, g++ or clang++) is at hand, so the kernels cannot be compiled"
        return ctypes.CDLL(str(_compiled(compiler))), ""
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or ""
        first = next((line for line in output.splitlines() if "error" in line), "")
        return None, f"compiling the kernels failed: {first or error}"


@cache
def _compiler() -> tuple[str, ...]:
    asked = os.environ.get("CXX")
    names = [asked] if asked else ["c++", "g++", "clang++"]
    return next(((path,) for name in names if (path := shutil.which(name))), ())


def _compiled(compiler: tuple[str, ...]) -> Path:
    digest = hashlib.sha256(" ".join([*compiler, *FLAGS, platform.platform(), _processor()]).encode())
    digest.update(subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout)
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    folder = cache_folder() / "native"
    library = folder / f"kernels-{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder))
    except OSError:  # no home to write to: compile for this process alone
        scratch = Path(tempfile.mkdtemp())
        library = scratch / library.name
    log.info("compiling the CPU kernels into %s (once; some ten seconds)", library)
    try:
        part = scratch / "part.so"
        command = [*compiler, *FLAGS, "-o", str(part), str(SOURCES / "kernels.cpp")]
        subprocess.run(command, capture_output=True, check=True, text=True)
        part.replace(library)
    finally:
        if library.parent != scratch:
            shutil.rmtree(scratch)
    return library


def _processor() -> str:
    """The processor's abilities: a cache folder may be shared among machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
