import json

import numpy as np
import pytest
import torch

import kgnn
from kgnn import KnowledgeGraph, PerturbationModel
from kgnn.data import split, training_cells
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_coexpression, load_table
from kgnn.models import load_model
from kgnn.models.perturbation.graphs import gene_graph, perturbation_graph
from tests.folders import sealed_again

QUICK = {"max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture
def kg(screen, network, parts):
    return network | load_coexpression(training_cells(screen, parts))


@pytest.fixture
def model(kg, screen, parts):
    return PerturbationModel(kg, channels=8, encoder="gears").fit(screen, parts, **QUICK)


def test_predictions_are_an_anndata_of_conditions(model, screen, parts):
    wanted = [*parts["test"], "+".join(reversed(parts["test"][0].split("+"))) + "+ctrl"]
    before = screen.copy()
    prediction = model.predict(wanted)
    assert prediction.obs_names.tolist() == wanted
    assert prediction.obs["condition"].tolist() == [*parts["test"], parts["test"][0]]
    assert prediction.var_names.equals(screen.var_names)
    control = screen[screen.obs["condition"] == "control"].X.toarray().mean(axis=0)
    np.testing.assert_allclose(prediction.X - prediction.layers["delta"], np.tile(control, (len(wanted), 1)), atol=1e-5)
    np.testing.assert_allclose(prediction.X[0], prediction.X[-1], atol=1e-6)
    assert "uncertainty" not in prediction.layers
    assert (before.X != screen.X).nnz == 0
    assert before.obs.equals(screen.obs)


def test_cells_are_made_of_control_cells(model, screen, parts):
    name = parts["test"][0]
    cells = model.predict([name], n_cells=50, seed=3)
    assert cells.n_obs == 50
    assert cells.obs_names[:2].tolist() == [f"{name}_0", f"{name}_1"]
    np.testing.assert_allclose(cells.layers["delta"], np.tile(model.predict(name).layers["delta"], (50, 1)), atol=1e-6)
    assert (cells.X >= 0).all()
    unperturbed = model.predict("control", n_cells=20, seed=3).X
    controls = screen[screen.obs["condition"] == "control"].X.toarray()
    assert all((controls == cell).all(axis=1).any() for cell in unperturbed)
    assert (model.predict([name], n_cells=50, seed=3).X == cells.X).all()
    with pytest.raises(InputError, match="n_cells = 0; it must be"):
        model.predict(name, n_cells=0)


def test_the_same_seed_gives_the_same_model_and_leaves_the_random_state_alone(kg, screen, parts):
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (
        PerturbationModel(kg, channels=8, encoder="gears").fit(screen, parts, seed=s, **QUICK) for s in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), before)
    wanted = parts["test"]
    assert (first.predict(wanted).X == second.predict(wanted).X).all()
    assert (first.predict(wanted).X != other.predict(wanted).X).any()


def test_training_learns_and_keeps_the_best_validation_epoch(kg, screen, parts):
    model = PerturbationModel(kg, channels=16, encoder="gears").fit(
        screen, parts, **QUICK | {"max_epochs": 6, "patience": 6}
    )
    assert len(model.history_) == 6
    read = kgnn.data.read_screen(screen)
    top = kgnn.data.top_de_genes(read, parts["val"])
    predicted = model.predict(parts["val"]).X
    observed = read.mean(parts["val"]).to_numpy()
    error = np.mean(
        [np.square(p - o)[top[n]].mean() for p, o, n in zip(predicted, observed, parts["val"], strict=True)]
    )
    assert error == pytest.approx(min(model.history_), rel=1e-3)


def test_early_stopping_waits_for_patience(kg, screen, parts):
    model = PerturbationModel(kg, channels=4, encoder="gears").fit(
        screen, parts, **QUICK | {"max_epochs": 50, "patience": 1}
    )
    assert len(model.history_) < 50
    assert model.history_[-1] >= min(model.history_)


