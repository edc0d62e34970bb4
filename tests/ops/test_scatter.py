"""Parity with torch-scatter, for those who have code on it (`make test-scatter`)."""

import pytest
import torch

from kgnn.ops import Adjacency, spmm

torch_scatter = pytest.importorskip("torch_scatter", reason="optional; `make test-scatter` builds it and runs this")


def test_spmm_and_its_gradient_are_those_of_scatter():
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(50, (2, 400), generator=generator).unique(dim=1)
    weight = torch.rand(edge_index.shape[1], generator=generator)
    adjacency = Adjacency(edge_index, weight, n_nodes=50)
    x = torch.randn(3, 50, 8, generator=generator, requires_grad=True)
    ours = spmm(adjacency, x)
    messages = x[:, edge_index[0]] * weight[:, None]
    theirs = torch_scatter.scatter(messages, edge_index[1], dim=1, dim_size=50, reduce="sum")
    torch.testing.assert_close(ours, theirs)
    slope = torch.linspace(-1, 1, ours.numel()).reshape(ours.shape)
    torch.testing.assert_close(*(torch.autograd.grad((out * slope).sum(), x)[0] for out in (ours, theirs)))
