"""Scores against hand calculation, SciPy, scikit-learn and cell-eval; one's own metrics beside ours."""

import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import norm, pearsonr, ttest_ind
from sklearn.metrics import average_precision_score, mean_absolute_error, mean_squared_error

from kgnn.data import read_screen, split, top_de_genes
from kgnn.data.differential import significant_genes
from kgnn.errors import InputError
from kgnn.evaluation.metrics.table import choose, larger_is_better
from kgnn.metrics import (
    METRICS,
    Metric,
    evaluate,
    explained_share,
    metric,
    noise_ceiling,
    paired_difference,
    summarize,
)
from kgnn.models import make_model


@pytest.fixture
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture
def prediction(screen, parts):
    return make_model("additive").fit(screen, parts).predict([*parts["test"], *parts["val"]])


def observed(screen, name):
    x, labels = screen.X.toarray(), screen.obs["condition"].astype(str).to_numpy()
    return x[labels == name].mean(axis=0), x[labels == "control"].mean(axis=0)


PREDICTED, OBSERVED, CONTROL = np.array([[3.0, 0, 2, 5], [1, 1, 4, 5], [2, 0, 3, 1]])  # δ̂ = 1 0 -1 4, δ = -1 1 1 4
PANEL = np.array([PREDICTED, OBSERVED, [3, 1, 2, 5], [9, 9, 9, 9]])  # distances to the prediction: 0, 5, 1, 26
SIGNIFICANT = np.array([False, True, False, True])


@pytest.mark.parametrize(
    ("name", "further", "expected"),
    [
        ("mse", {}, 9 / 4),
        ("mae", {}, 5 / 4),
        ("pearson", {}, pearsonr(PREDICTED, OBSERVED).statistic),
        ("pearson_delta", {}, pearsonr(PREDICTED - CONTROL, OBSERVED - CONTROL).statistic),
        ("wrong_direction", {}, 2.5 / 4),
        ("discrimination", {"panel": PANEL, "own": 0}, 1),
        ("discrimination", {"panel": PANEL, "own": 1}, 2 / 4),
        ("discrimination", {"panel": PANEL, "own": 3}, 1 / 4),
        ("discrimination", {"panel": PANEL[[1, 2, 1, 2, 1]], "own": 0}, 1 - 3 / 5),  # two are nearer, two as near
        ("discrimination", {"panel": PANEL[[1]], "own": 0}, np.nan),
        ("de_overlap", {"strongest": np.array([3, 1])}, 1 / 2),  # 3 0 are predicted
        ("de_overlap", {"strongest": np.array([1, 2, 3])}, 2 / 3),  # 3 0 2
        ("de_auprc", {"significant": SIGNIFICANT}, 3 / 4),  # precision 1 at recall 1/2, 2/4 at recall 1
        ("de_auprc", {"significant": SIGNIFICANT & False}, np.nan),
        ("de_auprc", {"significant": SIGNIFICANT | True}, np.nan),
        ("coverage_90", {"variance": np.array([1.21, 0.6, 1.22, 0]) ** 2}, 2 / 4),
        ("coverage_90", {"variance": np.array([1.21, 0.61, 1.22, 0]) ** 2}, 3 / 4),
    ],
)
def test_metrics_by_hand(name, further, expected):
    assert METRICS[name](PREDICTED, OBSERVED, CONTROL, **further) == pytest.approx(expected, nan_ok=True)


def test_coverage_is_that_of_a_normal_distribution():
    rng = np.random.default_rng(0)
    sd, error = rng.random(500) + 0.5, rng.standard_normal(500)
    low, high = norm.interval(0.9, scale=sd)
    found = METRICS["coverage_90"](error, np.zeros(500), np.zeros(500), variance=sd**2)
    assert found == np.mean((low <= error) & (error <= high))


