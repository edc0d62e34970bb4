"""A network of one's own as the encoder: how it is made, what it is given, what it may return."""

import copy
import functools
import operator
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import Callback
from torch import nn

from kgnn import PerturbationModel, graph
from kgnn.data import effects, read_screen, simulate, split, training_batches
from kgnn.data.differential import top_de_genes
from kgnn.errors import DataWarning, InputError
from kgnn.models import load_model
from kgnn.models.perturbation.predictor import Start
from tests.models.own import QUICK, SMALL, TRAINED, Own, Sum, same_weights, weights_of

REGULATES, COEXPRESSED, IS_A = (
    ("gene", "regulates", "gene"),
    ("gene", "coexpressed", "gene"),
    ("cell_type", "is_a", "cell_type"),
)


@pytest.fixture
def parts(_screen):
    return split(_screen, "simulation", seed=1)


# how it is made


def test_by_class_with_its_options(screen, network, parts, tmp_path):
    model = PerturbationModel(network, encoder=Own, channels=3).fit(screen, parts, **QUICK)
    assert type(model.network_) is Own
    assert model.network_.vectors.weight.shape == (40, 3)
    assert not model.network_.training
    assert len(model.history_) == 2
    model.save(tmp_path / "m")
    for encoder in (Own, "tests.models.own:Own"):
        again = load_model(tmp_path / "m", encoder=encoder)
        assert again.network_.vectors.weight.shape == (40, 3)
        np.testing.assert_array_equal(again.predict(parts["test"]).X, model.predict(parts["test"]).X)
    with pytest.raises(InputError, match="made already has no option 'channels'"):
        load_model(tmp_path / "m", encoder=Sum(40, 40, 3))


class Shapeless(nn.Module):
    """Takes no graph."""

    def __init__(self):
        super().__init__()


class Needy(nn.Module):
    def __init__(self, graph, width):
        super().__init__()


