"""The backend `torch`, sparse and dense products together: some rows at a time, so that nothing large is stored."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kgnn.ops.backends import buffers
from kgnn.ops.csr import Csr

Spmm = Callable[[Csr, Tensor, Tensor], Tensor]

# by device; on CUDA some 100,000 rows: far more than it works on at a time, far less than all (not measured)
BLOCK_BYTES = {"cpu": 1 << 23, "cuda": 1 << 26}  # messages at a time
BLOCK_ROWS = {"cpu": 1 << 12, "cuda": 1 << 17}  # rows gene × condition: with 128 hidden channels 2 MB, one core's cache


def transform(csr: Csr, values: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, spmm: Spmm) -> Tensor:
    """y[cell, t] = Σ_r (Σ_e values[e] · x[cell, column(e)]) W_r + bias; the rows of `csr` are target × relation.

    `spmm` is the sparse product of the best backend there is.

    Shapes: values [entries], x [cells, columns, in], weight [relations, in, out] → [cells, targets, out].
    """
    relations, channels, out_channels = weight.shape
    flat = weight.reshape(relations * channels, out_channels)
    out = buffers.empty((len(x), csr.n_rows // relations, out_channels), x.dtype, x.device)
    for part in _cell_blocks(x, csr.n_rows * channels):
        messages = spmm(csr, values.view(1, -1, 1), x[part]).view(-1, len(flat))
        into = out[part].flatten(0, 1)
        torch.mm(messages, flat, out=into) if bias is None else torch.addmm(bias, messages, flat, out=into)
        del messages  # before the next ones are made, here and below
    return out


def transform_backward(
    csr: Csr, values: Tensor, grad: Tensor, x: Tensor, weight: Tensor, of_x: bool, of_weight: bool, spmm: Spmm
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and of the weight; the rows of `csr` are source × relation here, its columns the targets."""
    relations, channels, out_channels = weight.shape
    back = weight.transpose(1, 2).reshape(relations * out_channels, channels)
    grad_x = buffers.empty(tuple(x.shape), x.dtype, x.device) if of_x else None
    grad_weight = weight.new_zeros(channels, relations * out_channels) if of_weight else None
    for part in _cell_blocks(x, csr.n_rows * out_channels):
        messages = spmm(csr, values.view(1, -1, 1), grad[part]).view(-1, len(back))
        if grad_x is not None:
            torch.mm(messages, back, out=grad_x[part].flatten(0, 1))
        if grad_weight is not None:
            grad_weight.addmm_(x[part].flatten(0, 1).T, messages)
        del messages
    if grad_weight is not None:
        grad_weight = grad_weight.unflatten(1, (relations, out_channels)).transpose(0, 1)
    return grad_x, grad_weight


