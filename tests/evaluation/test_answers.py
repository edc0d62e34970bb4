"""The AUC of each gene of a table of answers: by hand, of a split, with replicates and holes, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import roc_auc_score

import kgnn
from kgnn.data import effects
from kgnn.errors import InputError
from kgnn.metrics import answers_auc

ANSWERS = pd.DataFrame(
    {"x": [1, 0, 1, 0], "y": [0, 0, 1, np.nan], "z": [1.0, 1, 1, 1]}, index=["A", "B", "C", "D"], dtype=float
)
GUESSES = pd.DataFrame({"x": [0.9, 0.5, 0.4, 0.1], "y": [0.6, 0.1, 0.3, 0.9], "z": 0.5}, index=list("ABCD"))


def as_prediction(table):
    prediction = AnnData(table.to_numpy(np.float32), obs=pd.DataFrame({"condition": table.index}, index=table.index))
    prediction.var_names = table.columns
    return prediction


def test_of_what_was_measured_and_of_genes_with_both_answers():
    found = answers_auc(as_prediction(GUESSES), effects(ANSWERS, kind="binary"))
    assert found["auc"].to_dict() == {"x": 3 / 4, "y": 1 / 2}  # D was not measured in y, where it would be right


def test_of_the_test_conditions_from_files(tmp_path):
    effects(ANSWERS, kind="binary").write_h5ad(tmp_path / "a.h5ad")
    as_prediction(GUESSES).write_h5ad(tmp_path / "p.h5ad")
    found = answers_auc(tmp_path / "p.h5ad", tmp_path / "a.h5ad", {"train": ["A"], "test": ["D", "C", "B"]})
    assert found["auc"].to_dict() == {"x": 1 / 2, "y": 1}


def test_each_replicate_is_asked():
    twice = pd.concat([ANSWERS, 1 - ANSWERS])[["x"]]
    found = answers_auc(as_prediction(GUESSES[["x"]]), effects(twice, kind="binary", replicates=True))
    assert found.loc["x", "auc"] == roc_auc_score(twice["x"], np.tile(GUESSES["x"], 2)) == 0.5


def test_it_is_that_of_a_long_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame((rng.random((20, 6)) < 0.4).astype(float), [f"P{i}" for i in range(20)], list("uvwxyz"))
    answers = effects(table.mask(rng.random(table.shape) < 0.2), kind="binary")
    guesses = as_prediction(pd.DataFrame(rng.random(table.shape), table.index, table.columns))
    long, hat = kgnn.data.long_table(answers), kgnn.data.long_table(guesses)
    pairs = long.merge(hat, on=["pert", "gene"], suffixes=("", "_hat"))
    expected = kgnn.metrics.gene_auc(pairs, label="value", score="value_hat")
    pd.testing.assert_frame_equal(answers_auc(guesses, answers), expected)


def test_what_it_cannot_be_of_is_refused():
    prediction, answers = as_prediction(GUESSES), effects(ANSWERS, kind="binary")
    with pytest.raises(InputError, match="kind='binary'"):
        answers_auc(prediction, effects(ANSWERS + 0.5))
    with pytest.raises(InputError, match="no prediction of the test condition 'D'"):
        answers_auc(prediction[:3], answers, {"train": ["A"], "test": ["B", "D"]})
    with pytest.raises(InputError, match="'E' has no cells"):
        answers_auc(as_prediction(GUESSES.rename({"A": "E"})), answers)
    with pytest.raises(InputError, match="no gene has both labels"):
        answers_auc(prediction, answers, {"train": ["A"], "test": ["B"]})
