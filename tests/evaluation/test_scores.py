"""Scores of changes, retrieval, noise and significant sets: by hand, by plain loops over the cells, and by
cell-eval."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from scipy.stats import false_discovery_control, norm, pearsonr, ttest_ind
from sklearn.metrics import roc_auc_score

from kgnn.data import read_screen, split
from kgnn.data.differential import against_others, called_in_cells, significant_genes
from kgnn.errors import InputError
from kgnn.evaluation.metrics.change import change
from kgnn.evaluation.metrics.direction_fidelity import called_genes
from kgnn.evaluation.metrics.pearson import correlation
from kgnn.evaluation.metrics.weighted_mse import gene_weights
from kgnn.metrics import METRICS, calibration_curve, energy_distance, evaluate, gene_auc, summarize
from kgnn.models import make_model

Z = np.zeros(4)
C = np.array([1.0, 1, 1, 1])


def at(*shift):
    return C + np.array(shift, float)


Y, P = at(2, -1, 1, 0), at(1, -2, -1, 0)
PANEL = np.array([Y, at(1, -2, -1, 5), at(-2, 1, -1, 0), Y])
NOT = np.zeros(4, bool)
LAST = np.array([False, False, False, True])
ALL = np.ones(4, bool)
THREE = np.array([True, True, True, False])


@pytest.mark.parametrize(
    ("name", "further", "expected"),
    [
        ("pearson_centred", {"center": C}, pearsonr(P - C, Y - C).statistic),
        ("pearson_centred", {"center": at(1, 0, 0, 0)}, pearsonr([0, -2, -1, 0], [1, -1, 1, 0]).statistic),
        ("pearson_centred", {"center": P}, 0),
        (
            "pearson_crossed",
            {"halves": np.array([[C, at(0, 0, 0, 1)]])},
            (pearsonr([1, -2, -1, 0], [2, -1, 1, -1]).statistic + pearsonr([1, -2, -1, -1], [2, -1, 1, 0]).statistic)
            / 2,
        ),
        ("pearson_crossed", {"halves": np.array([[C, C]])}, pearsonr(P - C, Y - C).statistic),
        # δ̂ = 1 -2 -1 0; the cosines: 3 / 6, 6 / √(6·31), -3 / 6, 3 / 6
        ("pds_cosine", {"panel": PANEL, "own": 0, "targets": NOT}, 1 - (0 + 0.5) / 3),
        ("pds_cosine", {"panel": PANEL, "own": 1, "targets": NOT}, 1 - 2 / 3),
        ("pds_cosine", {"panel": PANEL, "own": 2, "targets": NOT}, 0),
        ("pds_cosine", {"panel": PANEL, "own": 1, "targets": LAST}, 1),  # without its target it is what was predicted
        ("pds_cosine", {"panel": PANEL, "own": 0, "targets": ALL}, np.nan),
        ("pds_cosine", {"panel": PANEL[:1], "own": 0, "targets": NOT}, np.nan),
        ("pds_cosine", {"panel": np.array([C, Y, PANEL[2]]), "own": 0, "targets": NOT}, 1 - 1 / 2),  # a change of 0: 1
        # distances of P: √6, 5, √(9 + 9 + 0), √6
        ("centroid_accuracy", {"panel": PANEL, "own": 0}, 2 / 3),  # its double is not farther
        ("centroid_accuracy", {"panel": PANEL, "own": 1}, 0),
        ("centroid_accuracy", {"panel": PANEL, "own": 2}, 1 / 3),
        ("centroid_accuracy", {"panel": PANEL[:1], "own": 0}, np.nan),
        # distances to Y: P √6, Y 0, C √6, C + 9 far
        ("inverse_rank", {"predictions": np.array([P, Y, C, C + 9]), "place": 0}, 1 - 1.5 / 3),
        ("inverse_rank", {"predictions": np.array([P, Y, C, C + 9]), "place": 1}, 1),
        ("inverse_rank", {"predictions": np.array([P, Y, C, C + 9]), "place": 3}, 0),
        ("inverse_rank", {"predictions": np.array([P]), "place": 0}, np.nan),
        ("mse_unbiased", {"noise": np.array([[1, 0, 0, 0.5], [9, 9, 9, 9]])}, 6 - 1.5),
        ("size_unbiased", {"noise": np.array([[1, 0, 0, 0.5], [0, 2, 0, 0]])}, 6 - 3.5),
        ("size_unbiased", {"noise": np.array([[5, 0, 0, 0.5], [0, 2, 0, 0]])}, 6 - 7.5),
        ("weighted_mse", {"weights": np.array([1, 2, 0, 1.0])}, 3 / 4),
        ("weighted_mse", {"weights": Z}, np.nan),
        # δ = 2 -1 1 0, weights 1/2 1/2 0 0: mean 1/2, spread 9/4, error 1
        ("weighted_r2", {"weights": np.array([3, 3, 0, 0.0]), "center": C}, 1 - 1 / (9 / 4)),
        ("weighted_r2", {"weights": np.array([3, 3, 0, 0.0]), "center": at(3, 0, 9, 9)}, np.nan),  # δ = -1 -1
        ("weighted_r2", {"weights": Z, "center": C}, np.nan),
        ("direction_fidelity", {"significant": ALL, "called": THREE}, 2 / 4),
        ("direction_fidelity", {"significant": LAST, "called": THREE}, 0),
        ("direction_fidelity", {"significant": np.array([True, False, False, False]), "called": THREE}, 1 / 3),
        ("direction_fidelity", {"significant": THREE, "called": NOT}, 0),
        ("direction_fidelity", {"significant": NOT, "called": NOT}, np.nan),
        ("significant_jaccard", {"significant": ALL, "called": THREE}, 3 / 4),
        ("significant_jaccard", {"significant": LAST, "called": THREE}, 0),
        ("significant_jaccard", {"significant": THREE, "called": NOT}, 0),
        ("significant_jaccard", {"significant": NOT, "called": NOT}, np.nan),
        (
            "reach",
            {"significant": THREE},
            1 / 3,
        ),  # by |δ̂| right, then one wrong and one right alike: the wrong one first
        ("reach", {"significant": np.array([True, True, False, False])}, 1),
        ("reach", {"significant": np.array([False, False, True, True])}, 0),
        ("reach", {"significant": NOT}, np.nan),
        ("fold_change_error", {"significant": THREE}, (1 + 1 + 2) / 3 / np.log(2)),
        ("fold_change_error", {"significant": NOT}, np.nan),
        ("coverage_90_changed", {"variance": np.array([0.61, 0.6, 9, 9]) ** 2, "significant": THREE}, 2 / 3),
        ("coverage_90_changed", {"variance": np.ones(4), "significant": NOT}, np.nan),
    ],
)
def test_scores_by_hand(name, further, expected):
    assert METRICS[name](P, Y, C, **further) == pytest.approx(expected, nan_ok=True)


def test_reach_takes_nine_of_ten():
    moved = np.arange(20, 0, -1.0)
    real = np.ones(20)
    real[[9, 10]] = -1  # 9 of 10 right, then 9 of 11, … 18 of 20
    ask = {"significant": np.ones(20, bool)}
    assert METRICS["reach"](moved, real, np.zeros(20), **ask) == 1
    assert METRICS["reach"](moved[:19], real[:19], np.zeros(19), significant=ask["significant"][:19]) == 10 / 19
    assert METRICS["reach"](np.zeros(20), real, np.zeros(20), **ask) == 0


def test_changes_within_rounding_are_none():
    y = np.array([4.0, 4, 0, 1e-9])
    assert change(y + np.array([3.9e-5, 4.1e-5, -3.9e-5, 1]), y).tolist() == pytest.approx([0, 4.1e-5, 0, 1])
    assert correlation(np.array([1, 1 + 1e-6, 1]), np.array([1.0, 2, 3]), 1e-5) == 0
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
    assert np.isnan(correlation(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize(
    ("moved", "significant", "expected"),
    [
        ([1, -3, 2, 0], [1, 0, 0, 1], [0, 1, 1, 0]),
        ([1, -3, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0]),  # of two alike at the end none
        ([1, -3, 1, 0], [1, 1, 0, 1], [1, 1, 1, 0]),
        ([1, 0, 0, 0], [1, 1, 0, 1], [1, 0, 0, 0]),  # what does not change is never called
        ([1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_what_a_prediction_of_a_mean_calls(moved, significant, expected):
    found = called_genes(np.array(moved, float), np.array(significant, bool))
    assert found.tolist() == [bool(value) for value in expected]


def test_overlap_among_equals_is_that_of_drawing_them():
    overlap = METRICS["de_overlap"]
    moved = np.array([3.0, 1, 1, 1, 0])
    rng = np.random.default_rng(0)
    drawn = [np.isin([0, 1], np.lexsort((rng.random(5), -moved))[:2]).mean() for _ in range(4000)]
    assert overlap(moved, moved, np.zeros(5), strongest=np.array([0, 1])) == pytest.approx(np.mean(drawn), abs=0.02)
    assert overlap(np.zeros(5), moved, np.zeros(5), strongest=np.array([0, 1])) == 2 / 5
    assert np.isnan(overlap(moved, moved, np.zeros(5), strongest=np.zeros(0, int)))


def test_weights_by_hand():
    assert gene_weights(np.array([-3.0, 1, 2])) == pytest.approx([4 / 5, 0, 1 / 5])
    assert gene_weights(np.array([2.0, -2])).tolist() == [0, 0]


@pytest.fixture(scope="module")
def fitted(_screen):
    parts = split(_screen, "simulation", seed=1)
    model = make_model("additive").fit(_screen, parts)
    return _screen, parts, model.predict(parts["test"]), model


def cells_of(screen, name):
    return screen.X.toarray()[(screen.obs["condition"] == name).to_numpy()].astype(float)


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("with_split", [False, True])
def test_scores_are_those_of_plain_loops(fitted, exclude, with_split):
    screen, parts, prediction, _ = fitted
    scores = evaluate(prediction, screen, parts if with_split else None, exclude_targets=exclude, n_top=6)
    conditions = sorted(set(screen.obs["condition"]) - {"control"})
    mean = {name: cells_of(screen, name).mean(0) for name in [*conditions, "control"]}
    y_hat = {name: row.X[0] for name, row in ((n, prediction[prediction.obs["condition"] == n]) for n in parts["test"])}
    c, genes = mean["control"], screen.var_names
    targets = {gene for name in conditions for gene in name.split("+")}
    significant = significant_genes(read_screen(screen), conditions)
    for name in parts["test"]:
        keep = [g for g, gene in enumerate(genes) if not (exclude and gene in name.split("+"))]
        others = [other for other in conditions if other != name]
        center = np.mean([mean[other] for other in (parts["train"] if with_split else others)], axis=0)
        row, a, b = scores.loc[name], y_hat[name], mean[name]
        assert row["pearson_centred"] == pytest.approx(pearsonr((a - center)[keep], (b - center)[keep])[0], abs=1e-5)
        free = [g for g in keep if genes[g] not in targets]
        cos = {q: np.dot((a - c)[free], (mean[q] - c)[free]) for q in conditions}
        cos = {q: v / np.linalg.norm((a - c)[free]) / np.linalg.norm((mean[q] - c)[free]) for q, v in cos.items()}
        assert row["pds_cosine"] == pytest.approx(np.mean([cos[q] < cos[name] for q in others]))
        far = {q: np.sqrt(((a - mean[q])[keep] ** 2).sum()) for q in conditions}
        assert row["centroid_accuracy"] == pytest.approx(np.mean([far[q] > far[name] for q in others]))
        city = {q: np.abs((a - mean[q])[keep]).sum() for q in conditions}
        assert row["discrimination"] == pytest.approx(1 - sum(city[q] < city[name] for q in others) / len(conditions))
        back = {q: ((y_hat[q] - b)[keep] ** 2).sum() for q in parts["test"]}
        gaps = [back[q] - back[name] for q in parts["test"] if q != name]  # of unknown genes it knows the same
        rank = np.mean([0.5 if abs(gap) < 1e-5 else gap > 0 for gap in gaps])
        assert row["inverse_rank"] == pytest.approx(rank)
        x, controls = cells_of(screen, name)[:, keep], cells_of(screen, "control")[:, keep]
        noise = []
        for sample in (x, controls):  # the jackknife, literally
            n, left = len(sample), np.array([np.delete(sample, i, 0).mean(0) for i in range(len(sample))])
            noise.append((n - 1) / n * ((left - sample.mean(0)) ** 2).sum())
        assert row["mse_unbiased"] == pytest.approx(((a - b)[keep] ** 2).sum() - noise[0], rel=1e-4)
        assert row["size_unbiased"] == pytest.approx(((b - c)[keep] ** 2).sum() - sum(noise), rel=1e-4)
        rest = np.concatenate([cells_of(screen, other) for other in others])
        t = np.abs(np.nan_to_num(ttest_ind(cells_of(screen, name), rest, equal_var=False).statistic))
        w = ((t - t.min()) / (t.max() - t.min())) ** 2
        w = w[keep] / w[keep].sum()
        assert row["weighted_mse"] == pytest.approx((w * (a - b)[keep] ** 2).sum(), rel=1e-4)
        real = (b - center)[keep]
        expected = 1 - (w * (a - b)[keep] ** 2).sum() / (w * (real - (w * real).sum()) ** 2).sum()
        assert row["weighted_r2"] == pytest.approx(expected, abs=1e-4)
        changed = [g for g in keep if significant[name][g]]
        called = sorted(keep, key=lambda g: -abs(a[g] - c[g]))[: len(changed)]
        right = sum(np.sign(a[g] - c[g]) == np.sign(b[g] - c[g]) for g in set(called) & set(changed))
        assert row["direction_fidelity"] == pytest.approx(right / len(changed) if changed else np.nan, nan_ok=True)
        jaccard = len(set(called) & set(changed)) / max(len(set(called) | set(changed)), 1)
        assert row["significant_jaccard"] == pytest.approx(jaccard if changed else np.nan, nan_ok=True)


def test_crossing_removes_the_noise_of_the_control_cells():
    """Nothing changes and nothing is known; the control mean is wrong, and so all changes look alike."""
    rng = np.random.default_rng(0)
    level = rng.random(300) + 5
    x = np.vstack([level + rng.normal(0, 1, (8, 300)), level + rng.normal(0, 1, (600, 300))])
    adata = AnnData(x.astype(np.float32), obs={"condition": np.repeat(["control", "A", "B", "C"], [8, 200, 200, 200])})
    parts = {"train": ["A", "B"], "val": [], "test": ["C"]}
    scores = evaluate(make_model("mean").fit(adata, parts).predict("C"), adata, parts).loc["C"]
    assert scores["pearson_delta"] > 0.9
    assert abs(scores["pearson_crossed"]) < 0.2
    assert scores["pearson_centred"] == 0
    one = evaluate(make_model("mean").fit(adata, parts).predict("C"), adata, parts, seed=1).loc["C"]
    assert one["pearson_crossed"] != scores["pearson_crossed"]
    assert np.isnan(
        evaluate(make_model("mean").fit(adata[7:], parts).predict("C"), adata[7:], parts)["pearson_crossed"].C
    )


def test_halves_and_noise_are_of_the_groups_own_control_cells(fitted):
    screen, parts, prediction, _ = fitted
    batch = screen.copy()
    batch.obs["batch"] = np.arange(batch.n_obs) % 2
    batch.X = batch.X.toarray() + 3.0 * batch.obs["batch"].to_numpy()[:, None]
    shifted = prediction.copy()
    plain, grouped = (evaluate(shifted, a, parts, **o) for a, o in ((screen, {}), (batch, {"group_key": "batch"})))
    for score in ("pearson_crossed", "pearson_centred", "pds_cosine"):  # the shift of a batch is no noise
        assert grouped[score].corr(plain[score]) > 0.8
    ratio = summarize(grouped).loc["mse_ratio", "mean"] / summarize(plain).loc["mse_ratio", "mean"]
    assert 0.7 < ratio < 1.4
    t, p = against_others(read_screen(batch, group_key="batch"), parts["test"][0])
    own = batch.obs["condition"] == parts["test"][0]
    x, control = np.asarray(batch.X), (batch.obs["condition"] == "control").to_numpy()
    for number in (0, 1):
        rows = (batch.obs["batch"] == number).to_numpy()
        x[rows] -= x[rows & control].mean(0)
    expected = ttest_ind(x[own], x[~own & ~control], equal_var=False)
    np.testing.assert_allclose(t, expected.statistic, rtol=1e-3)
    np.testing.assert_allclose(p, false_discovery_control(expected.pvalue), rtol=0.02, atol=1e-6)


def test_predicted_cells_have_a_distance_and_their_own_calls(fitted):
    screen, parts, prediction, model = fitted
    assert "e_distance" not in evaluate(prediction, screen)
    name = parts["test"][0]
    cells = model.predict(parts["test"], n_cells=12, seed=0)
    scores = evaluate(cells, screen)
    a = cells[cells.obs["condition"] == name].X
    a, b = np.asarray(a.toarray() if hasattr(a, "toarray") else a, float), cells_of(screen, name)
    within = [cdist(x, x)[~np.eye(len(x), dtype=bool)].mean() for x in (a, b)]
    expected = 2 * cdist(a, b).mean() - sum(within)
    assert scores.loc[name, "e_distance"] == pytest.approx(expected, rel=1e-4)
    rng = np.random.default_rng(0)
    same = [energy_distance(*rng.normal(0, 1, (2, 5, 8))) for _ in range(400)]
    assert np.mean(same) == pytest.approx(0, abs=0.1), "few cells of one distribution are not apart"
    assert energy_distance(a, a + 2) > energy_distance(a, a + 1) > 0.1
    assert np.isnan(energy_distance(a, b[:1]))
    many, other = rng.normal(0, 1, (2500, 3)), rng.normal(1, 1, (40, 3))
    found = METRICS["e_distance"](None, None, None, cells=many, real_cells=other)
    assert found == energy_distance(many[::3], other)
    called = called_in_cells(a, read_screen(screen), name)
    significant = significant_genes(read_screen(screen), [name])[name]
    expected = (called & significant).sum() / (called | significant).sum()
    assert scores.loc[name, "significant_jaccard"] == expected
    assert set(np.flatnonzero(called)) <= set(np.flatnonzero(ttest_ind(a, cells_of(screen, "control")).pvalue < 0.2))


def test_a_calibration_curve_of_known_variances(fitted):
    screen, parts, prediction, _ = fitted
    with pytest.raises(InputError, match="no layers"):
        calibration_curve(prediction, screen)
    rng, read = np.random.default_rng(0), read_screen(screen)
    truth, sd = read.mean(parts["test"]).to_numpy(), 0.5
    drawn = prediction[prediction.obs["condition"].isin(parts["test"])].copy()
    truth = read.mean(list(drawn.obs["condition"])).to_numpy()
    drawn.X = (truth + sd * rng.standard_normal(truth.shape)).astype(np.float32)
    drawn.layers["uncertainty"] = np.full(truth.shape, sd**2)
    curve = calibration_curve(drawn, screen, parts)
    np.testing.assert_allclose(curve["all"], curve.index, atol=0.1)
    drawn.layers["uncertainty"] = np.full(truth.shape, sd**2 / 4)
    narrow = calibration_curve(drawn, screen, parts, levels=[0.9])
    assert narrow.loc[0.9, "all"] == pytest.approx(2 * norm.cdf(norm.ppf(0.95) / 2) - 1, abs=0.1)
    scores = evaluate(drawn, screen, parts)
    assert narrow.loc[0.9, "all"] == pytest.approx(scores["coverage_90"].mean(), abs=1e-3)
    assert narrow.loc[0.9, "changed"] == pytest.approx(scores["coverage_90_changed"].mean(), abs=1e-3)
    with pytest.raises(InputError, match="levels = 2"):
        calibration_curve(drawn, screen, levels=[2])


def test_auc_of_each_gene():
    table = pd.DataFrame(
        {"gene": list("AAAABBBCC"), "label": [1, 0, 1, 0, 1, 0, 0, 1, 1], "score": [3, 1, 2, 2, 0, 1, 2, 5, 5.0]}
    )
    found = gene_auc(table)
    assert found["auc"].to_dict() == {"A": 3.5 / 4, "B": 0}
    rng = np.random.default_rng(0)
    big = pd.DataFrame({"g": rng.integers(5, size=300), "y": rng.random(300) < 0.3, "s": rng.random(300)})
    auc = gene_auc(big.set_index(np.arange(300) % 7), gene="g", label="y", score="s")["auc"]
    for gene, part in big.groupby("g"):
        assert auc[gene] == roc_auc_score(part["y"], part["s"])
    for wrong, match in (
        (table.drop(columns="label"), "no column 'label'"),
        (table.assign(label=2), "other labels"),
        (table.assign(score=np.nan), "no finite numbers"),
        (table.assign(score=np.inf), "no finite numbers"),
        (table.assign(label=1), "no gene has both labels"),
    ):
        with pytest.raises(InputError, match=match):
            gene_auc(wrong)


def test_cell_eval_agrees_on_retrieval_and_distance(fitted):
    cell_eval = pytest.importorskip("cell_eval", reason="needs the [bench] extra")
    from cell_eval.metrics._anndata import edistance

    screen, _, _, _ = fitted
    read = read_screen(screen)
    singles = [name for name in read.conditions if "+" not in name]
    model = make_model("additive").fit(screen, {"train": [name for name in read.conditions if "+" in name], "val": []})
    real = screen[screen.obs["condition"].isin(["control", *singles])].copy()
    cells = model.predict(["control", *singles], n_cells=9, seed=1)
    pairs = {}
    free = [gene for gene in screen.var_names if gene not in singles]
    for name, genes in (("all", list(screen.var_names)), ("free", free)):
        pairs[name] = cell_eval._types.PerturbationAnndataPair(
            real[:, genes].copy(), cells[:, genes].copy(), pert_col="condition", control_pert="control"
        )
    n = len(singles)
    # cell-eval takes the control cells of the prediction for the predicted change: these are given as delta
    predicted = cells[cells.obs["condition"] != "control"].copy()
    start = np.asarray(cells[cells.obs["condition"] == "control"].X.mean(0)).ravel()
    dense = predicted.X.toarray() if hasattr(predicted.X, "toarray") else predicted.X
    predicted.X = dense - start + read.control_mean
    predicted.layers.clear()
    for exclude in (False, True):
        found = cell_eval.metrics.discrimination_score(pairs["all"], metric="l1", exclude_target_gene=exclude)
        ours = evaluate(predicted, real, metrics="discrimination", exclude_targets=exclude)["discrimination"]
        assert ours.to_dict() == pytest.approx(found)
    found = cell_eval.metrics.discrimination_score(pairs["free"], metric="cosine")
    ours = evaluate(predicted, real, metrics="pds_cosine")["pds_cosine"]
    assert {p: (1 - score) * (n - 1) for p, score in ours.items()} == pytest.approx(
        {p: (1 - score) * n for p, score in found.items()}, abs=1e-9
    )
    theirs = edistance(pairs["all"])
    drawn = AnnData(csr_matrix(cells.X), obs=cells.obs)
    one, other = (
        [_with_itself(cells_of(a, p), cells_of(a, "control")) for p in sorted(singles)] for a in (real, drawn)
    )
    assert pearsonr(one, other).statistic == pytest.approx(theirs, rel=1e-4)


def _with_itself(a, b):
    """Our distance, with the pairs of a cell with itself that cell-eval counts."""
    within = [cdist(x, x).sum() / (len(x) - 1) / len(x) - cdist(x, x).mean() for x in (a, b)]
    return energy_distance(a, b) + sum(within)


def test_cell_eval_agrees_on_significant_sets(fitted):
    cell_eval = pytest.importorskip("cell_eval", reason="needs the [bench] extra")
    import polars as pl

    screen, parts, prediction, _ = fitted
    read = read_screen(screen)
    significant, names = significant_genes(read, parts["test"]), sorted(parts["test"])
    y, c = read.mean(names), read.control_mean
    tables = {"real": [], "pred": []}
    for name in names:
        moved = prediction[prediction.obs["condition"] == name].X[0] - c
        called = called_genes(change(moved + c, c), significant[name])
        fdr = {"real": np.where(significant[name], 0.01, 0.5), "pred": np.where(called, 0.01, 0.5)}
        lfc = {"real": y.loc[name].to_numpy() - c, "pred": moved}
        order = 0.04 * np.argsort(np.argsort(-np.abs(moved))) / len(c) + 1e-6  # what is surest has the least
        for side, table in tables.items():
            table.append(
                pl.DataFrame({"target": [name] * len(c), "feature": list(screen.var_names), "fdr": fdr[side],
                              "log2_fold_change": lfc[side], "p_value": fdr[side], "order": order})
            )  # fmt: skip
    real, pred = (pl.concat(table) for table in tables.values())
    compare = cell_eval._types.initialize_de_comparison(real.drop("order"), pred.drop("order"))
    recall = cell_eval.metrics.DESigGenesRecall()(compare)
    ours = evaluate(prediction, screen, parts)
    ranked = pred.with_columns(fdr=pl.col("order")).drop("order")
    auprc = cell_eval.metrics.compute_pr_auc(cell_eval._types.initialize_de_comparison(real.drop("order"), ranked))
    scored = [name for name in names if significant[name].any()]
    assert scored
    for name in scored:
        both, n = recall[name] * significant[name].sum(), significant[name].sum()
        assert ours.loc[name, "significant_jaccard"] == pytest.approx(both / (2 * n - both))
        assert ours.loc[name, "de_auprc"] == pytest.approx(auprc[name])
