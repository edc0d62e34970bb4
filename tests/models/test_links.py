"""`LinkModel` on a graph whose missing edges follow from the others."""

import itertools
import json
from functools import partial

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import kgnn
from kgnn import KnowledgeGraph, LinkModel
from kgnn.errors import DataWarning, InputError
from kgnn.graph import EdgeSplit, split_edges
from kgnn.models.links import training
from kgnn.models.links.baselines import baselines
from kgnn.models.links.negatives import Sampler
from kgnn.models.links.triples import Triples
from kgnn.models.perturbation.graphs import typed_graph
from kgnn.nn import HeteroEncoder
from kgnn.nn.links import ComplEx
from kgnn.nn.typed_conv import TYPED_CONVS
from tests.folders import sealed_again

REGULATES, IN, RELATED = ("gene", "regulates", "gene"), ("gene", "in", "set"), ("set", "related", "set")
GENES, SETS = [f"G{i}" for i in range(60)], [f"S{i}" for i in range(6)]
QUICK = {"max_epochs": 30, "learning_rate": 0.03, "batch_size": 32}


def table(pairs):
    return pd.DataFrame(pairs, columns=["source", "target"])


def blocks(seed=0, circle=True):
    """Genes of set i regulate genes of set i + 1, three in four of them: nothing that degrees could tell."""
    rng = np.random.default_rng(seed)
    every = [(a, b) for a, b in itertools.product(range(60), range(60)) if (a % 6 + 1) % (6 if circle else 7) == b % 6]
    some = [(f"G{a}", f"G{b}") for a, b in every if rng.random() < 0.75]
    member = [(f"G{i}", f"S{i % 6}") for i in range(60)]
    return KnowledgeGraph(
        {"set": SETS, "gene": GENES},
        {REGULATES: table(some), IN: table(member), RELATED: table([(f"S{i}", f"S{(i + 1) % 6}") for i in range(6)])},
    )


@pytest.fixture(scope="module")
def split():
    return split_edges(blocks(), relations=[REGULATES], test_fraction=0.15, val_fraction=0.1)


@pytest.fixture(scope="module")
def model(split):
    return LinkModel(blocks(), channels=16).fit(split, **QUICK)


def mrr(scores, model="links", relation="all"):
    return float(scores.set_index(["relation", "model"]).loc[(relation, model), "mrr"])


def test_structure_that_degrees_do_not_tell_is_learned(model, split):
    scores = model.evaluate(split)
    assert mrr(scores) > 0.4
    assert all(mrr(scores) > 1.8 * mrr(scores, name) for name in ("degree", "frequency"))
    assert set(scores["relation"]) == {"all", "gene–regulates–gene"}
    assert scores["edges"].unique().tolist() == [len(split.test.edges(REGULATES))]
    matched = model.evaluate(split, candidates="degree", n_candidates=50).set_index(["relation", "model"])
    assert matched.loc[("all", "links"), "auc"] > 0.8
    assert matched.loc[("all", "degree"), "auc"] < 0.6  # below 0.5: what is held out lacks an edge


def test_a_scrambled_graph_teaches_nothing_of_it(model, split):
    other = EdgeSplit(split.train.rewire(seed=0), *split[1:])
    with pytest.warns(DataWarning, match="by duplicate edges of gene–regulates–gene"):  # swaps that hit held-out pairs
        scrambled = LinkModel(blocks(), channels=16).fit(other, **QUICK)
    assert mrr(scrambled.evaluate(other)) < 0.6 * mrr(model.evaluate(split))


@pytest.mark.parametrize(("decoder", "least"), [("complex", 0.4), ("rotate", 0.4), ("transe", 0.2), ("distmult", 0.1)])
def test_each_decoder_learns_what_it_can_express(decoder, least):
    kg = blocks(circle=decoder != "transe")  # six times one way is nowhere: no translation does that
    split = split_edges(kg, relations=[REGULATES], test_fraction=0.15, val_fraction=0.1)
    scores = LinkModel(kg, channels=16, decoder=decoder, dropout=0.0).fit(split, **QUICK).evaluate(split)
    assert mrr(scores) > max(least, 1.5 * mrr(scores, "frequency"))


