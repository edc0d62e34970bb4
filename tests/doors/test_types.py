"""Values of another type than asked for are an `InputError` at the public boundary, and say what would do."""

import numpy as np
import pandas as pd
import pytest

from kgnn import PerturbationModel, load_model
from kgnn.controls import ablate
from kgnn.data import leave_one_out, parse_conditions, read_screen, split, training_cells
from kgnn.errors import InputError
from kgnn.metrics import evaluate, noise_ceiling
from tests.doors.conftest import make_screen

NAN = float("nan")
QUICK = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def at(kg, parts, prediction):
    """What the cases call: the screen, graph, split, a fitted model and its prediction."""

    class At:
        s, model, p = make_screen(), PerturbationModel(kg).fit(make_screen(), parts), prediction

    At.kg, At.parts = kg, parts
    return At


def with_nan(prediction):
    prediction = prediction.copy()
    prediction.X = np.where(np.arange(prediction.n_vars) == 3, np.nan, prediction.X)
    return prediction


def gears(at, **options):
    return PerturbationModel(at.kg, encoder="gears", channels=8).fit(at.s, at.parts, **QUICK | options)


CASES = {
    "a prediction with NaN": (lambda at: evaluate(with_nan(at.p), at.s, at.parts), "NaN or infinite, first 'GENE6'"),
    "predict a number": (lambda at: at.model.predict(5), "conditions: int where a list is asked for"),
    "predict None": (lambda at: at.model.predict(None), "conditions: NoneType where a list"),
    "predict NaN": (lambda at: at.model.predict([NAN]), "a condition is missing"),
    "predict nothing": (lambda at: at.model.predict([]), "no condition to predict"),
    "half a cell": (lambda at: at.model.predict("GENE6", n_cells=2.5), "n_cells = 2.5; it must be a whole number"),
    "cells as text": (lambda at: at.model.predict("GENE6", n_cells="3"), "n_cells = '3'"),
    "a seed below 0": (lambda at: at.model.predict("GENE6", n_cells=2, seed=-1), "seed = -1"),
    "a seed as text, fit": (lambda at: PerturbationModel(at.kg).fit(at.s, seed="x"), "seed = 'x'"),
    "a seed below 0, GEARS": (lambda at: gears(at, seed=-1), "seed = -1"),
    "a seed as text, split": (lambda at: split(at.s, "random_condition", seed="x"), "seed = 'x'"),
    "a seed below 0, noise": (lambda at: noise_ceiling(at.s, seed=-1), "seed = -1"),
    "a text for a graph": (lambda at: PerturbationModel("human"), "kg: str where KnowledgeGraph is asked for"),
    "a table for a graph": (lambda at: PerturbationModel(pd.DataFrame()), "kg: DataFrame where KnowledgeGraph"),
    "no graph to ablate": (lambda at: ablate(None, at.s, at.parts), "kg: NoneType where KnowledgeGraph"),
    "a seed for seeds": (lambda at: ablate(at.kg, at.s, at.parts, seeds=3), "seeds: int where a list is asked for"),
    "a text for kinds": (lambda at: ablate(at.kg, at.s, at.parts, kinds="true"), "kinds: the text 'true' where a list"),
    "a list for a column": (
        lambda at: PerturbationModel(at.kg, condition_key=["condition"]).fit(at.s),
        "condition_key: list where str is asked for",
    ),
    "a list for a group": (
        lambda at: PerturbationModel(at.kg, group_key=["condition"]).fit(at.s),
        "group_key: list where str is asked for",
    ),
    "no top genes": (lambda at: evaluate(at.p, at.s, n_top=0), "n_top = 0; it must be a whole number of 1 or more"),
    "top genes as text": (lambda at: evaluate(at.p, at.s, n_top="3"), "n_top = '3'"),
    "a number for metrics": (lambda at: evaluate(at.p, at.s, metrics=3), "metrics: int where a list"),
    "prediction and data changed about": (lambda at: evaluate(at.s, at.p), "no control cells"),
    "a number for data": (lambda at: split(3), "conditions: int where a list is asked for"),
    "None for data": (lambda at: leave_one_out(None), "conditions: NoneType where a list"),
    "a share as text": (lambda at: split(at.s, "random_condition", test_fraction="0.2"), "test_fraction = '0.2'"),
    "a split that is no file": (lambda at: training_cells(at.s, "x"), "x: no such file"),
    "a number for a folder": (lambda at: load_model(3), "int where a path is asked for"),
    "explain a number": (lambda at: at.model.explain(3), "condition: int where str is asked for"),
    "explain none": (lambda at: at.model.explain("GENE0", n_genes=-1), "n_genes = -1"),
    "labels in one text": (lambda at: parse_conditions("A_B"), "labels: the text 'A_B' where a list is asked for"),
    "a number for a separator": (lambda at: parse_conditions(["A"], separator=3), "separator: int where a list"),
    "no repeats": (lambda at: noise_ceiling(at.s, n_repeats=0), "n_repeats = 0"),
    "a mapping for control": (lambda at: read_screen(at.s, control={"a": 1}), "control is a mapping"),
    "channels as text": (lambda at: PerturbationModel(encoder="gears", channels="8"), "channels = '8'"),
    "no channels": (lambda at: PerturbationModel(encoder="cpa", channels=0), "channels = 0"),
    "portions as text": (lambda at: gears(at, conditions_per_batch="x"), "conditions_per_batch = 'x'"),
    "patience that is none": (lambda at: gears(at, patience=NAN), "patience = nan"),
    "True for a number": (lambda at: gears(at, batch_size=True), "batch_size = True"),
}


@pytest.mark.parametrize("case", CASES)
def test_other_types_are_refused_with_what_would_do(at, case):
    call, message = CASES[case]
    with pytest.raises(InputError) as error:
        call(at)
    assert message in str(error.value)


def test_numbers_of_numpy_are_numbers_and_are_saved(at, tmp_path):
    for number, strength in enumerate((np.float32(0.5), {"GENE0": np.float32(0.5)}, np.int64(1))):
        model = PerturbationModel(at.kg, strength=strength).fit(at.s, at.parts)
        model.save(tmp_path / str(number))
        assert load_model(tmp_path / str(number)).predictor_.strength == model.predictor_.strength
    assert at.model.predict("GENE6", n_cells=np.int64(2)).n_obs == 2