def everything(seed=0):
    """Inputs of all metrics: control, observed means of the conditions, and more; the third condition is the one."""
    rng = np.random.default_rng(seed)
    control, *panel = rng.random((9, 30))
    order = np.argsort(-np.abs(panel[2] - control))
    inputs = {"panel": np.array(panel), "own": 2, "strongest": order[:5], "variance": rng.random(30)}
    inputs["significant"] = inputs["called"] = np.isin(np.arange(30), order[:7])
    inputs |= {"center": np.mean(panel, axis=0), "targets": np.arange(30) < 3, "weights": rng.random(30)}
    inputs |= {"noise": rng.random((2, 30)) / 100, "halves": np.array([[control, control]] * 2)}
    inputs |= {"predictions": inputs["panel"], "place": 2, "cells": rng.random((5, 30))}
    return control, panel, inputs | {"real_cells": inputs["cells"]}


SCORES = {name: own for name, own in METRICS.items() if name not in ("mse_unbiased", "size_unbiased", "e_distance")}


@pytest.mark.parametrize("own", SCORES.values(), ids=SCORES)
def test_the_truth_has_the_best_value_and_no_other_leaves_the_limits(own):
    control, panel, inputs = everything()
    best = own(panel[2], panel[2], control, **inputs)
    assert best == pytest.approx(own.limits[own.larger_is_better], abs=1e-6)
    for predicted in np.random.default_rng(1).random((20, 30)):
        predictions = np.array([*panel[:2], predicted, *panel[3:]])
        found = own(predicted, panel[2], control, **inputs | {"predictions": predictions})
        assert own.limits[0] <= found <= own.limits[1]
        assert found <= best if own.larger_is_better else found >= best


@pytest.mark.parametrize("own", METRICS.values(), ids=METRICS)
def test_no_change_has_the_best_value_of_no_score_and_rounding_moves_none(own):
    if own.name in ("e_distance", "size_unbiased", "coverage_90", "coverage_90_changed"):
        pytest.skip("of cells, of the data, of the variance")
    control, panel, inputs = everything()
    exact, single, center = (
        [
            own(
                start + shift, panel[2], control, **inputs | {"called": np.zeros(30, bool), "predictions": same + shift}
            )
            for shift in (0, *np.random.default_rng(1).normal(0, 1e-6, (5, 30)))
        ]
        for start, same in (
            (control, np.array([control] * 8)),
            (control.astype(np.float32), np.array([control] * 8)),
            (inputs["center"], np.array([inputs["center"]] * 8)),
        )
    )
    assert exact == pytest.approx([exact[0]] * 6, rel=1e-4)
    assert single == pytest.approx(exact, rel=1e-4)
    assert center == pytest.approx([center[0]] * 6, rel=1e-4)
    best = own(panel[2], panel[2], control, **inputs)
    assert exact[0] < best - 0.1 if own.larger_is_better else exact[0] > best + 0.01


def bias(predicted, observed, reference):
    return (predicted - observed).mean()


@metric(larger_is_better=False, genes="both")
def n_genes(predicted, observed, reference):
    return len(predicted)


def test_ones_own_metrics_stand_beside_ours(screen, prediction):
    bias_size = metric(name="bias_size", larger_is_better=False)(lambda y_hat, y, start: abs(bias(y_hat, y, start)))
    scores = evaluate(
        prediction, screen, metrics=["mae", bias, bias_size, f"{__name__}:n_genes"], n_top=5, exclude_targets=True
    )
    columns = ["mae", "mae_top5", "bias", "bias_size", "n_genes", "n_genes_top5", "n_cells"]
    assert scores.columns.tolist() == columns
    ours = evaluate(prediction, screen, n_top=5, exclude_targets=True)
    pd.testing.assert_frame_equal(scores[["mae", "mae_top5", "n_cells"]], ours[["mae", "mae_top5", "n_cells"]])
    for name, row in scores.iterrows():
        keep = ~np.isin(screen.var_names, name.split("+"))
        error = prediction[prediction.obs["condition"] == name].X[0] - observed(screen, name)[0]
        assert row["bias"] == pytest.approx(error[keep].mean(), abs=1e-6)
        assert row["bias_size"] == abs(row["bias"])
        assert (row["n_genes"], row["n_genes_top5"]) == (keep.sum(), 5)
    pd.testing.assert_frame_equal(
        evaluate(prediction, screen, metrics=bias), evaluate(prediction, screen, metrics=[bias])
    )


