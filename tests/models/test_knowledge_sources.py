"""What a graph says of genes: by hand, and walks as a dense series."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from kgnn import KnowledgeGraph, PerturbationModel, plotting
from kgnn.data import effects
from kgnn.errors import InputError
from kgnn.graph import load_table
from kgnn.models import load_model
from kgnn.models.perturbation.knowledge import GO_ON, LEAST, STEPS, sources, transitions
from kgnn.models.perturbation.missing import OWN, gene_means, solve_missing
from kgnn.nn.condition_kernel import ConditionKernel


@pytest.fixture
def kg():
    sets = pd.DataFrame({"gene": list("ABABCD"), "set": ["s", "s", "t", "t", "t", "u"]})
    acts = pd.DataFrame({"source": ["A", "B", "A"], "target": ["C", "C", "D"], "sign": [1, -1, 1]})
    graph = load_table(sets, source="gene", target="set", relation="in", target_type="set", origin="sets")
    return graph | load_table(acts, relation="regulates", sign="sign", origin="acts")


NODES = pd.Index(list("ABCDE"), dtype=object)


def cosines(source):
    rows = source.rows(np.arange(len(NODES)))
    return (rows @ rows.T).toarray()


def test_sources_by_hand(kg):
    by_name = {source.name: source for source in sources(kg, NODES)}
    assert list(by_name) == ["in set", "walks"]  # all that regulate have the target C: it is not rare
    told = cosines(by_name["in set"])
    rare, common = np.log(4 / 2), np.log(4 / 3)  # s of A and B, t of A, B and C; u holds one gene and says nothing
    np.testing.assert_allclose(told[0, 1], 1)
    np.testing.assert_allclose(told[0, 2], common / np.hypot(rare, common))
    assert by_name["in set"].known.tolist() == [True, True, True, False, False]
    nodes = NODES.append(pd.Index(list("XYZ")))
    both = load_table(pd.DataFrame({"source": list("ABCABD"), "target": list("XXXYYZ"), "sign": [1, -1, 1, 1, -1, 1]}),
                      relation="regulates", sign="sign", origin="x")  # fmt: skip
    np.testing.assert_allclose(cosines(sources(both, nodes)[0])[:2, :2], [[1, -1], [-1, 1]])


def test_origins_of_a_relation_are_sources_apart(kg):
    table = pd.DataFrame({"gene": ["A", "C", "D"], "set": ["s", "s", "u"]})
    more = load_table(table, source="gene", target="set", relation="in", target_type="set", origin="more")
    names = [source.name for source in sources(kg | more, NODES)]
    assert names[:2] == ["in (more) set", "in (sets) set"]


def test_estimated_effects_and_no_graph_say_nothing():
    assert sources(None, NODES) == []
    assert sources(KnowledgeGraph({"gene": ["A"]}, {}), NODES) == []


def test_walks_are_the_series_of_the_transitions(kg):
    p = transitions(kg, NODES).toarray()
    n = len(p)
    assert n == len(NODES) + 3
    np.testing.assert_allclose(p.sum(1), (p.sum(1) > 0).astype(float), rtol=1e-6)
    # A: half by its sets, into s by log(4 / 2), into t by log(4 / 3); half to C and D, which it regulates
    weight = np.log([4 / 2, 4 / 3])
    np.testing.assert_allclose(p[0, [5, 6]], weight / weight.sum() / 2, rtol=1e-5)
    np.testing.assert_allclose(p[0, [2, 3]], [0.25, 0.25], rtol=1e-5)
    walks = sources(kg, NODES)[-1]
    x, power = np.zeros((n, n)), np.eye(n)
    for k in range(STEPS + 1):
        x += (1 - GO_ON) * GO_ON**k * power
        power = power @ p
    expected = np.log1p(1000 * np.where(x < LEAST, 0, x))[:4]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(walks.rows(np.array([3, 1]))[:, :].toarray(), expected[[3, 1]], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(walks.rows(np.array([0, 1, 2, 3])).toarray(), expected, rtol=1e-4, atol=1e-6)
    assert walks.known.tolist() == [True] * 4 + [False]
    assert not walks.rows(np.array([4])).nnz


def test_walks_pass_a_similarity_both_ways():
    told = pd.DataFrame({"source": ["A", "C"], "target": ["B", "B"], "weight": [3.0, 1.0]})
    p = transitions(load_table(told, relation="coexpressed", weight="weight", origin="x"), NODES).toarray()
    expected = np.zeros((5, 5))
    expected[[0, 2], 1], expected[1, [0, 2]] = 1, [0.75, 0.25]
    np.testing.assert_allclose(p, expected, rtol=1e-6)


def test_missing_effects_as_a_dense_formula():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 3))
    kernel, noise = root @ root.T, rng.uniform(0.5, 1, 7)
    seen = rng.random((7, 5)) < 0.7
    seen[:, 4] = False  # of a gene that was never measured nothing is known
    rest = rng.normal(size=(7, 5)) * seen * [1, 1, 1, 0.1, 1]
    unit = rest / np.maximum(np.linalg.norm(rest, axis=0), 1e-12)
    genes = OWN * np.eye(5) + (1 - OWN) * unit.T @ unit
    at = np.flatnonzero(seen.ravel())
    full = np.kron(kernel, genes)[np.ix_(at, at)] + np.diag(np.repeat(noise, 5)[at])
    dual = np.zeros(35)
    dual[at] = np.linalg.solve(full, rest.ravel()[at])
    found = solve_missing(*(torch.from_numpy(x) for x in (rest, seen, kernel, noise)))
    np.testing.assert_allclose(found, dual.reshape(7, 5) @ genes, atol=3e-3)


def test_means_are_drawn_to_the_mean_of_all_by_five_measurements():
    change = torch.tensor([[1.0, 2.0], [3.0, 9.0]])
    seen = torch.tensor([[True, True], [True, False]])
    np.testing.assert_allclose(gene_means(change, seen), [(4 + 5 * 2) / 7, (2 + 5 * 2) / 6])


@pytest.fixture(scope="module")
def told():
    """Effects that follow from which sets a gene is in, and the sets."""
    rng = np.random.default_rng(1)
    genes = [f"G{i}" for i in range(240)]
    member = rng.integers(0, 24, 240)
    table = pd.DataFrame(rng.normal(size=(24, 60))[member] + 0.5 * rng.normal(size=(240, 60)), genes)
    table.columns = genes[:60]
    sets = pd.DataFrame({"gene": genes, "set": [f"s{m}" for m in member]})
    return table, load_table(sets, source="gene", target="set", relation="in", target_type="set")


@pytest.mark.parametrize("kind", ["whole", "holes", "answers"])
def test_sets_alone_tell_what_unseen_genes_do_and_rewired_ones_nothing(told, kind):
    table, kg = told
    known = table.copy()
    if kind == "holes":
        known = known.mask(np.random.default_rng(2).random(known.shape) < 0.5)
    if kind == "answers":
        known, table = (known > 0).astype(float), (table > 0).astype(float)
    train, test = known.iloc[:200], table.iloc[200:]
    score = []
    for graph in (kg, kg.rewire(0)):
        model = PerturbationModel(graph).fit(effects(train, kind="binary" if kind == "answers" else "change"))
        found = model.predict(list(test.index)).X - train.mean().to_numpy()
        score.append(np.corrcoef(found.ravel(), (test - train.mean()).to_numpy().ravel())[0, 1])
    assert score[0] > (0.6 if kind == "answers" else 0.8)  # 0.77 where what was not measured counts as the mean
    assert abs(score[1]) < 0.15


def test_many_conditions_learn_on_some_and_are_solved_with_all(told, tmp_path):
    table, kg = told
    more = pd.concat([table, table.rename(lambda name: f"{name}b")])
    edges = kg.edges(("gene", "in", "set"))
    sets = pd.DataFrame({"gene": edges["source"] + "b", "set": edges["target"]})
    both = kg | load_table(sets, source="gene", target="set", relation="in", target_type="set", origin="b")
    model = PerturbationModel(both).fit(effects(more.iloc[:-40]))
    assert model.network_.weights.shape == (440, 40)
    assert model.network_.programmes.shape == (40, 60)  # the leading ones
    found = model.predict(list(more.index[-40:])).X
    assert np.corrcoef(found.ravel(), more.iloc[-40:].to_numpy().ravel())[0, 1] > 0.7
    model.save(tmp_path / "run")
    np.testing.assert_array_equal(load_model(tmp_path / "run").predict(list(more.index[-40:])).X, found)
    relatives, network = model.relatives(more.index[-1]), model.network_
    network.weights, network.programmes = network.weights @ network.programmes, network.programmes[:0]  # gene by gene
    np.testing.assert_allclose(model.predict(list(more.index[-40:])).X, found, rtol=1e-5, atol=1e-7)
    pd.testing.assert_frame_equal(model.relatives(more.index[-1]), relatives)


@pytest.fixture(scope="module")
def fitted(told):
    table, kg = told
    return PerturbationModel(kg).fit(effects(table.iloc[:100]))


def test_sources_say_what_they_weigh_and_know(fitted, tmp_path):
    table = fitted.sources_
    assert list(table.index) == ["the gene itself", "in set", "walks"]
    assert table["weight"].sum() == pytest.approx(1)
    assert (table["known"] == 1).all()
    assert table.loc["in set", "weight"] + table.loc["walks", "weight"] > 0.5  # effects follow from the sets
    axes = plotting.sources(table)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(table.sort_values("weight").index)
    with pytest.raises(InputError, match="sources_ needs a fitted model of encoder='kg'"):
        PerturbationModel(encoder="mean").fit(effects(pd.DataFrame(np.eye(3) + 0.5, list("ABC"), list("DEF")))).sources_  # noqa: B018


def test_relatives_are_those_of_the_same_set_and_their_shares_are_of_the_prediction(fitted, told, tmp_path):
    table, kg = told
    of = kg.edges(("gene", "in", "set")).set_index("source")["target"]
    name = next(name for name in table.index[100:] if (of[table.index[:100]] == of[name]).sum() >= 3)
    found = fitted.relatives(name, n=10_000)
    first = found.groupby("condition")["share"].sum().abs().nlargest(3).index
    assert (of[list(first)] == of[name]).all()
    assert found["through"].iloc[0].startswith(of[name]) or of[name] in found["through"].iloc[0]
    # by hand: the kernel's part of one row times what the row told, along the prediction
    network, predictor = fitted.network_, fitted.predictor_
    change = fitted.predict(name).layers["delta"][0].astype(float)
    row = found[found["source"] == "in set"].iloc[0]
    training = predictor.trained.index(row["condition"])
    numbers = torch.tensor(fitted.perturbable_.get_indexer([name, row["condition"]]))
    gate = network.kernel.gates(numbers)[1].detach().numpy()
    similarity = np.sqrt(gate.prod())  # both are in one set: a cosine of 1
    assert row["similarity"] == pytest.approx(similarity, rel=1e-5)
    told_by = network.weights[training].numpy() @ change / (change @ change)
    assert row["share"] == pytest.approx(similarity * told_by, rel=1e-3)
    fitted.save(tmp_path / "run")
    assert load_model(tmp_path / "run").relatives(name, n=10_000).equals(found)
    axes = plotting.relatives(found)
    assert axes.get_title() == f"what told of {name}"
    with pytest.raises(InputError, match="nothing to draw"):
        plotting.relatives(found.iloc[:0])
    with pytest.raises(InputError, match="n = 0"):
        fitted.relatives(name, n=0)


def test_features_that_lack_are_completed_from_relatives_as_by_kernel_ridge(kg):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(2, 3)), index=["A", "C"])
    found = {source.name: source for source in sources(kg.with_features("screen", table), NODES)}
    screen, walks = found["screen"], found["walks"]
    assert screen.known.tolist() == [True] * 4 + [False]  # E is in no edge
    centred = (table - table.mean()).to_numpy()
    has = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    alike = cosines(walks)
    ridge = KernelRidge(alpha=1.0, kernel="precomputed").fit(alike[np.ix_([0, 2], [0, 2])], has)
    lacking = ridge.predict(alike[np.ix_([1, 3], [0, 2])])
    expected = np.stack([has[0], lacking[0], has[1], lacking[1], np.zeros(3)])
    np.testing.assert_allclose(screen.rows(np.arange(5)).toarray(), expected, atol=1e-6)
    np.testing.assert_allclose(screen.rows(np.array([3, 0])).toarray(), expected[[3, 0]], atol=1e-6)
    kernel = ConditionKernel([screen])
    told = kernel.similarity(1, torch.arange(5), torch.arange(5)).numpy()
    np.testing.assert_allclose(told.diagonal(), [1, 1, 1, 1, 0], atol=1e-6)  # a gene is like itself, known or not
    np.testing.assert_allclose(told[1, 2], expected[1] @ expected[2], atol=1e-6)


def test_a_screen_that_lacks_what_is_predicted_does_not_harm():
    rng = np.random.default_rng(3)
    genes = [f"P{i}" for i in range(80)]
    group = np.arange(80) % 10
    sets = pd.DataFrame({"gene": genes, "set": [f"s{i}" for i in group]})
    graph = load_table(sets, source="gene", target="set", relation="in", target_type="set", origin="sets")
    table = pd.DataFrame(rng.normal(size=(10, 60))[group] + 0.7 * rng.normal(size=(80, 60)), index=genes)
    table.columns = genes[:60]
    other = table + 0.3 * rng.normal(size=table.shape)
    test = genes[60:]

    def score(kg):
        told = PerturbationModel(kg).fit(effects(table.drop(index=test))).predict(test).layers["delta"]
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(told, table.loc[test].to_numpy(), strict=True)])

    without, unseen = score(graph), score(graph.with_features("other", other.drop(index=test)))
    assert without > 0.5
    assert unseen > without - 0.03
    assert score(graph.with_features("other", other)) > without + 0.05


def test_features_that_no_walk_reaches_complete_nothing(kg):
    table = pd.DataFrame(np.eye(2), index=["E", "F"])  # in no edge
    nodes = pd.Index(list("ABCDEF"), dtype=object)
    both = (kg | KnowledgeGraph({"gene": ["E", "F"]}, {})).with_features("screen", table)
    (screen,) = (source for source in sources(both, nodes) if source.name == "screen")
    assert screen.known.tolist() == [False] * 4 + [True] * 2
    assert not screen.rows(np.arange(4)).nnz
