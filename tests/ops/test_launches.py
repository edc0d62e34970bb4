"""What the backend `triton` starts, on a machine without a GPU: compiled for three, and within what CUDA takes."""

import json
import mmap
import os
import subprocess
import sys

import pytest
import torch

from kgnn.errors import InputError
from kgnn.ops import Adjacency
from kgnn.ops.backends import gpu, plain
from tests.ops.launches import COLUMNS, ROWS, every_launch

pytest.importorskip("triton")

REGISTERS = 128  # a thread: with more, fewer than 16 of a multiprocessor's warps work at a time
DIMENSIONS = (
    2**31 - 1,
    65_535,
    65_535,
)  # CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"


@pytest.mark.slow
def test_every_kernel_compiles_for_three_generations_without_spills():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.ops.compiled"]
    found = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    assert len(found) >= 9
    for kernel, cases in found.items():
        assert cases, f"{kernel} is started by no operation of tests/ops/launches.py"
        for capability in (80, 90, 100):
            assert any(case.startswith(f"sm_{capability} ") for case in cases)
        for case, (registers, spilled) in cases.items():
            assert not spilled, f"{kernel}, {case}: {spilled} bytes spilled"
            assert registers <= REGISTERS, f"{kernel}, {case}: {registers} registers"


@pytest.mark.parametrize("cells", [1, 32_768, 65_536, 200_001])
def test_any_number_of_cells_goes_in_launches_that_cuda_takes(monkeypatch, cells):
    launches = every_launch(monkeypatch, torch.float32, cells, 64, 4)
    assert {launch.grid[0] for launch in launches} == {ROWS, COLUMNS}
    of_operation = {}
    for launch in launches:
        assert all(size <= limit for size, limit in zip(launch.grid, DIMENSIONS, strict=True))
        of_operation.setdefault((launch.kernel, *launch.arguments[1:], *launch.constants.values()), []).append(launch)
    for parts in of_operation.values():
        covered = [range(part.arguments[0], part.arguments[0] + part.grid[2]) for part in parts]
        total = parts[0].constants.get("TOTAL", False)  # one program sums over all cells
        assert [cell for part in covered for cell in part] == list(range(1 if total else cells))


@pytest.mark.parametrize(("channels", "heads"), [(70_000, 70_000), (65_536 * gpu.MAX_BLOCK, 1)])
def test_more_heads_or_channels_than_cuda_takes_are_refused(monkeypatch, channels, heads):
    with pytest.raises(InputError, match=r"65,536 heads or blocks|70,000 heads or blocks.*set_backend\('torch'\)"):
        every_launch(monkeypatch, torch.float32, 1, channels, heads)


@pytest.mark.parametrize("width", [150, 600])
@pytest.mark.parametrize("kind", ["gat", "gatv2", "dot"])
def test_wide_heads_take_fewer_edges_at_a_time(monkeypatch, kind, width):
    taken = []
    launch = gpu._launch
    monkeypatch.setattr(
        gpu, "_launch", lambda *some, **constants: taken.append(constants) or launch(*some, **constants)
    )
    generator, device = torch.Generator().manual_seed(0), "cuda" if torch.cuda.is_available() else "cpu"
    graph = small()[0].to(device)
    x, y, grad = (torch.randn(1, 4, width, generator=generator).to(device) for _ in range(3))
    # scores of about 1: the exponential of large ones magnifies what float32 rounds
    a = torch.randn(1, width, generator=generator).to(device) / width**0.5 if kind == "gatv2" else None
    parts = [x[..., :1], y[..., :1], y] if kind == "gat" else [x, y, y]
    theirs = plain.attention(graph.csr, kind, *parts, a, 0.1, 1)
    assert_same(gpu.attention(graph.csr, kind, *parts, a, 0.1, 1), theirs, 1e-4)
    rest = (a, 0.1, 1, theirs[1], grad)
    assert_same(
        gpu.attention_backward(graph.csr, graph.t_csr, kind, *parts, *rest),
        plain.attention_backward(graph.csr, graph.t_csr, kind, *parts, *rest),
        1e-4,
    )
    assert {constants["EDGES"] for constants in taken} == {{150: 2, 600: 1}[width]}


