"""The Triton kernels are tried at their first use on a device: one that disagrees with plain PyTorch is not used."""

import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kgnn.ops.adjacency import Adjacency
from kgnn.ops.backends import gpu, plain
from kgnn.ops.csr import Csr

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 4e-3}
CELLS, HEADS, CHANNELS = 2, 2, 10
log = logging.getLogger(__name__)
_found: dict[tuple[str, torch.device, torch.dtype], str] = {}
_lock = threading.Lock()


def fault(operation: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return what is wrong with the kernels of an operation, or ""; they are tried in the first call."""
    key = (operation, device, dtype)
    if key not in _found:
        with _lock:
            if key not in _found:
                _found[key] = _try(*key)
    return _found[key]


def forget() -> None:
    """Try everything again."""
    _found.clear()


def faults() -> list[str]:
    """Return a line for every operation that was tried in vain."""
    return [f"{_name(*key)}: {reason}" for key, reason in _found.items() if reason]


def _try(operation: str, device: torch.device, dtype: torch.dtype) -> str:
    try:
        with torch.inference_mode(False):
            difference = _difference(operation, device, dtype)
    except Exception as error:  # no compiler, a device that it does not know, a launch that fails
        reason = f"{type(error).__name__}: {error}"
    else:
        log.debug("%s differs from plain PyTorch by %.1g", _name(operation, device, dtype), difference)
        if difference <= TOLERANCE[dtype]:  # not so for NaN
            return ""
        reason = f"differs from plain PyTorch by {difference:.2g}, more than {TOLERANCE[dtype]:g}"
    name = _name(operation, device, dtype)
    warnings.warn(f"Triton's {name}, is replaced by plain PyTorch: {reason}", RuntimeWarning, stacklevel=2)
    return reason


def _name(operation: str, device: torch.device, dtype: torch.dtype) -> str:
    return f"{operation} on {device}, {str(dtype).removeprefix('torch.')}"


def _difference(operation: str, device: torch.device, dtype: torch.dtype) -> float:
    """The largest difference from plain PyTorch in double precision on the CPU; of numbers beyond 1, as a share."""
    largest = torch.zeros((), dtype=torch.float64)
    for arguments in _arguments(operation, dtype):
        ours = getattr(gpu, operation)(*(_moved(part, device) for part in arguments))
        theirs = getattr(plain, operation)(*(_moved(part, torch.device("cpu"), torch.float64) for part in arguments))
        for one, other in zip(_as_tuple(ours), _as_tuple(theirs), strict=True):
            if one is other is None:  # no such gradient
                continue
            if one is None or other is None:
                return float("nan")
            mine = one.cpu().double()
            error = torch.where(mine == other, 0.0, (mine - other).abs() / other.abs().clamp_min(1))
            largest = torch.maximum(largest, error.max())  # NaN stays NaN
    return float(largest)


def _arguments(operation: str, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    """What to try an operation on: a hub with more edges than a kernel takes at a time, a node that hears nobody."""
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([0] * 35 + [2] * 3 + [3] * 9)
    graph = Adjacency(torch.stack([torch.randint(5, target.shape, generator=generator), target]), n_nodes=(4, 5))
    sums = torch.float64 if dtype == torch.float64 else torch.float32

    def random(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    to, of, value = random(CELLS, 4, CHANNELS), random(CELLS, 5, CHANNELS), random(CELLS, 5, CHANNELS)
    each = random(CELLS, graph.n_edges, HEADS, dtype=sums)
    csr, t_csr, shared = graph.csr, graph.t_csr, each[:1]
    if operation == "spmm":
        yield from ((csr, weight, of) for weight in (shared, each))
    elif operation == "spmm_max":
        yield csr, shared, of
    elif operation == "spmm_max_backward":
        _, arg = plain.spmm_max(csr, shared, of)
        yield csr, t_csr, graph.t_position, shared, to, arg
    elif operation == "sddmm":
        yield from ((csr, to, of, HEADS, total) for total in (False, True))
    elif operation == "edge_softmax":
        yield csr, each
    elif operation == "edge_softmax_backward":
        yield csr, plain.edge_softmax(csr, each), random(CELLS, graph.n_edges, HEADS, dtype=sums)
    else:
        for kind in gpu.KINDS:
            q, k = (to[..., :HEADS], of[..., :HEADS]) if kind == "gat" else (to, value if kind == "gatv2" else of)
            a = random(HEADS, CHANNELS // HEADS, dtype=sums) if kind == "gatv2" else None
            forward = (kind, q, k, value, a, 0.2, HEADS)
            if operation == "attention":
                yield csr, *forward
            else:
                _, lse = plain.attention(csr, *forward)
                yield csr, t_csr, *forward, lse, random(CELLS, 4, CHANNELS)


def _moved(part: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    if isinstance(part, Csr):
        return Csr(part.indptr.to(device), part.indices.to(device), part.n_columns)
    if not isinstance(part, Tensor):
        return part
    return part.to(device, dtype if part.is_floating_point() else None)


def _as_tuple(result: Any) -> tuple[Tensor | None, ...]:
    return result if isinstance(result, tuple) else (result,)
