import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from kgnn.data import ConditionNames, parse_conditions
from kgnn.data.conditions import perturbed_genes, read_parts
from kgnn.data.labels import canonical_labels
from kgnn.errors import InputError


@pytest.mark.parametrize(
    ("label", "genes"),
    [
        ("KLF1", ("KLF1",)),
        ("KLF1+ctrl", ("KLF1",)),
        ("ctrl+KLF1", ("KLF1",)),
        ("KLF1+control", ("KLF1",)),
        ("SET+KLF1", ("KLF1", "SET")),
        ("KLF1+SET", ("KLF1", "SET")),
        (" KLF1 + SET ", ("KLF1", "SET")),
        ("C+A+B", ("A", "B", "C")),
        ("A+A", ("A",)),
        ("ctrl", ()),
        ("Control", ()),
        ("non-targeting", ()),
        ("NT", ()),
        ("ctrl+ctrl", ()),
    ],
)
def test_labels(label, genes):
    assert ConditionNames().genes(label) == genes
    assert ConditionNames().canonical(label) == "+".join(genes)


@given(st.lists(st.text("ABC-1", min_size=1, max_size=4), min_size=1, max_size=4), st.randoms())
def test_order_and_controls_do_not_matter(genes, random):
    names = ConditionNames()
    shuffled = [*genes, "ctrl"]
    random.shuffle(shuffled)
    assert names.canonical("+".join(shuffled)) == names.canonical("+".join(genes))
    assert names.canonical(names.canonical("+".join(genes))) == names.canonical("+".join(genes))


def test_a_given_control_label_is_the_only_one_and_exact():
    names = ConditionNames("DMSO")
    assert names.is_control("DMSO")
    assert not names.is_control("dmso")
    assert names.genes("ctrl") == ("ctrl",)
    assert ConditionNames(["a", "b"]).canonical("a+b+X") == "X"


@pytest.mark.parametrize("label", ["", "A++B", "+A", "A+"])
def test_empty_parts_are_refused(label):
    with pytest.raises(InputError, match="empty part"):
        ConditionNames().genes(label)


def test_labels_of_cells():
    adata = AnnData(obs={"gene": ["A+ctrl", "ctrl", "B+A"]})
    assert canonical_labels(adata, "gene", None).tolist() == ["A", "", "A+B"]
    with pytest.raises(InputError, match=r"no column 'condition' in adata.obs; it has gene"):
        canonical_labels(adata, "condition", None)
    adata.obs.loc["1", "gene"] = None
    with pytest.raises(InputError, match="1 cells have no value"):
        canonical_labels(adata, "gene", None)


@pytest.mark.parametrize(
    ("label", "canonical", "genes"),
    [
        ("Dabrafenib@0.50", "Dabrafenib@0.5", ("Dabrafenib",)),
        ("Dabrafenib @ 1e3", "Dabrafenib@1000", ("Dabrafenib",)),
        ("KLF1+drug:Dabrafenib@1e-7", "KLF1+drug:Dabrafenib@0.0000001", ("KLF1", "drug:Dabrafenib")),
        ("gene:KLF1", "gene:KLF1", ("KLF1",)),
        ("A@2+ctrl", "A@2", ("A",)),
        ("A@2+B@1+A@2.0", "A@2+B@1", ("A", "B")),
        ("TRA@", "TRA@", ("TRA@",)),
        ("TRA@+X@home", "TRA@+X@home", ("TRA@", "X@home")),
        ("A@1_2", "A@1_2", ("A@1_2",)),
        ("A@\uff11", "A@\uff11", ("A@\uff11",)),
        ("ctrl@0", "", ()),
    ],
)
def test_doses(label, canonical, genes):
    assert ConditionNames().canonical(label) == canonical
    assert perturbed_genes(canonical) == genes


@given(st.lists(st.tuples(st.text("AB:-", min_size=1), st.floats(1e-12, 1e12)), min_size=1, unique_by=lambda p: p[0]))
def test_every_dose_comes_back_as_it_was(parts):
    canonical = ConditionNames().canonical("+".join(f"{name}@{dose!r}".replace("e+", "e") for name, dose in parts))
    assert sorted(read_parts(canonical)) == sorted(parts)
    assert ConditionNames().canonical(canonical) == canonical


@pytest.mark.parametrize("dose", ["0", "-1", "inf", "nan"])
def test_doses_that_are_none_are_refused(dose):
    with pytest.raises(InputError, match=rf"'A@{dose}': the dose {dose} of 'A' is not above 0; label cells without"):
        ConditionNames().canonical(f"A@{dose}")


def test_one_drug_has_one_dose():
    with pytest.raises(InputError, match=r"gives 'A' twice; write one dose of each"):
        ConditionNames().canonical("B+A@1+A@2")


def test_a_dose_is_no_part_of_a_doubtful_name():
    cleaned = parse_conditions(["klf1_sg2@0.50", "NTC@1", "X+klf1@2"], guides=True, controls="NTC*", genes=["KLF1"])
    assert cleaned.tolist() == ["KLF1@0.5", "control", "KLF1@2+X"]
    obs = pd.DataFrame({"gene": ["A@0.5", "ctrl", "B@1+A@1"]}, index=list("123"))
    adata = AnnData(np.ones((3, 2)), obs=obs, var=pd.DataFrame(index=["A", "B"]))
    assert canonical_labels(adata, "gene", None, {"A"}).tolist() == ["A@0.5", "", "A@1+B@1"]
