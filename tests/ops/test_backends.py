"""Every backend gives what PyG's gather and scatter on the disjoint union give, values and gradients."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from kgnn import ops
from kgnn.ops.backends import BACKENDS, TABLE, buffers, name_of, native_library
from tests.ops import reference
from tests.ops.conftest import SOURCES, TARGETS, odd_graph

CELLS = 2
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}

# name: (function of the module, graph, features by role); roles: x sources, t targets, w weights, a attention vectors
OPERATIONS = {
    "spmm": lambda m, g, x, t, w, a: m.spmm(g, x),
    "spmm, a weight an edge": lambda m, g, x, t, w, a: m.spmm(g, x, w[0, :, 0]),
    "spmm, a weight an edge and head": lambda m, g, x, t, w, a: m.spmm(g, x, w[0]),
    "spmm, weights of each cell": lambda m, g, x, t, w, a: m.spmm(g, x, w),
    "spmm mean": lambda m, g, x, t, w, a: m.spmm(g, x, w[0], reduce="mean"),
    "spmm max": lambda m, g, x, t, w, a: m.spmm(g, x, w[0], reduce="max"),
    "sddmm": lambda m, g, x, t, w, a: m.sddmm(g, t, x, heads=a.shape[0]),
    "edge_softmax": lambda m, g, x, t, w, a: m.edge_softmax(g, 3 * w),
    "gat": lambda m, g, x, t, w, a: m.gat_attention(g, x, t[..., : len(a)], x[..., : len(a)], 0.1),
    "gatv2": lambda m, g, x, t, w, a: m.gatv2_attention(g, t, x, a),
    "dot": lambda m, g, x, t, w, a: m.dot_attention(g, t, x, x.flip(-1), heads=len(a)),
}


def features(graph, channels, heads, dtype):
    generator = torch.Generator().manual_seed(1)
    shapes = ((CELLS, SOURCES, channels), (CELLS, TARGETS, channels), (CELLS, graph.n_edges, heads))
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    parts.append(torch.randn(heads, channels // heads, generator=generator, dtype=torch.float64))
    return [part.to(dtype) for part in parts]


def run(module, operation, graph, parts, dtype):
    leaves = [part.detach().to(dtype).requires_grad_() for part in parts]
    out = OPERATIONS[operation](module, graph, *leaves)
    slope = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape).to(out)
    grads = torch.autograd.grad((out * slope).sum(), leaves, allow_unused=True)
    return [out, *grads]


def assert_close(ours, theirs, tolerance):
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            scale = float(other.detach().abs().max().clamp_min(1))
            torch.testing.assert_close(mine.double(), other, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("dtype", "channels", "heads"), [(torch.float64, 6, 3), (torch.float32, 20, 1)])
def test_values_and_gradients(backend, operation, dtype, channels, heads):
    graph = odd_graph()
    parts = features(graph, channels, heads, dtype)
    ours = run(ops, operation, graph, parts, dtype)
    theirs = run(reference, operation, graph, parts, torch.float64)
    assert_close(ours, theirs, TOLERANCE[dtype])
    assert ours[0].dtype == dtype


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("dtype", "channels", "heads"),
    [(torch.float32, 64, 4), (torch.float32, 150, 1), (torch.float64, 40, 5), (torch.float32, 24, 3)],
)
@pytest.mark.parametrize("reorder", ["none", "degree"])
def test_wide_features_on_the_compiled_kernels(operation, dtype, channels, heads, reorder):
    """All widths of vectors and the rest behind the last whole one, rows in any order."""
    graph = odd_graph(reorder=reorder)
    parts = features(graph, channels, heads, dtype)
    assert name_of("spmm", "cpu", dtype) == "native"
    ours = run(ops, operation, graph, parts, dtype)
    assert_close(ours, run(reference, operation, graph, parts, torch.float64), TOLERANCE[dtype] * 4)


@pytest.mark.parametrize("operation", ["spmm", "spmm max", "sddmm", "gat", "gatv2", "dot"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(backend, operation, dtype):
    if backend == "triton" and dtype == torch.float16:
        pytest.skip("the interpreter is slow, and its path is that of bfloat16")
    graph = odd_graph()
    parts = features(graph, 8, 2, dtype)
    parts[3] = parts[3].double()
    theirs = OPERATIONS[operation](reference, graph, *(part.double() for part in parts))
    ours = OPERATIONS[operation](ops, graph, *parts)
    assert ours.dtype == (torch.float32 if operation == "sddmm" else dtype)
    # one rounding of the result, none of the sums; Triton's interpreter cuts off instead of rounding
    places = {torch.bfloat16: 8, torch.float16: 11}[dtype] - (backend == "triton")
    torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=2**-places)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", ["native", "torch"])
def test_gradcheck(name, operation):
    before = ops.set_backend(name)
    graph = odd_graph()
    parts = [part.requires_grad_() for part in features(graph, 4, 2, torch.float64)]
    try:
        assert torch.autograd.gradcheck(lambda *leaves: OPERATIONS[operation](ops, graph, *leaves), parts, eps=1e-6)
    finally:
        ops.set_backend(before)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("cells", [1, 5])
def test_the_same_bits_every_time(operation, cells):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(300, (2, 4000), generator=generator)
    graph = ops.Adjacency(edge_index, torch.rand(4000, generator=generator), n_nodes=300)
    parts = [torch.randn(cells, 300, 32, generator=generator) for _ in range(2)]
    parts += [torch.randn(cells, 4000, 4, generator=generator), torch.randn(4, 8, generator=generator)]
    first, *others = [run(ops, operation, graph, parts, torch.float32) for _ in range(4)]
    for other in others:
        assert all(a is b or torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_strided_features_of_either_layout(backend):
    graph = odd_graph()
    x = torch.randn(CELLS, SOURCES, 6, dtype=torch.float64)
    expected = reference.spmm(graph, x)
    torch.testing.assert_close(ops.spmm(graph, x.transpose(1, 2).contiguous().transpose(1, 2)), expected)
    torch.testing.assert_close(ops.spmm(graph, x.repeat_interleave(2, 1)[:, ::2]), expected)
    genes_first = x.transpose(0, 1).reshape(SOURCES, -1)
    together = ops.spmm(graph, genes_first).reshape(TARGETS, CELLS, 6).transpose(0, 1)
    torch.testing.assert_close(together, expected)
    shared = torch.randn(SOURCES, 6, dtype=torch.float64).expand(3, -1, -1)
    torch.testing.assert_close(ops.spmm(graph, shared), reference.spmm(graph, shared))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_cells_and_no_edges(backend, operation):
    for graph, cells in (
        (odd_graph(), 0),
        (ops.Adjacency(torch.empty(2, 0).long(), n_nodes=(TARGETS, SOURCES)), CELLS),
    ):
        parts = [torch.zeros(cells, n, 6, dtype=torch.float64) for n in (SOURCES, TARGETS)]
        parts += [torch.zeros(max(cells, 1), graph.n_edges, 3).double(), torch.ones(3, 2).double()]
        if "each cell" in operation or "softmax" in operation:
            parts[2] = parts[2][:cells]
        out, *_ = run(ops, operation, graph, parts, torch.float64)
        assert (out == 0).all()
        assert out.shape[0] == cells


def test_nan_reaches_those_who_hear_it_and_nobody_else(backend):
    graph = odd_graph()
    x = torch.randn(1, SOURCES, 4, dtype=torch.float64)
    x[0, 2, 1] = float("nan")
    hears = graph.edge_index[1][graph.edge_index[0] == 2].unique()
    assert len(hears)
    for reduce in ("sum", "mean", "max"):
        out = ops.spmm(graph, x, reduce=reduce)
        assert out[0, :, 1].isnan().nonzero().ravel().tolist() == hears.tolist()
        assert not out[0, :, [0, 2, 3]].isnan().any()


# the choice


def test_describe_says_what_is_used_and_why_not_the_others():
    text = ops.describe()
    assert "cpu, float32: native" in text
    assert "native: compiled for this processor by" in text
    before = ops.set_backend("torch")
    assert "asked for: torch" in ops.describe()
    assert ops.set_backend(before) == "torch"


def test_every_backend_has_what_the_table_says():
    for operation, names in TABLE.items():
        assert all(callable(getattr(BACKENDS[name], operation)) for name in names)


def test_unknown_and_unusable_backends_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"no backend 'cuda'; there are native, triton, scatter, torch and auto"):
        ops.set_backend("cuda")
    monkeypatch.setattr(native_library, "load", lambda: (None, "no C++ compiler"))
    with pytest.raises(RuntimeError, match="'native' cannot be used: no C\\+\\+ compiler"):
        ops.set_backend("native")
    assert name_of("spmm", "cpu", torch.float32) == "torch"


def in_a_new_process(code, **environment):
    command = [sys.executable, "-c", f"import torch; from kgnn import ops\n{code}"]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/no/compiler", "no C++ compiler"),
        (sys.executable, "compiling the kernels failed"),  # it has a --version, and cannot compile
    ],
)
def test_without_a_compiler_plain_pytorch_computes(tmp_path, compiler, reason):
    code = (
        "print(ops.describe()); print(ops.spmm(ops.Adjacency(torch.tensor([[0], [1]]), n_nodes=2), torch.ones(2, 1)))"
    )
    text = in_a_new_process(code, CXX=compiler, KGNN_CACHE=str(tmp_path), KGNN_BACKEND="auto")
    assert reason in text
    assert "cpu, float32: torch" in text
    assert "[1.]" in text
    assert not list(tmp_path.rglob("*.so"))


def test_the_environment_asks_for_a_backend():
    assert "asked for: torch" in in_a_new_process("print(ops.describe())", KGNN_BACKEND="torch")
    code = "ops.spmm(ops.Adjacency(torch.tensor([[0], [1]]), n_nodes=2), torch.ones(2, 1))"
    assert "there is no backend 'fast'" in in_a_new_process(code, KGNN_BACKEND="fast")


def test_a_home_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("")
    text = in_a_new_process("print(ops.describe())", KGNN_CACHE=str(tmp_path / "file" / "cache"))
    assert "cpu, float32: native" in text


# memory


def test_memory_is_used_again_only_when_its_tensor_is_gone():
    ops.release_buffers()
    shape, device = (1 << 20,), torch.device("cpu")
    first = buffers.empty(shape, torch.float32, device)
    place, part = first.data_ptr(), first[5:]
    del first
    second = buffers.empty(shape, torch.float32, device)
    assert second.data_ptr() != place  # a view still lives there
    del part
    third = buffers.empty(shape, torch.float32, device)
    assert third.data_ptr() == place
    assert third.data_ptr() % 64 == 0
    assert ops.release_buffers() == 0
    del third
    smaller = buffers.empty((shape[0] * 3 // 4,), torch.float32, device)
    assert smaller.data_ptr() == place  # a little too large is no waste of time
    del second
    much_smaller = buffers.empty((shape[0],), torch.uint8, device)
    assert ops.release_buffers() >= 4 * shape[0]
    assert much_smaller.shape == shape


def test_no_more_memory_is_kept_than_the_limit(monkeypatch):
    ops.release_buffers()
    monkeypatch.setattr(buffers, "limit", lambda: 5 << 20)
    parts = [buffers.empty((1 << 20,), torch.float32, torch.device("cpu")) for _ in range(3)]
    last = parts[2].data_ptr()
    for _ in range(3):
        del parts[0]
    assert buffers.empty((1 << 20,), torch.float32, torch.device("cpu")).data_ptr() == last
    assert 4 << 20 <= ops.release_buffers() < 5 << 20


def test_results_outlive_the_next_call():
    generator = np.random.default_rng(0)
    edge_index = torch.from_numpy(generator.integers(0, 2000, (2, 9000)))
    graph = ops.Adjacency(edge_index, n_nodes=2000)
    x = torch.randn(4, 2000, 64)
    first = ops.spmm(graph, x)
    kept = first.clone()
    for _ in range(3):
        ops.spmm(graph, torch.randn(4, 2000, 64))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("nodes", "channels", "heads"), [(3000, 264, 1), (3000, 256, 4), (30_000, 136, 1)])
@pytest.mark.parametrize("cells", [1, 2])
def test_features_that_outgrow_the_cache_go_in_blocks_of_channels(dtype, nodes, channels, heads, cells):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(nodes, (2, 2 * nodes), generator=generator)
    graph = ops.Adjacency(edge_index, n_nodes=nodes)
    x = torch.randn(cells, nodes, channels, generator=generator).to(dtype)
    weight = torch.rand(2 * nodes, heads, generator=generator)
    ours = ops.spmm(graph, x, weight)
    before = ops.set_backend("torch")
    theirs = ops.spmm(graph, x, weight)
    ops.set_backend(before)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5)
