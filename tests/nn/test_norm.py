import pytest
import torch
from torch import nn

from kgnn.nn import CountedBatchNorm, CountedMLP, fused
from kgnn.nn.fused import gene_values

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


@pytest.mark.parametrize("block_rows", [1, 12, 10_000])
def test_blocks_equal_the_plain_computation(monkeypatch, block_rows):
    """z = w1 · MLP(ReLU(a + b)) in blocks of any size: values, gradients, running statistics."""
    monkeypatch.setattr(fused, "BLOCK_ROWS", block_rows)
    torch.manual_seed(0)
    blocked = CountedMLP(CHANNELS, 2 * CHANNELS, CHANNELS).double().train()
    with torch.no_grad():
        for parameter in blocked.parameters():
            parameter.uniform_(-1, 1)
    plain = CountedMLP(CHANNELS, 2 * CHANNELS, CHANNELS).double().train()
    plain.load_state_dict(blocked.state_dict())
    inputs = [
        torch.randn(size, CHANNELS, dtype=torch.double, requires_grad=True) for size in (GENES, CONDITIONS, GENES)
    ]
    a, b, w = inputs
    total = COUNTS.sum() * GENES

    z = gene_values(a, b, COUNTS / total, total, blocked, w)
    rows = (a.unsqueeze(1) + b).relu().flatten(0, 1)
    expected = (plain(rows, COUNTS.repeat(GENES)).unflatten(0, (GENES, CONDITIONS)) * w.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(z, expected, atol=1e-10, rtol=1e-10)

    slope = torch.linspace(-1, 1, z.numel(), dtype=torch.double).reshape(z.shape)
    ours = torch.autograd.grad((z * slope).sum(), [*inputs, *blocked.parameters()])
    theirs = torch.autograd.grad((expected * slope).sum(), [*inputs, *plain.parameters()])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-9, rtol=1e-9)
    for mine, other in zip(blocked.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)
