"""What perturbations do is read from obs["perturbation_type"], told, and can be overruled."""

import logging

import numpy as np
import pytest

from kgnn import PerturbationModel
from kgnn.data import read_screen
from kgnn.models.perturbation.reading import read_types
from tests.doors.conftest import told


def typed(screen, word, **of_condition):
    adata = screen.copy()
    labels = adata.obs["condition"].astype(str)
    adata.obs["perturbation_type"] = [of_condition.get(label, word if label != "control" else None) for label in labels]
    return adata


@pytest.mark.parametrize(
    ("word", "expected"),
    [("CRISPRa", 1.0), ("CRISPR-a", 1.0), ("OE", 1.0), ("overexpression", 1.0), ("CRISPRi", -0.9), ("knock-down", -0.9),
     ("shRNA", -0.9), ("KO", -1.0), ("CRISPR-cas9", -1.0), ("Knock out", -1.0), (None, -1.0)],
)  # fmt: skip
def test_the_usual_words_are_read(screen, kg, parts, caplog, word, expected):
    model = PerturbationModel(kg)
    with caplog.at_level(logging.WARNING, "kgnn"):
        texts = told(model.fit, typed(screen, word), parts)
    assert len(texts) == (word is None), "cells without a type are told"
    assert model.predictor_.strength == expected
    assert ("strength" in caplog.text) == (expected != -1)
    if expected != -1:
        assert (
            f"strength {expected:g} for 8 genes, by obs['perturbation_type']; strength= says otherwise" in caplog.text
        )


def test_an_activation_is_no_knock_out(screen, kg, parts, tmp_path):
    plain, active, given = (
        PerturbationModel(kg, **options).fit(adata, parts)
        for adata, options in (
            (screen, {}),
            (typed(screen, "CRISPRa"), {}),
            (screen, {"strength": 1.0}),
        )
    )
    mixed = PerturbationModel(kg).fit(typed(screen, "KO", GENE1="CRISPRa"), parts)
    found = [model.predict("GENE6").X for model in (plain, active, given, mixed)]
    np.testing.assert_array_equal(found[1], found[2])
    assert np.abs(found[0] - found[3]).max() > 1e-4
    active.save(tmp_path / "m")
    again = PerturbationModel.load(tmp_path / "m")
    assert again.predictor_.strength == 1.0
    np.testing.assert_array_equal(again.predict("GENE6").X, found[1])


def test_what_is_given_overrules(screen, kg, parts, caplog):
    model = PerturbationModel(kg, strength=-1.0).fit(typed(screen, "CRISPRa"), parts)
    assert model.predictor_.strength == -1.0
    assert PerturbationModel(kg, strength=0.5).fit(typed(screen, "CRISPRa"), parts).predictor_.strength == 0.5
    np.testing.assert_array_equal(model.predict("GENE6").X, PerturbationModel(kg).fit(screen, parts).predict("GENE6").X)
    assert "strength" not in caplog.text


def test_types_a_gene_each(screen):
    adata = typed(screen, "KO", GENE1="CRISPRa", GENE2="CRISPRi")
    found = read_types(adata, read_screen(adata))
    assert found == {f"GENE{i}": {1: 1.0, 2: -0.9}.get(i, -1.0) for i in range(8)}


def test_types_of_combinations(screen):
    adata = typed(screen, "KO")
    labels = adata.obs["condition"].astype(str)
    adata.obs["condition"] = labels.replace({"GENE0": "GENE0+GENE1", "GENE2": "GENE2+GENE3"})
    adata.obs["perturbation_type"] = np.where(labels == "GENE0", "CRISPRa+KO", adata.obs["perturbation_type"])
    found = read_types(adata[~labels.isin(["GENE1", "GENE3"])], read_screen(adata[~labels.isin(["GENE1", "GENE3"])]))
    assert (found["GENE0"], found["GENE1"], found["GENE2"], found["GENE3"]) == (1.0, -1.0, -1.0, -1.0)
    adata.obs["condition"] = adata.obs["condition"].replace({"GENE0+GENE1": "GENE1+GENE0"})
    found = read_types(adata[~labels.isin(["GENE1", "GENE3"])], read_screen(adata[~labels.isin(["GENE1", "GENE3"])]))
    assert (found["GENE1"], found["GENE0"]) == (1.0, -1.0), "in the order of the label"


def test_unknown_and_contradicting_types_are_told(screen):
    adata = typed(screen, "CRISPRa", GENE0="drug")
    (text,) = told(lambda: read_types(adata, read_screen(adata)))
    assert (
        "12 cells are of a type that is not known (drug) and count as knock-outs; say what they do by strength=" in text
    )
    torn = typed(screen, "CRISPRa")
    torn.obs.iloc[36:40, torn.obs.columns.get_loc("perturbation_type")] = "KO"
    (text,) = told(lambda: read_types(torn, read_screen(torn)))
    assert "1 genes are perturbed in several ways (GENE0)" in text


def test_models_that_ask_for_no_strength_say_nothing(screen, kg, parts, caplog):
    for options in ({"encoder": "mean"}, {"encoder": "composition_ridge"}):
        assert told(PerturbationModel(kg, **options).fit, typed(screen, "drug"), parts) == []
    assert "strength" not in caplog.text
