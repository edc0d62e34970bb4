"""Controls: changed graphs, Shapley values by hand, and a simulated screen on which the graph must matter."""

import os
import signal
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgnn import controls, plotting
from kgnn.data import simulate, split, training_cells
from kgnn.errors import InputError
from kgnn.graph import estimate_effects, load_coexpression, load_table


@pytest.fixture(scope="module")
def screen():
    return simulate(n_genes=80, n_singles=16, n_pairs=6, cells_per_condition=30, seed=1)


@pytest.fixture(scope="module")
def parts(screen):
    return split(screen, "simulation", seed=0)


@pytest.fixture(scope="module")
def kg(screen, parts):
    network = load_table(screen.uns["network"], relation="regulates", origin="network")
    return network | load_coexpression(training_cells(screen, parts), threshold=0.2)


def test_every_kind_of_control_is_made_and_named(kg, screen):
    found = controls.variants(kg, screen.var_names, [*controls.KINDS, "shapley"], shares=[0.5], seed=3)
    assert found["true graph"] is kg
    assert found["no graph"] is None
    assert found["rewired graph"] == kg.rewire(3)
    assert found["without network"].origins == ["coexpression"]
    assert found["only network"].origins == ["network"]
    assert found["sources coexpression + network"].origins == kg.origins
    complete = found["complete graph"].edges(("gene", "linked", "gene"))
    assert len(complete) == 80 * 79
    relation = ("gene", "regulates", "gene")
    whole, half = kg.edges(relation), found["50% of edges removed"].edges(relation)
    assert len(half) == len(whole) - round(len(whole) / 2)
    pairs = [
        set(zip(e["source"], e["target"], strict=True)) for e in (whole, found["50% of edges random"].edges(relation))
    ]
    assert 0.4 < len(pairs[0] & pairs[1]) / len(pairs[0]) < 0.65


def test_shares_of_edges_go_from_a_tenth_to_all_unless_others_are_given(kg, screen):
    found = controls.variants(kg, screen.var_names, ["removed"])
    assert list(found) == [f"{share}% of edges removed" for share in (10, 25, 50, 75, 100)]


def test_names_and_features_are_permuted_only_where_there_are_some(kg, screen):
    matrix = np.random.default_rng(0).normal(size=(len(kg.nodes("gene")), 4))
    with_features = kg.with_features("f", matrix)
    kinds = ["permuted", "features", "noise"]
    found = controls.variants(with_features, screen.var_names, kinds, seed=2)
    assert found == {
        "nodes permuted": with_features.permute(2),
        "features permuted": with_features.permute_features(2),
        "features noise": with_features.randomize_features(2),
    }
    assert list(controls.variants(kg, screen.var_names, kinds)) == ["nodes permuted"]
    with pytest.raises(InputError, match="nothing that features, noise would change"):
        controls.variants(kg, screen.var_names, ["features", "noise"])


def test_effects_without_a_network_are_estimated_along_the_complete_directed_graph(kg, screen, parts):
    cells = training_cells(screen, parts)
    seen = []

    def prepare(graph):
        seen.append(graph | estimate_effects(graph, cells, groupby="condition"))
        return seen[-1]

    scores = controls.ablate(kg, screen, parts, kinds=["true", "complete"], seeds=[0], prepare=prepare)
    assert list(scores["variant"].unique()) == ["true graph", "complete directed graph"]
    assert scores["pearson_centred"].notna().all()
    effects = seen[1].edges(("gene", "estimated_effect", "gene"))
    assert len(effects) == 80 * 79
    # by hand: ridge regression of one gene on all others, over variation within conditions
    x = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    x -= x.groupby(cells.obs["condition"].to_numpy()).transform("mean")
    x = (x / x.std(ddof=0)).to_numpy()
    others = np.arange(80) != 7
    gram = x[:, others].T @ x[:, others] / len(x) + 0.1 * np.eye(79)
    by_hand = np.linalg.solve(gram, x[:, others].T @ x[:, 7] / len(x))
    found = effects[effects["target"] == cells.var_names[7]].set_index("source").loc[cells.var_names[others]]
    np.testing.assert_allclose(found["weight"] * found["sign"], by_hand, atol=1e-4)


