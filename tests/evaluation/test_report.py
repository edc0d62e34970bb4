"""Tables of a benchmark's scores; the page is tested with the benchmark."""

import pandas as pd
import pytest

from kgnn.evaluation.report import SHOWN, paired_table, summary_table


@pytest.mark.parametrize(("score", "best"), [("pearson_delta", "mean"), ("mse", "no_change")])
def test_the_best_baseline_is_that_of_the_score_s_direction(score, best):
    values = {"kg": (0.7, 0.9), "mean": (0.5, 0.6), "no_change": (0.1, 0.2)}
    rows = [(model, f"c{n}", value) for model, pair in values.items() for n, value in enumerate(pair)]
    scores = pd.DataFrame(rows, columns=["model", "condition", score]).assign(dataset="d", split="s", seed=0)
    pairs = paired_table(scores, score).set_index("model")
    assert set(pairs["against"]) == {best}
    assert pairs.loc["kg", "mean"] == pytest.approx(0.8 - sum(values[best]) / 2)
    assert summary_table(scores).set_index("model")[score].to_dict() == pytest.approx(
        {model: sum(pair) / 2 for model, pair in values.items()}
    )


def test_the_page_shows_these_scores_in_this_order():
    assert SHOWN == [
        "mse",
        "mae",
        "pearson_delta",
        "pearson_delta_top20",
        "wrong_direction_top20",
        "retrieval_rank",
        "discrimination",
        "de_overlap_top20",
        "de_auprc",
        "coverage_90",
    ]
