import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, mean_squared_error

from kgnn.data import read_screen, split, top_de_genes
from kgnn.errors import InputError
from kgnn.metrics import evaluate, summarize
from kgnn.models import Additive, NoChange


@pytest.fixture
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture
def prediction(screen, parts):
    return Additive().fit(screen, parts).predict([*parts["test"], *parts["val"]])


def observed(screen, name):
    x, labels = screen.X.toarray(), screen.obs["condition"].astype(str).to_numpy()
    return x[labels == name].mean(axis=0), x[labels == "control"].mean(axis=0)


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
        wrong = np.mean([(y_hat[g] - control[g]) * (y[g] - control[g]) < 0 for g in top])
        assert row["wrong_direction_top7"] == pytest.approx(wrong)
        correlations = {
            other: pearsonr((y_hat - control)[keep], (observed(screen, other)[0] - control)[keep]).statistic
            for other in read.conditions
        }
        better = [value > correlations[name] for other, value in correlations.items() if other != name]
        assert row["retrieval_rank"] == pytest.approx(np.mean(better))


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
    assert (scores["retrieval_rank"] == 0).all()
    assert (scores["wrong_direction_top20"] == 0).all()
    nothing = evaluate(NoChange().fit(screen).predict(read.conditions), screen)
    assert (nothing["pearson_delta"] == 0).all()
    assert (nothing["retrieval_rank"] == 0.5).all()
    assert (nothing["wrong_direction_top20"] == 0).all(), "no change is not the wrong direction"


def test_cells_are_averaged_and_order_of_genes_does_not_matter(screen, prediction, parts):
    cells = Additive().fit(screen, parts).predict(parts["test"], n_cells=4, seed=0)
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
