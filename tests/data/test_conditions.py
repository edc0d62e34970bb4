import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from kgnn.data import ConditionNames
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
