"""What sparse and dense products together take on a GPU, counted on tensors that have no memory."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kgnn.nn.fused import gene_values
from kgnn.nn.norm import CountedMLP
from kgnn.ops.backends import name_of, plain, plain_dense
from kgnn.ops.csr import Csr

GENES, CHANNELS, HIDDEN = 5045, 64, 128
MB = 1e6


class Peak(TorchDispatchMode):
    """The most bytes that new tensors take at any time; views and what is changed in place take none."""

    def __init__(self):
        super().__init__()
        self.live, self.bytes, self.peak = weakref.WeakSet(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {id(part.untyped_storage()) for part in tree_leaves((args, kwargs)) if isinstance(part, torch.Tensor)}
        out = function(*args, **(kwargs or {}))
        for part in tree_leaves(out):
            if isinstance(part, torch.Tensor) and id(storage := part.untyped_storage()) not in given:
                self._add(storage)
        return out

    def _add(self, storage):
        if storage not in self.live:
            self.live.add(storage)
            size = storage.nbytes()
            self.bytes += size
            weakref.finalize(storage, self._gone, size)
            self.peak = max(self.peak, self.bytes)

    def _gone(self, size):
        self.bytes -= size


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def test_the_counter_counts():
    with Peak() as counted:
        a = meta(1000)
        b = a + 1
        b.add_(a)
        view = b[5:]
        del a, b
        c = meta(500) * 2
    assert counted.peak == 8000
    assert counted.bytes == 4000 + 2000
    del view, c
    assert counted.bytes == 0


@pytest.mark.parametrize("relations", [1, 5])
@pytest.mark.parametrize("cells", [1, 32, 1024])
def test_messages_of_some_cells_at_a_time(relations, cells):
    """Beside the result, and for gradients too: one block of messages, or those of a single cell."""
    csr = Csr(meta(GENES * relations + 1, dtype=torch.int32), meta(100_000, dtype=torch.int32), GENES)
    x, weight, values = meta(cells, GENES, CHANNELS), meta(relations, CHANNELS, HIDDEN), meta(100_000)

    def spmm(csr, values, x):
        return x.new_empty(len(x), csr.n_rows, x.shape[-1])

    def limit(channels):
        of_cell = GENES * relations * channels * 4
        return min(max(plain_dense.BLOCK_BYTES["cuda"], of_cell), cells * of_cell) + MB

    with Peak() as forward:
        out = plain.transform(csr, values, x, weight, meta(HIDDEN), spmm)
    assert out.nbytes < forward.peak <= out.nbytes + limit(CHANNELS)
    with Peak() as backward:
        grads = plain.transform_backward(csr, values, out, x, weight, True, True, spmm)
    if cells == 1024:
        assert forward.peak < 1.1 * out.nbytes
    assert x.nbytes < backward.peak <= sum(part.nbytes for part in grads) + limit(HIDDEN)


def test_gears_keeps_one_array_of_genes_and_conditions():
    """The MLP's output, for its gradient; whatever else is of that size lives for some rows at a time."""
    conditions = 1024
    a, b, gene_weight = (
        meta(*shape).requires_grad_() for shape in ((GENES, CHANNELS), (conditions, CHANNELS), (GENES, CHANNELS))
    )
    mlp = CountedMLP(CHANNELS, HIDDEN, CHANNELS).to("meta")
    assert name_of("pair_mlp", "meta", torch.float32) == "torch"
    kept, row = GENES * conditions * CHANNELS * 4, (2 * CHANNELS + 2 * HIDDEN + CHANNELS) * 4
    block = plain_dense.BLOCK_ROWS["cuda"] * row
    with Peak() as counted:
        out = gene_values(a, b, meta(conditions), meta(), mlp, gene_weight)
        out.sum().backward()
    small = 10 * out.nbytes  # [genes, conditions]: what is predicted, its gradient
    assert kept < counted.peak <= kept + block + small
    assert block + small < 0.4 * kept
