"""A Triton kernel that is wrong is found at its first use, said once, and plain PyTorch computes in its place."""

import warnings

import pytest
import torch

from kgnn import ops
from kgnn.ops.backends import TABLE, gpu, name_of, native, trial
from tests.ops import reference
from tests.ops.conftest import odd_graph

pytest.importorskip("triton")
DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
OPERATIONS = [operation for operation, names in TABLE.items() if "triton" in names]


@pytest.fixture(autouse=True)
def _untried(monkeypatch):
    monkeypatch.setattr(trial, "_found", {})
    monkeypatch.setattr(native, "missing", lambda device, dtype: "takes half a minute to compile")
    before = ops.set_backend("triton")
    yield
    ops.set_backend(before)


@pytest.fixture
def broken(monkeypatch):
    """Break a kernel: what its launches wrote is changed behind them."""

    def break_(kernel, change):
        def launch(name, grid, *arguments, **constants):
            if name != kernel:
                return launch_rightly(name, grid, *arguments, **constants)
            before = [part.clone() if isinstance(part, torch.Tensor) else None for part in arguments]
            launch_rightly(name, grid, *arguments, **constants)
            written = [
                part
                for part, old in zip(arguments, before, strict=True)
                if old is not None and not torch.equal(part.nan_to_num(), old.nan_to_num())
            ]
            return change(written)

        launch_rightly = gpu._launch
        monkeypatch.setattr(gpu, "_launch", launch)

    return break_


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_kernel_agrees_with_plain_pytorch(operation):
    types = (torch.float64, torch.float32, torch.bfloat16) if operation == "spmm" else (torch.float32,)
    for dtype in types:
        assert name_of(operation, DEVICE, dtype) == "triton", trial.faults()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wrong", [float("nan"), 1.001])
def test_every_kernel_is_seen_to_disagree(broken, operation, wrong):
    kernel = "attention_sources" if operation == "attention_backward" else operation
    broken(kernel, lambda written: [part.mul_(wrong) for part in written if part.is_floating_point()])
    with pytest.warns(
        RuntimeWarning, match=rf"Triton's {operation} on {DEVICE}, float32, is replaced by plain PyTorch"
    ):
        assert name_of(operation, DEVICE, torch.float32) == "torch"


def test_a_wrong_kernel_is_replaced_with_one_warning(broken):
    broken("spmm", lambda written: written[0][..., -1:].zero_())
    graph = odd_graph().to(DEVICE)
    x = torch.randn(2, 12, 6, dtype=torch.float64, device=DEVICE)
    with pytest.warns(RuntimeWarning, match=r"spmm .* replaced by plain PyTorch: differs from .* more than") as said:
        outs = [ops.spmm(graph, x) for _ in range(2)]
    assert len([one for one in said if "replaced" in str(one.message)]) == 1
    for out in outs:
        torch.testing.assert_close(out.cpu(), reference.spmm(odd_graph(), x.cpu()))
    ops.set_backend("auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # on CUDA it tries the broken kernel for other types too
        assert f"replaced by torch: spmm on {DEVICE}, float64: differs" in ops.describe()


def test_a_gradient_that_is_left_out_is_seen(monkeypatch):
    backward = gpu.attention_backward
    monkeypatch.setattr(gpu, "attention_backward", lambda *arguments: (None, *backward(*arguments)[1:]))
    with pytest.warns(RuntimeWarning, match="attention_backward .* replaced by plain PyTorch: differs .* by nan"):
        assert name_of("attention_backward", DEVICE, torch.float32) == "torch"


def test_a_kernel_that_cannot_start_is_replaced(monkeypatch):
    def launch(*arguments, **constants):
        raise RuntimeError("PTX was compiled for another device")

    monkeypatch.setattr(gpu, "_launch", launch)
    with pytest.warns(RuntimeWarning, match="replaced by plain PyTorch: RuntimeError: PTX was compiled"):
        assert name_of("edge_softmax", DEVICE, torch.float32) == "torch"


def test_each_device_and_type_is_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(trial, "_try", lambda *key: tried.append(key) or ("broken" if key[1].index else ""))
    monkeypatch.setattr(gpu, "missing", lambda device, dtype: "")
    for _ in range(2):
        assert name_of("spmm", "cuda:0", torch.float32) == "triton"
        assert name_of("spmm", "cuda:1", torch.float32) == "torch"
        assert name_of("spmm", "cuda:0", torch.bfloat16) == "triton"
    assert len(tried) == 3


def test_nothing_is_tried_where_triton_is_not_asked_for():
    ops.set_backend("auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.spmm(odd_graph(), torch.randn(12, 6, dtype=torch.float64))
    assert not trial._found


def test_other_devices_are_left_to_pytorch():
    assert name_of("spmm", "meta", torch.float32) == "torch"
