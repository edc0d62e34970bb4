"""Arrays that are used again: PyTorch's CPU allocator gives large ones back to the system after every use.

A fresh array of 40 MB costs more time, page by page as it is first written, than a sparse product that fills it. So
large results are kept when their tensor is gone, and the next result of that size lives in the same memory.
"""

import os
import threading
import weakref
from collections import defaultdict

import numpy as np
import torch

SMALLEST = 1 << 20  # bytes; the C library itself keeps smaller arrays
_free: dict[int, list[np.ndarray]] = defaultdict(list)
_lock = threading.RLock()
_kept = 0


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an uninitialised contiguous tensor."""
    size = dtype.itemsize * int(np.prod(shape))
    if device.type != "cpu" or size < SMALLEST:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(_take(size)).view(dtype).view(shape)


def release() -> int:
    """Give the memory that is kept for coming results back to the system; return how many bytes that was."""
    global _kept
    with _lock:
        _free.clear()
        size, _kept = _kept, 0
    return size


def limit() -> int:
    """Return how many bytes are kept at most: an eighth of the machine's memory, or 1 GB where that is not known."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return 1 << 30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8


def _take(size: int) -> np.ndarray:
    global _kept
    with _lock:
        if _free[size]:
            memory = _free[size].pop()
            _kept -= size
        else:
            memory = np.empty(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    view = memory[start : start + size]
    weakref.finalize(view, _give, memory, size).atexit = False
    return view


def _give(memory: np.ndarray, size: int) -> None:
    global _kept
    with _lock:
        if _kept + size <= limit():
            _free[size].append(memory)
            _kept += size
