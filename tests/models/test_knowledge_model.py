"""The default model on simulated screens, and against ridge regression solved by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from kgnn import PerturbationModel, plotting
from kgnn.data import merge_validation, simulate, split
from kgnn.data.screen import read_screen
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph, load_table
from kgnn.graph.effects import EFFECT
from kgnn.metrics import evaluate, explained_share
from kgnn.models import Start, load_model, make_model
from kgnn.models.perturbation.closed_form import read_samples
from kgnn.models.perturbation.solving import _widths


@pytest.fixture(scope="module")
def screen():
    return simulate(n_genes=120, n_singles=24, n_pairs=8, seed=2)


@pytest.fixture(scope="module")
def parts(screen):
    return merge_validation(split(screen, "simulation", seed=0))


@pytest.fixture(scope="module")
def kg(screen):
    return load_table(screen.uns["network"], relation="regulates", origin="network")


@pytest.fixture(scope="module")
def model(screen, parts, kg):
    return PerturbationModel(kg).fit(screen, parts)


def pearson(model, screen, parts):
    return evaluate(model.predict(parts["test"]), screen, parts, exclude_targets=True)["pearson_delta"].mean()


def test_the_true_graph_beats_ridge_rewired_and_no_graph(model, screen, parts, kg):
    others = [
        make_model("composition_ridge").fit(screen, parts),
        PerturbationModel(kg.rewire(0)).fit(screen, parts),
        PerturbationModel(None).fit(screen, parts),
    ]
    assert pearson(model, screen, parts) > max(pearson(other, screen, parts) for other in others) + 0.15


def test_node_features_that_tell_which_genes_act_alike_help_and_shuffled_ones_do_not(screen, parts):
    genes = sorted({gene for name in screen.obs["condition"].unique() for gene in name.split("+")} - {"control"})
    samples = read_samples(read_screen(screen), [name for name in screen.obs["condition"].unique() if name in genes])
    of = pd.DataFrame(np.linalg.svd(samples.change)[0][:, :8], index=samples.names)  # cheating, so that it must help
    shuffled = pd.DataFrame(of.to_numpy()[np.random.default_rng(0).permutation(len(of))], index=of.index)
    graphs = [KnowledgeGraph({"gene": list(screen.var_names)}, {}).with_features("told", t) for t in (of, shuffled)]
    found = [pearson(PerturbationModel(graph).fit(screen, parts), screen, parts) for graph in (None, *graphs)]
    assert found[1] > max(found[0], found[2]) + 0.05


def test_without_a_graph_it_is_a_ridge_regression_on_which_genes_are_perturbed(screen, parts):
    model = PerturbationModel(None).fit(screen, parts)
    s = read_screen(screen)
    names = parts["train"]
    genes = sorted({gene for name in names for gene in name.split("+")})
    gamma, shared, noise, iota, _, _, omega = model.network_.kernel.log.detach().exp().numpy()

    def compose(conditions):
        size = np.array([[len(name.split("+"))] for name in conditions])
        return np.array([[gene in name.split("+") for gene in genes] for name in conditions]) / size**omega

    def kernel(a, b):
        pairs = (a @ b.T) ** 2 - (a**2) @ (b**2).T
        return a @ (np.eye(len(genes)) + gamma) @ b.T + iota * pairs / 2

    change = s.mean(names).to_numpy() - s.control_mean
    for row, name in enumerate(names):
        change[row, s.genes.isin(name.split("+"))] = 0
    test = [name for name in parts["test"] if all(gene in genes for gene in name.split("+"))][:3]
    x, y = compose(names), compose(test)
    found = kernel(y, x) @ np.linalg.solve(kernel(x, x) + shared + noise * np.eye(len(x)), change)  # without κ
    expected = np.maximum(found, -s.control_mean)
    found = model.predict(test).layers["delta"]
    for row, name in enumerate(test):
        elsewhere = ~s.genes.isin(name.split("+"))
        np.testing.assert_allclose(found[row, elsewhere], expected[row, elsewhere], rtol=1e-4, atol=1e-5)


def test_predictions_variances_and_cells(model, screen, parts):
    prediction = model.predict(["control", *parts["test"][:2]])
    assert (prediction.layers["delta"][0] == 0).all()
    assert (prediction.layers["uncertainty"][1:] > 0).all()
    cells = model.predict(parts["test"][:1], n_cells=5, seed=1)
    assert cells.n_obs == 5
    np.testing.assert_allclose(cells.layers["delta"][0], prediction.layers["delta"][1], rtol=1e-5)
    coverage = evaluate(model.predict(parts["test"]), screen, parts, exclude_targets=True)["coverage_90"].mean()
    assert 0.75 < coverage < 0.99


def test_the_perturbed_gene_itself_follows_its_own_expression(model, screen, parts):
    s = read_screen(screen)
    prediction = model.predict(parts["test"])
    single = [name for name in parts["test"] if "+" not in name]
    for name in single:
        own = prediction[name, name].layers["delta"][0, 0]
        assert own == pytest.approx(-s.control_mean[s.genes.get_loc(name)], abs=0.6)


def test_the_same_data_gives_the_same_model_and_no_random_state_moves(model, screen, parts, kg):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = PerturbationModel(kg).fit(screen, parts)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (again.predict(parts["test"]).X == model.predict(parts["test"]).X).all()
    assert model.history_[-1] < model.history_[0]


def test_save_and_load_keep_predictions_graph_and_lines(model, screen, parts, tmp_path):
    model.save(tmp_path / "run")
    again = load_model(tmp_path / "run")
    a, b = (m.predict(parts["test"]) for m in (model, again))
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.layers["uncertainty"], b.layers["uncertainty"])
    assert EFFECT in again.kg.relations
    assert again.explain(parts["test"][0]).equals(model.explain(parts["test"][0]))


def test_activation_moves_targets_the_other_way(screen, parts, kg):
    up = PerturbationModel(kg, strength=1.0).fit(screen, parts)
    target = parts["test"][0]
    halved = PerturbationModel(kg, strength=dict.fromkeys(target.split("+"), -0.5)).fit(screen, parts)
    whole = PerturbationModel(kg).fit(screen, parts)
    size = [np.linalg.norm(m.predict([target]).layers["delta"]) for m in (halved, whole)]
    assert size[0] < size[1]
    weights = [m.network_.beta.numpy() for m in (up, whole)]
    np.testing.assert_allclose(weights[0], -weights[1], rtol=1e-6, atol=1e-9)


def test_an_unseen_cell_line_is_predicted_from_its_control_cells(tmp_path):
    adata = simulate(n_genes=120, n_singles=20, n_pairs=0, n_lines=3, seed=0)
    kg = load_table(adata.uns["network"], relation="regulates")
    known = adata[adata.obs["cell_line"] != "line2"].copy()
    unseen = adata[adata.obs["cell_line"] == "line2"].copy()
    controls = unseen[unseen.obs["condition"] == "control"]
    model = PerturbationModel(kg, group_key="cell_line").fit(known)
    names = sorted(set(model.conditions_))
    prediction = model.predict(names, control_cells=controls)
    samples = read_samples(read_screen(known, group_key="cell_line"), names)
    shift = [samples.change[np.array(samples.names) == name].mean(axis=0) for name in names]
    mean_shift = prediction.copy()
    mean_shift.X = prediction.var["control_mean"].to_numpy() + np.stack(shift)
    assert explained_share(prediction, unseen) > explained_share(mean_shift, unseen)
    model.save(tmp_path / "run")
    again = PerturbationModel.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(names, control_cells=controls).X, prediction.X)
    of_training = known[known.obs["condition"] == "control"]
    own = of_training[of_training.obs["cell_line"] == "line1"]
    in_training = model.predict(names, control_cells=own)
    assert not np.allclose(in_training.layers["delta"], prediction.layers["delta"])
    with pytest.raises(InputError, match="several lines"):
        model.predict(names, control_cells=of_training)
    with pytest.raises(InputError, match=r"1000 of 1200 control cells are perturbed, first with"):
        model.predict(names, control_cells=known[known.obs["cell_line"] == "line1"])
    np.testing.assert_array_equal(model.predict(names, line="line1").X.shape, in_training.X.shape)
    with pytest.raises(InputError, match="lack 1 genes of the model, first 'G000'"):
        model.predict(names, control_cells=controls[:, 1:])


def test_explanations_find_true_edges_among_random_ones(screen, parts, kg):
    true = kg.edges(("gene", "regulates", "gene"))
    bare = KnowledgeGraph({"gene": kg.nodes("gene")}, {("gene", "regulates", "gene"): true[["source", "target"]]})
    model = PerturbationModel(bare.add_random_edges(4.0, 0)).fit(screen, parts)
    known = set(zip(true["source"], true["target"], strict=True))
    precision = []
    for name in parts["test"]:
        edges = model.explain(name).groupby(["source", "target"])["contribution"].sum().abs()
        if len(edges) >= 10:
            precision.append(np.mean([pair in known for pair in edges.nlargest(10).index]))
    assert np.mean(precision) > 3 * 0.2  # a fifth of the graph's edges are true


def test_contributions_are_what_an_edge_carries(model, parts):
    name = next(name for name in parts["test"] if "+" not in name)
    table = model.explain(name, n_genes=5)
    assert table["gene"].nunique() <= 5
    assert table.attrs["perturbed"] == [name]
    direct = table[
        (table["source"] == name) & (table["channel"] == "estimated_effect") & (table["gene"] == table["target"])
    ]
    row = direct.iloc[0]
    number = model.perturbable_.get_indexer([row["source"], row["target"]])
    adjacency = model.network_.propagation.adjacencies[model.network_.propagation.names.index("estimated_effect")]
    edge = ((torch.tensor(number) == adjacency.edge_index.T).all(1)).nonzero().item()
    bags, state = model.predictor_.inputs([name], Start(model.control_mean_))
    gene = model.genes_.get_loc(row["gene"])

    def along(scale):
        weights = [a.edge_weight.clone() for a in model.network_.propagation.adjacencies]
        weights[model.network_.propagation.names.index("estimated_effect")][edge] *= scale
        return float((model.network_.propagation(bags, state, weights)[0].double() @ model.network_.beta)[gene])

    assert row["contribution"] == pytest.approx((along(1.01) - along(0.99)) / 0.02, rel=2e-2)
    axes = plotting.explanation(table)
    assert name in [text.get_text() for text in axes.texts]


def test_bad_input_is_told(model, screen, kg):
    with pytest.raises(InputError, match=r"'G01' is neither measured.*did you mean G"):
        model.predict("G01")
    with pytest.raises(InputError, match="explain needs a fitted model of encoder='kg'"):
        PerturbationModel(kg, encoder="mean").fit(screen).explain("G001")
    with pytest.raises(InputError, match="not fitted"):
        PerturbationModel(kg).explain("G001")
    with pytest.raises(InputError, match="nothing to draw"):
        plotting.explanation(model.explain("G001").iloc[:0])
    with pytest.raises(InputError, match="train group is empty"):
        PerturbationModel(kg).fit(screen, {"train": [], "val": [], "test": []})
    empty = AnnData(np.zeros((0, screen.n_vars), np.float32), var=pd.DataFrame(index=screen.var_names))
    with pytest.raises(InputError, match="there are no control cells"):
        model.predict("G001", control_cells=empty)
    with pytest.raises(InputError, match="unknown model 'forest'"):
        make_model("forest")


def test_variances_grow_with_the_change_as_left_out_errors_do():
    rng = np.random.default_rng(0)
    predicted = torch.from_numpy(rng.standard_t(3, (80, 200)))
    variance = torch.from_numpy(rng.uniform(0.5, 2, (80, 200)))
    told = torch.from_numpy(rng.random((80, 200)) < 0.8)
    error = (0.7 * variance + 0.4 * predicted.square()).sqrt() * torch.from_numpy(rng.normal(size=(80, 200)))
    error[~told] = 100.0  # was never measured
    change = predicted + error
    found = _widths(error, change, variance, told)
    np.testing.assert_allclose(found / found[0], [1, 0.4 / 0.7], rtol=0.1)
    assert _widths(error * 0, predicted, variance * 0, told).tolist() == [1, 0]
    # stretched until nine in ten of the changes that stand out lie within, by hand
    values = np.where(told, change, np.nan)
    apart = np.abs(values - np.nanmedian(values, axis=0))
    clear = (apart > 3 * 1.4826 * np.nanmedian(apart, axis=0)) & told.numpy()
    inside = error.abs() <= 1.6449 * (found[0] * variance + found[1] * predicted.square()).sqrt()
    assert 300 < clear.sum() < 3000
    assert inside[clear].double().mean() == pytest.approx(0.9, abs=0.005)


def test_variances_are_as_large_as_left_out_errors_where_no_change_stands_out():
    rng = np.random.default_rng(0)
    predicted, error = (torch.from_numpy(rng.uniform(-1, 1, (80, 200))) for _ in range(2))
    told = torch.ones_like(error, dtype=torch.bool)
    found = _widths(error, predicted + error, torch.ones_like(error), told)
    assert float(found[0] + found[1] * predicted.square().mean()) == pytest.approx(1 / 3, rel=0.02)


def test_variances_are_not_narrowed_where_what_stands_out_is_predicted_well(monkeypatch):
    rng = np.random.default_rng(0)
    predicted, error = (torch.from_numpy(rng.normal(size=(80, 200))) for _ in range(2))
    predicted[rng.random((80, 200)) < 0.1] *= 20
    error[predicted.abs() > 5] = 0.0
    asked = error, predicted + error, torch.ones_like(error), torch.ones_like(error, dtype=torch.bool)
    found = _widths(*asked)
    monkeypatch.setattr("kgnn.models.perturbation.solving.CLEAR", 1e9)  # nothing stands out
    assert found.tolist() == _widths(*asked).tolist()
    assert found[0] > 0.5


def test_intervals_hold_more_of_what_changes_than_with_one_width_a_gene(screen, kg):
    fold = split(screen, kind="simulation", seed=0)
    model = PerturbationModel(kg).fit(screen, split=fold)
    found = evaluate(model.predict(fold["test"]), screen, fold, exclude_targets=True)
    model.network_.widths = torch.tensor([1.0, 0.0], dtype=torch.float64)
    before = evaluate(model.predict(fold["test"]), screen, fold, exclude_targets=True)
    assert found["coverage_90_changed"].mean() > max(0.8, before["coverage_90_changed"].mean() + 0.02)
    assert found["coverage_90"].mean() >= found["coverage_90_changed"].mean() - 0.02
