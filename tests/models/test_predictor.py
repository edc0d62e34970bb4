"""One interface for whatever predicts: every name of the table, one's own class, what a fit leaves behind."""

import copy
import functools

import numpy as np
import pandas as pd
import pytest
import torch

from kgnn import PerturbationModel
from kgnn.data import read_screen, split, training_cells
from kgnn.errors import InputError
from kgnn.graph import load_coexpression, load_table
from kgnn.models import LINE_BASELINES, PREDICTORS, Changes, Predictor, Start, load_model
from kgnn.models.perturbation.predictor import Known, read_strength, strengths_of
from kgnn.models.perturbation.table import make_predictor
from tests.models.own import QUICK, SMALL, TRAINED, Own, OwnMean

ALIKE = ("no_change", "mean")  # whatever is perturbed
pytestmark = pytest.mark.filterwarnings("ignore:the squared error on:kgnn.errors.DataWarning")  # two epochs are few
ON_GRAPH = ("gears", "txpert", "graph_transformer")  # through their weights; "kg" is tested apart
BY_NAME = ("additive", "composition_ridge")  # to them one gene that was never perturbed is like another
BY_CONDITION = tuple(LINE_BASELINES)  # to them one condition that was never measured is like another


@pytest.fixture(scope="module")
def parts(_screen):
    return split(_screen, "simulation", seed=1)


@pytest.fixture(scope="module")
def kg(_screen, parts):
    known = load_table(_screen.uns["network"], relation="regulates", origin="truth")
    return known | load_coexpression(training_cells(_screen, parts))