@pytest.mark.parametrize(
    ("encoder", "options", "match"),
    [
        (
            Own,
            {"chanels": 3},
            "Own has no option 'chanels'; did you mean channels.; it takes channels, dropout",
        ),
        (Own, {"uncertainty": True}, "encoder Own has no option 'uncertainty'"),
        (Own, {"graph": None}, "encoder Own has no option 'graph'"),
        (Own, {"strength": 99}, "strength 99"),
        (Sum(40, 40), {"channels": 3}, "an encoder that is made already has no option 'channels'"),
        (Shapeless, {}, "Shapeless cannot be called as it must be"),
        (Needy, {}, "Needy cannot be called as it must be: missing a required argument: 'width'"),
        (3, {}, "encoder 3 is neither a Predictor nor a torch.nn.Module"),
        (None, {}, "encoder None is neither"),
        (dict, {}, "is neither a Predictor nor"),
        (lambda graph: Own(graph), {}, "is neither a Predictor nor"),
        ("torch.nn:functional", {}, "is neither a Predictor nor"),
        ("torch.nn:Fun", {}, "'torch.nn:Fun' cannot be imported"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused_before_any_data(encoder, options, match):
    with pytest.raises(InputError, match=match):
        PerturbationModel(None, encoder=encoder, **options)


def test_by_instance_of_which_every_fit_takes_a_copy(screen, parts, tmp_path):
    own = Sum(40, 40)
    before = copy.deepcopy(own.state_dict())
    model = PerturbationModel(encoder=own)
    first = model.fit(screen, parts, **QUICK).predict(parts["test"]).X
    assert same_weights(before, own.state_dict())
    assert not same_weights(before, weights_of(model))
    np.testing.assert_array_equal(model.fit(screen, parts, **QUICK).predict(parts["test"]).X, first)
    assert model.network_ is not own
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m", encoder=own).predict(parts["test"]).X, first)
    assert same_weights(before, own.state_dict())
    with pytest.raises(InputError, match="weights and configuration do not fit"):
        load_model(tmp_path / "m", encoder=Sum(39, 40))


NETWORK = """
from tests.models.own import Own

class Net(Own):
    pass
"""


def test_by_import_string_from_the_working_folder(screen, parts, module, tmp_path):
    module("my_network", NETWORK)
    model = PerturbationModel(encoder="my_network:Net", channels=3).fit(screen, parts, **QUICK)
    assert type(model.network_).__name__ == "Net"
    expected = PerturbationModel(encoder=Own, channels=3).fit(screen, parts, **QUICK)
    assert same_weights(weights_of(model), weights_of(expected))
    model.save(tmp_path / "m")
    assert '"my_network:Net"' in (tmp_path / "m/config.json").read_text()
    again = load_model(tmp_path / "m", encoder="my_network:Net")
    np.testing.assert_array_equal(again.predict(parts["test"]).X, model.predict(parts["test"]).X)


def test_the_seed_makes_the_first_weights(screen, parts):
    models = [PerturbationModel(encoder=Own).fit(screen, parts, seed=seed, **QUICK) for seed in (0, 0, 1)]
    first, second, other = map(weights_of, models)
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_options_that_cannot_be_written_are_told_when_saving(screen, tmp_path):
    class Odd(Own):
        def __init__(self, graph, *, activation):
            super().__init__(graph)

    model = PerturbationModel(encoder=Odd, activation=nn.ReLU()).fit(screen, **QUICK)
    with pytest.raises(InputError, match="ReLU"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


# what it is given


class Probe(Own):
    """Notes every batch."""

    seen: list = []  # noqa: RUF012

    def forward(self, batch):
        self.seen.append((self.training, batch))
        return super().forward(batch)


@pytest.fixture
def seen():
    Probe.seen.clear()
    return Probe.seen


@pytest.fixture
def told(small_kg):
    """`small_kg` with features of some genes and of one cell type."""
    of_genes = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], index=["C", "A"])
    of_types = pd.DataFrame([[5.0]], index=["CL:1"])
    return small_kg.with_features("told", of_genes).with_features("size", of_types, "cell_type")


@pytest.fixture
def cells():
    """Genes C, A, X are measured; D is in the graph alone, E perturbed alone."""
    labels = ["ctrl"] * 3 + ["A"] * 2 + ["A+D"] * 2 + ["E+C"]
    x = np.random.default_rng(0).random((8, 3)).astype(np.float32)
    return AnnData(
        x, obs=pd.DataFrame({"condition": labels}, index=map(str, range(8))), var=pd.DataFrame(index=[*"CAX"])
    )


NODES = ["A", "B", "C", "D", "E", "X"]


@pytest.fixture
def batch(told, cells, seen):
    """What the network is given to predict ctrl, A, D+A and E."""
    with pytest.warns(DataWarning, match="'E'.* neither measured nor in the graph"):
        model = PerturbationModel(told, encoder=Probe, strength={"A": -0.5, "D": 2.0}).fit(cells, **QUICK)
    seen.clear()
    model.predict(["ctrl", "A", "D+A", "E"])
    ((training, batch),) = seen
    assert not training
    return batch


def test_conditions_are_numbers_of_nodes_one_after_the_other(batch):
    assert batch.graph.nodes["gene"] == NODES
    assert batch.nodes.tolist() == [0, 0, 3, 4]
    assert batch.offsets.tolist() == [0, 0, 1, 3, 4]
    assert batch.condition.tolist() == [1, 2, 2, 3]
    assert batch.strengths.tolist() == [-0.5, -0.5, 2.0, -1.0]
    assert len(batch.counts) == 4


def test_the_state_is_the_mean_control_cell(batch, cells):
    mean = cells.X[:3].mean(axis=0)
    np.testing.assert_allclose(batch.state, np.tile(mean, (4, 1)), rtol=1e-6)


def test_the_state_is_that_of_other_control_cells_where_they_are_given(told, cells, seen):
    model = PerturbationModel(told, encoder=Probe).fit(cells[:-1], **QUICK)
    seen.clear()
    others = AnnData(np.arange(8, dtype=np.float32).reshape(2, 4) / 8, var=pd.DataFrame(index=[*"XCBA"]))
    prediction = model.predict(["A", "D"], control_cells=others)
    mean = others.X.mean(axis=0)[[1, 3, 0]]
    np.testing.assert_allclose(seen[0][1].state, [mean, mean], rtol=1e-6)
    np.testing.assert_allclose(prediction.X - prediction.layers["delta"], [mean, mean], rtol=1e-5, atol=1e-6)


def test_the_graph_is_the_whole_one_with_its_signs(batch, told):
    graph = batch.graph
    assert graph.relations == told.relations
    assert graph.n_nodes == {"gene": 6, "cell_type": 2}
    assert graph.nodes["cell_type"] == ["CL:0", "CL:1"]
    assert graph.measured.tolist() == [2, 0, 5]
    assert graph.n_genes == 3
    genes, types = told.nodes("gene").index, told.nodes("cell_type").index
    for relation, adjacency in graph.adjacencies.items():
        rows = genes if relation[0] == "gene" else types
        names = NODES if relation[0] == "gene" else list(types)
        weight = pd.DataFrame(told.to_scipy(relation).toarray(), rows, rows)
        signed = pd.DataFrame(told.to_scipy(relation, signed=True).toarray(), rows, rows)
        expected = weight.where(signed >= 0, -weight).T.reindex(index=names, columns=names, fill_value=0)
        found = torch.zeros(adjacency.shape)
        source, target = adjacency.edge_index
        found[target, source] = adjacency.edge_weight
        np.testing.assert_array_equal(found, expected)
        assert (expected.to_numpy() < 0).any() == (relation == REGULATES)


def test_features_are_nan_where_a_node_has_none(batch):
    features = batch.graph.features
    none = [np.nan, np.nan]
    np.testing.assert_array_equal(features["gene"]["told"], [[3, 4], none, [1, 2], none, none, none])
    np.testing.assert_array_equal(features["cell_type"]["size"], [[np.nan], [5]])
    assert {kind: list(found) for kind, found in features.items()} == {"gene": ["told"], "cell_type": ["size"]}


def edges_of(hetero, relation, *attributes):
    names, (source, target) = hetero.node_names, hetero[relation].edge_index.tolist()
    columns = [[names[relation[0]][i] for i in source], [names[relation[2]][i] for i in target]]
    return sorted(zip(*columns, *(hetero[relation][name].tolist() for name in attributes), strict=True))


def test_the_hetero_data_is_that_of_the_graph(batch, told):
    found, expected = batch.hetero, told.to_hetero()
    assert found.validate(raise_on_error=True)
    assert found.edge_types == expected.edge_types
    for relation in expected.edge_types:
        assert edges_of(found, relation, "edge_weight") == edges_of(expected, relation, "edge_weight")
    for kind, name in (("gene", "told"), ("gene", "x"), ("cell_type", "size"), ("cell_type", "x")):
        of = [dict(zip(data.node_names[kind], data[kind][name].tolist(), strict=True)) for data in (found, expected)]
        assert {node: row for node, row in of[0].items() if node in of[1]} == of[1]
        assert all(not any(row) for node, row in of[0].items() if node not in of[1])


def test_the_hetero_data_has_the_signs_of_the_graph(batch, told):
    """Unknown signs are 0, as in `KnowledgeGraph.to_hetero`."""
    for relation in told.relations:
        assert edges_of(batch.hetero, relation, "edge_sign") == edges_of(told.to_hetero(), relation, "edge_sign")


def test_without_a_graph_there_are_its_genes_alone(cells, seen):
    PerturbationModel(encoder=Probe).fit(cells, **QUICK)
    graph = seen[0][1].graph
    assert (graph.relations, graph.adjacencies, graph.features) == ([], {}, {})
    assert graph.nodes == {"gene": ["A", "C", "D", "E", "X"]}
    assert seen[0][1].hetero.validate(raise_on_error=True)


def test_training_batches_tell_conditions_counts_and_the_state(screen, network, parts, seen):
    PerturbationModel(network, encoder=Probe).fit(screen, parts, seed=3, **QUICK)
    read, nodes = read_screen(screen), sorted(screen.var_names)
    in_training = [batch for training, batch in seen if training]
    loader = training_batches(read, parts["train"], QUICK["batch_size"], seed=3)
    drawn = [batch for _ in range(QUICK["max_epochs"]) for batch in loader]
    assert len(in_training) == len(drawn)
    for found, expected in zip(in_training, drawn, strict=True):
        genes = [[] if not name else name.split("+") for name in expected.conditions]
        assert [nodes[n] for n in found.nodes] == functools.reduce(operator.iadd, genes, [])
        assert found.offsets.diff().tolist() == [len(names) for names in genes]
        assert found.counts.tolist() == torch.bincount(expected.condition).tolist()
        assert found.strengths.tolist() == [-1.0] * len(found.nodes)
        np.testing.assert_allclose(found.state, np.tile(read.control_mean, (len(genes), 1)), rtol=1e-6)
    in_validation = [batch for training, batch in seen[:-1] if not training]
    assert len(in_validation) == QUICK["max_epochs"]
    expected = functools.reduce(operator.iadd, (name.split("+") for name in parts["val"]), [])
    assert [[nodes[n] for n in batch.nodes] for batch in in_validation] == [expected] * len(in_validation)


def effects_of(screen, missing=0.0, kind="change"):
    """Mean change of each condition, [conditions, genes], of which some are missing."""
    table = read_screen(screen).changes(read_screen(screen).conditions)
    table = (table > 0.1).astype(float) if kind == "binary" else table
    return table.mask(np.random.default_rng(0).random(table.shape) < missing)


def test_missing_effects_teach_nothing(screen):
    table = effects_of(screen, missing=0.3)
    start = Sum(40, 40)
    everything = {"batch_size": 1000, "max_epochs": 1, "optimizer": "sgd", "weight_decay": 0.0, "learning_rate": 10.0}
    model = PerturbationModel(encoder=start).fit(effects(table), **QUICK | everything)
    literal = copy.deepcopy(start)
    genes = sorted(screen.var_names)
    error = 0.0
    for name, row in table.iterrows():
        vectors = literal.vectors.weight[[genes.index(gene) for gene in name.split("+")]]
        apart = literal.out(-vectors.sum(0)) - torch.tensor(row.to_numpy(), dtype=torch.float32)
        error = error + apart[~apart.isnan()].square().sum() / 40
    (error / (len(table) + 1)).backward()  # control is a row of zeros
    for found, before in zip(model.network_.parameters(), literal.parameters(), strict=True):
        step = before.grad.clamp(-1, 1)  # as training clips
        assert (step.abs() > 1e-4).any()
        torch.testing.assert_close(found, before - 10 * step, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ["presage", "txpert", "gears"])
def test_small_effects_are_not_shrunk_to_one_answer_for_all(encoder):
    rng = np.random.default_rng(0)
    names = [f"g{number}" for number in range(60)]
    group, other = np.arange(60) % 2, np.arange(60) // 2 % 3
    told = [(name, f"a{of}") for name, of in zip(names, group, strict=True)]
    told += [(name, f"b{of}") for name, of in zip(names, other, strict=True)]
    alike = np.argwhere((rng.random((60, 60)) < 0.3) & (group == group[:, None]) & ~np.eye(60, dtype=bool))
    alike = [(names[a], names[b]) for a, b in alike]
    kg = graph.load_table(pd.DataFrame(told, columns=["source", "target"]), relation="in_family", target_type="family")
    kg = kg | graph.load_table(pd.DataFrame(alike, columns=["source", "target"]), relation="interacts")
    way = rng.normal(size=60)
    y = pd.DataFrame(0.02 * np.outer(2 * group - 1, way), names, names)
    model = PerturbationModel(kg, encoder=encoder)
    more = {"max_epochs": 150, "learning_rate": 0.003, "schedule": "constant"}
    model.fit(effects(y[12:]), **QUICK | more)
    found = model.predict(names[:12]).layers["delta"] @ way / (way @ way)
    assert found[group[:12] == 1].min() - found[group[:12] == 0].max() > 0.01


@pytest.mark.parametrize("validated", [False, True])
def test_batch_norms_hold_the_statistics_of_the_trained_network(screen, network, parts, validated):
    """TxPert's, of one batch an epoch, by hand."""
    model = PerturbationModel(network, encoder="txpert", channels=4)
    model.fit(screen, parts if validated else None, **QUICK | {"batch_size": 10_000})
    predictor = model.predictor_
    cells = screen.obs["condition"].value_counts()
    names = list(parts["train"] if validated else model.conditions_)
    counts = torch.from_numpy(cells[["control", *names]].to_numpy()).float()
    with torch.no_grad():
        given = predictor.inputs(["", *names], counts, torch.from_numpy(model.controls_.mean).float())
        z = predictor.network.encoder()
        latent = torch.stack(
            [z[given.nodes[a:b]].sum(0) for a, b in zip(given.offsets, given.offsets[1:], strict=False)]
        )
        x = predictor.network.hidden(latent + predictor.network.basal(given.state)).double().numpy()
    norm = predictor.network.norm
    np.testing.assert_allclose(norm.running_mean, np.average(x, axis=0, weights=counts), rtol=1e-3, atol=1e-5)
    variance = np.cov(x.T, fweights=counts.int()).diagonal()
    np.testing.assert_allclose(norm.running_var, variance, rtol=1e-3, atol=1e-8)
    if validated:  # the score of the epoch that was kept is that of its predictions
        told = read_screen(screen)
        top = top_de_genes(told, parts["val"])
        found = predictor.predict(parts["val"], Start(model.controls_.mean)).change
        error = found - told.changes(parts["val"]).to_numpy()
        score = np.mean([np.square(row[top[name]]).mean() for name, row in zip(parts["val"], error, strict=True)])
        assert min(model.history_) == pytest.approx(score, rel=1e-4)


class Frozen(Own):
    """With a batch norm whose statistics are given."""

    def __init__(self, graph):
        super().__init__(graph)
        self.norm = nn.BatchNorm1d(graph.n_genes)
        self.norm.running_mean.fill_(5.0), self.norm.running_var.fill_(9.0)
        self.norm.eval().requires_grad_(False)

    def forward(self, batch):
        return self.norm(super().forward(batch))


@pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode")
@pytest.mark.parametrize("validated", [False, True])
def test_a_batch_norm_that_is_frozen_stays_as_it_is(screen, network, parts, validated):
    model = PerturbationModel(network, encoder=Frozen)
    model.fit(screen, parts if validated else None, conditions_per_batch=None if validated else 1, **QUICK)
    assert set(model.network_.norm.running_mean.tolist()) == {5.0}
    assert set(model.network_.norm.running_var.tolist()) == {9.0}
    assert model.network_.norm.momentum == 0.1


def test_batch_norms_are_settled_on_batches_that_hold_perturbations():
    """Where most cells are controls GEARS' norms of shifts see next to none in most batches."""
    many = simulate(
        n_genes=20, n_regulators=10, n_singles=6, n_pairs=0, cells_per_condition=10, n_controls=2000, seed=3
    )
    network = graph.load_table(many.uns["network"], relation="regulates")
    model = PerturbationModel(network, encoder="gears", channels=8).fit(many, **QUICK)
    told = read_screen(many).changes(model.conditions_).to_numpy()
    error = np.square(model.predict(model.conditions_).layers["delta"] - told).mean()
    assert error < 1.5 * np.square(told).mean()


def test_settling_batch_norms_leaves_random_numbers_and_modes_as_they_were(screen, network, parts):
    before, after = [], []

    class Note(Callback):
        def on_validation_start(self, trainer, pl_module):  # comes before the module's own
            before.append((torch.get_rng_state(), [part.training for part in pl_module.modules()]))

        def on_validation_batch_start(self, trainer, pl_module, *_):
            after.append((torch.get_rng_state(), [part.training for part in pl_module.modules()]))

    PerturbationModel(network, encoder="txpert", channels=4).fit(screen, parts, callbacks=[Note()], **QUICK)
    assert len(before) == len(after) == 2
    for (state, modes), (state_after, modes_after) in zip(before, after, strict=True):
        assert torch.equal(state, state_after)
        assert modes == modes_after


@pytest.mark.parametrize("encoder", TRAINED)
@pytest.mark.parametrize("kind", ["change", "binary"])
def test_encoders_learn_from_effects(screen, network, encoder, kind, tmp_path):
    answers = effects(effects_of(screen, 0.2, kind), kind=kind)
    parts = split(answers, "random_condition", seed=0)
    options = QUICK | {"max_epochs": 2}
    model = PerturbationModel(network, encoder=encoder, **SMALL[encoder]).fit(answers, parts, **options)
    assert np.isfinite(model.history_).all()
    found = model.predict(parts["test"])
    assert list(found.obs_names) == parts["test"]
    if kind == "binary":
        assert ((found.X >= 0) & (found.X <= 1)).all()
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m").predict(parts["test"]).X, found.X)


def test_a_loss_is_told_that_effects_are_expressed_and_nothing_of_what_is_missing(screen, network):
    table = -effects_of(screen, missing=0.3).abs()
    told = []

    def loss(predicted, observed, batch):
        told.append((predicted, observed, batch))
        return (batch.log_variance + (predicted - observed).square() * (-batch.log_variance).exp()).mean()

    model = PerturbationModel(network, encoder="gears", uncertainty=True, channels=8)
    model.fit(effects(table), **QUICK | {"max_epochs": 1, "batch_size": 1000, "loss": loss})
    ((predicted, observed, batch),) = told
    assert batch.expressed.all()
    missing = (predicted == observed) & (batch.log_variance == 0)
    assert missing.sum() == table.isna().sum().sum()


def test_the_strength_reaches_the_prediction(screen, parts):
    torch.manual_seed(0)  # of weights that leave no prediction below zero, where it would be cut
    own = Sum(40, 40)
    knocked_out, halved, raised = (
        PerturbationModel(encoder=own, strength=strength).fit(screen, parts, **QUICK | {"learning_rate": 0.0})
        for strength in (-1.0, {"G000": -0.5}, 2.0)
    )
    out, half, up = (model.predict(["G000", "G002"]).layers["delta"] for model in (knocked_out, halved, raised))
    np.testing.assert_allclose(half, out * [[0.5], [1]], rtol=1e-5)
    np.testing.assert_allclose(up, -2 * out, rtol=1e-5)


def test_strengths_are_saved(screen, parts, tmp_path):
    model = PerturbationModel(encoder=Own, strength={"G000": -0.25}).fit(screen, parts, **QUICK)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m", encoder=Own)
    np.testing.assert_array_equal(again.predict("G000").X, model.predict("G000").X)
    assert again.options == {"strength": {"G000": -0.25}}


# what it may return


class Returns(Own):
    """`make(change)` in place of the change."""

    def __init__(self, graph, make):
        super().__init__(graph)
        self.make = make

    def forward(self, batch):
        return self.make(super().forward(batch))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: x.T, r"\[40, \d+\]"),
        (lambda x: x[:, :-1], r"\[\d+, 39\]"),
        (lambda x: x[:-1], r"\[\d+, 40\]"),
        (lambda x: x.sum(), r"\[\]"),
        (lambda x: x[0], r"\[40\]"),
        (lambda x: x[None], r"\[1, \d+, 40\]"),
        (lambda x: None, ""),
        (lambda x: "change", "str"),
        (lambda x: x.detach().numpy(), "ndarray"),
        (lambda x: (x, x, x), r"\[\d+, 40\] and \[\d+, 40\] and \[\d+, 40\]"),
        (lambda x: (x,), r"\[\d+, 40\]"),
        (lambda x: (x, x.mean(1)), r"\[\d+, 40\] and \[\d+\]"),
        (lambda x: (None, x), ""),
    ],
)
def test_another_shape_is_refused_with_the_one_that_is_expected(screen, make, said):
    message = rf"Returns.forward returned {said}.*\[conditions, genes\] = \[\d+, 40\]"
    with pytest.raises(InputError, match=message):
        PerturbationModel(encoder=Returns, make=make).fit(screen, **QUICK)