def test_directions_of_ones_own_metrics():
    def plain(predicted, observed, reference): ...

    def marked(predicted, observed, reference): ...

    marked.larger_is_better = False
    records = choose([plain, marked, n_genes, "mse"], 20)
    assert [(record.name, record.larger_is_better) for record in records] == [
        ("plain", True),
        ("marked", False),
        ("n_genes", False),
        ("mse", False),
    ]
    assert [larger_is_better(name) for name in ("mse", "mse_top7", "pearson_top20", "plain")] == [
        False,
        False,
        True,
        True,
    ]


def test_a_metric_gets_what_it_asks_for(screen, prediction):
    given = []

    def curious(predicted, observed, reference, own, panel, significant, strongest, variance, *, power=1):
        given.append((predicted, observed, reference, own, panel, significant, strongest, variance))
        return power

    prediction.layers["uncertainty"] = prediction.X**2
    read, name = read_screen(screen), next(name for name in prediction.obs["condition"] if "+" in name)
    one = prediction[prediction.obs["condition"] == name]
    for genes in ("all", "top"):
        record = Metric("curious", curious, genes=genes)
        scores = evaluate(one, screen, metrics=[record], n_top=6, exclude_targets=True)
        assert scores.columns.tolist() == ["curious_top6", "n_cells"]
    order = [gene for gene in top_de_genes(read, [name], 40)[name] if screen.var_names[gene] not in name.split("+")]
    for found, rows in zip(given, (sorted(order), order[:6]), strict=True):
        predicted, real, reference, own, panel, significant, strongest, variance = found
        np.testing.assert_array_equal(predicted, one.X[0, rows])
        np.testing.assert_allclose(real, observed(screen, name)[0][rows], rtol=1e-5)
        np.testing.assert_allclose(reference, observed(screen, name)[1][rows], rtol=1e-5)
        np.testing.assert_array_equal(panel, read.mean(read.conditions).to_numpy()[:, rows])
        np.testing.assert_array_equal(panel[own], real)
        np.testing.assert_array_equal(significant, significant_genes(read, [name])[name][rows])
        np.testing.assert_array_equal(np.array(rows)[strongest], order[:6])
        np.testing.assert_allclose(variance, one.X[0, rows] ** 2)
    del prediction.layers["uncertainty"]
    assert evaluate(prediction, screen, metrics=[curious]).columns.tolist() == ["n_cells"], "no variances, no column"


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ("pearson_dleta", "unknown metric 'pearson_dleta'; did you mean pearson_delta"),
        ([lambda y_hat, y, start, weight: 0], "asks for 'weight'; .* variance, significant, panel, own, strongest"),
        ([lambda y_hat, y: 0], "'<lambda>' is no function of"),
        ([3], "metric 'int' is no function of"),
        (["kgnn.metrics:nothing"], "cannot be imported"),
        ([bias, metric(name="bias")(bias)], "two columns are called 'bias'"),
        ([metric(name="n_cells")(bias)], "two columns are called 'n_cells'"),
        ([metric(name="wrong")(lambda y_hat, y, start: y)], "'wrong' returned ndarray; a metric returns one number"),
        ([metric(name="wrong")(lambda y_hat, y, start: None)], "'wrong' returned NoneType"),
    ],
)
def test_metrics_that_cannot_be_used_are_refused(screen, prediction, chosen, match):
    with pytest.raises(InputError, match=match):
        evaluate(prediction, screen, metrics=chosen)


