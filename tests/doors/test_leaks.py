"""A graph made from held-out cells is told at every door: fit, `kgnn train`, evaluate, ablate, benchmark."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from kgnn import PerturbationModel, controls, load_model
from kgnn.data import save_split, split, training_cells
from kgnn.data.leaks import held_out
from kgnn.errors import DataWarning
from kgnn.graph import load_coexpression, load_table
from kgnn.metrics import evaluate
from kgnn.models import make_model

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def screen(_screen):
    return _screen


@pytest.fixture(scope="module")
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture(scope="module")
def known(screen):
    return load_table(screen.uns["network"], relation="regulates", origin="truth")


@pytest.fixture(scope="module")
def leaky(screen, known):
    return known | load_coexpression(screen, threshold=0.2)


@pytest.fixture(scope="module")
def clean(screen, known, parts):
    return known | load_coexpression(training_cells(screen, parts), threshold=0.2)


def leaks(action):
    """What `action` returns, and the warnings of leaks among those that it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    return result, [str(w.message) for w in caught if w.category is DataWarning and "made from" in str(w.message)]


def test_fit_tells_once_how_many_cells_of_what_and_the_remedy(screen, parts, leaky, clean):
    _, told = leaks(lambda: PerturbationModel(leaky).fit(screen, parts))
    cells = int(screen.obs["condition"].isin(parts["test"]).sum())
    assert told == [
        f"the graph was made from {cells:,} held-out cells of {len(parts['test'])} conditions, so that scores of these "
        f"are flattered; sources: coexpression ({cells:,}). Make them from training cells, "
        "load_coexpression(kgnn.data.training_cells(adata, split)), or leave them out, kg.drop_source('coexpression')"
    ]
    for kg, fold in ((clean, parts), (leaky, None), (leaky.drop_source("coexpression"), parts), (None, parts)):
        assert leaks(lambda kg=kg, fold=fold: PerturbationModel(kg).fit(screen, fold))[1] == []
    assert leaks(lambda: make_model("composition_ridge", leaky).fit(screen, parts))[1] == []  # uses no graph


def test_one_test_cell_among_the_training_cells_is_enough(screen, parts, known):
    fit_on = np.flatnonzero(~screen.obs["condition"].isin([*parts["test"], *parts["val"]]))
    one = np.flatnonzero(screen.obs["condition"] == parts["test"][0])[:1]
    kg = known | load_coexpression(screen[np.concatenate([fit_on, one])], threshold=0.2)
    (told,) = leaks(lambda: PerturbationModel(kg).fit(screen, parts))[1]
    assert "1 held-out cells of 1 conditions" in told
    without = known | load_coexpression(screen[fit_on], threshold=0.2)
    assert leaks(lambda: PerturbationModel(without).fit(screen, parts))[1] == []


@pytest.mark.parametrize("encoder", ["gears", "txpert"])
def test_trained_encoders_tell_as_well(screen, parts, leaky, encoder):
    options = {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}
    assert len(leaks(lambda: PerturbationModel(leaky, encoder=encoder).fit(screen, parts, **options))[1]) == 1


class Own:
    """A whole model of one's own, with a graph."""

    def __init__(self, kg):
        self.kg = kg

    def fit(self, adata, split):
        self.mean = np.asarray(adata.X.mean(axis=0)).ravel()

    def predict(self, conditions):
        return np.tile(self.mean, (len(conditions), 1))


class Blind(Own):
    def __init__(self):
        pass


def test_evaluate_tells_also_of_saved_models_and_written_predictions(screen, parts, leaky, clean, tmp_path):
    import anndata

    for kg, number in ((leaky, 1), (clean, 0)):
        model = leaks(lambda kg=kg: PerturbationModel(kg).fit(screen, parts))[0]
        model.save(tmp_path / "m")
        load_model(tmp_path / "m").predict(parts["test"]).write_h5ad(tmp_path / "p.h5ad")
        prediction = anndata.read_h5ad(tmp_path / "p.h5ad")
        assert set(prediction.uns["kgnn"]["cells"]) == {"coexpression"}
        for found in (model.predict(parts["test"]), prediction, model.predict(parts["test"], n_cells=2)):
            told = leaks(lambda found=found: evaluate(found, screen, parts))[1]
            assert len(told) == number
            assert all("coexpression (" in text for text in told)
        assert leaks(lambda model=model: evaluate(model.predict(parts["test"]), screen))[1] == []  # nothing is held out
    blind = PerturbationModel(encoder="mean").fit(screen, parts).predict(parts["test"])
    assert "cells" not in blind.uns["kgnn"]


