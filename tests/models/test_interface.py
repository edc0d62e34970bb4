"""The one interface: every predictor uses the perturbation, and the graph where it takes one; encoders of one's own."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import kgnn
from kgnn import KnowledgeGraph, PerturbationModel, load_model
from kgnn.data import split, training_cells
from kgnn.errors import InputError
from kgnn.graph import load_coexpression, load_table
from kgnn.models import PREDICTORS, Changes, Predictor, make_model
from kgnn.models.perturbation.predictor import read_strength

QUICK = {"max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu"}
ALONG_A_GRAPH = [name for name, kind in PREDICTORS.items() if kind.uses_graph and name not in ("cpa", "transformer")]
PERTURBED = [name for name in PREDICTORS if name not in ("no_change", "mean")]


@pytest.fixture(scope="module")
def parts(_screen):
    return split(_screen, "simulation", seed=1)


@pytest.fixture(scope="module")
def graph(_screen, parts):
    true = load_table(_screen.uns["network"], relation="regulates", origin="truth")
    return true | load_coexpression(training_cells(_screen, parts))


@pytest.fixture(scope="module")
def fitted(_screen, parts, graph):
    """Every model of the table, fitted on the same."""
    found = {}
    for name, kind in PREDICTORS.items():
        options = {} if not kind.by_epochs else QUICK
        found[name] = make_model(name, graph).fit(_screen, parts, seed=0, **options)
    return found


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_saved_model_predicts_the_same(fitted, parts, tmp_path, name):
    model = fitted[name]
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    wanted = [*parts["test"], "control"]
    assert type(again.predictor_) is PREDICTORS[name]
    expected, found = model.predict(wanted), again.predict(wanted)
    assert (expected.X == found.X).all()
    assert list(again.history_) == list(model.history_)
    assert again.conditions_ == model.conditions_
    for layer in expected.layers:
        assert (expected.layers[layer] == found.layers[layer]).all()


@pytest.mark.parametrize("name", PERTURBED)
def test_every_model_looks_at_the_perturbation(fitted, parts, name):
    """Different genes, different predictions; a double is not its single."""
    change = fitted[name].predict(parts["train"]).layers["delta"]
    if name == "linear":  # a row of the principal components a gene: genes that are measured alike are alike
        assert np.abs(change - change[0]).max() > 1e-6
        return
    apart = np.abs(change[:, None] - change[None]).max(2)
    assert (apart[~np.eye(len(change), dtype=bool)] > 1e-6).all()


@pytest.mark.parametrize("name", [name for name, kind in PREDICTORS.items() if kind.by_epochs])
def test_networks_look_at_the_perturbation_while_they_train_too(fitted, parts, name):
    predictor = fitted[name].predictor_
    names, state = parts["train"][:5], torch.from_numpy(fitted[name].control_mean_).float()
    batch = predictor.inputs(names, torch.ones(5), state)
    turned = batch._replace(nodes=batch.nodes.roll(1))
    before = {key: value.clone() for key, value in predictor.network.state_dict().items()}
    predictor.network.train()
    found = [predictor.network(part) for part in (batch, turned)]
    predictor.network.eval()
    predictor.network.load_state_dict(before)
    first, second = (part[0] if isinstance(part, tuple) else part for part in found)
    assert float((first - second).abs().max()) > 1e-6


@pytest.mark.parametrize("name", ALONG_A_GRAPH)
def test_graph_models_look_at_the_graph(screen, parts, graph, fitted, name):
    """Another graph, another prediction, also of conditions that were seen; the same weights, other edges: likewise."""
    options = QUICK if PREDICTORS[name].by_epochs else {}
    other = make_model(name, graph.rewire(seed=0)).fit(screen, parts, seed=0, **options)
    for wanted in (parts["test"], parts["train"]):
        assert np.abs(fitted[name].predict(wanted).X - other.predict(wanted).X).max() > 1e-6
    if PREDICTORS[name].by_epochs:
        other.network_.load_state_dict(fitted[name].network_.state_dict())
        assert np.abs(fitted[name].predict(parts["test"]).X - other.predict(parts["test"]).X).max() > 1e-7


@pytest.mark.parametrize("name", ["transformer", "cpa"])
def test_models_without_a_graph_do_not(screen, parts, graph, fitted, name):
    other = make_model(name, graph.rewire(seed=0)).fit(screen, parts, seed=0, **QUICK)
    assert (fitted[name].predict(parts["test"]).X == other.predict(parts["test"]).X).all()


def test_the_kernel_of_the_default_model_takes_strengths(screen, parts, graph):
    wanted = parts["test"]
    full, half = (PerturbationModel(graph, strength=s).fit(screen, parts).predict(wanted).X for s in (-1.0, -0.5))
    named = PerturbationModel(graph, strength=dict.fromkeys(screen.var_names, -0.5)).fit(screen, parts)
    assert np.abs(full - half).max() > 1e-4
    assert (half == named.predict(wanted).X).all()


def test_strengths_are_checked():
    assert read_strength({"A": np.float32(0.5), "B": -1}) == {"A": 0.5, "B": -1.0}
    for wrong in (99, -1.5, float("nan"), float("inf"), {"A": 1.0, "B": 11}):
        with pytest.raises(InputError, match="give −1 for a knock-out"):
            read_strength(wrong)
    with pytest.raises(InputError, match="strength 11 of B"):
        read_strength({"A": 1.0, "B": 11})
    assert (read_strength(-1), read_strength(10)) == (-1.0, 10.0)


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("kg", {"channels": 4}, "encoder 'kg' has no option 'channels'; it takes strength"),
        ("gears", {"strength": 1.0}, "encoder 'gears' has no option 'strength'"),
        ("gears", {"chanels": 4}, "did you mean channels?"),
        ("mean", {"uncertainty": True}, "it takes none"),
        (nn.ReLU(), {"channels": 4}, "made already has no option 'channels'"),
        (dict, {}, "neither a Predictor nor a torch.nn.Module"),
    ],
)
def test_options_of_another_encoder_are_refused(encoder, options, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        PerturbationModel(None, encoder=encoder, **options)


class Probe(nn.Module):
    """Keeps what it is given; the change is a learned number a gene times the summed strength."""

    seen: list = []  # noqa: RUF012 (of the class: the module itself is copied)

    def __init__(self, graph=None, *, start=0.5, n_genes=40):
        super().__init__()
        self.size = nn.Parameter(torch.full((n_genes,), float(start)))
        self.dropout = nn.Dropout(0.1)

    def forward(self, batch):
        Probe.seen.append(batch)
        summed = torch.zeros(len(batch.counts)).index_add(0, batch.condition, batch.strengths)
        return summed.unsqueeze(1) * self.dropout(self.size)


@pytest.fixture
def typed(network):
    """The network with signs, a second node type, and gene features that some genes lack."""
    member = KnowledgeGraph(
        {"gene": ["G000", "G001", "G002"], "complex": ["X", "Y"]},
        {
            ("gene", "member_of", "complex"): pd.DataFrame(
                {"source": ["G001", "G002", "G002"], "target": ["X", "X", "Y"]}
            )
        },
    )
    signed = load_table(pd.DataFrame({"source": ["G000"], "target": ["G005"], "sign": [-1], "weight": [2.0]}),
                        weight="weight", sign="sign", relation="acts")  # fmt: skip
    vectors = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["G001", "G003"])
    return (network | member | signed).with_features("v", vectors)


def test_an_encoder_of_ones_own_sees_conditions_state_and_the_typed_graph(screen, parts, typed):
    Probe.seen.clear()
    model = PerturbationModel(typed, encoder=Probe, strength={"G001": 0.5}, start=1.0).fit(screen, parts, **QUICK)
    Probe.seen.clear()
    model.predict(["G001+G002", "control", "G003"])
    (batch,) = Probe.seen
    nodes = model.perturbable_
    assert nodes[batch.nodes.numpy()].tolist() == ["G001", "G002", "G003"]
    assert batch.strengths.tolist() == [0.5, -1.0, -1.0]
    assert batch.offsets.tolist() == [0, 2, 2, 3]
    assert batch.condition.tolist() == [0, 0, 2]
    assert batch.counts.tolist() == [1, 1, 1]
    control = screen[screen.obs["condition"] == "control"].X.toarray().mean(axis=0)
    np.testing.assert_allclose(batch.state, np.tile(control, (3, 1)), atol=1e-6)
    graph = batch.graph
    assert nodes[graph.measured.numpy()].tolist() == list(screen.var_names)
    assert graph.n_nodes == {"gene": len(nodes), "complex": 2}
    assert graph.nodes["complex"] == ["X", "Y"]
    assert set(graph.adjacencies) == set(typed.relations)
    for relation, adjacency in graph.adjacencies.items():
        dense = kgnn.ops.spmm(adjacency, torch.eye(adjacency.shape[1])).numpy()
        edges = typed.edges(relation)
        sources = nodes if relation[0] == "gene" else pd.Index(graph.nodes[relation[0]])
        targets = nodes if relation[2] == "gene" else pd.Index(graph.nodes[relation[2]])
        expected = np.zeros((len(targets), len(sources)), np.float32)
        for row in edges.itertuples():
            sign = -1 if row.sign < 0 else 1
            expected[targets.get_loc(row.target), sources.get_loc(row.source)] = row.weight * sign
        np.testing.assert_array_equal(dense, expected)
    features = graph.features["gene"]["v"]
    assert features[nodes.get_loc("G003")].tolist() == [2.0, 4.0]
    assert features[nodes.get_loc("G002")].isnan().all()


def test_the_same_graph_as_pyg(screen, parts, typed):
    Probe.seen.clear()
    PerturbationModel(typed, encoder=Probe).fit(screen, parts, **QUICK)
    data, expected = Probe.seen[0].hetero, typed.to_hetero()
    assert data is Probe.seen[1].hetero, "made once"
    assert data.validate()
    assert set(data.edge_types) == set(expected.edge_types)
    for relation in expected.edge_types:
        ours, theirs = (
            {
                (graph.node_names[relation[0]][a], graph.node_names[relation[2]][b]): (float(w), int(s))
                for a, b, w, s in zip(
                    *graph[relation].edge_index.tolist(),
                    graph[relation].edge_weight,
                    graph[relation].edge_sign,
                    strict=True,
                )
            }
            for graph in (data, expected)
        )
        assert ours.keys() == theirs.keys()
        assert all(ours[pair][0] == theirs[pair][0] for pair in theirs)
        assert all(ours[pair][1] == -1 for pair in theirs if theirs[pair][1] == -1)
    row = data.node_names["gene"].index("G003")
    assert data["gene"].x[row].tolist() == [2.0, 4.0]
    assert data["gene"].v.isfinite().all()


def test_by_class_by_instance_and_by_import_string(screen, parts, network, tmp_path, monkeypatch):
    instance = Probe(start=0.5)
    (tmp_path / "probe_of_ones_own.py").write_text("from tests.models.test_interface import Probe as Mine\n")
    monkeypatch.chdir(tmp_path)
    models = [
        PerturbationModel(network, encoder=encoder).fit(screen, parts, seed=0, **QUICK)
        for encoder in (Probe, instance, instance, "probe_of_ones_own:Mine")
    ]
    predictions = [model.predict(parts["test"]).X for model in models]
    assert all((prediction == predictions[0]).all() for prediction in predictions)
    assert (instance.size == 0.5).all(), "the given one is copied"
    assert not (models[0].network_.size == 0.5).any()
    models[3].save(tmp_path / "m")
    again = load_model(tmp_path / "m", encoder="probe_of_ones_own:Mine")
    assert (predictions[0] == again.predict(parts["test"]).X).all()


def test_a_folder_imports_nothing(screen, parts, network, tmp_path, monkeypatch):
    PerturbationModel(network, encoder=Probe).fit(screen, parts, **QUICK).save(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    (tmp_path / "trap_of_a_stranger.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nMine = None\n")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"encoder": "trap_of_a_stranger:Mine"}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"was saved with trap_of_a_stranger:Mine.*give it as encoder="):
        load_model(tmp_path / "m")
    assert "trap_of_a_stranger" not in sys.modules
    assert not (tmp_path / "sprung").exists()


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.weight, self.make = nn.Parameter(torch.zeros(())), make

    def forward(self, batch):
        return self.make(torch.zeros(len(batch.counts), 40) + self.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.T,
        lambda x: x[:1],
        lambda x: x.sum(),
        lambda x: None,
        lambda x: (x, x, x),
        lambda x: (x, x[:, :3]),
        lambda x: "x",
        lambda x: (None, x),
    ],
)
def test_outputs_of_another_shape_are_refused(screen, parts, make):
    with pytest.raises(InputError, match=r"Returns.forward returned .*\[conditions, genes\] = \[\d+, 40\]"):
        PerturbationModel(None, encoder=Returns(make)).fit(screen, parts, **QUICK)


def test_a_log_variance_becomes_an_uncertainty(screen, parts):
    model = PerturbationModel(None, encoder=Returns(lambda x: (x, x.detach() + 2.0))).fit(screen, parts, **QUICK)
    prediction = model.predict(parts["test"])
    expected = np.exp(2.0 + float(model.network_.weight.detach()))
    np.testing.assert_allclose(prediction.layers["uncertainty"], expected, rtol=1e-5)


def test_a_network_that_predicts_nan_is_refused(screen, parts):
    with pytest.raises(InputError, match="NaN"):
        PerturbationModel(None, encoder=Returns(lambda x: x * torch.nan)).fit(screen, parts, **QUICK)


class Halved(Predictor):
    """Half of the mean change, less what the state of a held-out line says."""

    def __init__(self, *, factor=0.5):
        self.factor = factor

    def fit(self, data, *, seed=0, noise=0.0):
        mean = data.screen.mean(data.conditions).to_numpy().mean(0)
        self.change = mean - data.screen.control_mean + noise * np.random.default_rng(seed).normal(size=len(mean))

    def predict(self, conditions, start):
        return Changes(np.stack([self.factor * self.change * (name != "") for name in conditions]))

    def state(self):
        return {"made": "by hand"}, {"change": self.change}

    def restore(self, known, config, arrays):
        assert config == {"made": "by hand"}
        assert len(known.genes) == len(known.control_mean)
        self.change = arrays["change"]


def test_a_predictor_of_ones_own(screen, parts, tmp_path):
    model = PerturbationModel(None, encoder=Halved, factor=0.25).fit(screen, parts, noise=0.0)
    mean = make_model("mean").fit(screen, parts).predict(parts["test"]).layers["delta"]
    np.testing.assert_allclose(model.predict(parts["test"]).layers["delta"], mean / 4, atol=1e-6)
    model.save(tmp_path / "m")
    again = PerturbationModel.load(tmp_path / "m", encoder=Halved)
    assert (again.predict(parts["test"]).X == model.predict(parts["test"]).X).all()
    with pytest.raises(InputError, match=r"fit of '.*:Halved' has no option 'nois'; did you mean noise\?"):
        model.fit(screen, parts, nois=1.0)
    by_instance = PerturbationModel(None, encoder=Halved(factor=0.25)).fit(screen, parts)
    assert (by_instance.predict(parts["test"]).X == model.predict(parts["test"]).X).all()
    with pytest.raises(InputError, match="explain needs a fitted model of encoder='kg'"):
        by_instance.explain(parts["test"][0])


def test_where_changes_start_from_is_the_control_cells(screen, parts):
    """The mean of other control cells takes the place of the training's, for every model alike."""
    other = screen[screen.obs["condition"] == "control"][:5].copy()
    model = make_model("mean").fit(screen, parts)
    here, there = model.predict("G001"), model.predict("G001", control_cells=other)
    np.testing.assert_allclose(there.layers["delta"], here.layers["delta"], atol=1e-6)
    np.testing.assert_allclose(there.X - there.layers["delta"], other.X.toarray().mean(0)[None], atol=1e-5)