# places of more than 32 bits: features far apart, in memory that is reserved and hardly touched

FAR = 1 << 30  # numbers from one node to the next, so that the third one's place is 2^31
NO_RESERVE = 0x4000  # Linux's MAP_NORESERVE
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="memory of the CPU, so Triton's interpreter")


def far_apart(x: torch.Tensor) -> torch.Tensor:
    """The same numbers [1, nodes, channels]; a place cut to 32 bits lies in front of them, among zeros."""
    numbers = (2 + x.shape[1]) * FAR
    memory = mmap.mmap(-1, numbers * x.element_size(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    view = torch.frombuffer(memory, dtype=x.dtype).as_strided(x.shape, (FAR, FAR, 1), 2 * FAR)
    return view.copy_(x)


def small():
    generator = torch.Generator().manual_seed(0)
    graph = Adjacency(torch.tensor([[0, 1, 2, 3, 3, 0, 2], [0, 2, 2, 2, 3, 3, 3]]), n_nodes=4)
    x, y = (torch.randn(1, 4, 6, generator=generator) for _ in range(2))
    return graph, x, y, torch.randn(1, graph.n_edges, 2, generator=generator)


def assert_same(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@interpreted
@pytest.mark.parametrize("kind", ["gat", "gatv2", "dot"])
def test_attention_between_nodes_far_apart_in_memory(kind):
    graph, x, y, _ = small()
    a = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.2, 0.3]]) if kind == "gatv2" else None
    near = [x[..., :2], y[..., :2], y] if kind == "gat" else [x, y, y]
    far = [far_apart(part) for part in near]
    theirs = plain.attention(graph.csr, kind, *near, a, 0.2, 2)
    assert_same(gpu.attention(graph.csr, kind, *far, a, 0.2, 2), theirs)
    grad = torch.linspace(-1, 1, 24).view(1, 4, 6)
    rest = (a, 0.2, 2, theirs[1])
    assert_same(
        gpu.attention_backward(graph.csr, graph.t_csr, kind, *far, *rest, far_apart(grad)),
        plain.attention_backward(graph.csr, graph.t_csr, kind, *near, *rest, grad),
    )


@interpreted
def test_products_of_nodes_far_apart_in_memory():
    graph, x, y, weight = small()
    assert_same([gpu.spmm(graph.csr, weight, far_apart(x))], [plain.spmm(graph.csr, weight, x)])
    assert_same(gpu.spmm_max(graph.csr, weight, far_apart(x)), plain.spmm_max(graph.csr, weight, x))
    for total in (False, True):
        ours = gpu.sddmm(graph.csr, far_apart(x), far_apart(y), 2, total)
        assert_same([ours], [plain.sddmm(graph.csr, x, y, 2, total)])


@interpreted
def test_weights_of_very_many_heads():
    """The kernels are told of 2^30 heads, so that the third edge's weights begin at number 2^31."""
    graph, x, y, weight = small()
    near, far = weight[..., :1], far_apart(weight[..., :1])
    out, arg = torch.empty(1, 4, 6), torch.empty(1, 4, 6, dtype=torch.int32)
    csr, sizes = (graph.indptr, graph.indices), (6, 6, FAR, 0)
    strides = (x.stride(0), x.stride(1))
    constants = {"ACC": gpu._acc(x), "BLOCK": 8}
    gpu._launch("spmm", (4, 1, 1), *csr, far, x, out, 4, *sizes, *strides, EDGES=2, **constants)
    assert_same([out], [plain.spmm(graph.csr, near, x)])
    gpu._launch("spmm_max", (4, 1, 1), *csr, far, x, out, arg, 4, *sizes, *strides, **constants)
    assert_same([out, arg], plain.spmm_max(graph.csr, near, x))
    t_csr = (graph.t_indptr, graph.t_indices, graph.t_position)
    theirs = plain.spmm_max_backward(graph.csr, graph.t_csr, graph.t_position, near, y, arg)
    gpu._launch("spmm_max_backward", (4, 1, 1), *t_csr, far, y, arg, out, 4, 4, *sizes, **constants)
    assert_same([out], [theirs])
