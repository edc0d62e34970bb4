"""Peers that pool knowledge sources: the formulas written out in loops, PyG's layer, sources that say nothing."""

from math import erf

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATConv

from kgnn.nn import ConditionBatch
from kgnn.nn.pooling import PRESAGE, Fusion, StarAttention

SOURCES, NODES, WIDTH, CHANNELS, GENES = 3, 5, 4, 6, 7
KNOWN = np.array([[1, 1, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0]], bool)  # nothing is known of gene 3


@pytest.fixture
def told():
    torch.manual_seed(0)
    known = torch.from_numpy(KNOWN)
    return torch.randn(SOURCES, NODES, WIDTH) * known.unsqueeze(-1), known


def shaken(network, std=0.5):
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network


def batch(*conditions):
    flat = [gene for genes in conditions for gene in genes]
    offsets = np.cumsum([0, *map(len, conditions)])
    return ConditionBatch(torch.tensor(flat, dtype=torch.int64), torch.from_numpy(offsets), torch.ones(len(conditions)))


def arrays(network):
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def leaky(x, slope=0.01):
    return np.where(x > 0, x, slope * x)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def presage_by_hand(w, gene):
    """0.85 z_gat + 0.15 z_s of one gene."""
    h = []
    for k in range(SOURCES):
        first = leaky(w[f"mlps.{k}.0.weight"] @ w["vectors"][k, gene] + w[f"mlps.{k}.0.bias"])
        h.append(leaky(w[f"mlps.{k}.2.weight"] @ first + w[f"mlps.{k}.2.bias"]))
    nodes = [*h, np.zeros(CHANNELS)]
    heads = w["attention.lin.weight"].reshape(5, CHANNELS, CHANNELS)
    for _ in range(2):
        after = []
        for to in range(SOURCES + 1):
            hears = [to] if to < SOURCES else [k for k in range(SOURCES) if KNOWN[k, gene]] + [SOURCES]
            total = np.zeros(CHANNELS)
            for head in range(5):
                values = [heads[head] @ nodes[of] for of in hears]
                own = w["attention.att_dst"][0, head] @ (heads[head] @ nodes[to])
                scores = [leaky(w["attention.att_src"][0, head] @ value + own, 0.2) for value in values]
                for share, value in zip(softmax(np.array(scores)), values, strict=True):
                    total += share * value / 5
            after.append(total + w["attention.bias"])
        nodes = after
    m = KNOWN[:, gene].astype(float)
    share = softmax(w["weight"] * m / 0.15)
    skip = sum(share[k] * m[k] * h[k] for k in range(SOURCES)) * (SOURCES / m.sum() if m.any() else 0)
    return 0.85 * nodes[-1] + 0.15 * skip


def test_presage_is_its_formula(told):
    network = shaken(PRESAGE(*told, GENES, CHANNELS))
    conditions = [0], [1, 2], [], [3], [4, 0]
    w = arrays(network)
    pooled = [presage_by_hand(w, gene) for gene in range(NODES)]
    expected = [
        w["out.weight"] @ sum(pooled[gene] for gene in genes) + w["out.bias"] if genes else np.zeros(GENES)
        for genes in conditions
    ]
    np.testing.assert_allclose(network(batch(*conditions)).detach(), expected, rtol=1e-4, atol=1e-4)


def test_a_star_is_pyg_s_layer(told):
    torch.manual_seed(2)
    x, own = torch.randn(NODES, SOURCES + 1, CHANNELS), shaken(StarAttention(CHANNELS))
    theirs = GATConv(CHANNELS, CHANNELS, heads=5, concat=False)
    theirs.load_state_dict(own.state_dict())
    found = own(x, told[1].T)
    for gene in range(NODES):
        present = torch.from_numpy(np.flatnonzero(KNOWN[:, gene]))
        edges = torch.stack([present, torch.full_like(present, SOURCES)])
        torch.testing.assert_close(found[gene], theirs(x[gene], edges), rtol=1e-4, atol=1e-5)


def norm(x, w, name):
    return w[f"{name}.weight"] * (x - x.mean()) / np.sqrt(x.var() + 1e-5) + w[f"{name}.bias"]


def linear(x, w, name):
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x * (1 + np.array([erf(value / np.sqrt(2)) for value in x])) / 2


