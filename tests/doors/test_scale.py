"""What a matrix holds is looked at wherever one enters, and that two that meet are on one scale."""

import anndata
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from kgnn import PerturbationModel
from kgnn.errors import DataWarning, InputError
from kgnn.expression import are_whole, check_same_scale, scale_of
from kgnn.metrics import evaluate, explained_share
from tests.doors.conftest import told
from tests.doors.test_labels import DOORS

READING = [
    door for door in DOORS if door not in ("split", "leave_one_out", "training_cells")
]  # these read labels alone


def with_x(adata, function):
    adata = adata.copy()
    adata.X = np.asarray(function(np.asarray(adata.X)), dtype=np.float32)
    return adata


SCALES = {
    "scaled": (lambda x: (x - x.mean(0)) / x.std(0), r"down to -\d.*looks scaled.*before sc\.pp\.scale"),
    "counts": (lambda x: np.round(np.expm1(x) * 3), r"whole numbers only and looks like raw counts; normalise first"),
    "linear": (lambda x: np.expm1(x) * 400.5, r"up to \d.*no logarithm had been taken"),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("door", READING)
def test_every_door_tells_what_is_not_log_normalised(screen, doors, door, scale):
    function, message = SCALES[scale]
    import re

    texts = told(doors[door], with_x(screen, function))
    fitting = [text for text in texts if re.search(message, text)]
    if door in ("evaluate", "explained_share"):  # the prediction is on another scale: an error comes after the warning
        assert fitting or any("not on one scale" in text for text in texts), texts
    else:
        assert len(fitting) == (
            2 if door in ("ablate", "kgnn train") and (door == "ablate" or scale != "scaled") else 1
        )


@pytest.mark.parametrize("score", [evaluate, explained_share])
@pytest.mark.parametrize("scale", ["counts", "linear", "scaled"])
def test_predictions_and_data_on_two_scales_are_refused(screen, prediction, score, scale):
    """Counts against logarithms scored a mean squared error of 6,387."""
    function = SCALES[scale][0]
    wrong = prediction.copy()
    wrong.X = function(np.asarray(prediction.X))
    (text,) = told(score, wrong, screen)
    assert text.startswith("refused: the prediction goes from")
    assert "not on one scale" in text


def test_control_cells_of_another_scale_are_refused(screen, kg, parts):
    model = PerturbationModel(kg).fit(screen, parts)
    controls = screen[screen.obs["condition"] == "control"]
    assert told(lambda: model.predict("GENE6", control_cells=controls)) == []
    for scale, (function, _) in SCALES.items():
        (text,) = told(lambda f=function: model.predict("GENE6", control_cells=with_x(controls, f)))
        assert text.startswith(f"refused: the control cells look {scale}, the training data log"), text


def test_control_cells_that_are_perturbed_are_refused(screen, kg, parts):
    model = PerturbationModel(kg).fit(screen, parts)
    (text,) = told(lambda: model.predict("GENE6", control_cells=screen))
    assert text.startswith("refused: 96 of 132 control cells are perturbed, first with 'GENE0'")
    without = screen.copy()
    del without.obs["condition"]
    assert told(lambda: model.predict("GENE6", control_cells=without)) == []


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], "log"),
        ([[0.0, 2.0]], "counts"),
        ([[0.5, 19.9]], "log"),
        ([[0.5, 20.1]], "linear"),
        ([[-0.1, 3.0]], "scaled"),
        ([[0.0, 0.0]], "log"),
        ([[np.nan, 2.5]], "log"),
        (np.zeros((0, 2)), "log"),
    ],
)
def test_scales_by_hand(x, expected):
    x = np.asarray(x, dtype=np.float32)
    assert scale_of(x) == expected
    assert scale_of(sparse.csr_matrix(x)) == expected
    assert scale_of(sparse.csc_array(x)) == expected
    assert scale_of(AnnData(x).to_df()) == expected


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint16])
def test_ones_and_zeros_are_counts_by_their_type_alone(kind):
    x = np.array([[0, 1], [1, 0]])
    assert scale_of(x.astype(kind)) == "counts"
    assert scale_of(x.astype(np.float32)) == "log"


@pytest.mark.parametrize(
    ("base", "told"),
    [(2, r"1\.4\d times .*as log2 values"), (10, r"0\.4\d+ times .*as log10 values"), (np.e**2, r"0\.[45]\d+ times")],
)
def test_other_logarithms_are_told(screen, parts, base, told):
    model = PerturbationModel(encoder="mean").fit(screen, parts)
    prediction = model.predict(parts["test"])
    evaluate(prediction, screen, parts)
    prediction.X = (np.asarray(prediction.X) / np.log(base)).astype(np.float32)
    with pytest.warns(DataWarning, match=told):
        evaluate(prediction, screen, parts)


@pytest.mark.parametrize(
    ("value", "told"), [(np.complex64(1), "complex numbers"), (np.float32(0), "X is 1 everywhere")]
)
def test_what_is_no_expression_is_refused(screen, parts, value, told):
    other = screen.copy()
    other.X = np.asarray(screen.X) * value + (value == 0)
    with pytest.raises(InputError, match=told):
        PerturbationModel(encoder="mean").fit(other, parts)


def test_parts_of_an_entry_are_no_whole_numbers():
    split = sparse.csr_matrix((np.float32([1.25, 1.25, 0.5]), ([0, 0, 1], [0, 0, 1])), (2, 2)).tocoo()
    split = sparse.csr_matrix((np.float32([1, 1.5, 3]), np.array([0, 0, 1]), np.array([0, 2, 3])), (2, 2))
    assert scale_of(split) == "log"
    assert not are_whole(split)
    assert split.nnz == 3, "the user's matrix is as it was"


def test_on_disk_the_first_cells_are_looked_at(screen, tmp_path):
    screen.write_h5ad(tmp_path / "s.h5ad")
    assert scale_of(anndata.read_h5ad(tmp_path / "s.h5ad", backed="r").X) == "log"


def test_meeting_by_hand():
    check_same_scale(np.array([[0.5, -0.2, 3.0, 1.0]]), np.array([[0.0, 2.0, 4.0]]), "a goes", "b")
    check_same_scale(np.array([[19.0]]), np.array([[21.0]]), "a goes", "b")
    around_zero = np.array([[-0.2, -0.3, -0.1, 2.0, 3.0]])  # of a network without a floor: many rare genes below zero
    check_same_scale(around_zero, np.array([[0.3, 2.0, 4.0]]), "a goes", "b")
    with pytest.raises(InputError, match="a goes from -2 to 3"):
        check_same_scale(np.array([[-2.0, -1.5, 3.0, 1.0]]), np.array([[0.3, 2.0, 4.0]]), "a goes", "b")
    with pytest.raises(InputError, match="a goes from 30 to 30, b from 4 to 4: not on one scale"):
        check_same_scale(np.array([[30.0]]), np.array([[4.0]]), "a goes", "b")
