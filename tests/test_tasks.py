"""The graphs of the benchmark's tasks."""

from benchmarks import tasks
from benchmarks.perturbation import dream_graphs
from kgnn.data import simulate
from kgnn.metrics import evaluate
from kgnn.models import make_model

EFFECT = ("gene", "estimated_effect", "gene")


def test_the_complete_graph_of_dream4_has_effects_and_predicts(real_data):
    graphs = dream_graphs(real_data, 1, 0)
    complete = graphs["kg, complete graph with effects"]
    assert complete.origins == ["complete", "estimated"]
    assert len(complete.edges(EFFECT)) == 100 * 99
    network = graphs["kg"].edges(("gene", "regulates", "gene"))
    assert len(graphs["kg"].edges(EFFECT)) == len(network) < 300
    adata, *_ = tasks.dream4(real_data, 1)
    fold = tasks.five_folds(list(adata.var_names), 0)[0]
    prediction = make_model("kg", complete).fit(adata, fold).predict(fold["test"])
    scores = evaluate(prediction, adata, fold, exclude_targets=True, metrics="pearson_delta")
    regulators = scores.index.isin(network["source"])
    assert scores["pearson_delta"][regulators].mean() > 0.05  # no graph: 0


def test_edges_alone_have_neither_signs_nor_strengths():
    adata = simulate(n_genes=30, n_singles=5, n_pairs=0, cells_per_condition=2, n_controls=5, seed=0)
    (relation,) = tasks.edges_alone(adata).relations
    edges = tasks.edges_alone(adata).edges(relation)
    network = adata.uns["network"]
    assert set(zip(edges["source"], edges["target"], strict=True)) == set(
        zip(network["source"], network["target"], strict=True)
    )
    assert (edges["weight"] == 1).all()
    assert (edges["sign"] == 0).all()
    assert network["weight"].nunique() > 1


def test_the_controls_are_kgnn_s_and_keep_the_number_of_edges(small_kg):
    found = tasks.changed(small_kg)
    assert list(found) == ["rewired", "nodes permuted", "50% of edges random", "50% of edges removed"]
    assert found["rewired"] == small_kg.rewire(0)
    assert found["nodes permuted"] == small_kg.permute(0)
    assert found["50% of edges random"] == small_kg.randomize_edges(0.5, 0)
    assert found["50% of edges removed"] == small_kg.drop_edges(0.5, 0)