@pytest.mark.parametrize("exclude", [False, True])
def test_scores_are_those_of_scikit_learn_and_scipy(screen, prediction, exclude):
    scores = evaluate(prediction, screen, n_top=7, exclude_targets=exclude)
    assert scores.index.tolist() == prediction.obs["condition"].tolist()
    read = read_screen(screen)
    for name in scores.index:
        y, control = observed(screen, name)
        y_hat = prediction[prediction.obs["condition"] == name].X[0]
        keep = ~np.isin(screen.var_names, name.split("+")) if exclude else np.ones(screen.n_vars, bool)
        top = [g for g in top_de_genes(read, [name], screen.n_vars)[name] if keep[g]][:7]
        row = scores.loc[name]
        for genes, suffix in ((keep, ""), (top, "_top7")):
            a, b, c = y_hat[genes], y[genes], control[genes]
            assert row["mse" + suffix] == pytest.approx(mean_squared_error(b, a), rel=1e-4)
            assert row["mae" + suffix] == pytest.approx(mean_absolute_error(b, a), rel=1e-4)
            assert row["pearson" + suffix] == pytest.approx(pearsonr(a, b).statistic, abs=1e-4)
            assert row["pearson_delta" + suffix] == pytest.approx(pearsonr(a - c, b - c).statistic, abs=1e-4)
        signs = [np.sign((y_hat[g] - control[g]) * (y[g] - control[g])) for g in top]
        wrong = np.mean([(1 - sign) / 2 for sign in signs])
        assert row["wrong_direction_top7"] == pytest.approx(wrong)


def test_a_split_scores_its_test_conditions_and_names_their_group(screen, prediction, parts):
    scores = evaluate(prediction, screen, parts)
    assert sorted(scores.index) == parts["test"]
    assert set(scores["subgroup"]) == set(parts["subgroups"])
    with pytest.raises(InputError, match="no prediction of the test condition"):
        evaluate(prediction[prediction.obs["condition"] != parts["test"][0]], screen, parts)


def test_the_truth_scores_best_and_no_change_scores_chance(screen):
    read = read_screen(screen)
    truth = AnnData(
        read.mean(read.conditions).to_numpy(), obs={"condition": read.conditions}, var={"g": screen.var_names}
    )
    truth.var_names = screen.var_names
    scores = evaluate(truth, screen)
    assert scores["mse"].max() < 1e-10
    assert scores["pearson_delta"].min() > 0.999
    for score in ("pds_cosine", "centroid_accuracy", "inverse_rank", "discrimination", "reach"):
        assert (scores[score].dropna() == 1).all()
    assert (scores["wrong_direction_top20"] == 0).all()
    nothing = evaluate(make_model("no_change").fit(screen).predict(read.conditions), screen)
    assert (nothing["pearson_delta"] == 0).all()
    for score in ("pearson_delta", "pearson_crossed", "direction_fidelity", "reach", "significant_jaccard"):
        assert (nothing[score].dropna() == 0).all()
    for score in ("pds_cosine", "inverse_rank", "wrong_direction_top20"):
        assert (nothing[score] == 0.5).all(), score


def test_cells_are_averaged_and_order_of_genes_does_not_matter(screen, prediction, parts):
    cells = make_model("additive").fit(screen, parts).predict(parts["test"], n_cells=4, seed=0)
    name = parts["test"][0]
    mean = cells[cells.obs["condition"] == name].X.mean(axis=0)
    expected = mean_squared_error(observed(screen, name)[0], mean)
    assert evaluate(cells, screen).loc[name, "mse"] == pytest.approx(expected, rel=1e-4)
    shuffled = prediction[:, prediction.var_names[::-1]]
    pd.testing.assert_frame_equal(evaluate(shuffled, screen), evaluate(prediction, screen))


