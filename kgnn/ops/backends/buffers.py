"""Arrays that are used again: PyTorch's CPU allocator gives large ones back to the system after every use.

A fresh array of 40 MB costs more time, page by page as it is first written, than a sparse product that fills it. So
large results are kept when their tensor is gone, and the next result of about that size lives in the same memory.
"""

import os
import threading
import weakref

import numpy as np
import torch

SMALLEST = 1 << 20  # bytes; the C library itself keeps smaller arrays
ALIGNMENT = 64  # bytes, a cache line
_free: list[np.ndarray] = []  # the longest unused first
_lock = threading.RLock()  # a finalizer may run while its own thread is here


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an uninitialised contiguous tensor."""
    size = dtype.itemsize * int(np.prod(shape))
    if device.type != "cpu" or size < SMALLEST:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(_take(size)).view(dtype).view(shape)


def release() -> int:
    """Give the memory that is kept for coming results back to the system; return how many bytes that was."""
    with _lock:
        size = sum(memory.nbytes for memory in _free)
        _free.clear()
    return size


def limit() -> int:
    """Return how many bytes are kept at most: an eighth of the machine's memory, or 1 GB where that is not known."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return 1 << 30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8


def _take(size: int) -> np.ndarray:
    needed = size + ALIGNMENT
    with _lock:
        fitting = [number for number, memory in enumerate(_free) if needed <= memory.nbytes <= 2 * needed]
        if fitting:
            memory = _free.pop(min(fitting, key=lambda number: _free[number].nbytes))
        else:
            memory = np.empty(needed, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    view = memory[start : start + size]
    weakref.finalize(view, _give, memory).atexit = False
    return view


def _give(memory: np.ndarray) -> None:
    with _lock:
        _free.append(memory)
        while sum(kept.nbytes for kept in _free) > limit():
            _free.pop(0)
