"""The same parity on a CUDA device, where there is one (`benchmarks/gpu.sh` runs this first)."""

import numpy as np
import pytest
import torch

from kgnn import CellModel, PerturbationModel, graph, ops
from kgnn.data import simulate_atlas, split
from kgnn.nn import GEARS, ConditionBatch, GearsEncoder
from kgnn.ops import Adjacency, TypedAdjacency, typed_spmm
from kgnn.ops.backends import name_of
from tests.models.own import QUICK, SMALL, TRAINED
from tests.ops import reference
from tests.ops.conftest import odd_graph
from tests.ops.test_backends import OPERATIONS, TOLERANCE, assert_close, features, run
from tests.ops.test_typed import NODES, random_edges, random_weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("dtype", "channels", "heads"), [(torch.float64, 6, 3), (torch.float32, 64, 4), (torch.float32, 150, 1)]
)
@pytest.mark.parametrize("name", ["triton", "torch"])
def test_values_and_gradients(operation, dtype, channels, heads, name):
    graph = odd_graph()
    parts = features(graph, channels, heads, dtype)
    theirs = run(reference, operation, graph, parts, torch.float64)
    before = ops.set_backend(name)
    try:
        ours = run(ops, operation, odd_graph().cuda(), [part.cuda() for part in parts], dtype)
    finally:
        ops.set_backend(before)
    assert_close([None if part is None else part.cpu() for part in ours], theirs, TOLERANCE[dtype] * 4)


def test_triton_is_chosen_and_its_bits_do_not_change():
    assert name_of("spmm", "cuda", torch.float32) == "triton"
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(300, (2, 4000), generator=generator)
    graph = Adjacency(edge_index, torch.rand(4000, generator=generator), n_nodes=300).cuda()
    shapes = ((5, 300, 32), (5, 300, 32), (5, 4000, 4), (4, 8))
    parts = [torch.randn(shape, generator=generator).cuda() for shape in shapes]
    for operation in OPERATIONS:
        if operation == "spmm max":
            continue  # the gradient of its weights is PyTorch's scatter
        first, *others = [run(ops, operation, graph, parts, torch.float32) for _ in range(3)]
        for other in others:
            assert all(a is b or torch.equal(a, b) for a, b in zip(first, other, strict=True)), operation


@pytest.mark.parametrize("channels", [6, 64])
def test_the_typed_product(channels):
    edges, weights = random_edges(), random_weights()
    graph = TypedAdjacency(edges, NODES, weights)
    x = torch.randn(3, graph.n, channels, dtype=torch.float64)
    shapes = (len(edges), channels, 8), (len(NODES), channels, 8), (len(NODES), 8)
    parts = [x, *(torch.randn(shape, dtype=torch.float64) for shape in shapes)]
    found = []
    for device in ("cpu", "cuda"):
        leaves = [part.to(device).requires_grad_() for part in parts]
        out = typed_spmm(graph.to(device), *leaves)
        found.append([part.cpu() for part in (out, *torch.autograd.grad(out.square().sum(), leaves))])
    torch.testing.assert_close(found[1], found[0])


def gears(device):
    """Outputs of one batch in training and the gradients of every parameter."""
    torch.manual_seed(0)
    graphs = [Adjacency(torch.randint(n, (2, 400)), torch.rand(400), n_nodes=n) for n in (60, 40)]
    model = GEARS(GearsEncoder(*graphs, 16), 60, channels=16).to(device).double().train()
    perturbed, offsets, counts = torch.arange(12), torch.arange(0, 13, 2), torch.tensor([3, 1, 2, 5, 1, 4])
    change, _ = model(ConditionBatch(perturbed.to(device), offsets.to(device), counts.to(device)))
    (change * torch.linspace(-1, 1, change.numel()).reshape(change.shape).to(change)).sum().backward()
    return [change.cpu(), *(part.grad.cpu() for part in model.parameters() if part.grad is not None)]


def test_gears():
    torch.testing.assert_close(gears("cuda"), gears("cpu"))


@pytest.mark.parametrize("encoder", ["graph", "graph_transformer"])
def test_a_model_of_cells_learns_there_and_is_asked_here(encoder):
    adata = simulate_atlas(n_genes=200, seed=0)[::8].copy()
    kg = graph.load_table(adata.uns["network"][["source", "target"]].drop_duplicates(), relation="regulates")
    model = CellModel(kg, encoder=encoder, classes=["cell_type"], context=32)
    model.fit(adata, max_epochs=1, accelerator="cuda", enable_progress_bar=False)
    assert len(model.annotate(adata)) == len(model.embed(adata)) == adata.n_obs


@pytest.mark.parametrize("encoder", TRAINED)
def test_a_model_of_perturbations_learns_there_and_is_asked_here(encoder, screen, network):
    model = PerturbationModel(network, encoder=encoder, **SMALL[encoder])
    model.fit(screen, split(screen, "simulation", seed=1), **QUICK | {"accelerator": "cuda"})
    assert np.isfinite(model.history_).all()
    assert np.isfinite(model.predict(["G002", "G004+G000"]).layers["delta"]).all()
