"""GEARS held against cell-gears' own model, in eval and in training mode."""

import pytest
import torch

from kgnn.nn import GEARS, ConditionBatch, GearsEncoder
from kgnn.ops import Adjacency
from tests.peer_code import cell_gears

GENES, PERTURBABLE, CHANNELS = 23, 17, 8

# ours → theirs
NAMES = {
    "encoder.gene_embedding": "gene_emb.weight",
    "encoder.position_embedding": "emb_pos.weight",
    "encoder.perturbation_embedding": "pert_emb.weight",
    "encoder.gene_norm": "bn_emb",
    "encoder.gene_conv.lin": "layers_emb_pos.0.lin",
    "encoder.perturbation_conv.lin": "sim_layers.0.lin",
    "decoder.state_norm": "bn_pert_base",
    "decoder.gene_weight": "indv_w1",
    "decoder.gene_bias": "indv_b1",
    "decoder.out_weight": "indv_w2",
    "decoder.out_bias": "indv_b2",
}
MLPS = {
    "encoder.base_mlp": "emb_trans_v2",
    "encoder.shift_mlp": "pert_fuse",
    "decoder.gene_mlp": "recovery_w",
    "decoder.cell_mlp": "cross_gene_state",
    "decoder.uncertainty_mlp": "uncertainty_w",
}


def theirs_of(name: str) -> str:
    for ours, theirs in MLPS.items():
        if name.startswith(ours + "."):
            kind, layer, rest = name.removeprefix(ours + ".").split(".")
            return f"{theirs}.network.{3 * int(layer) + (kind == 'norms')}.{rest}"
    for ours, theirs in NAMES.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def random_graph(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    dense = torch.rand(n, n, generator=generator) * (torch.rand(n, n, generator=generator) < 0.3)
    dense.fill_diagonal_(0)
    edge_index = dense.nonzero().T
    return edge_index, dense[edge_index[0], edge_index[1]]


@pytest.fixture(params=[False, True], ids=["mean", "uncertainty"])
def pair(request):
    """Their model and ours, with their weights and non-trivial running statistics."""
    theirs_model = cell_gears("model")
    generator = torch.Generator().manual_seed(0)
    co, go = random_graph(GENES, generator), random_graph(PERTURBABLE, generator)
    torch.manual_seed(1)
    theirs = theirs_model.GEARS_Model(
        {
            "num_genes": GENES,
            "num_perts": PERTURBABLE,
            "hidden_size": CHANNELS,
            "uncertainty": request.param,
            "num_go_gnn_layers": 1,
            "num_gene_gnn_layers": 1,
            "decoder_hidden_size": 16,
            "no_perturb": False,
            "G_coexpress": co[0],
            "G_coexpress_weight": co[1],
            "G_go": go[0],
            "G_go_weight": go[1],
            "device": "cpu",
        }
    )
    for name, buffer in theirs.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)  # means far from those of the input would put every ReLU to zero
        if name.endswith("running_var"):
            buffer.uniform_(0.05, 0.2)
    graphs = [
        Adjacency(edges, weight.double(), n_nodes=n, normalization="symmetric", self_loops=True)
        for (edges, weight), n in ((co, GENES), (go, PERTURBABLE))
    ]
    ours = GEARS(GearsEncoder(*graphs, CHANNELS), GENES, channels=CHANNELS, uncertainty=request.param)
    weights = theirs.state_dict()
    ours.load_state_dict(
        {name: weights[theirs_of(name)].reshape(value.shape) for name, value in ours.state_dict().items()}
    )
    return theirs, ours


def their_batch(x, perturbations):
    from torch_geometric.data import Batch, Data

    cells = [Data(x=row.reshape(-1, 1), pert_idx=list(genes)) for row, genes in zip(x, perturbations, strict=True)]
    batch = Batch.from_data_list(cells)
    batch.pert_idx = [list(genes) for genes in perturbations]
    return batch


