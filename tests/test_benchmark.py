"""The benchmark's folder: what is done stays done, what was killed goes on, what the page says."""

import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

from kgnn.benchmark import run_benchmark
from kgnn.data import load_split, merge_validation, simulate
from kgnn.errors import DataWarning, InputError
from kgnn.evaluation import benchmark, runs
from kgnn.evaluation.headline import POINTS
from kgnn.evaluation.report import paired_table, summary_table
from kgnn.files import read_h5ad
from kgnn.graph import KnowledgeGraph, load_table
from kgnn.metrics import crossed_scores, reference_scores, summarize
from kgnn.models import make_model

pytestmark = pytest.mark.usefixtures("few_steps")

CONFIG = """
seeds = [0, 1]
tuning_budget = 2
[[datasets]]
name = "sim"
path = "sim.h5ad"
graph = "kg"
[[splits]]
kind = "random_condition"
[[models]]
type = "kg"
[[models]]
name = "kg, rewired"
type = "kg"
graph = "rewired"
[[models]]
type = "mean"
[[models]]
type = "composition_ridge"
[[models]]
type = "cpa"
fit = {max_epochs = 1}
grid = {channels = [4, 8, 12]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    screen = simulate(n_genes=60, n_singles=12, n_pairs=4, cells_per_condition=20, seed=0)
    del screen.varm["true_delta"]
    screen.write_h5ad(folder / "sim.h5ad")
    load_table(screen.uns["network"], relation="regulates", origin="network").save(folder / "kg")
    (folder / "bench.toml").write_text(CONFIG)
    return folder


@pytest.mark.parametrize("kind", ["true", "rewired", "permuted", "none"])
def test_a_models_graph_is_the_scrambled_one_that_it_asks_for(folder, kind):
    kg = KnowledgeGraph.load(folder / "kg")
    made = {"true": kg, "rewired": kg.rewire(3), "permuted": kg.permute(3), "none": None}
    task = SimpleNamespace(model={"graph": kind}, dataset={"graph": folder / "kg", "coexpression": False}, seed=3)
    found = benchmark._graph(task, read_h5ad(folder / "sim.h5ad"))
    assert [name for name, graph in made.items() if found == graph] == [kind]


@pytest.fixture(scope="module")
def scores(folder):
    return run_benchmark(folder / "bench.toml", folder / "out")


def test_every_fit_leaves_predictions_scores_and_its_choice(folder, scores):
    assert set(scores["model"]) == {"kg", "kg, rewired", "mean", "composition_ridge", "cpa", *POINTS}
    at = folder / "out/runs/sim/random_condition-seed0"
    names = {"predictions.h5ad", "scores.csv", "split.json", "run.json", "kgnn.json"}
    assert {file.name for file in (at / "kg").iterdir()} == names
    chosen = json.loads((at / "cpa/run.json").read_text())
    assert len(chosen["tried"]) == 2  # the budget, of three
    best = max(chosen["tried"], key=lambda row: row["pearson_centred"])
    assert chosen["chosen"] == {"channels": best["channels"]}


def test_a_grid_of_one_combination_is_taken_untried(folder, tmp_path):
    config = {
        "datasets": [{"name": "sim", "path": str(folder / "sim.h5ad"), "coexpression": False}],
        "splits": [{"kind": "random_condition"}],
        "models": [{"type": "cpa", "fit": {"max_epochs": 1}, "grid": {"channels": [4]}}],
        "seeds": [0],
        "crossed": 0,
    }
    run_benchmark(config, tmp_path)
    chosen = json.loads((tmp_path / "runs/sim/random_condition-seed0/cpa/run.json").read_text())
    assert (chosen["tried"], chosen["chosen"]) == ([], {"channels": 4})


def test_what_is_done_is_not_done_again_and_a_killed_run_goes_on(folder, scores, monkeypatch):
    done = []
    run = benchmark._run
    monkeypatch.setattr(benchmark, "_run", lambda task: done.append(task.folder.name) or run(task))
    pd.testing.assert_frame_equal(run_benchmark(folder / "bench.toml", folder / "out"), scores)
    assert done == []
    shutil.rmtree(folder / "out/runs/sim/random_condition-seed1/mean")  # a killed run leaves no folder
    pd.testing.assert_frame_equal(run_benchmark(folder / "bench.toml", folder / "out"), scores)
    assert done == ["mean"]
    KnowledgeGraph.load(folder / "kg").save(folder / "kg")  # the same graph, in new files
    run_benchmark(folder / "bench.toml", folder / "out")
    assert done == ["mean"]
    (folder / "bench.toml").write_text(CONFIG.replace("max_epochs = 1", "max_epochs = 2"))
    run_benchmark(folder / "bench.toml", folder / "out")
    assert done == ["mean", "cpa", "cpa"]
    (folder / "bench.toml").write_text(CONFIG)


def test_a_fit_that_dies_while_writing_leaves_nothing(folder, scores, monkeypatch):
    broken = folder / "out/runs/sim/random_condition-seed0/mean"
    shutil.rmtree(broken)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_split", fail)
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(folder / "bench.toml", folder / "out")
    assert not broken.exists()
    pd.testing.assert_frame_equal(run_benchmark(folder / "bench.toml", folder / "out"), scores)


def test_summary_and_pairs_are_means_over_conditions_of_means_over_seeds(scores):
    summary = summary_table(scores).set_index("model")
    part = scores[scores["model"] == "kg"].groupby("condition")[["pearson_centred"]].mean()
    assert summary.loc["kg", "pearson_centred"] == pytest.approx(part["pearson_centred"].mean())
    assert summary.loc["kg", "pearson_centred_low"] == pytest.approx(summarize(part).loc["pearson_centred", "low"])
    by_seed = scores[scores["model"] == "kg"].groupby("seed")["pearson_centred"].mean()
    assert summary.loc["kg", "pearson_centred_sd"] == pytest.approx(by_seed.std(ddof=1))
    pairs = paired_table(scores).set_index(["score", "model"])
    for score, best in (("pearson_centred", "idxmax"), ("mse_ratio", "idxmin")):
        baselines = summary.loc[["mean", "composition_ridge"], score].astype(float)
        against = baselines.agg(best)
        assert set(pairs.loc[score, "against"]) == {against}
        expected = summary.loc["kg", score] - summary.loc[against, score]
        assert pairs.loc[(score, "kg"), "mean"] == pytest.approx(expected)


def test_the_points_of_reference_are_those_of_each_split(folder, scores):
    for seed in (0, 1):
        fold = load_split(folder / f"out/runs/sim/random_condition-seed{seed}/kg/split.json")
        adata = read_h5ad(folder / "sim.h5ad")
        expected = reference_scores(adata, merge_validation(fold), exclude_targets=True, seed=seed)["pearson_centred"]
        part = scores[(scores["seed"] == seed) & scores["model"].isin(POINTS)].set_index(["model", "condition"])
        pd.testing.assert_series_equal(part["pearson_centred"].sort_index(), expected.sort_index(), check_names=False)
    row = summary_table(scores).set_index("model")
    of = row["pearson_centred"]
    calibrated = (of["kg"] - of["training mean"]) / (of["replicate"] - of["training mean"])
    assert row.loc["kg", "pearson_centred_calibrated"] == pytest.approx(calibrated)
    assert row.loc["replicate", "verdict"] == ""
    assert "han the mean of the training perturbations" in row.loc["kg", "verdict"]


def test_crossed_scores_are_of_fits_on_halves_of_the_control_cells(folder, scores):
    fold = load_split(folder / "out/runs/sim/random_condition-seed1/kg/split.json")
    adata = read_h5ad(folder / "sim.h5ad")
    kg = benchmark._graph(_task(folder, fold), adata)
    fitting = merge_validation(fold)
    expected = crossed_scores(
        lambda: make_model("kg", kg), adata, fitting, n_draws=1, exclude_targets=True, seed=1, fit_options={"seed": 1}
    )
    part = scores[(scores["seed"] == 1) & (scores["model"] == "kg")].set_index("condition").loc[expected.index]
    for column, of in (("pearson_crossed", "pearson_delta"), ("pds_cosine", "pds_cosine")):
        pd.testing.assert_series_equal(part[column], expected[of], check_names=False, rtol=1e-6)


def _task(folder, fold):
    dataset = {"path": str(folder / "sim.h5ad"), "graph": str(folder / "kg")}
    return runs.Task(folder, ("sim", "s", "kg"), dataset, fold, {"graph": "true"}, 1, 1, 1, "", "")


def test_one_control_cell_cannot_be_crossed_and_the_rest_is_there(folder, tmp_path):
    adata = read_h5ad(folder / "sim.h5ad")
    controls = adata.obs_names[adata.obs["condition"] == "control"]
    adata[~adata.obs_names.isin(controls[1:])].copy().write_h5ad(tmp_path / "one.h5ad")
    config = {
        "datasets": [{"name": "one", "path": str(tmp_path / "one.h5ad"), "coexpression": False}],
        "splits": [{"kind": "random_condition"}],
        "models": [{"type": "mean"}],
    }
    with pytest.warns(DataWarning, match="one control cell, which cannot be halved: no score is crossed"):
        found = run_benchmark(config, tmp_path / "out").set_index("model").loc["mean"]
    assert found["pearson_delta"].notna().all()
    none = run_benchmark(config | {"crossed": 0}, tmp_path / "out").set_index("model").loc["mean"]
    assert none["pds_cosine"].notna().all()


def test_the_page_stands_alone(folder, scores):
    page = (folder / "out/report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page
    for text in ("kg, rewired", "replicate", "coverage_90", "kg − ", "han the mean of the training perturbations"):
        assert text in page
    assert (folder / "out/sim-random_condition.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("seeds", "sedes", "unknown entry 'sedes'"),
        ('type = "mean"', 'type = "median"', "unknown model 'median'"),
        ('graph = "rewired"', 'graph = "scrambled"', "graph must be one of"),
        ('name = "sim"', 'nam = "sim"', r"\[\[datasets\]\] 1: unknown entry 'nam'"),
        ('kind = "random_condition"', "test_fraction = 0.2", "neither kind nor path"),
        ('name = "kg, rewired"', 'name = "kg"', "same name"),
        ('type = "cpa"', "", "neither type nor name"),
        ('path = "sim.h5ad"', "", "lacks 'path'"),
        ("sim.h5ad", "sim.csv", "data set 'sim' is a table; say what it holds"),
        (
            'path = "sim.h5ad"',
            'path = "sim.tsv"\neffects = "both"',
            "say what it holds, effects = 'change' or 'binary'",
        ),
        ('path = "sim.h5ad"', 'path = "sim.h5ad"\neffects = "change"', "is no table .*leave effects out"),
        ("seeds = [0, 1]", "crossed = -1", "crossed = -1; it must be"),
        ('name = "kg, rewired"', 'name = "replicate"', "names a point of reference"),
        ("[[splits]]", "[splits", "not TOML"),
    ],
)
def test_a_config_that_says_nonsense_is_refused(tmp_path, old, new, match):
    (tmp_path / "c.toml").write_text(CONFIG.replace(old, new))
    with pytest.raises(InputError, match=match):
        benchmark.read_config(tmp_path / "c.toml")
    (tmp_path / "d.toml").write_text("seeds = [0]")
    with pytest.raises(InputError, match=r"no \[\[datasets\]\]"):
        benchmark.read_config(tmp_path / "d.toml")


def test_paths_are_those_beside_the_file_and_names_come_of_themselves(tmp_path):
    text = CONFIG.replace('kind = "random_condition"', 'path = "parts/mine.json"')
    (tmp_path / "c.toml").write_text(text)
    settings = benchmark.read_config(tmp_path / "c.toml")
    (split,) = settings["splits"]
    assert split == {"path": str(tmp_path / "parts/mine.json"), "name": "mine"}
    assert settings["datasets"][0]["path"] == str(tmp_path / "sim.h5ad")
    assert settings["datasets"][0]["graph"] == str(tmp_path / "kg")
    assert [row["name"] for row in settings["models"]] == ["kg", "kg, rewired", "mean", "composition_ridge", "cpa"]
    assert (settings["crossed"], settings["tuning_budget"], settings["seeds"]) == (1, 2, [0, 1])


def test_a_split_from_a_file_is_the_one_that_is_scored(folder, scores, tmp_path):
    runs = folder / "out/runs/sim/random_condition-seed0/mean"
    config = {
        "datasets": [{"name": "sim", "path": str(folder / "sim.h5ad"), "coexpression": False}],
        "splits": [{"path": str(runs / "split.json"), "name": "mine"}],
        "models": [{"type": "mean"}],
        "crossed": 0,
    }
    found = run_benchmark(config, tmp_path / "out")
    before = scores[(scores["seed"] == 0) & (scores["model"] == "mean")]
    columns = ["condition", "mse", "pearson_delta"]
    own = found[found["model"] == "mean"]
    pd.testing.assert_frame_equal(own[columns].reset_index(drop=True), before[columns].reset_index(drop=True))
    assert (tmp_path / "out/runs/sim/mine-seed0/mean/run.json").is_file()