def test_predictions_that_cannot_be_scored_are_refused(screen, prediction):
    with pytest.raises(InputError, match=r"no obs\['condition'\]"):
        evaluate(AnnData(prediction.X, var=prediction.var), screen)
    with pytest.raises(InputError, match="lacks 39 genes of the data"):
        evaluate(prediction[:, :1], screen)
    other = prediction.copy()
    other.obs["condition"] = "G001+G002+G003"
    with pytest.raises(InputError, match="has no cells in the data"):
        evaluate(other, screen)
    other.obs["condition"] = "control"
    with pytest.raises(InputError, match="holds none besides control"):
        evaluate(other, screen)
    other = prediction.copy()
    other.X[1, 3] = np.nan
    with pytest.raises(
        InputError, match=f"1 conditions is NaN or infinite, first '{re.escape(prediction.obs['condition'].iloc[1])}'"
    ):
        evaluate(other, screen)
    other = prediction.copy()
    other.layers["uncertainty"] = np.full(prediction.shape, np.inf)
    with pytest.raises(InputError, match="is NaN or infinite"):
        evaluate(other, screen)
    other.obs["condition"] = "G999"
    with pytest.raises(InputError, match="has no cells in the data"):
        explained_share(other, screen)
    with pytest.raises(InputError, match="'G999' has no cells in the data"):
        noise_ceiling(screen, ["G999"])


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        summary = summarize(pd.DataFrame({"score": rng.normal(1, 1, 40)}), seed=trial, n_resamples=500)
        covered += summary.loc["score", "low"] <= 1 <= summary.loc["score", "high"]
    assert 0.88 <= covered / 200 <= 0.98
    scores = pd.DataFrame({"a": [1.0, 2, 3], "n_cells": 5, "subgroup": "x"})
    summary = summarize(scores)
    assert summary.index.tolist() == ["a"]
    assert summary.loc["a", ["mean", "n"]].tolist() == [2, 3]
    assert summarize(scores).equals(summarize(scores))
    coin = pd.DataFrame({"a": [0.0, 1.0]})  # a mean of two draws is 0, 1/2, 1 with probability 1/4, 1/2, 1/4
    assert summarize(coin, confidence=0.6).loc["a", ["low", "high"]].tolist() == [0, 1]
    assert summarize(coin, confidence=0.4).loc["a", ["low", "high"]].tolist() == [0.5, 0.5]


def test_differential_expression_scores_are_those_of_scipy_and_scikit_learn(screen, prediction):
    scores = evaluate(prediction, screen, n_top=10)
    x, labels = screen.X.toarray(), screen.obs["condition"].astype(str).to_numpy()
    read = read_screen(screen)
    for name in scores.index[:3]:
        p = np.nan_to_num(ttest_ind(x[labels == name], x[labels == "control"], equal_var=False).pvalue, nan=1)
        order = np.argsort(p)
        adjusted = np.empty_like(p)
        adjusted[order] = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
        _, control = observed(screen, name)
        change = np.abs(prediction[prediction.obs["condition"] == name].X[0] - control)
        assert scores.loc[name, "de_auprc"] == pytest.approx(average_precision_score(adjusted < 0.05, change), rel=1e-5)
        top = set(top_de_genes(read, [name], 10)[name])
        assert scores.loc[name, "de_overlap_top10"] == len(top & set(np.argsort(-change, kind="stable")[:10])) / 10


def test_discrimination_counts_the_nearer_conditions(screen):
    read = read_screen(screen)
    means = read.mean(read.conditions)
    swapped = AnnData(means.to_numpy()[[1, 0, *range(2, len(means))]], obs={"condition": read.conditions})
    swapped.var_names = screen.var_names
    scores = evaluate(swapped, screen)["discrimination"]
    assert (scores.iloc[2:] == 1).all()
    distance = np.abs(means.to_numpy() - means.to_numpy()[1]).sum(1)
    assert scores.iloc[0] == pytest.approx(1 - (distance < distance[0]).mean())


