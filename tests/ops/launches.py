"""What the backend `triton` would start, without starting it: every operation on tensors without memory."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kgnn.ops.backends import gpu
from kgnn.ops.csr import Csr

ROWS, COLUMNS, ENTRIES = 30, 40, 500


class Launch(NamedTuple):
    kernel: str
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]


class Recorder:
    """Stands where the module of kernels does: `recorder.spmm[grid](arguments)` writes down a launch."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def __getattr__(self, kernel: str) -> Any:
        recorder = self

        class Kernel:
            def __getitem__(self, grid):
                return lambda *arguments, **constants: recorder.launches.append(
                    Launch(kernel, grid, arguments, constants)
                )

        return Kernel()


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def pattern(rows: int, columns: int) -> Csr:
    return Csr(empty(rows + 1, dtype=torch.int32), empty(ENTRIES, dtype=torch.int32), columns)


def every_launch(monkeypatch, dtype: torch.dtype, cells: int, channels: int, heads: int) -> list[Launch]:
    """Return the launches of all operations."""
    recorder = Recorder()
    monkeypatch.setattr(gpu, "_kernels", lambda: recorder)
    csr, t_csr = pattern(ROWS, COLUMNS), pattern(COLUMNS, ROWS)
    of, to = empty(cells, COLUMNS, channels, dtype=dtype), empty(cells, ROWS, channels, dtype=dtype)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    shared, each = (empty(number, ENTRIES, heads, dtype=sums) for number in (1, cells))
    arg = empty(cells, ROWS, channels, dtype=torch.int32)
    gpu.spmm(csr, shared, of)
    gpu.spmm(csr, each, of)
    gpu.spmm_max(csr, shared, of)
    gpu.spmm_max_backward(csr, t_csr, empty(ENTRIES, dtype=torch.int32), shared, to, arg)
    for total in (False, True):
        gpu.sddmm(csr, to, of, heads, total)
    gpu.edge_softmax(csr, each)
    gpu.edge_softmax_backward(csr, each, each)
    for kind in gpu.KINDS:
        q, k = (to[..., :heads], of[..., :heads]) if kind == "gat" else (to, of)
        a = empty(heads, channels // heads, dtype=sums) if kind == "gatv2" else None
        _, lse = gpu.attention(csr, kind, q, k, of, a, 0.2, heads)
        gpu.attention_backward(csr, t_csr, kind, q, k, of, a, 0.2, heads, lse, to)
    return recorder.launches
