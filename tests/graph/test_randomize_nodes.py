"""`permute`, `permute_features`, `randomize_features`: what is dealt anew, and what stays as it was."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError

REGULATES, IN = ("gene", "regulates", "gene"), ("gene", "in_set", "set")
GENES, SETS = [f"g{i}" for i in range(7)], ["s0", "s1", "s2"]
pairs = st.lists(st.tuples(st.sampled_from(GENES), st.sampled_from(GENES)), min_size=1, max_size=20, unique=True)


def graph(edges, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(edges, columns=["source", "target"])
    table = table.assign(weight=rng.uniform(1, 2, len(table)), sign=rng.choice([-1, 1], len(table)), origin="o")
    members = pd.DataFrame({"source": GENES[:5], "target": [SETS[i % 2] for i in range(5)], "origin": "sets"})
    features = rng.normal(size=(len(GENES), 3)).astype(np.float32)
    features[5] = np.nan  # a gene that has none
    nodes = {"gene": pd.DataFrame({"label": [f"label of {g}" for g in GENES]}, index=GENES), "set": SETS}
    return KnowledgeGraph(nodes, {REGULATES: table, IN: members}, features={"gene": {"f": features}})


def as_networkx(kg):
    """Nodes with their type and features, edges with all that they say; names aside."""
    found = kg.to_networkx()
    matrix = kg.features("gene")["f"]
    for row, gene in enumerate(kg.nodes("gene").index):
        found.nodes["gene", gene]["f"] = str(matrix[row].tolist())
        del found.nodes["gene", gene]["label"]
    return found


@given(pairs, st.integers(0, 50))
def test_a_permuted_graph_is_isomorphic_features_and_all(edges, seed):
    kg = graph(edges)
    permuted = kg.permute(seed)
    match = nx.isomorphism.categorical_node_match(["type", "f"], ["", ""])
    same = nx.isomorphism.categorical_multiedge_match(["weight", "sign", "origin"], [0, 0, ""])
    assert nx.is_isomorphic(as_networkx(kg), as_networkx(permuted), node_match=match, edge_match=same)
    for kind in kg.node_types:  # a label belongs to its name
        pd.testing.assert_frame_equal(permuted.nodes(kind), kg.nodes(kind))
    assert permuted == kg.permute(seed)


def test_permuted_names_are_other_ones():
    ring = [(GENES[i], GENES[(i + 1) % 7]) for i in range(7)]
    kg = graph(ring)
    matrix = kg.features("gene")["f"]
    moved = [not np.array_equal(kg.permute(seed).features("gene")["f"], matrix, equal_nan=True) for seed in range(5)]
    assert all(moved)
    ends = {tuple(kg.permute(seed).edges(IN)["target"]) for seed in range(20)}
    assert any("s2" in targets for targets in ends)  # the empty set may become a full one
    assert kg.permute(3).history[-1]["operation"] == "permute"


@given(pairs, st.integers(0, 50))
def test_features_are_dealt_to_those_that_have_some_and_edges_stay(edges, seed):
    kg = graph(edges)
    dealt, noise = kg.permute_features(seed), kg.randomize_features(seed)
    before, after, random = (x.features("gene")["f"] for x in (kg, dealt, noise))
    assert sorted(map(str, before.tolist())) == sorted(map(str, after.tolist()))
    for changed, matrix in ((dealt, after), (noise, random)):
        assert np.isnan(matrix[5]).all()
        assert np.isfinite(np.delete(matrix, 5, axis=0)).all()
        for relation in kg.relations:
            pd.testing.assert_frame_equal(changed.edges(relation), kg.edges(relation))
    assert not np.isin(random[np.isfinite(random)], before).any()
    assert (dealt, noise) == (kg.permute_features(seed), kg.randomize_features(seed))


def test_noise_has_the_mean_and_spread_of_each_channel():
    rng = np.random.default_rng(0)
    matrix = (rng.exponential(size=(20_000, 2)) * [1, 5] + [10, -3]).astype(np.float32)
    matrix[::4, 1] = np.nan
    kg = KnowledgeGraph({"gene": [f"g{i}" for i in range(20_000)]}, {}, features={"gene": {"f": matrix}})
    noise = kg.randomize_features(1).features("gene")["f"]
    np.testing.assert_array_equal(np.isnan(noise), np.isnan(matrix))
    np.testing.assert_allclose(np.nanmean(noise, axis=0), np.nanmean(matrix, axis=0), atol=0.2)
    np.testing.assert_allclose(np.nanstd(noise, axis=0), np.nanstd(matrix, axis=0), rtol=0.03)
    skew = np.nanmean(((noise - np.nanmean(noise, axis=0)) / np.nanstd(noise, axis=0)) ** 3, axis=0)
    assert np.abs(skew).max() < 0.1  # that of the features is 2
    dealt = kg.permute_features(0).features("gene")["f"]
    assert abs(np.corrcoef(dealt[:, 0], matrix[:, 0])[0, 1]) < 0.05


@pytest.mark.parametrize("operation", ["permute", "permute_features", "randomize_features"])
def test_seeds_are_whole_numbers(operation):
    with pytest.raises(InputError, match=r"seed = 0\.5; it must be a whole number"):
        getattr(graph([("g0", "g1")]), operation)(0.5)


@pytest.mark.parametrize("operation", ["permute", "permute_features", "randomize_features"])
def test_a_seed_below_zero_is_refused(small_kg, operation):
    with pytest.raises(InputError, match="seed = -1"):
        getattr(small_kg, operation)(seed=-1)
