"""Models by name, class, instance and import string, in every table that takes one; what they may return."""

import importlib
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from torch import nn

from kgnn import PerturbationModel, benchmark, controls
from kgnn.data import merge_validation, simulate, split
from kgnn.errors import DataWarning, InputError
from kgnn.evaluation.headline import POINTS
from kgnn.graph import load_table
from kgnn.metrics import evaluate
from kgnn.models import Changes, Predictor, make_model
from kgnn.models.factory import OwnModel

SCORES = ["pearson_delta", "mse"]
QUICK = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def screen():
    return simulate(n_genes=30, n_regulators=12, n_singles=7, n_pairs=5, cells_per_condition=8, n_controls=16, seed=3)


@pytest.fixture(scope="module")
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture(scope="module")
def kg(screen):
    return load_table(screen.uns["network"], relation="regulates", origin="truth")


class Mine:
    """A whole model without a graph: control mean + the mean change, times `scale`."""

    def __init__(self, scale=1.0):
        self.scale, self.fits = scale, 0

    def fit(self, adata, split):
        condition = adata.obs["condition"].astype(str)
        x = adata.to_df().groupby(condition).mean()
        self.control = x.loc["control"].to_numpy()
        train = sorted(set(condition) - {"control"}) if split is None else split["train"]
        self.change = (x.loc[train] - self.control).mean().to_numpy()
        self.fits += 1

    def predict(self, conditions):
        return np.tile(self.control + self.scale * self.change, (len(conditions), 1))


class Graphic(Mine):
    """One with a graph: a gene moves by 0.01 for each edge that leads to it."""

    def __init__(self, kg=None, *, scale=1.0):
        super().__init__(scale)
        self.kg = kg

    def fit(self, adata, split, *, seed=0):
        super().fit(adata, split)
        self.seed = seed
        edges = [] if self.kg is None else list(self.kg.edges(("gene", "regulates", "gene"))["target"])
        self.change = self.change + 0.01 * np.array([edges.count(gene) for gene in adata.var_names])


class Free(Graphic):
    """One whose constructor takes whatever it is given."""

    def __init__(self, kg=None, **options):
        super().__init__(kg, scale=options.pop("scale", 1.0))
        self.rest = options


class Zero(Predictor):
    """No change, or always the same."""

    def __init__(self, *, change=0.0):
        self.change = change

    def fit(self, data, *, seed=0):
        self.n_genes = len(data.screen.genes)

    def predict(self, conditions, start):
        return Changes(np.full((len(conditions), self.n_genes), self.change))

    def state(self):
        return {}, {}

    def restore(self, known, config, arrays):
        self.n_genes = len(known.genes)


