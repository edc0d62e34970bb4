"""A table of effects at every door: what takes it, and what refuses it with the remedy."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

import kgnn
from kgnn.benchmark import run_benchmark
from kgnn.controls import ablate, shapley, summarize_ablation
from kgnn.data import effects, leave_one_out, merge_validation, split, training_cells
from kgnn.errors import InputError
from kgnn.graph import load_table
from kgnn.interactions import interaction_table
from kgnn.metrics import control_halves, crossed_scores, evaluate, explained_share, noise_ceiling, reference_scores
from kgnn.models import make_model
from kgnn.models.perturbation.table import PREDICTORS
from kgnn.plotting import ablation, explanation, predicted_vs_observed

matplotlib.use("Agg")
GENES = [f"GENE{i}" for i in range(30)]
SOLVED = [name for name, kind in PREDICTORS.items() if not kind.by_epochs]


def make_table(kind="change", seed=0):
    """[16 conditions, 30 genes], of which GENEi lowers GENEi+1 and GENEi+5; `binary`: whether it changes them much."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.3, (16, 30))
    for i in range(16):
        x[i, [(i + 1) % 30, (i + 5) % 30]] -= 2
    found = x if kind == "change" else (np.abs(x) > 0.35).astype(float)
    return pd.DataFrame(found, GENES[:16], GENES)


@pytest.fixture(scope="module")
def network():
    edges = [(GENES[i], GENES[(i + step) % 30], str(step)) for i in range(30) for step in (1, 5)]
    near, far = (
        load_table(
            pd.DataFrame([edge[:2] for edge in edges if edge[2] == step], columns=["source", "target"]),
            relation=f"by{step}",
            origin=f"by{step}",
        )
        for step in ("1", "5")
    )
    return near | far


@pytest.fixture(scope="module", params=["change", "binary"])
def data(request):
    return effects(make_table(request.param), kind=request.param)


@pytest.fixture(scope="module")
def fold(data):
    return split(data, "random_condition", seed=1)


@pytest.fixture(scope="module")
def model(data, fold, network):
    return kgnn.PerturbationModel(network).fit(data, fold)


@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "PARQUET"])
def test_a_path_to_a_table_names_what_reads_it(ending, tmp_path, model, fold):
    path = tmp_path / f"table.{ending}"
    path.write_text("no H5AD")
    doors = (
        lambda: kgnn.PerturbationModel(encoder="mean").fit(path, fold),
        lambda: split(path, "random_condition"),
        lambda: leave_one_out(path),
        lambda: training_cells(path, fold),
        lambda: evaluate(model.predict(fold["test"]), path, fold),
        lambda: reference_scores(path, fold),
        lambda: noise_ceiling(path),
        lambda: ablate(model.kg, path, fold),
    )
    for door in doors:
        with pytest.raises(InputError, match=r"table\..*: a table where cells.*kgnn\.data\.effects\('/"):
            door()


def test_what_was_read_before_is_known_from_its_file(tmp_path, data, fold, model):
    data.write_h5ad(tmp_path / "e.h5ad")
    assert split(tmp_path / "e.h5ad", "random_condition", seed=1) == fold
    again = kgnn.PerturbationModel(model.kg).fit(tmp_path / "e.h5ad", fold)
    np.testing.assert_array_equal(again.predict(fold["test"]).X, model.predict(fold["test"]).X)
    assert again.scale_ == data.uns["kgnn_effects"]["kind"]