@pytest.mark.parametrize(
    "options",
    [{"negatives": "uniform"}, {"negatives": "bernoulli"}, {"negatives": "degree"}, {"inverses": True}],
    ids=str,
)
def test_negatives_and_the_relation_backwards(split, options):
    found = LinkModel(blocks(), channels=16, n_negatives=32, **options).fit(split, **QUICK)
    auc = found.evaluate(split, candidates="degree").set_index(["relation", "model"]).loc[("all", "links"), "auc"]
    assert auc > 0.75


def test_predictions_are_missing_edges_best_first(model, split):
    found = model.predict(REGULATES, source="G0", k=8)
    known = set(split.train.edges(REGULATES).query("source == 'G0'")["target"])
    assert list(found.columns) == ["source", "target", "score"]
    assert not known & set(found["target"])
    assert "G0" not in set(found["target"])
    assert found["score"].is_monotonic_decreasing
    assert sum(int(name[1:]) % 6 == 1 for name in found["target"][:2]) >= 1
    both = model.predict(IN, target=["S1", "S3"], k=3)
    assert both["target"].tolist() == ["S1"] * 3 + ["S3"] * 3
    everything = model.predict(REGULATES, source="G0", k=1000)
    assert set(everything["target"]) == set(GENES) - known - {"G0"}


def test_predicted_scores_are_the_decoder_s(model):
    found = model.predict(REGULATES, target="G7", k=3)
    links = model.fitted_
    states = {name: row.to_numpy() for name, row in model.embeddings()["gene"].iterrows()}
    weight = links.decoder.relations[links.learned.relations.index(REGULATES)].numpy()

    def number_of(x):
        return x[:8] + 1j * x[8:]

    for row in found.itertuples():
        popular = np.log1p((links.graph.edges(REGULATES)["source"] == row.source).sum())
        ends = number_of(states[row.source]), number_of(weight), number_of(states["G7"]).conj()
        affinity = np.prod(ends, axis=0).sum().real
        assert row.score == pytest.approx(affinity + popular, abs=1e-4)


def test_embeddings_go_into_the_graph(model):
    tables = model.embeddings()
    assert {kind: found.shape for kind, found in tables.items()} == {"set": (6, 16), "gene": (60, 16)}
    kg = blocks().with_features("links", tables["gene"])
    np.testing.assert_allclose(kg.features("gene")["links"], tables["gene"].to_numpy())


def test_paths_are_those_of_networkx(model, split):
    found = model.explain("G0", REGULATES, "G1", n_paths=10_000)
    graph = nx.Graph()
    for relation in split.train.relations:
        graph.add_edges_from(split.train.edges(relation)[["source", "target"]].itertuples(index=False, name=None))
    direct = ("G0", "G1") in set(split.train.edges(REGULATES)[["source", "target"]].itertuples(index=False, name=None))
    expected = {}
    for path in nx.all_simple_paths(graph, "G0", "G1", cutoff=3):
        if len(path) > 2 or not direct:
            expected[tuple(path)] = np.prod([1 / np.log(graph.degree(node)) for node in path[1:-1]])
    told = {tuple(word for word in row.path.split() if word[0] in "GS"): row.weight for row in found.itertuples()}
    assert told.keys() == expected.keys()
    assert all(told[path] == pytest.approx(expected[path]) for path in expected)
    assert found["weight"].is_monotonic_decreasing
    assert any("–in→ S0 ←in–" in path or "–in→ S0 –related→ S1 ←in–" in path for path in found["path"])


def test_it_is_the_same_after_a_disk(model, split, tmp_path):
    model.save(tmp_path / "links")
    again = kgnn.load_model(tmp_path / "links")
    assert isinstance(again, LinkModel)
    assert again.predict(REGULATES, source="G3").equals(model.predict(REGULATES, source="G3"))
    assert again.evaluate(split).equals(model.evaluate(split))
    assert again.history_ == model.history_
    with pytest.raises(InputError, match="holds a 'links' model"):
        kgnn.CellModel.load(tmp_path / "links")