@pytest.fixture(scope="module")
def fitted(_screen, parts, kg):
    """Each predictor, fitted once."""

    @functools.cache
    def fit(name):
        adata, options = _screen, SMALL.get(name, {})
        if name in LINE_BASELINES:
            adata, options = _screen.copy(), {"group_key": "line"}
            adata.obs["line"] = np.tile(["a", "b"], adata.n_obs // 2)
        model = PerturbationModel(kg, encoder=name, **options)
        return model.fit(adata, parts, **QUICK if name in TRAINED else {})

    return fit


def delta(model, names):
    return model.predict(names).layers["delta"]


# every name of the table


@pytest.mark.parametrize("name", PREDICTORS)
def test_save_and_load_give_the_same(fitted, name, tmp_path):
    model, wanted = fitted(name), ["ctrl", "G000", "G003+G007", "G011", "G001+G002+G011"]
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert type(again.predictor_) is PREDICTORS[name]
    for options in ({}, {"n_cells": 3, "seed": 1}):
        expected, found = (m.predict(wanted, **options) for m in (model, again))
        np.testing.assert_array_equal(found.X, expected.X)
        assert found.obs.equals(expected.obs)
        assert list(found.layers) == list(expected.layers)
        for layer in expected.layers:
            np.testing.assert_array_equal(found.layers[layer], expected.layers[layer])
    for attribute in ("conditions_", "options", "encoder", "by_epochs", "uses_graph"):
        assert getattr(again, attribute) == getattr(model, attribute), attribute
    assert list(again.history_) == list(model.history_)
    assert again.genes_.equals(model.genes_)
    assert again.perturbable_.equals(model.perturbable_)
    assert again.kg == (model.predictor_.graph(model.kg) if model.uses_graph else None)


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_prediction_depends_on_the_perturbation(fitted, name, parts):
    seen, unseen = ["G000", "G002", "G000+G004", "G009+G002"], ["G003", "G007", "G003+G007"]
    if name in BY_CONDITION:
        seen = parts["train"][:4]
    wanted = [*seen, *(unseen[:1] if name in (*BY_NAME, *BY_CONDITION) else unseen)]
    found = delta(fitted(name), wanted)
    if name == "knn":  # which has as many answers as there are sets of neighbours
        assert len(np.unique(found.round(5), axis=0)) > 1
        return
    apart = np.abs(found[:, None] - found).max(2) + np.eye(len(wanted))
    assert (apart == np.eye(len(wanted))).all() if name in ALIKE else apart.min() > 1e-5


@pytest.mark.parametrize("name", PREDICTORS)
def test_each_row_belongs_to_its_condition(fitted, name):
    names = ["G002", "ctrl", "G007", "G004+G000"]
    found = delta(fitted(name), names)
    close = {"rtol": 1e-4, "atol": 1e-4}  # batch norms enlarge what rounds otherwise
    np.testing.assert_allclose(delta(fitted(name), names[::-1])[::-1], found, **close)
    for number, one in enumerate(names):
        np.testing.assert_allclose(delta(fitted(name), one)[0], found[number], **close)


@pytest.mark.parametrize("name", TRAINED)
def test_all_that_a_network_is_given_lies_where_the_state_lies(fitted, name):
    """Numbers of cells, kept from batches on the CPU, too: else a GPU stops at the first validation."""
    predictor = copy.deepcopy(fitted(name).predictor_)
    found = predictor.inputs(["G002", "", "G004+G000"], torch.ones(3), torch.zeros(40, device="meta"))
    devices = {part.device.type for part in found if isinstance(part, torch.Tensor)}
    assert devices | {buffer.device.type for buffer in found.graph.buffers()} == {"meta"}


@pytest.mark.parametrize("name", PREDICTORS)
def test_many_conditions_are_predicted_part_by_part(fitted, name, monkeypatch):
    model, asked = fitted(name), ["G000", "G001", "G002", "ctrl", "G000+G001"]
    expected = model.predict(asked)
    sizes, predict = [], model.predictor_.predict
    monkeypatch.setattr(model.predictor_, "at_once", 2, raising=False)
    monkeypatch.setattr(model.predictor_, "predict", lambda c, s: sizes.append(len(c)) or predict(c, s), raising=False)
    found = model.predict(asked)
    assert sizes == [2, 2, 1]
    for layer in ("delta", *({"uncertainty"} & set(expected.layers))):
        np.testing.assert_allclose(found.layers[layer], expected.layers[layer], rtol=1e-4, atol=1e-4)


def test_trained_networks_have_learned_what_each_condition_does(screen):
    """Of two conditions of training each is nearer to its own cells than to the other's."""
    read, pair = read_screen(screen), ["G000", "G006"]
    observed = read.mean(pair).to_numpy() - read.control_mean
    parts = {"train": pair, "val": [], "test": []}
    options = {"max_epochs": 12, "batch_size": 16, "schedule": "constant", "learning_rate": 0.05}
    for encoder in ("cpa", Own):
        model = PerturbationModel(encoder=encoder, channels=8).fit(screen, parts, **QUICK | options)
        errors = np.square(delta(model, pair)[:, None] - observed).mean(2)
        assert (np.diag(errors) < 0.5 * np.diag(errors[::-1])).all(), encoder


def along(model, graph):
    """The weights of a model along another graph."""
    predictor = make_predictor(model.encoder, model.options)
    known = Known(model.genes_, model.perturbable_, graph, model.control_mean_, "the model")
    predictor.restore(known, *model.predictor_.state())
    return predictor


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ON_GRAPH)
def test_the_same_weights_say_something_else_along_another_graph(fitted, kg, name, training):
    """Of every condition: in training and in evaluation."""
    model, found = fitted(name), []
    for graph in (kg, kg, kg.rewire(0), None):
        predictor = along(model, graph)
        batch = predictor.inputs(
            ["G000", "G003+G007", "G009"], torch.ones(3), torch.from_numpy(model.control_mean_).float()
        )
        predictor.network.train(training)
        torch.manual_seed(0)  # of dropout
        output = predictor.network(batch)
        found.append((output[0] if isinstance(output, tuple) else output).detach().numpy())
    true, again, rewired, none = found
    np.testing.assert_array_equal(true, again)
    for other in (rewired, none):
        assert (np.abs(true - other).max(1) > 1e-5).all()


def test_several_graphs_matter_each_apart(fitted, kg):
    """The weights of Exphormer along graphs of as many relations: the same, rewired, and one edge more."""
    model, wanted = fitted("txpert_exphormer"), ["G000", "G003+G007", "G009"]
    start = Start(model.control_mean_)
    more = pd.DataFrame({"source": ["G020"], "target": ["G030"]})
    other = kg | load_table(more, source="source", target="target", relation="regulates", origin="mine")
    true, again, *others = (along(model, g).predict(wanted, start).change for g in (kg, kg, kg.rewire(0), other))
    np.testing.assert_array_equal(true, again)
    for found in others:
        assert (np.abs(true - found).max(1) > 1e-6).all()


