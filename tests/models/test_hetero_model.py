"""`encoder="hetero"`: nodes of all types are perturbed, at doses; what is in the graph and in a condition is seen."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.doses import make_task, scores
from kgnn import PerturbationModel, controls, load_model
from kgnn.data import split
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table
from kgnn.models import Start, make_model
from kgnn.models.perturbation.hetero import Hetero
from kgnn.models.perturbation.predictor import Known
from kgnn.nn import TypedRGCNConv
from tests.models.own import QUICK

SMALL = {"n_genes": 40, "n_drugs": 5, "n_singles": 4, "cells_per_condition": 8}
OPTIONS = {"encoder": "hetero", "channels": 8}


@pytest.fixture(scope="module")
def task():
    return make_task(0, **SMALL)


@pytest.fixture(scope="module")
def parts(task):
    return {"train": task.train, "val": [], "test": [*task.doses, *task.drugs]}


@pytest.fixture(scope="module")
def kg(task):
    """The network, the drugs' targets, and complexes."""
    return task.kg | members("complex", task.adata.var_names[:6], ["C1", "C1", "C2", "C2", "C2", "C3"])


def members(kind, genes, names):
    told = {"source": "gene", "target": "in", "target_type": kind, "relation": "member_of"}
    return load_table(pd.DataFrame({"gene": genes, "in": names}), **told, origin=kind)


@pytest.fixture(scope="module")
def fitted(task, parts):
    return PerturbationModel(task.kg, **OPTIONS).fit(task.adata, parts, **QUICK)


def delta(model, names):
    return model.predict(names).layers["delta"]


def along(model, graph):
    """The weights of a model along another graph of the same relations."""
    predictor = Hetero(channels=8)
    known = Known(model.genes_, model.perturbable_, graph, model.control_mean_, "the model")
    predictor.restore(known, *model.predictor_.state())
    return predictor


# what is perturbed


def test_drugs_are_nodes_and_no_genes(fitted, task):
    assert not {"D00", "D00@1"} & set(fitted.perturbable_)
    found = delta(fitted, ["D00", "drug:D00", "D01", "D00@1", "D00@1+G003", "G003", "ctrl"])
    np.testing.assert_array_equal(found[0], found[1])
    apart = np.abs(found[1:, None] - found[1:]).max(2) + np.eye(6)
    assert apart.min() > 1e-6
    assert (found[-1] == 0).all()
    assert fitted.predict("D00@1.0").obs["condition"].tolist() == ["D00@1"]


@pytest.mark.parametrize("layer", ["rgcn", "compgcn", "hgt", "sage", TypedRGCNConv])
def test_complexes_and_sets_that_were_never_perturbed_have_an_effect(task, parts, kg, layer):
    model = PerturbationModel(kg, **OPTIONS, layer=layer).fit(task.adata, parts, **QUICK)
    found = delta(model, ["C1", "C2", "complex:C3", "C1+G003", "G003"])
    assert (np.abs(found[:, None] - found).max(2) + np.eye(5)).min() > 1e-6


def test_a_name_of_two_types_is_refused_until_its_type_is_told(task, parts, kg):
    kg = kg | members("set", ["G003", "G004"], ["D00", "G000"])
    with pytest.raises(
        InputError, match=r"perturbed 'D00' is a drug and a set in the graph; write drug:D00 or set:D00"
    ):
        PerturbationModel(kg, **OPTIONS).fit(task.adata, parts, **QUICK)
    adata = task.adata.copy()
    adata.obs["condition"] = adata.obs["condition"].astype(str).replace("^D00@", "drug:D00@", regex=True)
    renamed = {part: [name.replace("D00@", "drug:D00@") for name in names] for part, names in parts.items()}
    model = PerturbationModel(kg, **OPTIONS).fit(adata, renamed, **QUICK)
    bare, gene, node_set = delta(model, ["G000", "gene:G000", "set:G000"])
    assert (bare == gene).all()  # a screen's names are of genes
    assert np.abs(gene - node_set).max() > 1e-6