@pytest.mark.parametrize("decoder", [ComplEx, ComplEx(3, 8), "kgnn.nn.links:ComplEx"], ids=["class", "made", "string"])
def test_a_decoder_of_kgnn_s_is_loaded_however_it_was_given(decoder, tmp_path):
    model = LinkModel(blocks(), channels=8, decoder=decoder).fit(max_epochs=1)
    model.save(tmp_path / "m")
    again = kgnn.load_model(tmp_path / "m")
    assert again.decoder == "complex"
    assert again.predict(REGULATES, source="G3").equals(model.predict(REGULATES, source="G3"))


def test_the_seed_decides(split):
    one, two, three = (LinkModel(blocks(), channels=8).fit(split, max_epochs=2, seed=seed) for seed in (1, 1, 2))
    assert one.embeddings()["gene"].equals(two.embeddings()["gene"])
    assert not one.embeddings()["gene"].equals(three.embeddings()["gene"])


def test_no_split_learns_from_all_edges():
    model = LinkModel(blocks(), channels=8).fit(max_epochs=2)
    assert model.fitted_.graph == blocks()
    assert len(model.history_) == 2


class OfSets(nn.Module):
    """A gene's state is its sets' and a shift: an encoder that is blind to which gene it is."""

    def __init__(self, graph, channels):
        super().__init__()
        self.sets = nn.Embedding(graph.n_nodes["set"], channels)

    def forward(self, graph):
        adjacency = graph.adjacencies[IN]
        source, target = adjacency.edge_index
        genes = torch.zeros(graph.n_nodes["gene"], self.sets.embedding_dim).index_add(
            0, source, self.sets.weight[target]
        )
        return {"gene": genes, "set": self.sets.weight}


def test_an_encoder_of_the_graph(split, tmp_path):
    model = LinkModel(blocks(), channels=16, encoder=OfSets).fit(split, **QUICK)
    assert mrr(model.evaluate(split)) > 0.2
    states = model.embeddings()["gene"]
    np.testing.assert_array_equal(states.loc["G0"], states.loc["G6"])
    model.save(tmp_path / "m")
    assert kgnn.load_model(tmp_path / "m").embeddings()["gene"].equals(states)
    with pytest.raises(InputError, match="returned"):
        LinkModel(blocks(), channels=16, encoder=lambda graph, channels: nn.Identity()).fit(split)


@pytest.mark.parametrize("kind", TYPED_CONVS)
def test_hetero_encoders_of_the_graph(split, kind, tmp_path):
    encoder = partial(HeteroEncoder, kind=kind)
    model = LinkModel(blocks(), channels=16, encoder=encoder).fit(split, **QUICK)
    scores = model.evaluate(split)
    assert mrr(scores) > max(0.4, 1.8 * mrr(scores, "frequency"))
    model.save(tmp_path / "m")
    again = kgnn.load_model(tmp_path / "m")
    assert again.predict(REGULATES, source="G0").equals(model.predict(REGULATES, source="G0"))


def test_a_hetero_encoder_knows_nodes_that_nothing_regulates_by_what_they_hear():
    cold = split_edges(blocks(), "node", relations=[REGULATES], test_fraction=0.2, val_fraction=0.1)
    deaf, hears = (
        LinkModel(blocks(), channels=16, encoder=partial(HeteroEncoder, layers=layers)).fit(cold, **QUICK)
        for layers in (0, 2)
    )
    assert mrr(hears.evaluate(cold)) > mrr(deaf.evaluate(cold)) + 0.03


def test_a_hetero_encoder_takes_classes_instances_and_graphs_without_genes():
    drugs = KnowledgeGraph({"drug": ["A", "B"], "side": ["x"]}, {("drug", "has", "side"): table([("A", "x")])})
    options = {"channels": 4, "dropout": 0.0}
    states = LinkModel(drugs, encoder="kgnn.nn:HeteroEncoder", **options).fit(max_epochs=2).embeddings()
    assert {kind: rows.shape for kind, rows in states.items()} == {"drug": (2, 4), "side": (1, 4)}
    made = HeteroEncoder(typed_graph(drugs, pd.Index([]), pd.Index([])), channels=4)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    LinkModel(drugs, encoder=made, **options).fit(max_epochs=2)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_an_encoder_hears_training_edges_alone(split):
    seen = []

    def looks(graph, channels):
        seen.append(graph.adjacencies[REGULATES].edge_index.shape[1])
        return OfSets(graph, channels)

    LinkModel(blocks(), channels=8, encoder=looks).fit(split, max_epochs=1)
    assert seen == [len(split.train.edges(REGULATES))]