def test_the_closed_form_says_something_else_along_another_graph(fitted):
    model, wanted = fitted("kg"), ["G000", "G003+G007", "G009"]
    own = model.predictor_.graph(model.kg)
    start = Start(model.control_mean_)
    true, again, rewired = (along(model, graph).predict(wanted, start) for graph in (own, own, own.rewire(0)))
    np.testing.assert_array_equal(true.change, again.change)
    assert (np.abs(true.change - rewired.change).max(1) > 1e-5).all()
    assert (np.abs(true.variance - rewired.variance).max(1) > 1e-8).all()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_what_a_neighbour_in_the_perturbation_graph_is_reaches_the_prediction_of_gears(fitted, training):
    """The predictions of G000 and G011 move with the vectors of their neighbours and of none else."""
    predictor = along(fitted("gears"), fitted("gears").kg)
    network, nodes = predictor.network.train(training), predictor.nodes
    source, target = network.encoder.perturbation_graph.edge_index.numpy()
    own = nodes.get_indexer(["G000", "G011"])
    near = np.setdiff1d(source[np.isin(target, own)], own)
    far = np.setdiff1d(np.arange(len(nodes)), [*near, *own])
    assert len(near)
    assert len(far)
    state = torch.from_numpy(fitted("gears").control_mean_).float()
    batch = predictor.inputs(["G000", "G011"], torch.full((2,), 5.0), state)
    embedding = network.encoder.perturbation_embedding

    @torch.no_grad()
    def moved(number):
        before = network(batch)[0]
        embedding[number] *= -1
        after = network(batch)[0]
        embedding[number] *= -1
        return float((after - before).abs().max())

    assert min(map(moved, near[:4])) > 1e-5
    assert max(map(moved, far[:4])) < 1e-6


@pytest.mark.parametrize("name", TRAINED)
def test_networks_look_at_the_perturbation_while_they_train(fitted, name):
    model = fitted(name)
    predictor = along(model, model.kg)
    batch = predictor.inputs(
        ["G000", "G003", "G009+G002"], torch.ones(3), torch.from_numpy(model.control_mean_).float()
    )
    network = predictor.network.train()
    first, second = (network(part) for part in (batch, batch._replace(nodes=batch.nodes.roll(1))))
    first, second = (part[0] if isinstance(part, tuple) else part for part in (first, second))
    assert (first - second).abs().amax(1).min() > 1e-6


@pytest.mark.parametrize("name", ["transformer", "cpa"])
def test_models_without_a_graph_do_not_look_at_one(fitted, kg, name):
    other = along(fitted(name), kg.rewire(0)).predict(["G000", "G007"], Start(fitted(name).control_mean_))
    np.testing.assert_array_equal(other.change, delta(fitted(name), ["G000", "G007"]))


def test_strengths_matter_to_the_closed_form_when_fitting(fitted, screen, parts, kg):
    half, named = (
        PerturbationModel(kg, strength=strength).fit(screen, parts).predict(parts["test"]).X
        for strength in (-0.5, dict.fromkeys(screen.var_names, -0.5))
    )
    assert np.abs(half - fitted("kg").predict(parts["test"]).X).max() > 1e-4
    np.testing.assert_array_equal(half, named)


def test_changes_start_from_the_control_cells_that_are_given(fitted, screen):
    other = screen[screen.obs["condition"] == "control"][:5].copy()
    here, there = (fitted("mean").predict("G001", control_cells=cells) for cells in (None, other))
    np.testing.assert_allclose(there.layers["delta"], here.layers["delta"], atol=1e-6)
    np.testing.assert_allclose(there.X - there.layers["delta"], other.X.toarray().mean(0)[None], atol=1e-5)


def test_strength_matters_to_the_closed_form_when_predicting(fitted, kg):
    model = fitted("kg")
    strong = delta(model, ["G003", "G002+G006"])
    predictor = along(model, model.predictor_.graph(kg))
    predictor.strength = {"G003": -0.5}
    weak = predictor.predict(["G003", "G002+G006"], Start(model.control_mean_)).change
    assert np.abs(weak[0] - strong[0]).max() > 1e-3
    np.testing.assert_allclose(weak[1], strong[1], rtol=1e-5, atol=1e-6)


def test_the_state_matters_to_the_closed_form(fitted, screen):
    model, wanted = fitted("kg"), ["G000", "G003"]
    controls = screen[screen.obs["condition"] == "control"].copy()
    same = model.predict(wanted, control_cells=controls)
    np.testing.assert_allclose(same.layers["delta"], delta(model, wanted), rtol=1e-3, atol=1e-4)
    controls.X = controls.X * 0.5
    other = model.predict(wanted, control_cells=controls)
    assert (np.abs(other.layers["delta"] - same.layers["delta"]).max(1) > 1e-3).all()


