"""A graph with all oddities, and every backend in turn."""

import pytest
import torch

from kgnn import ops
from kgnn.ops import Adjacency
from kgnn.ops.backends import BACKENDS

TARGETS, SOURCES = 9, 12


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    reason = BACKENDS[request.param].missing("cpu", torch.float32)
    if reason and not (request.param == "triton" and torch.cuda.is_available()):
        pytest.skip(reason)
    before = ops.set_backend(request.param)
    yield request.param
    ops.set_backend(before)


def odd_graph(dtype=torch.float64, reorder="none", seed=0):
    """Bipartite, unsorted, with repeated edges, negative weights, a hub, and target 3 and source 5 left alone."""
    generator = torch.Generator().manual_seed(seed)
    source, target = (torch.randint(n, (60,), generator=generator) for n in (SOURCES, TARGETS))
    target[:15] = 7
    keep = (source != 5) & (target != 3)
    edge_index = torch.stack([source, target])[:, keep]
    edge_index = torch.cat([edge_index, edge_index[:, :4]], 1)
    weight = torch.randn(edge_index.shape[1], generator=generator, dtype=dtype)
    return Adjacency(edge_index, weight, n_nodes=(TARGETS, SOURCES), reorder=reorder)


@pytest.fixture
def graph():
    return odd_graph()