def test_by_node_an_encoder_knows_what_embeddings_cannot():
    cold = split_edges(blocks(), "node", relations=[REGULATES], test_fraction=0.2, val_fraction=0.1)
    options = {"channels": 16, "negatives": "all"}
    plain, encoded = (LinkModel(blocks(), encoder=x, **options).fit(cold, **QUICK) for x in (None, OfSets))
    assert mrr(encoded.evaluate(cold)) > mrr(plain.evaluate(cold)) + 0.05


def test_a_fit_that_fails_leaves_the_model_as_it_was(split, monkeypatch):
    model = LinkModel(blocks(), channels=8).fit(split, max_epochs=1)
    before = model.fitted_

    def fail(*_):
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr(training, "_loss", fail)
    with pytest.raises(InputError, match="diverged"):
        model.fit(split, max_epochs=1)
    assert model.fitted_ is before


def test_an_interrupt_keeps_the_best_epoch(split, monkeypatch):
    calls = itertools.count()
    real = training._epoch

    def stopped(*parts):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real(*parts)

    monkeypatch.setattr(training, "_epoch", stopped)
    assert len(LinkModel(blocks(), channels=8).fit(split, max_epochs=9).history_) == 2


def test_the_best_epoch_is_kept(split):
    model = LinkModel(blocks(), channels=16).fit(split, **QUICK | {"patience": None})
    best = max(record["mrr"] for record in model.history_)
    blind = EdgeSplit(split.train, KnowledgeGraph.of(split.val.tables.derive("none", edges={})), split.val)
    assert mrr(model.evaluate(blind)) == pytest.approx(best, abs=1e-6)


def test_fit_does_not_look_at_the_test_edges(model, split):
    other = EdgeSplit(split.train, split.val, split.val)
    again = LinkModel(blocks(), channels=16).fit(other, **QUICK)
    assert again.history_ == model.history_
    assert again.embeddings()["gene"].equals(model.embeddings()["gene"])


def test_leaks_are_told_in_one_warning():
    kg = blocks()
    plain = split_edges(kg, relations=[REGULATES])
    back = plain.test.edges(REGULATES).rename(columns={"source": "target", "target": "source"})[["source", "target"]]
    leaky = KnowledgeGraph.merge(
        [plain.train, KnowledgeGraph({"gene": GENES}, {("gene", "regulated_by", "gene"): back})]
    )
    n = len(back)
    with pytest.warns(
        DataWarning, match=f"{n} of gene–regulates–gene by inverse edges of gene–regulated_by–gene"
    ) as told:
        LinkModel(kg, channels=8).fit(EdgeSplit(leaky, *plain[1:]), max_epochs=1)
    assert len(told) == 1


def test_nodes_that_training_lacks_are_told():
    kg = KnowledgeGraph.of(blocks().tables.derive("one", edges={REGULATES: blocks().tables.edges[REGULATES]}))
    cold = split_edges(kg, "node", test_fraction=0.2, val_fraction=0.0)
    n = len(cold.test.edges(REGULATES))
    with pytest.warns(DataWarning, match=f"^{n} of {n} test edges have an end without a training edge") as told:
        LinkModel(kg, channels=8).fit(cold, max_epochs=1)
    assert len(told) == 1


def test_common_neighbours_are_networkx_s():
    learned = Triples.of(blocks())
    graph = nx.Graph()
    graph.add_edges_from(zip(learned.source.tolist(), learned.target.tolist(), strict=True))
    score = baselines(learned)["adamic_adar"](0, np.array([7, 20]))
    where = learned.candidates(0)
    for row, node in enumerate((7, 20)):
        others = [other for other in range(where.start, where.stop) if other != node]
        expected = {b: x for _, b, x in nx.adamic_adar_index(graph, [(node, other) for other in others])}
        np.testing.assert_allclose(score[row, np.array(others) - where.start], [expected[o] for o in others], rtol=1e-5)


