"""`randomize_edges`: how many edges move, and what they keep."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError

RELATION = ("gene", "regulates", "gene")


def graph(n_nodes, n_edges, seed, symmetric=False):
    rng = np.random.default_rng(seed)
    names = [f"g{number}" for number in range(n_nodes)]
    pairs = [(a, b) for a in range(n_nodes) for b in range(n_nodes) if (a < b if symmetric else a != b)]
    chosen = [pairs[k] for k in rng.permutation(len(pairs))[:n_edges]]
    edges = pd.DataFrame([(names[a], names[b]) for a, b in chosen], columns=["source", "target"])
    edges["weight"] = np.arange(1, len(edges) + 1, dtype=float)
    edges["sign"] = rng.choice([-1, 1], len(edges))
    if symmetric:
        edges = pd.concat([edges, edges.rename(columns={"source": "target", "target": "source"})])
    return KnowledgeGraph({"gene": names}, {RELATION: edges})


@given(
    n=st.integers(8, 20), edges=st.integers(1, 20), share=st.sampled_from([0, 0.1, 0.5, 1]), seed=st.integers(0, 99),
    symmetric=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_the_chosen_share_moves_and_keeps_its_values(n, edges, share, seed, symmetric):
    kg = graph(n, edges, seed, symmetric)
    moved = kg.randomize_edges(share, seed)
    before, after = kg.edges(RELATION), moved.edges(RELATION)
    assert len(after) == len(before)
    assert (after["source"] != after["target"]).all()
    values = [sorted(zip(t["weight"], t["sign"], strict=True)) for t in (before, after)]
    assert values[0] == values[1]
    key = ["source", "target", "weight", "sign"]
    kept = len(before.merge(after, on=key))
    assert kept >= len(before) - (1 + symmetric) * round(share * len(before) / (1 + symmetric))
    if symmetric:
        mirror = after.rename(columns={"source": "target", "target": "source"})
        assert len(after.merge(mirror, on=key)) == len(after)
    assert moved == kg.randomize_edges(share, seed)


def test_all_random_edges_have_nothing_left_of_the_old_and_shares_are_checked():
    kg = graph(60, 100, 0)
    moved = kg.randomize_edges(1.0, 1).edges(RELATION)
    assert len(kg.edges(RELATION).merge(moved, on=["source", "target", "weight"])) <= 2
    with pytest.raises(InputError, match=r"share = 1\.5; it must be a number from 0 to 1"):
        kg.randomize_edges(1.5, 0)
