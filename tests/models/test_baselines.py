import numpy as np
import pytest

from kgnn import PerturbationModel
from kgnn.data import leave_one_out, merge_validation, split
from kgnn.errors import InputError
from kgnn.models import BASELINES, load_model, make_model


@pytest.fixture
def parts(screen):
    return split(screen, "simulation", seed=1)


@pytest.fixture
def numbers(screen, parts):
    """Means by condition straight from the cells: control, and changes by canonical name."""
    x, labels = screen.X.toarray().astype(float), screen.obs["condition"].astype(str).to_numpy()
    control = x[labels == "control"].mean(axis=0)
    return control, {name: x[labels == name].mean(axis=0) - control for name in parts["train"]}


def delta(model, names):
    return model.predict(names).layers["delta"]


def floored(change, numbers):
    """Changes that take no mean below zero."""
    return np.maximum(change, -numbers[0])


def test_no_change(screen, parts, numbers):
    prediction = make_model("no_change").fit(screen, parts).predict(parts["test"])
    np.testing.assert_allclose(prediction.X, np.tile(numbers[0], (len(parts["test"]), 1)), atol=1e-5)


def test_mean(screen, parts, numbers):
    expected = np.mean(list(numbers[1].values()), axis=0)
    np.testing.assert_allclose(
        delta(make_model("mean").fit(screen, parts), parts["test"]),
        np.tile(expected, (len(parts["test"]), 1)),
        atol=1e-5,
    )


def test_additive(screen, parts, numbers):
    changes = numbers[1]
    singles = [name for name in changes if "+" not in name]
    model = make_model("additive").fit(screen, parts)
    a, b = singles[:2]
    np.testing.assert_allclose(delta(model, [f"{b}+{a}"])[0], floored(changes[a] + changes[b], numbers), atol=1e-5)
    unseen = np.mean([changes[name] for name in singles], axis=0)
    np.testing.assert_allclose(
        delta(model, [f"{a}+NEW", "NEW"]), floored([changes[a] + unseen, unseen], numbers), atol=1e-5
    )


def test_linear(screen, parts, numbers):
    """The formulas of the paper written out, with the eigenvectors instead of an SVD."""
    control, changes = numbers
    names, y = list(changes), np.array(list(changes.values())).T
    bulks = np.column_stack([y + control[:, None], control])
    centred = bulks - bulks.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    a = centred @ vectors[:, np.argsort(-values)[:10]]

    def b(name):
        return sum(
            (a[screen.var_names.get_loc(g)] for g in name.split("+") if g in screen.var_names), np.zeros(a.shape[1])
        )

    matrix = np.array([b(name) for name in names]).T
    centre = y.mean(axis=1)
    k = (
        np.linalg.inv(a.T @ a + 0.1 * np.eye(a.shape[1]))
        @ a.T
        @ (y - centre[:, None])
        @ matrix.T
        @ np.linalg.inv(matrix @ matrix.T + 0.1 * np.eye(a.shape[1]))
    )
    wanted = [*parts["test"], "NOT_MEASURED"]
    expected = np.array([a @ k @ b(name) + centre for name in wanted])
    np.testing.assert_allclose(
        delta(make_model("linear").fit(screen, parts), wanted), floored(expected, numbers), atol=1e-4
    )


def test_composition_ridge(screen, parts, numbers):
    """The dual (kernel) form of the same ridge."""
    names, y = list(numbers[1]), np.array(list(numbers[1].values()))
    sets = [set(name.split("+")) for name in names]
    per_gene = y.sum(axis=0) / sum(map(len, sets))
    residual = y - np.array([len(s) for s in sets])[:, None] * per_gene
    kernel = np.array([[len(s & t) for t in sets] for s in sets])
    weights = np.linalg.solve(kernel + 0.1 * np.eye(len(sets)), residual)
    wanted = [*parts["test"], "NEW", "NEW+OLD"]
    expected = [
        np.array([len(set(name.split("+")) & t) for t in sets]) @ weights + len(name.split("+")) * per_gene
        for name in wanted
    ]
    found = delta(make_model("composition_ridge").fit(screen, parts), wanted)
    np.testing.assert_allclose(found, floored(expected, numbers), atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_save_load_and_cells(screen, parts, tmp_path, name):
    model = make_model(name).fit(screen, parts, seed=0)
    with pytest.raises(InputError, match="not fitted"):
        make_model(name).predict("A")
    model.save(tmp_path / "m")
    for again in (PerturbationModel.load(tmp_path / "m"), load_model(tmp_path / "m")):
        assert type(again.predictor_) is BASELINES[name]
        expected, found = (m.predict(parts["test"]) for m in (model, again))
        np.testing.assert_array_equal(expected.X, found.X)
        assert expected.obs.equals(found.obs)
    cells = model.predict(parts["test"][0], n_cells=5, seed=1)
    assert cells.shape == (5, screen.n_vars)
    if name == "no_change":
        controls = screen[screen.obs["condition"] == "control"].X.toarray()
        assert all((controls == cell).all(axis=1).any() for cell in cells.X), "each cell is a real control cell"
    control = model.predict("ctrl")
    assert (control.layers["delta"] == 0).all()
    assert control.obs["condition"].tolist() == ["control"]


def test_an_empty_training_group_is_refused(screen, parts):
    with pytest.raises(InputError, match="no training condition"):
        make_model("mean").fit(screen, parts | {"train": []})


def test_reference_scores_on_real_data(norman):
    """Leave one condition out: measured independently as 0.317 (mean) and 0.580 (composition ridge)."""
    from kgnn.metrics import evaluate

    for model, expected in (("mean", 0.317), ("composition_ridge", 0.580)):
        scores = [
            evaluate(make_model(model).fit(norman, merge_validation(one)).predict(name), norman, one)[
                "pearson_delta"
            ].item()
            for name, one in leave_one_out(norman).items()
        ]
        assert np.mean(scores) == pytest.approx(expected, abs=0.0006)
