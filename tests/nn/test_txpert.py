"""TxPert: the formulas written out in loops, PyG's layer, the edges of several graphs, what a batch counts."""

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATv2Conv

from kgnn.nn import ConditionBatch
from kgnn.nn.txpert import Exphormer, ExphormerLayer, GATEncoder, TxPert, WideEdges, exphormer_edges
from kgnn.ops import Adjacency

NODES, CHANNELS, GENES = 6, 8, 5


def graph(*pairs, n=NODES):
    edges = torch.tensor(pairs).T if pairs else torch.zeros(2, 0, dtype=torch.int64)
    return Adjacency(edges, n_nodes=n, self_loops=True)


def shaken(network, std=0.5):
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network.eval()


def batch(*conditions, counts=None, state=None):
    flat = [gene for genes in conditions for gene in genes]
    offsets = torch.tensor(np.cumsum([0, *map(len, conditions)]))
    counts = torch.tensor(counts or [1.0] * len(conditions))
    state = torch.linspace(0, 2, GENES).expand(len(conditions), -1) if state is None else state
    return ConditionBatch(torch.tensor(flat, dtype=torch.int64), offsets, counts, state=state)


def arrays(network):
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def linear(x, w, name):
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def leaky(x, slope=0.01):
    return np.where(x > 0, x, slope * x)


def norm(x, w, name):
    return w[f"{name}.weight"] * (x - x.mean()) / np.sqrt(x.var() + 1e-5) + w[f"{name}.bias"]