def test_training_conditions_much_worse_than_their_mean_are_told(screen, parts):
    def fit(off):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            PerturbationModel(encoder=Returns, make=lambda x: 0 * x + off).fit(screen, parts, **QUICK)
        return [str(one.message) for one in caught if "squared error" in str(one.message)]

    conditions = screen.obs["condition"].astype(str).to_numpy()
    of = [*parts["train"], "control"]
    means = np.stack([np.asarray(screen.X[conditions == name].mean(axis=0)).ravel() for name in of])
    changes = means[:-1] - means[-1]
    of_mean = np.square(changes - changes.mean(axis=0)).sum()
    least = np.sqrt(10 * of_mean / changes.size)  # that far off, on the average, is ten times the mean's error
    assert not fit(0.8 * least)
    (said,) = fit(3.0)
    ratio = np.square(changes - 3.0).sum() / of_mean
    assert f"on {len(changes)} training conditions is {ratio:.3g} times that of their mean" in said


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_log_variance_becomes_the_uncertainty(screen, parts, kind):
    logs = torch.linspace(-2, 2, 40)
    model = PerturbationModel(encoder=Returns, make=lambda x: kind([x, logs.expand_as(x)])).fit(screen, parts, **QUICK)
    found = model.predict(["G000", "G001+G002"]).layers["uncertainty"]
    np.testing.assert_allclose(found, np.tile(np.exp(np.linspace(-2, 2, 40)), (2, 1)), rtol=1e-5)
    assert model.predict("G000", n_cells=3).layers["uncertainty"].shape == (3, 40)


