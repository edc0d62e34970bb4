"""Tables of a benchmark's scores; the page is tested with the benchmark."""

import pandas as pd
import pytest

from kgnn.evaluation.metrics import METRICS
from kgnn.evaluation.report import SHOWN, is_baseline, paired_table, summary_table
from kgnn.models import BASELINES, KNOWLEDGE_BASELINES, LINE_BASELINES, PREDICTORS
from tests.models.own import TRAINED


def test_a_difference_of_ratios_is_that_of_ratios_of_sums():
    rows = {"kg": [(1.0, 4.0), (3.0, 1.0)], "mean": [(2.0, 4.0), (4.0, 1.0)], "linear": [(9.0, 4.0), (9.0, 1.0)]}
    scores = pd.DataFrame(
        [(model, f"c{n}", *pair) for model, pairs in rows.items() for n, pair in enumerate(pairs)],
        columns=["model", "condition", "mse_unbiased", "size_unbiased"],
    ).assign(dataset="d", split="s", seed=0)
    row = paired_table(scores, ["mse_ratio"]).set_index("model").loc["kg"]
    assert row["against"] == "mean"
    assert row["mean"] == pytest.approx(4 / 5 - 6 / 5)
    assert (row["low"], row["high"]) == pytest.approx((-1.0, -0.25))  # both conditions are one, or the other


@pytest.mark.parametrize(("score", "best"), [("pearson_delta", "mean"), ("mse", "no_change")])
def test_the_best_baseline_is_that_of_the_score_s_direction(score, best):
    values = {"kg": (0.7, 0.9), "mean": (0.5, 0.6), "no_change": (0.1, 0.2)}
    rows = [(model, f"c{n}", value) for model, pair in values.items() for n, value in enumerate(pair)]
    scores = pd.DataFrame(rows, columns=["model", "condition", score]).assign(dataset="d", split="s", seed=0)
    pairs = paired_table(scores, [score]).set_index("model")
    assert set(pairs["against"]) == {best}
    assert pairs.loc["kg", "mean"] == pytest.approx(0.8 - sum(values[best]) / 2)
    assert summary_table(scores).set_index("model")[score].to_dict() == pytest.approx(
        {model: sum(pair) / 2 for model, pair in values.items()}
    )


def test_ratios_are_of_sums_over_conditions_and_spread_over_seeds():
    rows = [(seed, c, error + seed, size) for seed in (0, 1) for c, error, size in (("a", 1.0, 4.0), ("b", 3.0, 1.0))]
    scores = pd.DataFrame(rows, columns=["seed", "condition", "mse_unbiased", "size_unbiased"])
    row = summary_table(scores.assign(dataset="d", split="s", model="m", mse=1.0)).iloc[0]
    assert row["mse_ratio"] == pytest.approx((1.5 + 3.5) / 5)
    assert row["mse_ratio_sd"] == pytest.approx(abs(4 / 5 - 6 / 5) / 2**0.5)
    assert row["mse"] == 1


def test_the_page_shows_scores_that_there_are():
    columns = {column for metric in METRICS.values() for column in metric.columns()} | {"mse_ratio"}
    assert set(SHOWN) <= columns
    assert SHOWN[:3] == ["pearson_centred", "pds_cosine", "mse_ratio"]
    assert "pearson_delta" in SHOWN


def test_all_baselines_are_known_as_such():
    assert {name for name in PREDICTORS if is_baseline(name)} == {*BASELINES, *KNOWLEDGE_BASELINES, *LINE_BASELINES}
    assert not any(map(is_baseline, ("kg", *TRAINED)))
