"""What `kgnn evaluate` says first, and whether a prediction beats the mean of training."""

import numpy as np
import pandas as pd
import pytest

from kgnn.data import split
from kgnn.evaluation.headline import headline, verdict
from kgnn.metrics import evaluate, reference_scores, summarize
from kgnn.models import make_model


def summary(low, high, n=9):
    """Gains of the three scores, intervals `low` to `high`."""
    names = ["pearson_centred", "pds_cosine", "mse_ratio", "mse"]
    table = pd.DataFrame({"mean": 0.5, "low": 0.4, "high": 0.6, "n": n, "gain": 0.1}, index=names)
    table["gain_low"], table["gain_high"] = [*low, 1], [*high, 1]
    return table


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            (-1, -1, 0),
            (1, 1, 1),
            "No better than the mean of the training perturbations, by Pearson Δ, centred; PDS",
        ),
        ((-1, -1, -1), (1, -0.1, 1), "No better than the mean"),
        ((-1, -1, -1), (-0.5, -0.1, -0.2), "Worse than the mean of the training perturbations, by"),
        (
            (0.1, -1, 0.2),
            (1, 1, 1),
            "Better than .* by Pearson Δ, centred; MSE ratio; no better by PDS, cos",
        ),
        ((0.1, 0.1, 0.2), (1, 1, 1), "Better than .* by Pearson Δ, centred; PDS, cosine; MSE ratio.$"),
    ],
)
def test_the_verdict_in_words(low, high, words):
    import re

    assert re.match(words, verdict(summary(low, high)))


def test_where_nothing_can_be_told():
    assert verdict(summary((1, 1, 1), (2, 2, 2), n=1)).startswith("One condition")
    assert verdict(summary((1, 1, 1), (2, 2, 2)).drop(columns=["gain"])).startswith("Not compared")
    assert verdict(summary((1, 1, 1), (2, 2, 2)).assign(gain=np.nan)).startswith("Not compared")
    assert verdict(summary((1, 1, 1), (2, 2, 2)).loc[["mse"]]).startswith("Not compared")


def test_the_mean_itself_is_called_no_better(screen):
    parts = split(screen, "simulation", seed=1)
    references = reference_scores(screen, parts)
    scores = evaluate(make_model("mean").fit(screen, parts).predict(parts["test"]), screen, parts)
    found = summarize(scores, references=references)
    assert verdict(found).startswith("No better")
    table = headline(found)
    assert table.columns.tolist() == [
        "mean", "low", "high", "calibrated", "no change", "training mean", "replicate", "interpolated duplicate",
    ]  # fmt: skip
    assert table.index[-1] == "Pearson Δ, control"
    assert len(table) == 5
    few = headline(summarize(scores[["mse"]], references=references))
    assert few.empty
