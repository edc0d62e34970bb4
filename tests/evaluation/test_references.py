"""Reference points, calibrated values, ratios of sums, control cells halved."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import false_discovery_control, pearsonr, ttest_ind

from kgnn.data import read_screen, simulate, split
from kgnn.errors import InputError
from kgnn.metrics import control_halves, crossed_scores, evaluate, reference_scores, summarize
from kgnn.models import make_model

POINTS = ["no change", "training mean", "replicate", "interpolated duplicate"]


@pytest.fixture(scope="module")
def parts(_screen):
    return split(_screen, "simulation", seed=1)


@pytest.fixture(scope="module")
def references(_screen, parts):
    return reference_scores(_screen, parts, exclude_targets=True)


def test_no_change_and_the_mean_are_those_of_the_models(screen, parts, references):
    assert references.index.unique(0).tolist() == POINTS
    for point, model in (("no change", "no_change"), ("training mean", "mean")):
        fitted = make_model(model).fit(screen, parts).predict(parts["test"])
        theirs = evaluate(fitted, screen, parts, exclude_targets=True)
        pd.testing.assert_frame_equal(
            references.loc[point].loc[theirs.index], theirs, check_like=True, check_dtype=False, atol=1e-4
        )
    assert (references.loc["training mean", "pearson_centred"] == 0).all()


def test_without_a_split_the_mean_is_that_of_the_other_conditions(screen):
    found = reference_scores(screen, conditions=["G000"], metrics=["mse"])
    x, labels = screen.X.toarray(), screen.obs["condition"].astype(str).to_numpy()
    others = [x[labels == name].mean(0) for name in sorted(set(labels) - {"control", "G000"})]
    expected = np.square(np.mean(others, axis=0) - x[labels == "G000"].mean(0)).mean()
    assert found.loc[("training mean", "G000"), "mse"] == pytest.approx(expected, rel=1e-4)
    alone = screen[screen.obs["condition"].isin(["control", "G000"])]
    assert reference_scores(alone, metrics=["mse"]).index.unique(0).tolist() == ["no change"], "there are no others"
    assert reference_scores(screen, conditions=["G000"], metrics=["mse"]).equals(found)
    assert not reference_scores(screen, conditions=["G000"], metrics=["mse"], seed=1).equals(found)


def test_a_replicate_is_one_half_against_the_other():
    """Two cells: each is the other's replicate."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(5, 1, (14, 20)))
    labels = ["control"] * 4 + ["A", "A"] + ["B"] * 4 + ["C"] * 4
    adata = AnnData(x.astype(np.float32), obs=pd.DataFrame({"condition": labels}, index=[str(i) for i in range(14)]))
    parts = {"train": ["B", "C"], "val": [], "test": ["A"]}
    scores = reference_scores(adata, parts, metrics=["mse", "pearson_delta", "pearson_centred"])
    a, b, c, m = x[4], x[5], x[:4].mean(0), (x[6:10].mean(0) + x[10:].mean(0)) / 2
    found = scores.loc[("replicate", "A")]
    assert found["mse"] == pytest.approx(np.square(a - b).mean(), rel=1e-4)
    assert found["pearson_delta"] == pytest.approx(pearsonr(a - c, b - c).statistic, abs=1e-4)
    assert found["pearson_centred"] == pytest.approx(pearsonr(a - m, b - m).statistic, abs=1e-4)
    assert found["subgroup"] == ""
    lone = adata[[*range(5), *range(6, 14)]]
    assert reference_scores(lone, parts, metrics="mse").index.unique(0).tolist() == POINTS[:2], "one cell has no half"


def test_the_interpolated_duplicate_by_hand(screen, parts, monkeypatch):
    from kgnn.evaluation.metrics import references

    made = []
    score = references.score_conditions
    monkeypatch.setattr(references, "score_conditions", lambda *given: made.append(given[:2]) or score(*given))
    reference_scores(screen, parts, metrics="mse")
    (replicate, rest), (blend, _) = made[2:4]
    half = made[4][1]  # what the next way is scored against is what this one was made of
    name = replicate.obs["condition"].iloc[0]
    x, labels = half.screen.x.toarray().astype(float), half.screen.condition
    own = x[labels == name]
    np.testing.assert_allclose(replicate.X[0], own.mean(0), rtol=1e-5)
    both = {tuple(row) for part in (half, rest) for row in part.screen.x[part.screen.cells([name])].toarray()}
    assert len(both) == len(screen[screen.obs["condition"] == name]), "no cell is in both halves"
    others = x[(labels != name) & (labels != "")]
    p = false_discovery_control(np.nan_to_num(ttest_ind(own, others, equal_var=False).pvalue, nan=1))
    m = np.mean([x[labels == train].mean(0) for train in parts["train"]], axis=0)
    np.testing.assert_allclose(blend.X[0], (1 - p) * own.mean(0) + p * m, atol=1e-3)


