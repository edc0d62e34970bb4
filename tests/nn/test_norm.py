import pytest
import torch
from torch import nn

from kgnn import ops
from kgnn.nn import CountedBatchNorm, CountedMLP
from kgnn.nn.fused import folded_gene_values, gene_values
from kgnn.ops.backends import plain_dense

GENES, CONDITIONS, CHANNELS = 11, 4, 5
COUNTS = torch.tensor([3.0, 1, 2, 7], dtype=torch.double)


def repeat(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(COUNTS.long(), dim=0)


def test_counted_norm_is_batch_norm_on_repeated_rows():
    ours, theirs = CountedBatchNorm(CHANNELS).double(), nn.BatchNorm1d(CHANNELS).double()
    x = torch.randn(CONDITIONS, CHANNELS, dtype=torch.double, requires_grad=True)
    for _ in range(3):
        out, expected = ours(x, COUNTS), theirs(repeat(x))
        torch.testing.assert_close(repeat(out), expected, atol=1e-12, rtol=1e-12)
    slope = torch.linspace(-1, 1, out.numel(), dtype=torch.double).reshape(out.shape)
    torch.testing.assert_close(
        torch.autograd.grad((repeat(out) * repeat(slope)).sum(), x)[0],
        torch.autograd.grad((expected * repeat(slope)).sum(), x)[0],
    )
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(ours.eval()(x, COUNTS), theirs.eval()(x))


def test_without_a_momentum_the_statistics_are_the_mean_over_batches_as_in_pytorch():
    ours, theirs = (kind(CHANNELS, momentum=None).double() for kind in (CountedBatchNorm, nn.BatchNorm1d))
    for _ in range(3):
        x = torch.randn(CONDITIONS, CHANNELS, dtype=torch.double)
        ours(x, COUNTS), theirs(repeat(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.fixture(params=["native", "native, odd width", "torch 1", "torch 12", "torch 10000"])
def way(request, monkeypatch):
    """The compiled kernel, a width it leaves to PyTorch, PyTorch in blocks of so many rows → channels."""
    name, _, rows = request.param.partition(" ")
    if rows.isdigit():
        monkeypatch.setitem(plain_dense.BLOCK_ROWS, "cpu", int(rows))
    before = ops.set_backend(name.rstrip(","))
    yield 5 if rows == "odd width" else 16
    ops.set_backend(before)


@pytest.mark.parametrize("genes", [1, GENES, 40])
def test_blocks_equal_the_plain_computation(way, genes):
    """z = w1 · MLP(ReLU(a + b)) in blocks of any size: values, gradients, running statistics."""
    channels = way
    torch.manual_seed(0)
    blocked = CountedMLP(channels, 2 * channels, channels).double().train()
    with torch.no_grad():
        for parameter in blocked.parameters():
            parameter.uniform_(-1, 1)
    plain = CountedMLP(channels, 2 * channels, channels).double().train()
    plain.load_state_dict(blocked.state_dict())
    inputs = [
        torch.randn(size, channels, dtype=torch.double, requires_grad=True) for size in (genes, CONDITIONS, genes)
    ]
    a, b, w = inputs
    total = COUNTS.sum() * genes

    z = gene_values(a, b, COUNTS / total, total, blocked, w)
    rows = (a.unsqueeze(1) + b).relu().flatten(0, 1)
    expected = (plain(rows, COUNTS.repeat(genes)).unflatten(0, (genes, CONDITIONS)) * w.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(z, expected, atol=1e-10, rtol=1e-10)

    slope = torch.linspace(-1, 1, z.numel(), dtype=torch.double).reshape(z.shape)
    ours = torch.autograd.grad((z * slope).sum(), [*inputs, *blocked.parameters()])
    theirs = torch.autograd.grad((expected * slope).sum(), [*inputs, *plain.parameters()])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-9, rtol=1e-9)
    for mine, other in zip(blocked.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)

    with torch.no_grad():
        expected = (plain.eval()(rows, COUNTS).unflatten(0, (genes, CONDITIONS)) * w.unsqueeze(1)).sum(-1)
        torch.testing.assert_close(folded_gene_values(a, b, blocked.eval(), w), expected, atol=1e-10, rtol=1e-10)