def test_degrees_and_frequencies_are_counted():
    learned = Triples.of(blocks())
    scores = {name: score(0, np.array([7]))[0] for name, score in baselines(learned).items()}
    edges = blocks().edges(REGULATES)
    into = edges["target"].value_counts().reindex(GENES, fill_value=0)
    assert scores["frequency"].tolist() == into.tolist()
    assert (
        scores["degree"].tolist() == (into + edges["source"].value_counts().reindex(GENES, fill_value=0) + 1).tolist()
    )


def test_negatives_are_drawn_as_described():
    learned = Triples.of(blocks())
    rng = np.random.default_rng(0)
    question = learned.relations.index(IN)
    drawn = Sampler(learned, "uniform", 5000)(question, rng).numpy()
    assert set(drawn) == set(range(6))  # sets come first
    hub = KnowledgeGraph({"gene": GENES}, {REGULATES: table([(g, "G0") for g in GENES[1:]] + [("G0", "G1")])})
    learned = Triples.of(hub)
    drawn = Sampler(learned, "degree", 5000)(0, rng).numpy()
    assert (drawn == 0).mean() == pytest.approx(59 / 60, abs=0.01)
    assert set(drawn) == {0, 1}
    tails, heads = 60 / 60, 60 / 2  # per head, per tail
    weight = Sampler(learned, "bernoulli", 1).weight
    assert weight[1] == pytest.approx(2 * tails / (tails + heads))  # asks for heads
    assert weight.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.predict(REGULATES, source="G99"), "no gene 'G99'"),
        (lambda m: m.predict(REGULATES), "not both"),
        (lambda m: m.predict(REGULATES, source="G1", target="G2"), "not both"),
        (lambda m: m.predict(("gene", "is", "gene"), source="G1"), "no relation"),
        (lambda m: m.predict(REGULATES, source="G1", k=0), "k = 0"),
        (lambda m: m.explain("G1", IN, "G2"), "no set 'G2'"),
        (lambda m: m.evaluate(split_edges(blocks(), seed=5)), "other edges"),
        (lambda m: m.evaluate({"test": []}), "split of edges"),
        (lambda m: m.fit(split_edges(blocks().subset(GENES[:30]))), "other nodes"),
        (lambda m: m.fit(max_epochs=0), "max_epochs = 0"),
        (lambda m: m.fit(learning_rate=-0.1), "learning_rate = -0.1"),
        (lambda m: m.fit(learning_rate="fast"), "learning_rate = 'fast'"),
        (lambda m: m.fit(patience=0), "patience = 0"),
        (lambda m: m.fit(seed=-1), "seed = -1"),
        (lambda m: m.fit(accelerator="gpuu"), "accelerator='gpuu': .* invalid accelerator"),
        (lambda m: LinkModel(blocks(), decoder="complx"), "did you mean complex"),
        (lambda m: LinkModel(blocks(), encoder="hetero"), "unknown encoder 'hetero'; give a class"),
        (lambda m: LinkModel(blocks(), negatives="some"), "unknown negatives"),
        (lambda m: LinkModel(blocks(), channels=8, decoder=ComplEx(2, 8)).fit(), "3 relations and 8 channels: index 2"),
        (lambda m: LinkModel(blocks(), channels=8, decoder=ComplEx(3, 6)).fit(), "make it for these two numbers"),
        (lambda m: LinkModel(blocks(), decoder=nn.Linear(2, 2)).fit(), "Linear does not take 3 relations"),
        (lambda m: LinkModel(blocks(), channels=7).fit(), "7 is odd"),
        (lambda m: LinkModel(blocks()).predict(REGULATES, source="G1"), "not fitted"),
        (lambda m: LinkModel(KnowledgeGraph({"gene": GENES}, {})).fit(), "no edges"),
    ],
)
def test_what_cannot_be_is_told(model, use, message):
    with pytest.raises(InputError, match=message):
        use(model)


def test_nothing_that_a_folder_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "unasked_decoder.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    LinkModel(blocks(), channels=4).fit(max_epochs=1).save(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    saved = json.loads(config.read_text(encoding="utf-8"))
    saved["options"]["decoder"] = "unasked_decoder:Own"
    config.write_text(json.dumps(saved), encoding="utf-8")
    sealed_again(tmp_path / "m")
    with pytest.raises(InputError, match="unasked_decoder:Own, which is not kgnn's; give an instance"):
        kgnn.load_model(tmp_path / "m")