def _cell_blocks(x: Tensor, numbers_a_cell: int) -> list[slice]:
    limit = BLOCK_BYTES.get(x.device.type, BLOCK_BYTES["cuda"])
    size = max(1, limit // max(1, numbers_a_cell * x.element_size()))
    if x.device.type == "cpu":
        size = max(size, torch.get_num_threads())
    return [slice(start, start + size) for start in range(0, len(x), size)]


# an MLP over all pairs of a gene and a condition, h = ReLU(a[g] + b[c])


def pair_moments(a: Tensor, b: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """E[h] [channels] and E[h hᵀ] [channels, channels] of rows that weigh share [conditions]."""
    first, second = torch.zeros_like(a[0]), a.new_zeros(a.shape[1], a.shape[1])
    root = share.sqrt()
    for genes in _gene_blocks(a, b):
        h = _state(a[genes], b)
        first += torch.matmul(share, h.unflatten(0, (-1, len(b)))).sum(0)
        h.unflatten(0, (-1, len(b))).mul_(root.unsqueeze(-1))
        second.addmm_(h.T, h)
        del h
    return first, second


def pair_moments_backward(
    a: Tensor, b: Tensor, share: Tensor, grad_first: Tensor, grad_second: Tensor
) -> tuple[Tensor, Tensor]:
    symmetric = grad_second + grad_second.T
    grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
    for genes in _gene_blocks(a, b):
        h = _state(a[genes], b)
        grad = _through_relu(torch.addmm(grad_first, h, symmetric), h).unflatten(0, (-1, len(b)))
        grad_a[genes] = torch.matmul(share, grad)
        grad_b += grad.sum(0)
        del h, grad
    return grad_a, grad_b * share.unsqueeze(-1)


def pair_mlp(a: Tensor, b: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor) -> tuple[Tensor, Tensor]:
    """y[g, c] = W2 ReLU(W1 h + b1), [genes, conditions, out], and its sum over the genes [conditions, out]."""
    out = buffers.empty((len(a), len(b), len(weight2)), a.dtype, a.device)
    total = out.new_zeros(out.shape[1:])
    for genes in _gene_blocks(a, b):
        hidden = torch.addmm(bias1, _state(a[genes], b), weight1.T).relu_()
        torch.mm(hidden, weight2.T, out=out[genes].flatten(0, 1))
        total += out[genes].sum(0)
        del hidden
    return out, total


def pair_values(a: Tensor, b: Tensor, weight1: Tensor, bias1: Tensor, of_gene: Tensor) -> Tensor:
    """of_gene[g] · ReLU(W1 h + b1), [genes, conditions]; of_gene [genes, hidden]."""
    out = a.new_empty(len(a), len(b))
    for genes in _gene_blocks(a, b):
        hidden = torch.addmm(bias1, _state(a[genes], b), weight1.T).relu_().unflatten(0, (-1, len(b)))
        out[genes] = torch.bmm(hidden, of_gene[genes].unsqueeze(-1)).squeeze(-1)
        del hidden
    return out


def pair_mlp_backward(
    a: Tensor,
    b: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    out: Tensor,
    grad: Tensor,
    scaled: Tensor,
    slope: Tensor,
    intercept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a, b, W1, b1 and W2 when y's is intercept[c] + slope[c] · y[g, c] + grad[g, c] · scaled[g].

    Shapes: grad [genes, conditions], scaled [genes, out], slope and intercept [conditions, out].
    """
    grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
    grad_weight1, grad_bias1 = torch.zeros_like(weight1), torch.zeros_like(bias1)
    grad_weight2 = torch.zeros_like(weight2)
    for genes in _gene_blocks(a, b):
        h = _state(a[genes], b)
        hidden = torch.addmm(bias1, h, weight1.T).relu_()
        grad_out = torch.addcmul(intercept, out[genes], slope)
        grad_out.addcmul_(grad[genes].unsqueeze(-1), scaled[genes].unsqueeze(1))
        grad_out = grad_out.flatten(0, 1)
        grad_weight2.addmm_(grad_out.T, hidden)
        grad_hidden = _through_relu(torch.mm(grad_out, weight2), hidden)
        grad_weight1.addmm_(grad_hidden.T, h)
        grad_bias1 += grad_hidden.sum(0)
        grad_h = _through_relu(torch.mm(grad_hidden, weight1), h).unflatten(0, (-1, len(b)))
        grad_a[genes] = grad_h.sum(1)
        grad_b += grad_h.sum(0)
        del h, hidden, grad_out, grad_hidden, grad_h
    return grad_a, grad_b, grad_weight1, grad_bias1, grad_weight2


def _gene_blocks(a: Tensor, b: Tensor) -> Iterator[slice]:
    size = max(1, BLOCK_ROWS.get(a.device.type, BLOCK_ROWS["cuda"]) // len(b))
    for start in range(0, len(a), size):
        yield slice(start, min(start + size, len(a)))


def _state(a: Tensor, b: Tensor) -> Tensor:
    """ReLU(a[g] + b[c]) as rows [genes · conditions, channels]."""
    return (a.unsqueeze(1) + b).relu_().flatten(0, 1)


def _through_relu(grad: Tensor, out: Tensor) -> Tensor:
    """The gradient behind a ReLU of this output, in the same memory."""
    return torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