@pytest.mark.parametrize("encoder", SOLVED)
def test_every_solved_predictor_keeps_answers_between_0_and_1(encoder, network):
    answers = pd.concat([make_table("binary"), make_table("binary", 1).rename(lambda gene: gene + "+GENE20")])
    found = effects(answers, kind="binary")
    options = {}
    if encoder in ("other_lines", "template_same"):
        found.obs["line"] = ["a", "b"] * 16
        options = {"group_key": "line"}
    sets = [(f"GENE{25 + i % 3}", f"GENE{i}") for i in range(20)]
    kg = network | load_table(pd.DataFrame(sets, columns=["source", "target"]), relation="hubs")
    fitted = kgnn.PerturbationModel(kg, encoder=encoder, **options).fit(found)
    prediction = fitted.predict(["GENE1", "GENE2+GENE20", "GENE3+GENE4+GENE5", "control"])
    for values in (prediction.X, prediction.layers["delta"]):
        assert values.min() >= 0
        assert values.max() <= 1
    assert not prediction.X[3].any()


def test_saved_and_loaded_it_predicts_the_same(model, fold, tmp_path):
    model.save(tmp_path / "m")
    loaded = kgnn.load_model(tmp_path / "m")
    np.testing.assert_allclose(loaded.predict(fold["test"]).X, model.predict(fold["test"]).X, atol=1e-6)
    with pytest.raises(InputError, match="learned from a table of effects"):
        loaded.predict(fold["test"], n_cells=2)


def test_it_is_explained_and_drawn(model, data, fold):
    edges = model.explain("GENE3")
    assert {"GENE4", "GENE8"} <= set(edges["gene"])
    explanation(edges)
    ax = predicted_vs_observed(model.predict(fold["test"]), data, fold["test"][0], n_top=5)
    assert ax.get_ylabel() == "effect"


def test_a_picture_shows_what_was_measured_alone(model, fold):
    name = fold["test"][0]
    table = make_table()
    table.loc[name, GENES[4:]] = np.nan
    ax = predicted_vs_observed(model.predict(fold["test"]), effects(table), name, n_top=9)
    assert {label.get_text() for label in ax.get_xticklabels()} == set(GENES[:4])


def test_a_replicate_that_lacks_a_gene_is_not_drawn_as_no_change(model, fold):
    name = fold["test"][0]
    table = pd.concat([make_table(), make_table()])
    table.iloc[list(table.index).index(name)] = np.nan
    table.iloc[list(table.index).index(name), 0] = 0.0
    ax = predicted_vs_observed(model.predict(fold["test"]), effects(table, replicates=True), name, n_top=3)
    genes = [label.get_text() for label in ax.get_xticklabels()]
    means = [line.get_ydata()[0] for line in ax.lines if line.get_linewidth() == 1.4]
    np.testing.assert_allclose(means, make_table().loc[name, genes], rtol=1e-5)


def test_interactions_of_pairs(model):
    table = interaction_table(model, GENES[:3], scores=False)
    assert np.isfinite(table[["epistasis", "relative"]]).all(axis=None)
    assert len(table) == 3


def test_graphs_are_ablated_and_sources_have_their_share(network):
    data = effects(make_table())
    scores = ablate(
        network, data, split(data, "random_condition", seed=1), kinds=["true", "none", "shapley"], seeds=[0]
    )
    summary, shares = summarize_ablation(scores), shapley(scores, network.origins)
    assert summary.loc["true graph", "mean"] > summary.loc["no graph", "mean"]
    total = summary.loc["sources by1 + by5", "mean"] - summary.loc["no graph", "mean"]
    assert shares["mean"].sum() == pytest.approx(total)
    ablation(summary, shares)


def test_halves_of_control_cells_are_refused_and_left_out(data, fold, model):
    for call in (
        lambda: control_halves(data),
        lambda: crossed_scores(lambda: make_model("mean"), data, fold),
    ):
        with pytest.raises(InputError, match="no control cells to halve; leave"):
            call()
    scores = evaluate(model.predict(fold["test"]), data, fold)
    assert scores["pearson_crossed"].isna().all()
    assert scores["pearson_centred"].notna().all()


def test_validation_joins_training_and_each_condition_is_left_out(data, fold):
    merged = kgnn.PerturbationModel(encoder="mean").fit(data, merge_validation(fold))
    assert merged.conditions_ == sorted([*fold["train"], *fold["val"]])
    assert list(leave_one_out(data)) == sorted(GENES[:16])


