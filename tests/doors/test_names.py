"""Names of conditions in any writing are the same at every door; one that the data lack is refused."""

import anndata
import pytest

from kgnn import PerturbationModel
from kgnn.controls import ablate
from kgnn.data import leave_one_out, load_split, merge_validation, read_screen, save_split, split, training_cells
from kgnn.errors import InputError
from kgnn.metrics import evaluate, explained_share, noise_ceiling
from tests.doors.conftest import told

ODD = {"train": ["GENE0+ctrl", "ctrl+GENE1", " GENE2", "GENE3", "GENE4", "ctrl"], "val": ["GENE5"],
       "test": ["GENE6+ctrl", "GENE7"]}  # fmt: skip
SPLITS = {
    "fit": lambda a, p, kg: PerturbationModel(kg).fit(a, p),
    "fit of mean": lambda a, p, kg: PerturbationModel(encoder="mean").fit(a, p),
    "training_cells": lambda a, p, kg: training_cells(a, p),
    "ablate": lambda a, p, kg: ablate(kg, a, p, kinds=["true"], seeds=[0]),
}


def test_a_split_in_other_writing_is_the_same_split(screen, kg, parts, prediction):
    assert PerturbationModel(kg).fit(screen, ODD).conditions_ == parts["train"]
    assert (training_cells(screen, ODD).obs_names == training_cells(screen, parts).obs_names).all()
    assert evaluate(prediction, screen, ODD).equals(evaluate(prediction, screen, parts).assign(subgroup=""))
    found = ablate(kg, screen, ODD, kinds=["true"], seeds=[0])
    assert found.equals(ablate(kg, screen, {part: parts[part] for part in ODD}, kinds=["true"], seeds=[0]))
    assert merge_validation(ODD)["train"] == sorted([*parts["train"], *parts["val"]])


@pytest.mark.parametrize("door", SPLITS)
@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("name", ["gene0", "GENE-0"])
def test_what_the_data_lack_is_refused_with_what_is_near(screen, kg, parts, door, part, name):
    wrong = parts | {part: [*parts[part], name] if name != "gene0" else ["gene0", *parts[part][1:]]}
    if part == "train" and name == "gene0":
        wrong |= {"val": parts["val"]}
    (text,) = told(SPLITS[door], screen, wrong, kg)
    assert text.startswith(f"refused: no cell of the condition {name!r} in the data")
    assert "did you mean GENE0" in text


def test_no_split_at_all_is_refused(screen, kg, parts):
    for wrong in ({"train": "GENE0"}, {"train": [1, 2]}, {}, {"kind": "simulation"}, 3):
        for door in SPLITS.values():
            (text,) = told(door, screen, wrong, kg)
            assert "not a split; it must map train, val and test" in text
    (text,) = told(PerturbationModel(kg).fit, screen, parts | {"val": ["GENE0"]})
    assert "the condition 'GENE0' stands twice" in text


def test_paths_are_read_wherever_cells_or_splits_are(screen, kg, parts, prediction, tmp_path):
    path = tmp_path / "screen.h5ad"
    screen.write_h5ad(path)
    save_split(parts, tmp_path / "split.json")
    for given in (path, str(path)):
        assert split(given, "random_condition") == split(screen, "random_condition")
        assert leave_one_out(given) == leave_one_out(screen)
        assert training_cells(given, tmp_path / "split.json").n_obs == 36 + 60
        assert PerturbationModel(kg).fit(given, str(tmp_path / "split.json")).conditions_ == parts["train"]
        assert evaluate(prediction, given, tmp_path / "split.json").equals(evaluate(prediction, screen, parts))
        assert noise_ceiling(given, seed=1).equals(noise_ceiling(screen, seed=1))
        assert explained_share(prediction, given) == explained_share(prediction, screen)
        assert read_screen(given).conditions == read_screen(screen).conditions
    assert load_split(tmp_path / "split.json")["train"] == parts["train"]
    (tmp_path / "other.json").write_text('{"kind": "simulation", "train": ["GENE0"]}')
    with pytest.raises(InputError, match=r"other\.json: not a split"):
        load_split(tmp_path / "other.json")


@pytest.mark.parametrize(
    "door", [split, leave_one_out, read_screen, noise_ceiling, PerturbationModel(encoder="mean").fit]
)
def test_a_path_that_leads_nowhere_is_no_list_of_letters(door):
    with pytest.raises(InputError, match=r"nowhere\.h5ad"):
        door("nowhere.h5ad")


@pytest.mark.parametrize("door", [read_screen, noise_ceiling, PerturbationModel(encoder="mean").fit])
def test_what_are_no_cells_is_refused(door):
    with pytest.raises(InputError, match=r"int where cells .* are asked for"):
        door(3)


def test_predict_says_what_is_near(screen, kg, parts):
    model = PerturbationModel(kg).fit(screen, parts)
    for wrong in ("gene0", "GENE-0", "GENE0_"):
        (text,) = told(model.predict, wrong)
        assert "did you mean GENE0" in text
    assert model.predict("ctrl+GENE6").obs["condition"].tolist() == ["GENE6"]


def test_held_out_and_scored_names_say_what_is_near(screen, prediction):
    (text,) = told(lambda: split(screen, "leave_one_out", held_out="gene0"))
    assert "did you mean GENE0" in text
    wrong = anndata.AnnData(prediction.X, obs=prediction.obs.copy(), var=prediction.var)
    wrong.obs["condition"] = ["gene6", "GENE7"]
    (text,) = told(evaluate, wrong, screen)
    assert text.startswith("refused: condition 'gene6' has no cells in the data; did you mean GENE6")