def test_coverage_counts_genes_within_the_interval(screen, prediction):
    certain = prediction.copy()
    certain.layers["uncertainty"] = np.full(prediction.shape, 1e-12)
    unsure = prediction.copy()
    unsure.layers["uncertainty"] = np.full(prediction.shape, 1e6)
    assert (evaluate(unsure, screen)["coverage_90"] == 1).all()
    assert (evaluate(certain, screen)["coverage_90"] < 0.2).all()
    assert "coverage_90" not in evaluate(prediction, screen)


def test_the_ceiling_of_data_with_known_noise():
    rng = np.random.default_rng(0)
    genes, cells = 800, 60
    control, delta = rng.random(genes) + 9, rng.standard_normal(genes)  # far from zero, as logarithms are
    x = np.vstack(
        [control + rng.standard_normal((cells, genes)), control + delta + rng.standard_normal((cells, genes))]
    )
    adata = AnnData(x.astype(np.float32))
    adata.obs["condition"] = ["control"] * cells + ["A"] * cells
    table = noise_ceiling(adata, seed=1)
    noise = 2 / cells  # of the change, from all cells
    assert table.loc["A", "split_half"] == pytest.approx(1 / (1 + 2 * noise), abs=0.02)
    assert table.loc["A", "ceiling"] == pytest.approx(np.sqrt(1 / (1 + noise)), abs=0.01)
    control = adata.X[:cells].mean(axis=0)  # predictions start from the measured controls
    truth = AnnData((control + delta)[None].astype(np.float32), obs={"condition": ["A"]})
    truth.var_names = adata.var_names
    assert explained_share(truth, adata) == pytest.approx(1, abs=0.01)
    truth.X = control[None].astype(np.float32)
    assert explained_share(truth, adata) == pytest.approx(0, abs=0.01)
    truth.X = (control + delta / 2)[None].astype(np.float32)
    assert explained_share(truth, adata) == pytest.approx(0.75, abs=0.01)
    single = adata[[0, 1, 2, cells]]
    assert noise_ceiling(single).isna().all(axis=None)


def test_differences_are_paired_by_condition(screen, prediction, parts):
    ours = evaluate(prediction, screen)
    mean = evaluate(make_model("mean").fit(screen, parts).predict(list(ours.index)), screen).iloc[::-1]
    found = paired_difference(ours, mean)
    gap = ours["pearson_centred"] - mean["pearson_centred"]
    assert found["mean"] == pytest.approx(gap.mean())
    assert found["low"] < gap.mean() < found["high"]
    assert found["n"] == len(gap)


def test_cell_eval_agrees_where_both_define_a_score(screen, tmp_path):
    cell_eval = pytest.importorskip("cell_eval", reason="needs the [bench] extra")
    read = read_screen(screen)
    singles = [name for name in read.conditions if "+" not in name]
    model = make_model("additive").fit(screen, {"train": [name for name in read.conditions if "+" in name], "val": []})
    prediction = model.predict(["control", *singles])
    real = screen[screen.obs["condition"].isin(["control", *singles])].copy()
    pair = cell_eval._types.PerturbationAnndataPair(real, prediction, pert_col="condition", control_pert="control")
    ours, without = (evaluate(prediction, real, exclude_targets=exclude) for exclude in (False, True))
    metrics = cell_eval.metrics
    theirs = {"pearson_delta": metrics.pearson_delta, "mse": metrics.mse, "mae": metrics.mae}
    for score, function in theirs.items():
        found = pd.Series(function(pair))
        pd.testing.assert_series_equal(ours[score].sort_index(), found.sort_index(), check_names=False, rtol=1e-4)
    found = pd.Series(metrics.discrimination_score(pair, metric="l1")).sort_index()
    pd.testing.assert_series_equal(without["discrimination"].sort_index(), found, check_names=False)