@pytest.mark.parametrize("encoder", ["mean", "other_lines", "template_same", "kg"])
def test_a_line_held_out_is_known_and_its_effects_are_not(encoder):
    table = pd.concat([make_table(), make_table(seed=1)])
    lines = np.repeat(["a", "b"], 16)

    def predicted(table):
        data = effects(table, replicates=True)
        data.obs["line"] = lines
        fold = split(data, "unseen_line", held_out="b", group_key="line", seen_fraction=0.5)
        fitted = kgnn.PerturbationModel(encoder=encoder, group_key="line").fit(data, fold)
        found = fitted.predict(fold["test"], line="b")
        assert np.isfinite(evaluate(found, data, fold)["pearson_centred"]).any()
        return found.X

    other = table.copy()
    other.iloc[16:] += 5
    np.testing.assert_array_equal(predicted(table), predicted(other))


def test_a_benchmark_reads_a_table(tmp_path, network, data, fold):
    kind = data.uns["kgnn_effects"]["kind"]
    make_table(kind).to_csv(tmp_path / "t.csv", index_label="what")
    network.save(tmp_path / "kg")
    (tmp_path / "bench.toml").write_text(
        f'[[datasets]]\nname = "t"\npath = "t.csv"\neffects = "{kind}"\ngraph = "kg"\ncondition_key = "what"\n'
        '[[splits]]\nkind = "random_condition"\n[[models]]\ntype = "kg"\n[[models]]\ntype = "mean"\n'
    )
    scores = run_benchmark(tmp_path / "bench.toml", tmp_path / "out")
    assert set(scores["model"]) == {"kg", "mean", "no change", "training mean"}  # nothing to halve, nothing repeated
    own = scores[scores["model"] == "mean"]
    assert own["pds_cosine"].notna().all()
    assert own["pearson_crossed"].isna().all()
    assert (tmp_path / "out/report.html").is_file()
    known, test = merge_validation(split(data, "random_condition")), own["condition"].tolist()
    for name in ("kg", "mean"):  # of this graph: effects teach no co-expression
        own = scores[scores["model"] == name].set_index("condition")
        fitted = make_model(name, network if name == "kg" else None).fit(data, known)
        expected = evaluate(fitted.predict(test), data, known, exclude_targets=True)
        np.testing.assert_allclose(own.loc[test, "mse"], expected.loc[test, "mse"], rtol=1e-5)


def test_a_ceiling_is_of_replicates():
    rng = np.random.default_rng(0)
    truth = make_table()
    rows = pd.concat([truth + rng.normal(0, 0.3, truth.shape) for _ in range(2)])
    found = noise_ceiling(effects(rows, replicates=True), n_repeats=1)
    a, b = (rows.iloc[part * 16 : part * 16 + 16].loc["GENE2"] for part in (0, 1))
    assert found.loc["GENE2", "split_half"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)
    holes = rows.copy()
    holes.iloc[2, 7:] = np.nan
    found = noise_ceiling(effects(holes, replicates=True), n_repeats=1)
    assert found.loc["GENE2", "split_half"] == pytest.approx(np.corrcoef(a[:7], b[:7])[0, 1], abs=1e-5)
    assert noise_ceiling(effects(truth))["ceiling"].isna().all()


def test_what_was_not_measured_is_no_share_that_is_left_unexplained(model, fold):
    prediction = model.predict(GENES[:3])
    table = make_table().loc[GENES[:3]]
    holes = table.copy()
    holes.iloc[:, 15:] = np.nan
    y, guess = table.to_numpy()[:, :15], prediction.to_df().to_numpy()[:, :15]
    expected = 1 - np.square(y - guess).sum() / np.square(y).sum()
    padded = pd.concat([holes, make_table().loc[GENES[3:6]]])
    found = explained_share(prediction, effects(padded), exclude_targets=False)
    assert found == pytest.approx(expected, abs=1e-4)