def cls_by_hand(w, gene, channels, heads=10, layers=8):
    """The CLS token of one gene after the last layer; only the tokens of sources that know it are there at all."""
    tokens = [w["cls"]] + [linear(w["vectors"][k, gene], w, f"tokens.{k}") for k in range(SOURCES) if KNOWN[k, gene]]
    d = channels // heads
    for layer in range(layers):
        at = f"layers.{layer}"
        n = [norm(x, w, f"{at}.norm") for x in tokens]
        q, k, v = (
            [(matrix @ x + bias).reshape(heads, d) for x in n]
            for matrix, bias in zip(
                np.split(w[f"{at}.qkv.weight"], 3),
                np.split(w[f"{at}.qkv.bias"], 3),
                strict=True,
            )
        )
        after = []
        for i, x in enumerate(tokens):
            heard = np.zeros((heads, d))
            for head in range(heads):
                share = softmax(np.array([q[i][head] @ other[head] / np.sqrt(d) for other in k]))
                heard[head] = sum(p * value[head] for p, value in zip(share, v, strict=True))
            x = x + sigmoid(linear(n[i], w, f"{at}.gate")) * linear(heard.ravel(), w, f"{at}.mix")
            m = norm(x, w, f"{at}.feed_norm")
            fed = linear(gelu(linear(m, w, f"{at}.feed.0")), w, f"{at}.feed.2")
            after.append(x + sigmoid(linear(m, w, f"{at}.feed_gate")) * fed)
        tokens = after
    return tokens[0]


@pytest.fixture
def fusion(told):
    return shaken(Fusion(*told, GENES, 20), 0.1)


def test_fusion_is_its_formula(fusion):
    conditions = [0], [1, 2], [], [3], [4, 0]
    w = arrays(fusion)
    cls = [cls_by_hand(w, gene, 20) for gene in range(NODES)]
    expected = np.zeros((5, GENES))
    for row, genes in zip(expected, conditions, strict=True):
        if genes:
            first = np.maximum(linear(sum(cls[gene] for gene in genes), w, "out.0"), 0)
            row[:] = linear(np.maximum(linear(first, w, "out.2"), 0), w, "out.4")
    assert (w["out.0.weight"].shape, w["out.2.weight"].shape) == ((400, 20), (400, 400))
    np.testing.assert_allclose(fusion(batch(*conditions)).detach(), expected, rtol=1e-3, atol=1e-4)


def test_inputs_are_reconstructed_from_cls(fusion):
    """The mean over the known pairs of source and perturbed gene, each gene once."""
    w = arrays(fusion)
    errors = []
    for gene in (0, 1, 3):
        cls = cls_by_hand(w, gene, 20)
        for k in range(SOURCES):
            if KNOWN[k, gene]:
                errors.append(np.square(linear(cls, w, f"inputs.{k}") - w["vectors"][k, gene]).mean())
    assert len(errors) == 4
    found = fusion.extra_loss(batch([0, 1], [3], [1]))
    np.testing.assert_allclose(found.item(), np.mean(errors), rtol=1e-4)
    assert fusion.extra_loss(batch([], [3])).item() == 0


NETWORKS = {
    "presage": lambda told: PRESAGE(*told, GENES, CHANNELS),
    "fusion": lambda told: Fusion(*told, GENES, 10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_absent_source_does_not_matter(told, name):
    """Gene 1 is known to the first source alone; whatever stands in the others' rows is not looked at."""
    network = shaken(NETWORKS[name](told))
    before = network(batch([1])).detach()
    network.vectors[1:, 1] = 100.0
    np.testing.assert_array_equal(network(batch([1])).detach(), before)
    network.vectors[0, 1] += 1
    assert (network(batch([1])) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_genes_of_which_nothing_is_known_get_one_answer(told, name):
    vectors, known = told
    known[:, 2] = False
    network = shaken(NETWORKS[name]((vectors, known)))
    change = network(batch([2], [3], [1], [])).detach()
    torch.testing.assert_close(change[0], change[1])
    assert (change[0] - change[2]).abs().max() > 1e-3
    assert (change[3] == 0).all()
    assert torch.isfinite(change).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_is_learned_and_controls_alone_do_no_harm(told, name):
    network = shaken(NETWORKS[name](told))
    given = batch([0], [1, 2])
    (network(given).square().sum() + (network.extra_loss(given) if name == "fusion" else 0)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    assert network(batch([], [])).shape == (2, GENES)