# one's own


MODULE = """
from pathlib import Path
from tests.models.own import OwnMean

Path("imported").touch()

class Mine(OwnMean):
    pass

ready = Mine(scale=2.0)
"""


@pytest.mark.parametrize("how", ["class", "instance", "string of a class", "string of an instance"])
def test_a_predictor_of_one_s_own(screen, parts, kg, module, tmp_path, how):
    module("my_predictor", MODULE)
    encoder = {
        "class": OwnMean,
        "instance": OwnMean(scale=2.0),
        "string of a class": "my_predictor:Mine",
        "string of an instance": "my_predictor:ready",
    }[how]
    options = {} if "instance" in how else {"scale": 2.0}
    model = PerturbationModel(kg, encoder=encoder, **options)
    assert (model.by_epochs, model.uses_graph) == (False, True)
    model.fit(screen, parts)
    read = read_screen(screen)
    changes = read.mean(parts["train"]) - read.control_mean
    expected = np.maximum(2 * changes.loc[["G000", "G000+G004"]].mean(), -read.control_mean)
    general = np.maximum(2 * changes.mean(), -read.control_mean)
    np.testing.assert_allclose(delta(model, "G000")[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(delta(model, "G011")[0], general, rtol=1e-4, atol=1e-5)
    assert model.history_ == [pytest.approx(np.square(changes.to_numpy()).mean())]
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m", encoder=encoder)
    np.testing.assert_array_equal(again.predict(parts["test"]).X, model.predict(parts["test"]).X)
    assert (again.history_, again.conditions_, again.kg) == (model.history_, model.conditions_, kg)


def test_nothing_that_a_folder_names_is_imported(screen, module, tmp_path):
    module("my_predictor", MODULE)
    PerturbationModel(encoder="my_predictor:Mine").fit(screen).save(tmp_path / "m")
    import sys

    del sys.modules["my_predictor"]
    (tmp_path / "imported").unlink()
    with pytest.raises(InputError, match=r"was saved with my_predictor:Mine, which is not kgnn's; give it as encoder="):
        load_model(tmp_path / "m")
    assert not (tmp_path / "imported").exists()
    assert "my_predictor" not in sys.modules
    load_model(tmp_path / "m", encoder="my_predictor:Mine")
    assert (tmp_path / "imported").exists()


def test_a_class_is_named_by_its_module(screen, tmp_path):
    PerturbationModel(encoder=OwnMean(scale=3.0)).fit(screen).save(tmp_path / "m")
    with pytest.raises(InputError, match=r"was saved with tests.models.own:OwnMean"):
        load_model(tmp_path / "m")


def test_an_instance_stays_as_it_is(screen, parts):
    own = OwnMean(scale=2.0)
    model = PerturbationModel(encoder=own).fit(screen, parts)
    assert vars(own) == {"scale": 2.0}
    first = delta(model, parts["test"])
    np.testing.assert_array_equal(delta(model.fit(screen, parts), parts["test"]), first)


def test_options_of_its_own_fit_are_handed_on(screen, parts):
    plain, more = (PerturbationModel(encoder=OwnMean).fit(screen, parts, **o) for o in ({}, {"more": 0.5}))
    np.testing.assert_allclose(delta(more, "G000"), delta(plain, "G000") + 0.5, rtol=1e-5)
    with pytest.raises(InputError, match=r"fit of 'tests.models.own:OwnMean' has no option 'mor'; .*; it takes more"):
        PerturbationModel(encoder=OwnMean).fit(screen, parts, mor=0.5)


class Unfinished(Predictor):
    def fit(self, data, *, seed=0):
        pass


@pytest.mark.parametrize("encoder", [Unfinished, Predictor])
def test_a_class_that_lacks_methods_is_refused(encoder):
    with pytest.raises(InputError, match=r"predict.*restore.*state"):
        PerturbationModel(encoder=encoder)


@pytest.mark.parametrize(
    ("encoder", "options", "match"),
    [
        (OwnMean, {"scal": 1}, "encoder 'tests.models.own:OwnMean' has no option 'scal'; did you mean scale"),
        (OwnMean(), {"scale": 1}, "an encoder that is made already has no option 'scale'; it takes none"),
    ],
)
def test_options_that_it_does_not_have_are_refused(encoder, options, match):
    with pytest.raises(InputError, match=match):
        PerturbationModel(encoder=encoder, **options)


class Says(OwnMean):
    """`make(change)` in place of its prediction."""

    def __init__(self, *, make):
        super().__init__()
        self.make = make

    def predict(self, conditions, start):
        return self.make(super().predict(conditions, start).change)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: Changes(x.T),
        lambda x: Changes(x[0]),
        lambda x: Changes(x[:-1]),
        lambda x: Changes(x, x[:, 0]),
        lambda x: x,
        lambda x: None,
    ],
    ids=["transposed", "one row", "a row missing", "variance of another shape", "an array", "nothing"],
)
def test_another_shape_is_refused_with_the_one_that_is_expected(screen, parts, make):
    with pytest.raises(InputError, match=r"\[conditions, genes\]"):
        PerturbationModel(encoder=Says, make=make).fit(screen, parts).predict(parts["test"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda x, value: Changes(x * value),
        lambda x, value: Changes(x, x * value),
    ],
    ids=["change", "variance"],
)
def test_changes_and_variances_that_are_not_finite_are_refused(screen, parts, make, value):
    model = PerturbationModel(encoder=Says, make=lambda x: make(x, value))
    with pytest.raises(InputError, match="NaN, infinite"):
        model.fit(screen, parts).predict(parts["test"])