def test_without_a_split_all_conditions_train(kg, screen):
    model = PerturbationModel(kg, channels=4, encoder="gears").fit(screen, **QUICK | {"max_epochs": 1})
    assert model.history_ == []
    assert len(model.conditions_) == 14


@pytest.mark.parametrize("options", [{"uncertainty": True}, {"soft_sign": 5.0}, {"channels": 6}])
def test_save_and_load_give_the_same_predictions(kg, screen, parts, tmp_path, options):
    model = PerturbationModel(kg, **{"channels": 4} | options, encoder="gears").fit(
        screen, parts, **QUICK | {"max_epochs": 1}
    )
    model.save(tmp_path / "m")
    assert not list((tmp_path / "m").rglob("*.p*kl")) + list((tmp_path / "m").rglob("*.pt"))
    for again in (PerturbationModel.load(tmp_path / "m"), load_model(tmp_path / "m")):
        expected, found = (m.predict(parts["test"], n_cells=3) for m in (model, again))
        assert (expected.X == found.X).all()
        assert again.kg == kg
        assert again.history_ == model.history_
        if "uncertainty" in options:
            assert (found.layers["uncertainty"] > 0).all()
            assert (found.layers["uncertainty"] == expected.layers["uncertainty"]).all()


def test_damaged_and_foreign_model_folders_are_refused(model, tmp_path):
    with pytest.raises(InputError, match="not a model folder"):
        load_model(tmp_path)
    model.save(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    good = config.read_text()
    for changes, message in (
        ({"format": "x"}, "not the configuration"),
        ({"format_version": 7}, "take the kgnn that wrote it"),
        ({"encoder": "mine:Encoder"}, "was saved with mine:Encoder, .* give it as encoder="),
        ({"options": json.loads(good)["options"] | {"channels": 9}}, "do not fit"),
        ({"model": "cell"}, r"use kgnn\.load_model"),
    ):
        config.write_text(json.dumps(json.loads(good) | changes))
        sealed_again(tmp_path / "m")
        with pytest.raises(InputError, match=message):
            PerturbationModel.load(tmp_path / "m")
    config.write_text(good)
    arrays = tmp_path / "m" / "arrays.safetensors"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"arrays.safetensors: damaged, edited or cut short"):
        load_model(tmp_path / "m")
    sealed_again(tmp_path / "m")
    with pytest.raises(InputError, match=r"arrays.safetensors: damaged or cut short"):
        load_model(tmp_path / "m")
    arrays.unlink()
    with pytest.raises(InputError, match=r"arrays.safetensors: missing"):
        load_model(tmp_path / "m")
    arrays.write_bytes(whole)
    sealed_again(tmp_path / "m")
    with pytest.raises(InputError, match=r"use kgnn\.load_model"):
        kgnn.CellModel.load(tmp_path / "m")


def test_a_gene_nobody_knows_is_named_with_suggestions(model):
    with pytest.raises(InputError, match=r"condition 'G0001': the gene 'G0001' is neither .* did you mean G00"):
        model.predict("G0001")
    with pytest.raises(InputError, match="add it to the graph"):
        model.predict("TP53+G001")
    with pytest.raises(InputError, match="no condition"):
        model.predict([])
    with pytest.raises(InputError, match="asked for twice"):
        model.predict(["G001", "G001"])


def test_genes_of_every_kind_can_be_predicted(screen, network, parts):
    """Measured but never perturbed, in the graph but not measured, three at once, and control."""
    more = load_table(_frame("NOVEL", "G001"), relation="regulates")
    model = PerturbationModel(network | more, channels=4, encoder="gears").fit(screen, parts, **QUICK)
    wanted = ["G039", "NOVEL", "G001+G039+NOVEL", "control"]
    prediction = model.predict(wanted)
    assert np.isfinite(prediction.X).all()
    assert prediction.obs["n_perturbed"].tolist() == [1, 1, 3, 0]