def test_models_of_ones_own_are_asked_for_their_graph(screen, parts, leaky, clean):
    for kind, kg, number in ((Own, leaky, 1), (Own, clean, 0), (Blind, leaky, 0)):
        model, told = leaks(lambda kind=kind, kg=kg: make_model(kind, kg).fit(screen, parts))
        assert len(told) == number
        assert len(leaks(lambda m=model: evaluate(m.predict(parts["test"]), screen, parts))[1]) == number


def test_the_command_line_tells(screen, parts, leaky, clean, tmp_path):
    from typer.testing import CliRunner

    import kgnn.cli

    screen.write_h5ad(tmp_path / "s.h5ad")
    save_split(parts, tmp_path / "split.json")
    for name, kg, number in (("leaky", leaky, 1), ("clean", clean, 0)):
        kg.save(tmp_path / name)
        shared = ["--split", str(tmp_path / "split.json"), "--graph", str(tmp_path / name)]

        def run(*words):
            done = CliRunner().invoke(kgnn.cli.app, [str(word) for word in words])
            assert done.exit_code == 0, done.output

        commands = {
            "train": ["train", tmp_path / "s.h5ad", "-o", tmp_path / f"run_{name}", *shared],
            "evaluate": ["evaluate", "kg", tmp_path / "s.h5ad", *shared],
            "ablate": [
                "ablate", tmp_path / "s.h5ad", *shared, "-o", tmp_path / f"a_{name}", "--seeds", 1,
                "--controls", "true,none",
            ],
        }  # fmt: skip
        for command, words in commands.items():
            assert len(leaks(lambda words=words: run(*words))[1]) == number, command


def test_ablate_tells_once_for_all_its_graphs(screen, parts, leaky, clean):
    def run(kg, seeds=(0,), **options):
        return controls.ablate(kg, screen, parts, seeds=seeds, **options)

    assert len(leaks(lambda: run(leaky, seeds=[0, 1], kinds=["true", "rewired", "without"]))[1]) == 1
    assert leaks(lambda: run(clean, kinds=["true", "rewired"]))[1] == []
    assert leaks(lambda: run(leaky.drop_source("coexpression"), kinds=["true"]))[1] == []
    added = leaks(lambda: run(clean, kinds=["true"], prepare=lambda kg: kg | leaky))[1]
    assert added  # what prepare brings in is seen by the fits


def test_a_line_held_out_is_its_perturbed_cells_and_what_is_hidden_elsewhere():
    obs = pd.DataFrame(
        [("one", "A"), ("one", "B"), ("one", "C"), ("two", "A"), ("two", "B"), ("two", "control"), ("one", "control")],
        columns=["line", "condition"],
    )
    from anndata import AnnData

    adata = AnnData(np.zeros((7, 1)), obs=obs.rename(index=str))
    labels = adata.obs["condition"].replace("control", "")
    fold = {"line": "two", "group_key": "line", "train": ["B"], "val": ["C"], "test": ["A", "B"]}
    assert held_out(adata, labels, fold).tolist() == [True, False, False, True, True, False, False]
    without = {"train": ["B"], "val": ["C"], "test": ["A"]}
    assert held_out(adata, labels, without).tolist() == [True, False, False, True, False, False, False]


def test_the_remedy_is_one(screen, parts, leaky):
    (told,) = leaks(lambda: PerturbationModel(leaky).fit(screen, parts))[1]
    source = re.search(r"kg\.drop_source\('(\w+)'\)", told)[1]
    assert leaks(lambda: PerturbationModel(leaky.drop_source(source)).fit(screen, parts))[1] == []