class Network(nn.Module):
    def __init__(self, graph, *, start=0.0):
        super().__init__()
        self.size = nn.Parameter(torch.full((graph.n_genes,), float(start)))

    def forward(self, batch):
        return self.size.expand(len(batch.counts), -1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a module that is forgotten afterwards."""
    (tmp_path / "my_factory_models.py").write_text(
        "import numpy as np\n"
        "class Constant:\n"
        "    def __init__(self, *, level=1.0):\n"
        "        self.level = level\n"
        "    def fit(self, adata, split):\n"
        "        self.n_genes = adata.n_vars\n"
        "    def predict(self, conditions):\n"
        "        return self.level * (1 + np.tile(np.arange(self.n_genes), (len(conditions), 1)))\n"
        "made = Constant(level=0.2)\n"
        "number = 5\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("my_factory_models", None)


# how a model is named


def test_by_name(kg, screen, parts):
    for name in ("kg", "gears", "mean"):
        model = make_model(name, kg)
        assert type(model) is PerturbationModel
        assert model.encoder == name
        assert model.kg is kg
    assert (make_model("gears").by_epochs, make_model("kg").by_epochs) == (True, False)
    assert (make_model("kg").uses_graph, make_model("mean").uses_graph) == (True, False)
    change = make_model("no_change").fit(screen, parts).predict(parts["test"]).layers["delta"]
    assert (change == 0).all()


def test_a_predictor_by_class_and_by_instance(screen, parts):
    given = Zero(change=0.25)
    for model in (make_model(Zero, change=0.25), make_model(given), make_model(f"{__name__}:Zero", change=0.25)):
        assert type(model) is PerturbationModel
        assert (model.fit(screen, parts).predict(parts["test"]).layers["delta"] == 0.25).all()
    assert not hasattr(given, "n_genes"), "the given one is copied"
    with pytest.raises(InputError, match="has no option 'chang'; did you mean change"):
        make_model(Zero, chang=1.0)
    with pytest.raises(InputError, match="made already has no option 'change'"):
        make_model(given, change=1.0)


def test_a_network_by_class(kg, screen, parts):
    model = make_model(Network, kg, start=0.5)
    assert type(model) is PerturbationModel
    assert model.by_epochs
    model.fit(screen, parts, learning_rate=0.0, weight_decay=0.0, **QUICK)
    np.testing.assert_allclose(model.predict(parts["test"]).layers["delta"], 0.5)
    with pytest.raises(InputError, match="encoder Network has no option 'stat'; did you mean start"):
        make_model(Network, kg, stat=1.0)


def test_a_whole_model_without_a_graph(kg, screen, parts):
    model = make_model(Mine, kg, scale=2.0)
    assert type(model) is OwnModel
    assert (model.uses_graph, model.by_epochs, model.model.scale) == (False, True, 2.0)
    assert model.fit(screen, parts) is model
    prediction = model.predict(parts["test"])
    assert prediction.obs["condition"].tolist() == parts["test"]
    assert list(prediction.var_names) == list(screen.var_names)
    mean = make_model("mean").fit(screen, parts).predict(parts["test"])
    np.testing.assert_allclose(
        prediction.X, mean.X + mean.layers["delta"], atol=1e-5, err_msg="control + twice the mean change"
    )


def test_a_whole_model_with_a_graph_gets_it(kg, screen, parts):
    model, without = make_model(Graphic, kg), make_model(Graphic)
    assert model.uses_graph
    assert model.model.kg is kg
    assert without.model.kg is None
    found, plain = (m.fit(screen, parts, seed=7).predict("G001").X[0] for m in (model, without))
    counts = kg.edges(("gene", "regulates", "gene"))["target"].value_counts().reindex(screen.var_names).fillna(0)
    np.testing.assert_allclose(found - plain, 0.01 * counts, atol=1e-6)
    assert model.model.seed == 7


def test_a_whole_model_that_takes_any_option(kg):
    model = make_model(Free, kg, scale=3.0, colour="red", group_key="line")
    assert model.uses_graph
    assert (model.model.kg, model.model.scale) == (kg, 3.0)
    assert model.model.rest == {"colour": "red", "group_key": "line"}


def test_options_that_a_whole_model_lacks_are_refused_but_names_of_columns_are_not():
    with pytest.raises(InputError, match=r"model Mine has no option 'scal'; did you mean scale\?"):
        make_model(Mine, scal=1.0)
    model = make_model(Mine, condition_key="perturbation", control="ctrl", group_key="line")
    assert model.model.scale == 1.0
    with pytest.raises(InputError, match=r"made already \(Mine\) has no option 'scale'"):
        make_model(Mine(), scale=1.0)
    make_model(Mine(), condition_key="perturbation")


def test_options_of_its_fit_are_handed_on_and_others_refused(screen, parts):
    with pytest.raises(InputError, match="fit of Graphic has no option 'sede'; did you mean seed"):
        make_model(Graphic).fit(screen, parts, sede=1)
    model = make_model(Mine).fit(screen, parts, seed=1)  # a seed that it does not take is left out
    assert model.model.fits == 1


def test_an_instance_is_copied_and_stays_as_it_was(kg, screen, parts):
    given = Graphic(scale=2.0)
    model = make_model(given, kg).fit(screen, parts)
    assert model.uses_graph
    assert model.model is not given
    assert (given.kg, given.fits) == (None, 0)
    assert not hasattr(given, "change")
    expected = make_model(Graphic, kg, scale=2.0).fit(screen, parts).predict("G001").X
    assert (expected == model.predict("G001").X).all()
    plain = Mine()
    assert not make_model(plain, kg).uses_graph
    assert not hasattr(plain, "kg")


def test_by_import_string(folder, screen, parts):
    model = make_model("my_factory_models:Constant", level=2.0).fit(screen, parts)
    expected = np.tile(2.0 * np.arange(1, screen.n_vars + 1), (2, 1))
    assert (expected == model.predict(parts["test"][:2]).X).all()
    made = make_model("my_factory_models:made").fit(screen, parts)
    np.testing.assert_allclose(made.predict(parts["test"][:2]).X, 0.1 * expected, rtol=1e-6)
    assert not hasattr(sys.modules["my_factory_models"].made, "n_genes"), "the given one is copied"


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ("gearz", r"unknown model 'gearz'; did you mean gears\?"),
        ("my_factory_models:Nothing", "has no attribute 'Nothing'; write package.module:Name"),
        ("no_module_so_called:Mine", "No module named 'no_module_so_called'"),
        ("my_factory_models:number", "5 is no model"),
        (dict, "is no model: it needs fit"),
        (None, "None is no model"),
        (3, "3 is no model"),
    ],
    ids=str,
)
def test_what_is_no_model_is_refused(folder, model, match):
    with pytest.raises(InputError, match=match):
        make_model(model)


def test_a_class_that_needs_more_than_it_is_given_is_refused(kg):
    class Needs(Mine):
        def __init__(self, number):
            super().__init__()

    class Odd(Mine):
        def fit(self, adata):
            pass

    with pytest.raises(InputError, match="Needs cannot be called as it must be: missing a required argument: 'number'"):
        make_model(Needs, kg)
    with pytest.raises(InputError, match="cannot be called as it must be: too many positional"):
        make_model(Odd, kg).fit(AnnData(np.zeros((2, 2))), None)


# what it returns


class Returns:
    def __init__(self, make):
        self.make = make

    def fit(self, adata, split):
        self.genes = list(adata.var_names)

    def predict(self, conditions):
        return self.make(np.arange(float(len(conditions) * len(self.genes))).reshape(len(conditions), -1), self)


def returned(screen, make, wanted=("G001", "G002+G003")):
    return make_model(Returns(make)).fit(screen, None).predict(list(wanted))


def as_adata(x, model, **obs):
    return AnnData(x, obs=pd.DataFrame(obs, index=["x", "y"]), var=pd.DataFrame(index=model.genes))


@pytest.mark.parametrize(
    "make",
    [
        lambda x, model: x,
        lambda x, model: x.tolist(),
        lambda x, model: torch.from_numpy(x),
        lambda x, model: pd.DataFrame(x, index=["G001", "G002+G003"], columns=model.genes),
        lambda x, model: as_adata(x, model),
        lambda x, model: as_adata(x, model, condition=["G001", "G002+G003"]),
    ],
    ids=["array", "list", "tensor", "frame", "adata", "adata with conditions"],
)
def test_results_become_the_same_table(screen, make):
    found = returned(screen, make)
    assert isinstance(found, AnnData)
    assert found.obs["condition"].tolist() == ["G001", "G002+G003"]
    assert list(found.var_names) == list(screen.var_names)
    assert np.asarray(found.X).tolist() == np.arange(60.0).reshape(2, 30).tolist()


def test_a_frame_in_another_order_is_put_in_order(screen):
    """Rows by condition and columns by gene, where their names are those asked for."""
    found = returned(
        screen, lambda x, model: pd.DataFrame(x, index=["G001", "G002+G003"], columns=model.genes).iloc[::-1, ::-1]
    )
    assert np.asarray(found.X).tolist() == np.arange(60.0).reshape(2, 30).tolist()


def test_conditions_of_an_anndata_are_its_own(screen):
    given = {}

    def make(x, model):
        given["adata"] = as_adata(x, model)
        return given["adata"]

    assert returned(screen, make).obs["condition"].tolist() == ["G001", "G002+G003"]
    assert "condition" not in given["adata"].obs, "what was given is not changed"
    turned = returned(screen, lambda x, model: as_adata(x, model, condition=["G002+G003", "G001"]))
    assert turned.obs["condition"].tolist() == ["G002+G003", "G001"]
    cells = returned(
        screen,
        lambda x, m: AnnData(
            np.tile(x, (2, 1)), obs=pd.DataFrame(index=["a", "b", "c", "d"]), var=pd.DataFrame(index=m.genes)
        ),
    )
    assert cells.obs["condition"].tolist() == ["a", "b", "c", "d"], "without them the names of the rows"


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda x, model: x.T, r"\(30, 2\)"),
        (lambda x, model: x[:1], r"\(1, 30\)"),
        (lambda x, model: x[:, :-1], r"\(2, 29\)"),
        (lambda x, model: x[0], r"\(30,\)"),
        (lambda x, model: x.sum(), r"\(\)"),
    ],
)
def test_another_shape_is_refused(screen, make, shape):
    with pytest.raises(InputError, match=f"predict returned the shape {shape}; expression of 2 conditions × 30 genes"):
        returned(screen, make)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_place(screen, value):
    def make(x, model):
        x[1, 4] = value
        return x

    with pytest.raises(InputError, match=r"1 of 60 .* first that of 'G004' under 'G002\+G003'"):
        returned(screen, make)


# in controls and benchmarks


@pytest.fixture(scope="module")
def files(screen, kg, tmp_path_factory):
    """The screen and its graph on disk."""
    folder = tmp_path_factory.mktemp("files")
    written = screen.copy()
    del written.varm["true_delta"]
    written.write_h5ad(folder / "sim.h5ad")
    kg.save(folder / "kg")
    return folder


def by_hand(model, screen, parts, **fit):
    return evaluate(model.fit(screen, parts, **fit).predict(parts["test"]), screen, parts, exclude_targets=True)


def test_ablate_with_a_model_that_takes_a_graph(kg, screen, parts):
    scores = controls.ablate(kg, screen, parts, model=Graphic, kinds=["true", "none"], seeds=[0], processes=2)
    assert list(scores["variant"].unique()) == ["true graph", "no graph"]
    for variant, graph in (("true graph", kg), ("no graph", None)):
        expected = by_hand(make_model(Graphic, graph), screen, parts, seed=0)
        found = scores[scores["variant"] == variant].set_index("condition")
        assert sorted(found.index) == sorted(parts["test"])
        np.testing.assert_allclose(found[SCORES], expected.loc[found.index, SCORES], rtol=1e-6)
    first, second = (scores[scores["variant"] == name]["mse"].to_numpy() for name in scores["variant"].unique())
    assert (first != second).all()


@pytest.mark.parametrize("model", [Mine, Mine(), f"{__name__}:Mine"], ids=["class", "instance", "string"])
def test_ablate_warns_where_a_model_takes_no_graph(kg, screen, parts, model):
    with pytest.warns(DataWarning, match=r"the model .*:Mine takes no graph .* all variants will be the same"):
        scores = controls.ablate(kg, screen, parts, model=model, kinds=["true", "none"], seeds=[0], processes=2)
    true, none = (
        scores[scores["variant"] == name].set_index("condition")[SCORES] for name in scores["variant"].unique()
    )
    pd.testing.assert_frame_equal(true, none)
    np.testing.assert_allclose(true, by_hand(make_model(Mine), screen, parts).loc[true.index, SCORES], rtol=1e-6)


def config(files, *models):
    return {
        "seeds": [0],
        "datasets": [
            {"name": "sim", "path": str(files / "sim.h5ad"), "graph": str(files / "kg"), "coexpression": False}
        ],
        "splits": [{"kind": "simulation"}],
        "models": list(models),
    }


def test_a_benchmark_with_models_of_ones_own(files, tmp_path, screen, kg):
    models = [
        {"name": "mine", "type": Mine, "options": {"scale": 0.5}},
        {"name": "graph", "type": Graphic},
        {"name": "no graph", "type": Graphic(), "graph": "none"},
        {"name": "zero", "type": Zero, "options": {"change": 0.1}},
    ]
    scores = benchmark.run_benchmark(config(files, *models), tmp_path / "out", processes=2)
    adata = anndata.read_h5ad(files / "sim.h5ad")
    parts = split(adata, "simulation", seed=0)
    for name, model, fitting in (
        ("mine", make_model(Mine, scale=0.5), parts),
        ("graph", make_model(Graphic, kg), parts),
        ("no graph", make_model(Graphic), parts),
        ("zero", make_model(Zero, change=0.1), merge_validation(parts)),
    ):
        found = scores[scores["model"] == name].set_index("condition")
        assert sorted(found.index) == sorted(parts["test"])
        prediction = model.fit(adata, fitting).predict(parts["test"])
        expected = evaluate(prediction, adata, parts, exclude_targets=True)
        np.testing.assert_allclose(found[SCORES], expected.loc[found.index, SCORES], rtol=1e-5, atol=1e-7)
    written = anndata.read_h5ad(tmp_path / "out/runs/sim/simulation-seed0/mine/predictions.h5ad")
    assert written.obs["condition"].tolist() == parts["test"]


@pytest.mark.filterwarnings("ignore:predicted means are:kgnn.errors.DataWarning")  # a constant, as they are
@pytest.mark.parametrize("workers", ["new", "from another folder"])
def test_a_benchmark_file_with_an_import_string(files, folder, monkeypatch, workers):
    get_reusable_executor().shutdown(wait=True)
    if workers != "new":
        monkeypatch.chdir(files)
        Parallel(n_jobs=2)(delayed(abs)(number) for number in (1, 2))
        monkeypatch.chdir(folder)
    (folder / "bench.toml").write_text(
        f"""
        seeds = [0]
        [[datasets]]
        name = "sim"
        path = "{files / "sim.h5ad"}"
        coexpression = false
        [[splits]]
        kind = "simulation"
        [[models]]
        type = "my_factory_models:Constant"
        options = {{level = 0.1}}
        [[models]]
        name = "made"
        type = "my_factory_models:made"
        """
    )
    scores = benchmark.run_benchmark(folder / "bench.toml", folder / "out", processes=2)
    assert set(scores["model"]) == {"my_factory_models:Constant", "made", *POINTS}
    adata = anndata.read_h5ad(files / "sim.h5ad")
    parts = split(adata, "simulation", seed=0)
    for name, level in (("my_factory_models:Constant", 0.1), ("made", 0.2)):
        found = scores[scores["model"] == name].set_index("condition")
        model = make_model("my_factory_models:Constant", level=level).fit(adata, parts)
        expected = evaluate(model.predict(parts["test"]), adata, parts, exclude_targets=True)
        np.testing.assert_allclose(found[SCORES], expected.loc[found.index, SCORES], rtol=1e-5)


def test_a_benchmark_is_done_again_where_a_model_has_other_options(files, tmp_path):
    first = benchmark.run_benchmark(config(files, {"name": "mine", "type": Mine}), tmp_path / "out")
    same = benchmark.run_benchmark(config(files, {"name": "mine", "type": Mine}), tmp_path / "out")
    pd.testing.assert_frame_equal(first, same)
    options = {"name": "mine", "type": Mine, "options": {"scale": 4.0}}
    other = benchmark.run_benchmark(config(files, options), tmp_path / "out")
    own = first["model"] == "mine"
    assert (other["mse"] != first["mse"])[own].all()
    assert (other["mse"] == first["mse"])[~own].all()


def test_a_benchmark_is_done_again_where_an_instance_is_another(files, tmp_path):
    first, other = (
        benchmark.run_benchmark(config(files, {"name": "mine", "type": Mine(scale)}), tmp_path / "out")
        for scale in (1.0, 4.0)
    )
    own = first["model"] == "mine"
    assert (other["mse"] != first["mse"])[own].all()
    assert (other["mse"] == first["mse"])[~own].all()


def test_a_benchmark_with_a_type_that_is_none_is_refused(files, tmp_path):
    for wrong, match in (({"type": dict}, "is no model"), ({"type": "no_module_so_called:Mine"}, "cannot be imported")):
        with pytest.raises(InputError, match=match):
            benchmark.run_benchmark(config(files, {"name": "x"} | wrong), tmp_path / "out")
    assert not (tmp_path / "out").exists()