def test_references_of_cells_have_the_means_of_the_others(screen, parts, references):
    cells = reference_scores(screen, parts, exclude_targets=True, cells=True)
    assert "e_distance" not in references
    assert cells["e_distance"].notna().all()
    means = cells["e_distance"].groupby(level=0).mean()
    assert abs(means["replicate"]) < 0.2 * means[["training mean", "no change"]].min()
    for score in ("mse", "pearson_centred"):
        pd.testing.assert_series_equal(cells[score], references[score], atol=1e-4, rtol=1e-3)


def test_calibrated_is_0_for_the_mean_and_1_for_the_replicate(references, parts):
    for point, value in (("training mean", 0), ("replicate", 1)):
        summary = summarize(references.loc[point], references=references)
        known = summary["calibrated"].notna()
        assert known["pearson_centred"]
        assert known["mse_ratio"]
        assert summary.loc[known, "calibrated"].to_numpy() == pytest.approx(value, abs=1e-9)
    better = summary.loc[["pearson_centred", "pds_cosine", "mse_ratio", "mse"]]
    assert (better["gain"] > 0).all()
    assert (better["gain_low"] <= better["gain"]).all()
    assert better.loc["mse", "gain"] == pytest.approx(better.loc["mse", "training mean"] - better.loc["mse", "mean"])
    assert summary["no change"].loc["mse"] == pytest.approx(references.loc["no change", "mse"].mean())


def test_a_score_by_which_the_replicate_is_no_better_is_not_calibrated():
    scores = pd.DataFrame({"mse": [1.0, 3]}, index=["a", "b"])
    table = {"training mean": scores - 0.5, "replicate": scores}
    summary = summarize(scores, references=pd.concat(table, names=["reference", "condition"]))
    assert np.isnan(summary.loc["mse", "calibrated"])
    assert summary.loc["mse", "gain"] == -0.5, "less is better"
    table["replicate"] = scores - 1.5
    summary = summarize(scores, references=pd.concat(table, names=["reference", "condition"]))
    assert summary.loc["mse", "calibrated"] == pytest.approx((2 - 1.5) / (0.5 - 1.5))
    assert summary.loc["mse", ["gain_low", "gain_high"]].tolist() == pytest.approx([-0.5, -0.5])


def test_the_ratio_is_that_of_sums():
    scores = pd.DataFrame({"mse_unbiased": [1.0, 2, 5, np.nan], "size_unbiased": [4.0, -1, 7, 3], "mse": 1.0})
    summary = summarize(scores)
    assert summary.index.tolist() == ["mse_ratio", "mse"]
    assert summary.loc["mse_ratio", ["mean", "n"]].tolist() == pytest.approx([8 / 10, 3])
    assert summary.loc["mse_ratio", "low"] < 0.8 < summary.loc["mse_ratio", "high"]
    noise = summarize(scores.assign(size_unbiased=[1.0, -1, -2, 0]))
    assert np.isnan(noise.loc["mse_ratio", "mean"]), "no change larger than the noise"
    only = summarize(scores[["mse_unbiased"]])
    assert only.index.tolist() == ["mse_unbiased"]


def test_the_ratio_is_0_for_the_truth_and_1_for_the_true_control():
    rng = np.random.default_rng(0)
    level, names = rng.random(400) + 5, ["A", "B", "C", "D"]
    delta = rng.normal(0, 0.15, (4, 400))
    cells = [level + rng.normal(0, 1, (60, 400))]
    cells += [level + change + rng.normal(0, 1, (30, 400)) for change in delta]
    adata = AnnData(
        np.vstack(cells).astype(np.float32), obs={"condition": np.repeat(["control", *names], [60] + [30] * 4)}
    )
    for x, expected in ((level + delta, 0), (level + 0 * delta, 1), (level + delta / 2, 0.25)):
        prediction = AnnData(x, obs={"condition": names})
        prediction.var_names = adata.var_names
        summary = summarize(evaluate(prediction, adata, metrics=["mse_ratio"]))
        assert summary.loc["mse_ratio", "mean"] == pytest.approx(expected, abs=0.12)