def test_what_has_no_node_is_refused_with_what_is_near(fitted):
    with pytest.raises(InputError, match=r"'D0@1': the gene 'D0' is neither measured.*did you mean D0"):
        fitted.predict("D0@1")
    with pytest.raises(InputError, match="the gene 'complex:D00' is neither"):
        fitted.predict("complex:D00")


def test_other_encoders_take_what_is_perturbed_for_a_gene_and_tell_doses_that_they_do_not_see(task, parts):
    told = r"\d+ of \d+ conditions differ in their doses alone \(of D0\d, …\), which encoder='kg' does not tell apart"
    with pytest.warns(DataWarning, match=told):
        model = PerturbationModel(encoder="kg").fit(task.adata, parts)
    np.testing.assert_allclose(*delta(model, ["D00@0.1", "D00@10"]), atol=1e-6)
    additive = make_model("additive").fit(task.adata, parts)  # which knows conditions by name
    drug = next(name for name in task.train if "@10" in name)
    assert np.abs(np.subtract(*delta(additive, [drug, drug.replace("@10", "@1")]))).max() > 1e-3


# what is seen


@pytest.mark.parametrize("training", [True, False])
def test_the_same_weights_say_something_else_along_another_graph(fitted, task, training):
    found = []
    for graph in (task.kg, task.kg, task.kg.rewire(0)):
        predictor = along(fitted, graph)
        batch = predictor.inputs(["D00@1", "G003", "D01+G005"], torch.ones(3), torch.ones(40))
        found.append(predictor.network.train(training)(batch).detach().numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert (np.abs(found[0] - found[2]).max(1) > 1e-6).all()


def test_strengths_and_the_state_matter(fitted, task):
    predictor = along(fitted, task.kg)
    start = Start(fitted.control_mean_)
    before = predictor.predict(["G003", "D01@1"], start).change
    other = predictor.predict(["G003", "D01@1"], Start(start.mean * 0.5)).change
    assert (np.abs(before - other).max(1) > 1e-5).all()
    predictor.strength = {"G003": 1.0}
    after = predictor.predict(["G003", "D01@1"], start).change
    np.testing.assert_allclose(after, before * [[-1], [1]], atol=1e-5)


@pytest.mark.parametrize("names", [["D00"], ["G003", "D01"]])
def test_predicted_changes_are_monotone_in_the_dose(fitted, names):
    doses = np.geomspace(1e-3, 1e3, 12)
    found = delta(fitted, ["+".join([*names[:-1], f"{names[-1]}@{dose:f}"]) for dose in doses])
    lowest = fitted.control_mean_ + found > 1e-3  # where expression is not cut at 0
    steps = np.diff(found, axis=0)[:, lowest.all(0)]
    assert ((steps >= -1e-5).all(0) | (steps <= 1e-5).all(0)).all()


def test_doses_and_a_drug_held_out_are_predicted_better_than_by_the_mean():
    task = make_task(1, n_genes=40, n_drugs=8, n_singles=8, cells_per_condition=20)
    options = {"max_epochs": 40, "learning_rate": 0.01, "schedule": "constant", "conditions_per_batch": 16}
    parts = {"train": task.train, "val": [], "test": [*task.doses, *task.drugs]}
    model = PerturbationModel(task.kg, encoder="hetero", channels=32).fit(task.adata, parts, **QUICK | options)
    mean = make_model("mean").fit(task.adata, parts)
    for held, correlation, error in ((task.doses, 0.8, 0.4), (task.drugs, None, 1.0)):
        found, plain = (scores(task, held, delta(m, held)) for m in (model, mean))
        assert found["correlation"] > (correlation or plain["correlation"])
        assert found["error"] < error
    curves, true = model.predictor_.curves(["D00", "D01"]), task.adata.uns["curves"].set_index("drug")
    assert list(curves.columns) == ["k", "h"]
    assert (curves.to_numpy() > 0).all()
    assert len(true) == 8


# controls


def test_rewired_none_and_parts_of_the_graph(task, parts):
    fit = {"fit_options": QUICK | {"max_epochs": 1}, "options": {"channels": 8}, "model": "hetero", "seeds": [0]}
    found = controls.ablate(task.kg, task.adata, parts, kinds=["true", "rewired", "none", "without", "only"], **fit)
    variants = ["true graph", "rewired graph", "no graph"]
    variants += [f"{how} {source}" for how in ("without", "only") for source in ("network", "targets")]
    assert list(found["variant"].unique()) == variants
    assert found["pearson_centred"].notna().all()


def test_without_a_graph_a_drug_is_a_node_of_its_own(task, parts):
    model = PerturbationModel(None, **OPTIONS).fit(task.adata, parts, **QUICK)
    assert "D00" in model.perturbable_
    assert np.abs(np.subtract(*delta(model, ["D01@1", "D02@1"]))).max() > 1e-5
    with pytest.raises(InputError, match="the gene 'D77' is neither"):
        model.predict("D77")


def test_drugs_that_the_graph_does_not_link_are_told(task, parts):
    lonely = task.drugs[0].split("@")[0]
    pairs = task.adata.uns["targets"].query("drug != @lonely")
    nodes = task.kg.drop_source("targets")
    told = {"source": "drug", "target": "gene", "source_type": "drug", "relation": "targets", "origin": "targets"}
    known = [name for name in parts["train"] if lonely not in name]
    model = PerturbationModel(nodes | load_table(pairs, **told), **OPTIONS)
    model.fit(task.adata, parts | {"train": known}, **QUICK)
    with pytest.warns(DataWarning, match=f"no neighbour in the graph: {lonely}"):
        model.predict(f"{lonely}@1")


# saving, options


def test_a_saved_model_predicts_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    again, wanted = load_model(tmp_path / "m"), ["D00@0.3", "drug:D01+G003", "G005"]
    np.testing.assert_array_equal(delta(again, wanted), delta(fitted, wanted))
    pd.testing.assert_frame_equal(again.predictor_.curves(["D00"]), fitted.predictor_.curves(["D00"]))


def test_a_layer_of_one_s_own_is_saved_as_an_instance(task, parts, tmp_path):
    made = Hetero(layer=TypedRGCNConv, channels=8)
    model = PerturbationModel(task.kg, encoder=made).fit(task.adata, parts, **QUICK)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m", encoder=made)
    np.testing.assert_array_equal(delta(again, ["D00@1"]), delta(model, ["D00@1"]))
    with pytest.raises(InputError, match=r"trained with the layer kgnn.nn.typed_conv:TypedRGCNConv, which is not kgnn"):
        load_model(tmp_path / "m", encoder=Hetero(channels=8))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"layer": "rgnc"},
            "unknown layer 'rgnc'; did you mean rgcn.; choose rgcn, compgcn, hgt, sage, or",
        ),
        ({"layer": "os:system"}, "unknown layer 'os:system'"),
        ({"channels": 0}, "channels = 0"),
        ({"layers": -1}, "layers = -1"),
        ({"edge_dropout": 2}, "edge_dropout = 2"),
        ({"strength": 99}, "strength 99"),
        ({"metapaths": 1}, "no option 'metapaths'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        PerturbationModel(encoder="hetero", **options)


def test_a_held_out_drug_is_held_out_at_all_doses(task):
    fold = split(task.adata, "unseen_single", seed=0, test_fraction=0.3)
    held = {name.split("@")[0] for name in fold["test"]}
    assert any("@" in name for name in fold["test"])
    assert not held & {name.split("@")[0] for part in ("train", "val") for name in fold[part]}