# what a fit leaves behind


@pytest.mark.parametrize("name", ["kg", "cpa", "mean", OwnMean])
def test_a_split_that_names_a_condition_without_cells_is_refused(screen, parts, name):
    for part in ("train", "val")[: 1 + (name == "cpa")]:
        with pytest.raises(InputError, match="no cell of the condition 'TP53' in the data"):
            PerturbationModel(encoder=name).fit(screen, parts | {part: [*parts[part], "TP53"]})


def bad_cells(screen):
    cells = screen.copy()
    cells.X[0, 0] = np.nan
    return cells


@pytest.mark.parametrize("name", ["kg", "mean", OwnMean, Own])
def test_a_fit_that_fails_leaves_the_model_as_it_was(screen, parts, name):
    options = QUICK if name is Own else {}
    model = PerturbationModel(encoder=name).fit(screen, parts, **options)
    before, kept = model.predict(parts["test"], n_cells=2), dict(vars(model))
    fewer = screen[:, 1:].copy()
    wrong = {"bad cells": (bad_cells(fewer), parts), "nothing to train on": (fewer, parts | {"train": []})}
    for cells, fold in wrong.values():
        with pytest.raises(InputError):
            model.fit(cells, fold, **options)
        assert vars(model) == kept
        np.testing.assert_array_equal(model.predict(parts["test"], n_cells=2).X, before.X)


def test_a_prediction_that_is_no_number_ends_the_fit(screen, parts):
    model = PerturbationModel(encoder=Says, make=lambda x: Changes(x))
    model.fit(screen, parts)
    before = model.predict("G000").X
    model._blank.make = model.options["make"] = lambda x: Changes(x * np.nan)
    with pytest.raises(InputError, match="NaN"):
        model.fit(screen[:, 1:].copy(), parts)
    np.testing.assert_array_equal(model.predict("G000").X, before)
    assert len(model.genes_) == screen.n_vars


def test_a_second_fit_forgets_the_first(screen, parts, kg):
    fewer, options = screen[:, 3:].copy(), {"encoder": "cpa", "channels": 8}
    twice = PerturbationModel(kg, **options).fit(screen, parts, **QUICK).fit(fewer, parts, **QUICK)
    once = PerturbationModel(kg, **options).fit(fewer, parts, **QUICK)
    np.testing.assert_array_equal(twice.predict(parts["test"], n_cells=2).X, once.predict(parts["test"], n_cells=2).X)
    assert list(twice.genes_) == list(once.genes_)
    assert twice.history_ == once.history_


@pytest.mark.parametrize("name", ["txpert", "cpa", Own])
def test_training_that_diverges_is_refused(screen, parts, kg, name):
    model = PerturbationModel(kg, encoder=name, channels=4)
    with pytest.raises(InputError, match=r"training diverged.*lower learning_rate="):
        model.fit(screen, parts, **QUICK | {"max_epochs": 1, "learning_rate": 1e12})


