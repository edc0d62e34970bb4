"""The same perturbation in other cell lines, by hand."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from kgnn import PerturbationModel
from kgnn.data import simulate, split
from kgnn.errors import InputError
from kgnn.metrics import evaluate
from kgnn.models import LINE_BASELINES, load_model, make_model

CONTROL = 5.25
CHANGES = {  # line → condition → change of two genes
    "x": {"A": (1, 0), "B": (3, 2), "C": (2, -2)},
    "y": {"A": (2, 1), "B": (4, 1)},
    "z": {"A": (0, 4)},
    "w": {},
}


def cells(changes, level=CONTROL):
    rows = [("control", line, (0, 0)) for line in changes] + [
        (name, line, change) for line, of in changes.items() for name, change in of.items()
    ]
    shift = {line: number for number, line in enumerate(changes)}  # each line has a level of its own
    x = np.array([np.add(change, level + shift[line]) for _, line, change in rows], np.float32)
    obs = pd.DataFrame([row[:2] for row in rows], columns=["condition", "line"])
    return AnnData(x, obs=obs.set_index(obs.index.astype(str)), var=pd.DataFrame(index=["M1", "M2"]))


@pytest.fixture
def fit():
    def make(name, changes=CHANGES):
        return PerturbationModel(encoder=name, group_key="line").fit(cells(changes))

    return make


def delta(model, condition, line=None):
    return model.predict(condition, line=line).layers["delta"][0].tolist()


@pytest.mark.parametrize(
    ("condition", "line", "expected"),
    [
        ("A", "x", (1, 2.5)),  # y and z
        ("A", "y", (0.5, 2)),  # x and z
        ("A", None, (1, 5 / 3)),  # all three
        ("A", "w", (1, 5 / 3)),  # a line without training conditions: all three
        ("C", "x", (2, 0)),  # nowhere else: the mean of A, B, C in x
        ("C", "z", (2, -2)),  # x alone has it
        ("NEW", "y", (3, 1)),  # nowhere: the mean of A and B in y
        ("NEW", "w", (2, 1)),  # the mean of all six samples
        ("NEW", None, (2, 1)),
        ("ctrl", "x", (0, 0)),
    ],
)
def test_the_same_condition_in_other_lines(fit, condition, line, expected):
    np.testing.assert_allclose(delta(fit("other_lines"), condition, line), expected, atol=1e-5)


TEMPLATE = {"x": (2, 0), "y": (3, 1), "z": (0, 4), "w": (2, 1), None: (2, 1)}


def own(condition, lines):
    return np.mean([np.subtract(CHANGES[line][condition], TEMPLATE[line]) for line in lines], axis=0)


def weight_by_hand():
    """Samples that another line has, each against the template of its line without itself."""
    cases = [  # change, template without it, the perturbation's own in the other lines
        ((1, 0), (2.5, 0), own("A", "yz")),
        ((3, 2), (1.5, -1), own("B", "y")),
        ((2, 1), (4, 1), own("A", "xz")),
        ((4, 1), (2, 1), own("B", "x")),
        ((0, 4), (12 / 5, 2 / 5), own("A", "xy")),  # the only one of z: the mean of the five others
    ]
    d = np.concatenate([case[2] for case in cases])
    y = np.concatenate([np.subtract(*case[:2]) for case in cases])
    grid = np.linspace(0, 3, 300_001)
    return grid[np.argmin(np.square(y[:, None] - grid * d[:, None]).sum(axis=0))]


def test_template_and_the_same(fit):
    model, w = fit("template_same"), weight_by_hand()
    assert 0.1 < w < 2.9
    assert model.predictor_.weight_ == pytest.approx(w, abs=1e-4)
    for condition, line, others in (
        ("A", "x", "yz"),
        ("B", "x", "y"),
        ("C", "z", "x"),
        ("A", "w", "xyz"),
        ("B", None, "xy"),
    ):
        expected = TEMPLATE[line] + w * own(condition, others)
        np.testing.assert_allclose(delta(model, condition, line), expected, atol=1e-4, err_msg=f"{condition} {line}")
    for condition, line in (("C", "x"), ("NEW", "y"), ("NEW", None)):
        np.testing.assert_allclose(delta(model, condition, line), TEMPLATE[line], atol=1e-5)


def test_the_weight_is_never_below_zero_and_one_where_nothing_tells(fit):
    against = {"x": {"A": (1, 0), "B": (-1, 0)}, "y": {"A": (-1, 0), "B": (1, 0)}}
    assert fit("template_same", against).predictor_.weight_ == 0
    alone = {"x": {"A": (1, 0), "B": (-1, 0)}, "y": {"C": (1, 0)}}
    model = fit("template_same", alone)
    assert model.predictor_.weight_ == 1
    np.testing.assert_allclose(delta(model, "A", "y"), (2, 0), atol=1e-5)


@pytest.mark.parametrize("name", LINE_BASELINES)
def test_a_saved_model_is_the_same(fit, name, tmp_path):
    model = fit(name)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    for line in (None, *CHANGES):
        found = [m.predict(["A", "B", "NEW", "ctrl"], line=line).X for m in (model, again)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", LINE_BASELINES)
def test_one_line_is_refused(name):
    with pytest.raises(InputError, match=r"1 cell line in the data, .* give the column of lines as group_key="):
        make_model(name).fit(cells(CHANGES))
    with pytest.raises(InputError, match="1 cell line in the data"):
        make_model(name, group_key="line").fit(cells({"x": CHANGES["x"]}))


def test_in_a_line_held_out_the_same_perturbation_beats_the_mean():
    adata = simulate(n_genes=60, n_singles=14, n_pairs=0, cells_per_condition=25, n_controls=80, n_lines=3, seed=4)
    parts = split(adata, "unseen_line", held_out="line2", group_key="cell_line", seed=0)
    scores = {}
    for name in LINE_BASELINES:
        model = make_model(name, group_key="cell_line").fit(adata, parts)
        assert model.predictor_.lines_ == ["line0", "line1", "line2"]
        found = model.predict(parts["test"], line="line2")
        scores[name] = evaluate(found, adata, parts, exclude_targets=True)
    seen = [name for name in parts["test"] if name in parts["train"]]
    assert all(table.loc[seen, "pearson_centred"].mean() > 0.2 for table in scores.values())