def test_the_true_graph_wins_and_noise_costs(kg, screen, parts):
    scores = controls.ablate(
        kg, screen, parts, kinds=["true", "rewired", "none", "random"], shares=[0.5, 1.0], seeds=[0, 1]
    )
    table = controls.summarize_ablation(scores)
    mean = table["mean"]
    assert mean["true graph"] > mean["50% of edges random"] > mean["100% of edges random"]
    assert mean["true graph"] > mean["rewired graph"] + 0.1
    assert mean["100% of edges random"] == pytest.approx(mean["no graph"], abs=0.1)
    assert table.loc["no graph", "difference_high"] < 0
    assert table.loc["true graph", "seed_sd"] == 0
    again = controls.ablate(kg, screen, parts, kinds=["rewired"], seeds=[1], processes=2)
    one = scores[(scores["variant"] == "rewired graph") & (scores["seed"] == 1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, one)
    figure = plotting.ablation(table)
    assert "edges random" in [line.get_label() for line in figure.axes[1].lines]


def test_what_follows_from_the_edges_is_made_for_each_graph(kg, screen, parts):
    seen = []
    controls.ablate(
        kg,
        screen,
        parts,
        kinds=["true", "rewired", "none"],
        seeds=[0],
        prepare=lambda graph: seen.append(graph) or graph,
    )
    assert seen == [kg, kg.rewire(0)]


@given(n=st.integers(1, 4), seed=st.integers(0, 1_000))
@settings(deadline=None, max_examples=20)
def test_shapley_values_add_up_and_are_averages_over_orders(n, seed):
    from itertools import permutations

    rng = np.random.default_rng(seed)
    sources = [f"s{number}" for number in range(n)]
    value = {frozenset(part): rng.random() for size in range(n + 1) for part in combinations(sources, size)}
    rows = [
        {
            "variant": controls.coalition(part) if part else controls.NO_GRAPH,
            "fold": 0,
            "condition": c,
            "pearson_centred": v,
        }
        for part, v in value.items()
        for c in ("x", "y")
    ]
    table = controls.shapley(pd.DataFrame(rows), sources)
    gains = {source: [] for source in sources}
    for order in permutations(sources):
        for place, source in enumerate(order):
            gains[source].append(value[frozenset(order[: place + 1])] - value[frozenset(order[:place])])
    for source in sources:
        assert table.loc[source, "mean"] == pytest.approx(np.mean(gains[source]))
    assert table["mean"].sum() == pytest.approx(value[frozenset(sources)] - value[frozenset()])


def test_bad_requests_are_refused(kg, screen):
    with pytest.raises(InputError, match="unknown control 'shuffled'"):
        controls.variants(kg, screen.var_names, ["shuffled"])
    with pytest.raises(InputError, match="too large"):
        controls.complete_graph(map(str, range(3_001)))
    with pytest.raises(InputError, match="no scores of 'sources b'"):
        controls.shapley(
            pd.DataFrame({"variant": ["no graph", "sources a"], "fold": 0, "condition": "x", "pearson_centred": 1.0}),
            ["a", "b"],
        )


class Dies:
    """A whole model of one's own, whose process is killed."""

    def __init__(self, kg):
        self.kg = kg

    def fit(self, adata, split):
        os.kill(os.getpid(), signal.SIGKILL)

    def predict(self, conditions):
        raise NotImplementedError


def test_a_process_that_is_killed_is_told_in_one_line(kg, screen, parts):
    with pytest.raises(InputError, match=r"a fit failed: its process died \(SIGKILL\(-9\)\), most likely since memory"):
        controls.ablate(kg, screen, parts, model=Dies, kinds=["rewired"], seeds=[0], processes=2)