def gatv2_by_hand(x, w, name, edges):
    """Two heads side by side; edges (source, target), self loops among them."""
    out, d = np.zeros((NODES, 2, CHANNELS // 2)), CHANNELS // 2
    of = np.array([linear(row, w, f"{name}.lin_l").reshape(2, d) for row in x])
    to = np.array([linear(row, w, f"{name}.lin_r").reshape(2, d) for row in x])
    for target in range(NODES):
        sources = [u for u, v in edges if v == target]
        for head in range(2):
            scores = np.array([w[f"{name}.att"][0, head] @ leaky(of[u, head] + to[target, head], 0.2) for u in sources])
            share = np.exp(scores) / np.exp(scores).sum()
            out[target, head] = sum(p * of[u, head] for p, u in zip(share, sources, strict=True))
    return out.reshape(NODES, CHANNELS) + w[f"{name}.bias"]


def txpert_by_hand(w, z, conditions, state, basal):
    rows = []
    for genes in conditions:
        latent = sum((z[gene] for gene in genes), np.zeros(64))
        if basal:
            latent = latent + linear(leaky(linear(state, w, "basal.0")), w, "basal.2")
        hidden = linear(latent, w, "hidden")
        spread = np.sqrt(w["norm.running_var"] + 1e-5)
        hidden = w["norm.weight"] * (hidden - w["norm.running_mean"]) / spread + w["norm.bias"]
        predicted = linear(leaky(hidden), w, "out")
        rows.append((predicted - (state if basal else 0)) * bool(genes))
    return np.array(rows)


@pytest.mark.parametrize("basal", [True, False])
def test_txpert_is_its_formula(basal):
    pairs = [(0, 1), (1, 2), (3, 2), (5, 0)]
    edges = [*pairs, *((n, n) for n in range(NODES))]
    network = shaken(TxPert(GATEncoder(graph(*pairs), CHANNELS), torch.zeros(GENES), basal), 0.2)
    torch.nn.init.uniform_(network.norm.running_var, 0.5, 2)
    torch.nn.init.normal_(network.norm.running_mean)
    w = arrays(network)
    layers = [w["encoder.embedding"]]
    for number in range(4):
        x = gatv2_by_hand(layers[-1], w, f"encoder.layers.{number}", edges)
        layers.append(np.where(x > 0, x, np.expm1(x)))
    z = [linear(np.concatenate([x[gene] for x in layers]), w, "encoder.out") for gene in range(NODES)]
    conditions = [2], [0, 3], [], [1, 4, 5]
    state = np.linspace(0, 2, GENES)
    expected = txpert_by_hand(w, z, conditions, state, basal)
    np.testing.assert_allclose(network(batch(*conditions)).detach(), expected, rtol=1e-4, atol=1e-4)


def test_the_basal_state_is_each_condition_s_own():
    network = shaken(TxPert(GATEncoder(graph((0, 1)), CHANNELS), torch.zeros(GENES))).double()  # one row rounds as two
    states = torch.rand(2, GENES, dtype=torch.float64)
    both = network(batch([1], [1], state=states))
    assert (both[0] - both[1]).abs().max() > 1e-3
    for number in range(2):
        torch.testing.assert_close(network(batch([1], state=states[[number]])), both[[number]])


def test_training_begins_at_the_control_mean_and_statistics_count_cells():
    state = torch.rand(GENES)
    network = TxPert(GATEncoder(graph((0, 1)), CHANNELS), state)
    torch.testing.assert_close(network.out.bias, state)
    assert not network.eval()(batch([0], [2, 3], [], state=state.expand(3, -1))).any()
    changes = TxPert(GATEncoder(graph((0, 1)), CHANNELS), state, basal=False)
    assert not changes.eval()(batch([0], [2, 3], [])).any()
    network = shaken(network)
    network.dropout.p = 0.0
    given = batch([0], [1], [2, 3], counts=[3.0, 1.0, 2.0])
    found = network.train()(given)
    rows = [0, 0, 0, 1, 2, 2]
    every = TxPert(GATEncoder(graph((0, 1)), CHANNELS), state).train()
    every.load_state_dict(network.state_dict())
    every.norm.reset_running_stats()
    every.dropout.p = 0.0
    repeated = every(batch(*[[[0], [1], [2, 3]][row] for row in rows]))
    torch.testing.assert_close(repeated, found[rows], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(every.norm.running_var, network.norm.running_var, rtol=1e-4, atol=1e-5)


def test_layers_are_pyg_s():
    pairs = [(0, 1), (1, 2), (3, 2)]
    encoder = shaken(GATEncoder(graph(*pairs), CHANNELS))
    x = encoder.embedding
    found = [x]
    for layer in encoder.layers:
        theirs = GATv2Conv(CHANNELS, CHANNELS // 2, heads=2)
        theirs.load_state_dict(layer.state_dict())
        found.append(torch.nn.functional.elu(theirs(found[-1], torch.tensor(pairs).T)))
    torch.testing.assert_close(encoder(), encoder.out(torch.cat(found, 1)), rtol=1e-4, atol=1e-5)


def test_txpert_learns_of_a_gene_through_four_steps_of_neighbours_only():
    encoder = shaken(GATEncoder(graph((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)), CHANNELS))
    (gradient,) = torch.autograd.grad(encoder()[5].sum(), encoder.embedding)
    assert (gradient.abs().sum(1) > 0).nonzero().ravel().tolist() == [1, 2, 3, 4, 5]


# several graphs


def kinds_of(graphs):
    edges, kinds = exphormer_edges(graphs)
    return {(int(u), int(v)): row.int().tolist() for (u, v), row in zip(edges.edge_index.T, kinds, strict=True)}


def test_edges_and_their_kinds():
    """Two graphs, self loops, reverse edges, cycles."""
    found = kinds_of([graph((0, 1), (2, 3)), graph((0, 1), (1, 0), (4, 3))])
    assert found[0, 1][:4] == [1, 1, 0, 1]  # in both graphs, and the reverse of (1, 0)
    assert found[1, 0][:4] == [0, 1, 0, 1]
    assert found[2, 3][:4] == [1, 0, 0, 0]
    assert found[3, 2][:4] == [0, 0, 0, 1]
    assert found[3, 4][:4] == [0, 0, 0, 1]
    assert all(found[node, node] == [0, 0, 1, 0, 0] for node in range(NODES))
    told = {(0, 1), (1, 0), (2, 3), (3, 2), (4, 3), (3, 4)}
    for pair, kinds in found.items():
        assert kinds[4] or pair in told or pair[0] == pair[1]


def test_cycles_are_hamiltonian_both_ways_and_always_the_same():
    found = kinds_of([graph(n=50)])
    cycle = {pair for pair, kinds in found.items() if kinds[-1]}
    assert cycle == {(v, u) for u, v in cycle}
    degree = np.bincount([u for u, _ in cycle], minlength=50)
    assert degree.max() <= 6
    assert degree.min() >= 2
    assert 200 < len(cycle) <= 300  # three of 50 edges, both ways, but for edges in common
    assert found == kinds_of([graph(n=50)])


@pytest.mark.parametrize("scale", [0.3, 3.0], ids=["free", "clipped"])
def test_exphormer_is_its_formula(scale):
    graphs = [graph((0, 1), (1, 2), (3, 2)), graph((5, 2), (0, 1))]
    edges, kinds = exphormer_edges(graphs)
    layer = shaken(ExphormerLayer(CHANNELS, kinds.shape[1]), scale)
    x = torch.randn(NODES, CHANNELS)
    w, rows, d = arrays(layer), x.double().numpy(), CHANNELS // 2
    query, key, value = ([linear(row, w, name) for row in rows] for name in ("query", "key", "value"))
    pairs = edges.edge_index.T.tolist()
    wide, beyond = np.zeros((NODES, CHANNELS)), 0
    for target in range(NODES):
        for head in range(2):
            part = slice(head * d, (head + 1) * d)
            top, bottom = np.zeros(d), 0.0
            for (source, to), m in zip(pairs, kinds.double().numpy(), strict=True):
                if to == target:
                    edge = m @ w["kind"]
                    score = sum(key[source][part] * query[target][part] * edge[part]) / np.sqrt(d)
                    score += m @ w["kind_bias"][:, head]
                    beyond += abs(score) > 5
                    a = np.exp(np.clip(score, -5, 5))
                    top, bottom = top + a * value[source][part], bottom + a
            wide[target, part] = top / bottom
    assert (beyond > 0) == (scale > 1)
    loops = [(n, n) for n in range(NODES)]
    local = gatv2_by_hand(rows, w, "local", [(0, 1), (1, 2), (3, 2), *loops])
    expected = []
    for node in range(NODES):
        h = norm(rows[node] + local[node], w, "local_norm")
        h = h + norm(rows[node] + linear(wide[node], w, "mix"), w, "wide_norm")
        fed = linear(np.maximum(linear(h, w, "feed.0"), 0), w, "feed.2")
        expected.append(norm(h + fed, w, "norm"))
    np.testing.assert_allclose(layer(x, WideEdges(edges, kinds), graphs[0]).detach(), expected, rtol=1e-3, atol=1e-3)


def test_every_graph_and_kind_is_learned():
    network = shaken(TxPert(Exphormer([graph((0, 1)), graph((1, 2))], CHANNELS), torch.rand(GENES)))
    network(batch([0], [1, 2], [])).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all((layer.kind.grad != 0).any(1).all() for layer in network.encoder.layers)