def test_perturbed_genes_without_a_neighbour_are_named_once(screen, network, parts):
    gene = next(name for name in parts["train"] if "+" not in name)
    without = network.subset([name for name in network.nodes("gene").index if name != gene])
    model = PerturbationModel(without, channels=4, encoder="gears")
    with pytest.warns(DataWarning, match=f"1 perturbed genes have no neighbour in the graph: {gene};") as record:
        model.fit(screen, parts, **QUICK)
    assert sum(isinstance(w.message, DataWarning) for w in record) == 1
    model.predict(gene)  # does not warn again: a DataWarning is an error in these tests
    new = next(name for name in screen.var_names if name not in without.nodes("gene").index and name != gene)
    with pytest.warns(DataWarning, match=f"{new}; nor were they perturbed in training"):
        model.predict(f"{new}+{gene}")
    model.predict(new)


def test_perturbed_genes_need_not_be_measured(screen, network, parts):
    gene = next(name for name in parts["train"] if "+" not in name)
    model = PerturbationModel(network, channels=4, encoder="gears").fit(
        screen[:, screen.var_names != gene], parts, **QUICK
    )
    assert gene not in model.genes_
    assert np.isfinite(model.predict(gene).X).all()


def test_a_graph_of_another_species_is_refused(screen, parts):
    with pytest.raises(InputError, match=r"the graph shares no gene with the data: it has Cdk4, Mdm2, the data G000"):
        PerturbationModel(load_table(_frame("Cdk4", "Mdm2"))).fit(screen, parts)


def test_models_that_are_not_fitted_and_unknown_encoders():
    with pytest.raises(InputError, match="not fitted"):
        PerturbationModel(None, encoder="gears").predict("A")
    with pytest.raises(InputError, match=r"unknown encoder 'gearz'; did you mean gears\?; choose kg, gears"):
        PerturbationModel(None, encoder="gearz")


def test_groups_and_reduced_precision(screen, network, parts):
    screen.obs["line"] = np.random.default_rng(0).choice(["K562", "RPE1"], screen.n_obs)
    model = PerturbationModel(network, channels=4, group_key="line", uncertainty=True, encoder="gears")
    model.fit(screen, parts, **QUICK | {"precision": "bf16-mixed"})
    assert np.isfinite(model.predict(parts["test"]).layers["uncertainty"]).all()


def test_graphs_of_the_model():
    names = list("ABCD")
    kg = KnowledgeGraph(
        {"gene": names},
        {
            ("gene", "coexpressed", "gene"): _frame("A", "B").assign(weight=0.5, sign=-1),
            ("gene", "regulates", "gene"): _frame("B", "C").assign(weight=2.0, sign=-1),
            ("gene", "shares_gene_sets", "gene"): _frame("C", "D").assign(weight=0.25),
        },
    )

    def dense(adjacency):
        eye = torch.eye(adjacency.shape[1])
        return kgnn.ops.spmm(adjacency, eye)

    def normalised(edges, n):  # D^-1/2 (A + I) D^-1/2, rows targets
        a = torch.eye(n)
        for source, target, weight in edges:
            a[target, source] = weight
        scale = a.sum(1).rsqrt()
        return scale[:, None] * a * scale

    torch.testing.assert_close(dense(gene_graph(kg, ["B", "A", "X"])), normalised([(1, 0, 0.5)], 3))
    # regulation passes messages both ways, similarity as written; signs are not used
    expected = normalised([(1, 2, 2.0), (2, 1, 2.0), (2, 3, 0.25)], 4)
    torch.testing.assert_close(dense(perturbation_graph(kg, names)), expected)
    torch.testing.assert_close(dense(perturbation_graph(None, names)), torch.eye(4))


def _frame(source, target):
    import pandas as pd

    return pd.DataFrame({"source": [source], "target": [target]})