def test_control_halves_share_no_control_cell(screen):
    a, b = control_halves(screen, seed=2)
    control = [set(half.obs_names[half.obs["condition"] == "control"]) for half in (a, b)]
    assert not control[0] & control[1]
    assert control[0] | control[1] == set(screen.obs_names[screen.obs["condition"] == "control"])
    assert abs(len(control[0]) - len(control[1])) <= 1
    others = screen.obs_names[screen.obs["condition"] != "control"]
    assert all(set(others) <= set(half.obs_names) for half in (a, b))
    again, _ = control_halves(screen, seed=2)
    assert again.obs_names.equals(a.obs_names)
    assert not control_halves(screen, seed=3)[0].obs_names.equals(a.obs_names)
    batch = screen.copy()
    batch.obs["batch"] = "x"
    batch.obs.loc[batch.obs_names[batch.obs["condition"] == "control"][:4], "batch"] = "y"
    for half in control_halves(batch, group_key="batch"):
        assert (half.obs["batch"] == "y").sum() == 2
    lone = (screen.obs["condition"] != "control").to_numpy()
    lone[np.flatnonzero(~lone)[0]] = True
    with pytest.raises(InputError, match="one control cell"):
        control_halves(screen[lone])


class Lazy:
    """A model of means, without delta."""

    def fit(self, adata, split):
        read = read_screen(adata)
        self.genes, self.controls, self.mean = read.genes, len(read.controls), read.mean(split["train"]).mean()

    def predict(self, conditions):
        prediction = AnnData(np.array([self.mean] * len(conditions)), obs={"condition": list(conditions)})
        prediction.var_names = self.genes
        return prediction


@pytest.mark.parametrize("make", [Lazy, lambda: make_model("mean")])
def test_crossed_scores_by_hand(screen, parts, make):
    found = crossed_scores(make, screen, parts, n_draws=1, seed=4)
    assert found.columns.tolist() == ["pearson_delta", "pearson_delta_top20", "pds_cosine", "n_cells", "subgroup"]
    train = read_screen(screen).mean(parts["train"]).mean().to_numpy()
    controls = [read_screen(half).control_mean for half in control_halves(screen, 4)]
    for name in parts["test"]:
        y = read_screen(screen).mean([name]).to_numpy()[0]
        a, b = controls
        expected = [pearsonr(train - start, y - other).statistic for start, other in ((a, b), (b, a))]
        assert found.loc[name, "pearson_delta"] == pytest.approx(np.mean(expected), abs=1e-3)


def test_crossed_scores_need_a_function_and_draw_as_often_as_asked(screen, parts):
    with pytest.raises(InputError, match="make is no function"):
        crossed_scores("mean", screen, parts)
    made = []
    crossed_scores(lambda: made.append(0) or make_model("mean"), screen, parts, n_draws=3)
    assert len(made) == 6


def test_the_posthoc_value_lies_below_and_pearson_delta_above_the_exact_one():
    """A model that halves the mean change: half of the control mean's noise is in its prediction."""
    adata = simulate(n_genes=150, n_singles=30, n_pairs=0, cells_per_condition=40, n_controls=12, seed=1)
    parts = split(adata, "random_condition", seed=0)

    class Half:
        def fit(self, data, split):
            self.model = make_model("mean").fit(data, split)

        def predict(self, conditions):
            found = self.model.predict(conditions)
            start = found.X - found.layers["delta"]
            found.layers["delta"] = found.layers["delta"] / 2
            found.X = start + found.layers["delta"]
            return found

    model = Half()
    model.fit(adata, parts)
    scores = evaluate(model.predict(parts["test"]), adata, parts)[["pearson_crossed", "pearson_delta"]].mean()
    exact = crossed_scores(Half, adata, parts, n_draws=5)["pearson_delta"].mean()
    assert scores["pearson_crossed"] < exact < scores["pearson_delta"]


def test_the_noise_of_a_control_mean_of_two_groups(screen):
    from kgnn.evaluation.metrics.truth import read_truth

    screen.obs["batch"] = (np.arange(screen.n_obs) % 3 == 0).astype(str)
    names = {"condition_key": "condition", "control": None, "group_key": "batch"}
    found = read_truth(screen, None, names).noise("G000")[1]
    x, control = screen.X.toarray(), (screen.obs["condition"] == "control").to_numpy()
    expected = 0
    for group, share in screen.obs.loc[screen.obs["condition"] == "G000", "batch"].value_counts(normalize=True).items():
        cells = x[control & (screen.obs["batch"] == group).to_numpy()]
        expected = expected + share**2 * cells.var(axis=0, ddof=1) / len(cells)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