def test_a_pair_without_a_log_variance_has_no_uncertainty(screen, parts):
    model = PerturbationModel(encoder=Returns, make=lambda x: (x, None)).fit(screen, parts, **QUICK)
    assert "uncertainty" not in model.predict("G000").layers


@pytest.mark.parametrize("value", [float("nan"), 1000.0])
def test_a_variance_that_is_not_finite_is_refused(screen, value):
    model = PerturbationModel(encoder=Returns, make=lambda x: (x, torch.full_like(x, value)))
    with pytest.raises(InputError, match="NaN, infinite"):
        model.fit(screen, **QUICK).predict("G000")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e9])
def test_a_network_that_predicts_no_number_is_refused_by_gene_and_condition(screen, wrong):
    """In training all is well: its fifth gene is wrong in evaluation, wherever G002 is perturbed."""

    class Late(Own):
        def forward(self, batch):
            change = super().forward(batch)
            if not self.training:
                change = change.clone()
                change[batch.condition[batch.nodes == 2], 4] = wrong
            return change

    with pytest.raises(InputError, match=r"predicted changes are NaN, infinite.*'G004' under 'G002\+G003'"):
        PerturbationModel(encoder=Late).fit(screen, {"train": ["G000", "G002+G003", "G002"], "test": []}, **QUICK)


def test_an_unseen_condition_without_a_number_is_refused_in_predict(screen):
    class Unseen(Own):
        def forward(self, batch):
            return super().forward(batch) / (batch.offsets.diff() < 3).unsqueeze(1)

    model = PerturbationModel(encoder=Unseen).fit(screen, **QUICK)
    model.predict("G000+G001")
    with pytest.raises(InputError, match=r"40 of 80 predicted changes .*'G000' under 'G000\+G001\+G002'"):
        model.predict(["G000", "G000+G001+G002"])