@pytest.mark.parametrize("name", ["kg", "cpa", OwnMean])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s[s.obs["condition"].isin(["control", "G000"])].copy(), "one training condition only .'G000'.; at"),
        (lambda s: s[:, ["G007"]].copy(), "one gene only is measured .'G007'."),
        (lambda s: s[:, :0].copy(), "^no gene; give at least two"),
        (lambda s: (setattr(s, "X", s.X * 0), s)[1], "X is zero everywhere"),
        (bad_cells, "X holds NaN or infinite values, first for gene 'G000'"),
    ],
    ids=["one condition", "one gene", "no gene", "zeros", "NaN"],
)
def test_a_screen_from_which_nothing_can_be_learned_is_refused(screen, name, change, match):
    with pytest.raises(InputError, match=match):
        PerturbationModel(encoder=name).fit(change(screen))


# options


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("gears", {"learning_rat": 1}, "no option 'learning_rat'; did you mean learning_rate"),
        ("gears", {"batchsize": 8}, "no option 'batchsize'; did you mean batch_size"),
        ("gears", {"acelerator": "cpu"}, "fit has no option 'acelerator'; did you mean accelerator"),
        ("kg", {"batch_size": 8}, "fit of 'kg' has no option 'batch_size'"),
        ("mean", {"learning_rate": 1}, "fit of 'mean' has no option 'learning_rate'"),
        ("mean", {"max_epochs": 0}, "max_epochs = 0; it must be a whole number of 1 or more"),
        ("gears", {"devices": 0}, "lightning.pytorch.Trainer:.*devices"),
        ("gears", {"max_epochs": 2.5}, "max_epochs"),
        ("gears", {"max_epochs": "2"}, "max_epochs"),
        ("gears", {"batch_size": "8"}, "batch_size"),
        ("gears", {"learning_rate": "fast"}, "learning_rate"),
    ],
)
def test_options_of_fit_that_cannot_be_are_refused_before_any_training(screen, name, options, match):
    model = PerturbationModel(encoder=name)
    with pytest.raises(InputError, match=match):
        model.fit(screen, **{"accelerator": "cpu"} | options if name == "gears" else options)


def test_a_patience_of_0_is_said_without_the_batch_size(screen):
    with pytest.raises(InputError, match=r"^patience = 0; it must be a whole number of 1 or more"):
        PerturbationModel(encoder="gears").fit(screen, patience=0)


def test_models_that_are_solved_take_max_epochs_and_need_none(screen, fitted, parts, kg):
    model = PerturbationModel(kg).fit(screen, parts, max_epochs=3)
    np.testing.assert_array_equal(delta(model, parts["test"]), delta(fitted("kg"), parts["test"]))


@pytest.mark.parametrize(
    ("encoder", "options", "match"),
    [
        ("gears", {"strength": -1}, "encoder 'gears' has no option 'strength'.*it takes channels, uncertainty"),
        ("cpa", {"uncertainty": True}, "encoder 'cpa' has no option 'uncertainty'.*it takes channels"),
        ("gearz", {}, "unknown encoder 'gearz'; did you mean gears.; choose kg, gears"),
        ("GEARS", {}, "unknown encoder 'GEARS'; did you mean gears"),
        ("kg", {"strength": {"G001": -1.0, "G002": float("nan")}}, "strength nan of G002"),
        ("kg", {"strength": "strong"}, "strength"),
    ],
)
def test_options_of_another_encoder_and_odd_strengths_are_refused(encoder, options, match):
    with pytest.raises(InputError, match=match):
        PerturbationModel(None, encoder=encoder, **options)


def test_strengths_by_hand():
    assert (read_strength(0), read_strength({"A": 2, "B": -1})) == (0.0, {"A": 2.0, "B": -1.0})
    assert strengths_of(["A", "B", "A"], {"A": 0.5}).tolist() == [0.5, -1.0, 0.5]
    assert strengths_of(["A", "B"], 3.0).tolist() == [3.0, 3.0]
    assert strengths_of([], -1.0).shape == (0,)


# the rest of the facade


def test_only_one_predictor_explains(fitted):
    for name in PREDICTORS:
        if name != "kg":
            with pytest.raises(InputError, match="explain needs a fitted model of encoder='kg'"):
                fitted(name).explain("G000")
    assert isinstance(fitted("kg").explain("G000"), pd.DataFrame)


def test_warnings_of_genes_without_neighbours_come_from_graphs_alone(screen, parts, kg):
    without = kg.subset([gene for gene in kg.nodes("gene").index if gene != "G000"])
    for name in ("mean", "composition_ridge", OwnMean):
        PerturbationModel(without, encoder=name).fit(screen, parts).predict("G000")  # a DataWarning is an error here