def bags(perturbations):
    """What our model takes: distinct conditions, their counts, and each cell's condition."""
    distinct = list(dict.fromkeys(perturbations))
    genes = [[g for g in genes if g >= 0] for genes in distinct]
    offsets = torch.tensor([0, *torch.tensor([len(g) for g in genes]).cumsum(0).tolist()])
    flat = torch.tensor([g for bag in genes for g in bag], dtype=torch.long)
    counts = torch.tensor([perturbations.count(p) for p in distinct])
    return flat, offsets, counts, torch.tensor([distinct.index(p) for p in perturbations])


@pytest.mark.parametrize("genes", [(3,), (3, 11), (1, 5, 9), (-1,)], ids=["single", "double", "triple", "control"])
def test_one_cell_in_eval_mode_agrees_with_cell_gears(pair, genes):
    theirs, ours = pair
    theirs.eval(), ours.eval()
    x = torch.rand(1, GENES)
    with torch.no_grad():
        expected = theirs(their_batch(x, [genes]))
        change, log_variance = ours(ConditionBatch(*bags([genes])[:3]))
    if isinstance(expected, tuple):
        torch.testing.assert_close(log_variance, expected[1], atol=1e-5, rtol=1e-5)
        expected = expected[0]
    torch.testing.assert_close(x + change, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("which", ["perturbation", "gene_graph", "perturbation_graph"])
def test_the_perturbation_and_both_graphs_matter(pair, which, training):
    ours = pair[1].train(training)
    batch = ConditionBatch(*bags([(3,), (3, 11), (5,), (7, 2), (9,)])[:3])
    with torch.no_grad():
        before = ours(batch)[0]
        if which == "perturbation":
            after = ours(batch._replace(nodes=(batch.nodes + 1) % PERTURBABLE))[0]
        else:
            n = GENES if which == "gene_graph" else PERTURBABLE
            edges, weight = random_graph(n, torch.Generator().manual_seed(7))
            options = {"n_nodes": n, "normalization": "symmetric", "self_loops": True}
            setattr(ours.encoder, which, Adjacency(edges, weight.double(), **options))
            after = ours(batch)[0]
    assert ((before - after).abs().amax(1) > 1e-4).all()


def test_training_step_agrees_with_cell_gears_on_the_full_batch(pair):
    """Output, gradients and running statistics of a batch with repeated conditions, in double precision.

    Their co-expression edges reach only the first cell of a batch; the edges are offset here for all cells, so
    that their code computes what their paper says.
    """
    theirs, ours = (model.double().train() for model in pair)
    cells = [(3,), (3, 11), (-1,), (3,), (3,), (0, 4, 16), (3, 11), (-1,)]
    x = torch.rand(len(cells), GENES, dtype=torch.double)
    offsets = torch.arange(len(cells)).repeat_interleave(theirs.G_coexpress.shape[1]) * GENES
    theirs.G_coexpress = theirs.G_coexpress.repeat(1, len(cells)) + offsets
    theirs.G_coexpress_weight = theirs.G_coexpress_weight.double().repeat(len(cells))
    theirs.G_sim_weight = theirs.G_sim_weight.double()

    expected = theirs(their_batch(x, cells))
    flat, bag_offsets, counts, condition = bags(cells)
    change, log_variance = ours(ConditionBatch(flat, bag_offsets, counts))
    actual = x + change[condition]
    # a loss that no symmetry makes trivial
    slope = torch.linspace(-1, 1, actual.numel(), dtype=torch.double).reshape(actual.shape)
    if isinstance(expected, tuple):
        torch.testing.assert_close(log_variance[condition], expected[1], atol=1e-8, rtol=1e-8)
        ((expected[0] * slope).sum() + (expected[1] * slope).square().sum()).backward()
        ((actual * slope).sum() + (log_variance[condition] * slope).square().sum()).backward()
        expected = expected[0]
    else:
        (expected * slope).sum().backward()
        (actual * slope).sum().backward()
    torch.testing.assert_close(actual, expected, atol=1e-8, rtol=1e-8)

    their_gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        expected_gradient = their_gradients[theirs_of(name)].grad.reshape(parameter.shape)
        torch.testing.assert_close(
            parameter.grad, expected_gradient, atol=1e-8, rtol=1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )
    their_buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(buffer, their_buffers[theirs_of(name)], atol=1e-8, rtol=1e-8)
