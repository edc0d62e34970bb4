import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import InputError
from kgnn.graph import GeneNames, load_gene_families

IN_FAMILY, CHILD_OF = ("gene", "in_family", "family"), ("family", "child_of", "family")
SAME = ("gene", "same_family", "gene")
GROUPS = r"""format-version: 1.4

[Term]
id: hgnc.genegroup:1
name: Cytochromes\, all
is_a: SO:0005855 ! gene group

[Term]
id: hgnc.genegroup:2
name: Cytochrome family 1
synonym: "CYP1" RELATED OMO:0003000 []
synonym: "not a root" EXACT []
is_a: hgnc.genegroup:1

[Term]
id: hgnc.genegroup:3
name: Cytochrome family 11
synonym: "CYP11" RELATED OMO:0003000 []
is_a: hgnc.genegroup:1
"""
COMPLETE = """hgnc_id\tsymbol\tgene_group\tgene_group_id
HGNC:1\tCYP1A1\tCytochrome family 1|Drug enzymes\t2|9
HGNC:2\tCYP1B1\tCytochrome family 1\t2
HGNC:3\tTP53\t\t
"""


@pytest.fixture
def groups(tmp_path):
    (tmp_path / "groups.obo").write_text(GROUPS)
    return tmp_path / "groups.obo"


@pytest.fixture
def complete(tmp_path):
    (tmp_path / "hgnc_complete_set.txt").write_text(COMPLETE)
    return tmp_path / "hgnc_complete_set.txt"


def pairs(kg, relation):
    return set(map(tuple, kg.edges(relation)[["source", "target"]].to_numpy()))


def test_the_complete_set_and_the_hierarchy(groups, complete):
    kg = load_gene_families(groups, complete)
    assert pairs(kg, IN_FAMILY) == {
        ("CYP1A1", "HGNC_GROUP:2"), ("CYP1A1", "HGNC_GROUP:9"), ("CYP1B1", "HGNC_GROUP:2")
    }  # fmt: skip
    assert pairs(kg, CHILD_OF) == {("HGNC_GROUP:2", "HGNC_GROUP:1"), ("HGNC_GROUP:3", "HGNC_GROUP:1")}
    families = kg.nodes("family")
    assert families.loc["HGNC_GROUP:1", "label"] == "Cytochromes, all"
    assert families.loc["HGNC_GROUP:9", "label"] == "Drug enzymes"
    assert not families["approximate"].any()
    record = kg.account[0]
    assert (record["rows_read"], record["added"], record["dropped"]) == (3, 1, {"in no group": 1})
    assert record["rows_read"] + record["added"] == record["kept"] + 1


def test_fields_of_several_may_stand_in_quotes_as_in_the_real_file(groups, complete):
    expected = load_gene_families(groups, complete)
    complete.write_text(
        COMPLETE.replace("Cytochrome family 1|Drug enzymes\t2|9", '"Cytochrome family 1|Drug enzymes"\t"2|9"')
    )
    assert load_gene_families(groups, complete) == expected


def test_the_longest_root_followed_by_a_digit_or_the_end_counts(groups):
    genes = ["CYP1A1", "CYP11A1", "CYP1", "CYP1B1P1", "CYPX", "ACYP1", "TP53", "CYP111"]
    kg = load_gene_families(groups, genes=genes)
    members = {"CYP1A1": 2, "CYP11A1": 3, "CYP1": 2, "CYP1B1P1": 2}
    assert pairs(kg, IN_FAMILY) == {(gene, f"HGNC_GROUP:{number}") for gene, number in members.items()}
    assert kg.origins == ["hgnc_families_by_root"]
    assert kg.nodes("family")["approximate"].all()
    assert kg.account[0]["dropped"] == {"no root symbol fits": 4}


@given(st.lists(st.text("CYP1A", min_size=1, max_size=7), min_size=1, unique=True))
def test_roots_agree_with_a_regular_expression(tmp_path_factory, genes):
    path = tmp_path_factory.mktemp("obo") / "groups.obo"
    path.write_text(GROUPS)
    expected = set()
    for gene in genes:
        fits = [(len(root), number) for root, number in (("CYP1", 2), ("CYP11", 3)) if re.match(rf"{root}(?!\d)", gene)]
        expected |= {(gene, f"HGNC_GROUP:{number}") for _, number in [max(fits)]} if fits else set()
    assert pairs(load_gene_families(path, genes=genes), IN_FAMILY) == expected


def test_genes_of_a_family_are_linked_on_request_and_large_families_skipped(groups, complete):
    kg = load_gene_families(groups, complete, gene_edges=True)
    assert pairs(kg, SAME) == {("CYP1A1", "CYP1B1"), ("CYP1B1", "CYP1A1")}
    small = load_gene_families(groups, complete, gene_edges=True, max_family=1)
    assert pairs(small, SAME) == set()
    assert small.account[-1]["dropped"] == {"family of more than 1 genes": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (COMPLETE.replace("2|9", "2"), r"set.txt:2: 2 gene groups but 1 ids"),
        (COMPLETE.replace("gene_group_id", "group"), "no column 'gene_group_id'"),
        (COMPLETE.replace("\tTP53", "\t"), r"set.txt:4: no symbol"),
    ],
)
def test_bad_complete_sets_are_refused(complete, text, message):
    complete.write_text(text)
    with pytest.raises(InputError, match=message):
        load_gene_families(None, complete)


def test_nothing_given_is_refused(groups):
    with pytest.raises(InputError, match="give complete_set"):
        load_gene_families(groups)


def test_the_real_hierarchy_agrees_with_the_lines_of_the_file(real_data):
    path = real_data / "kg" / "hgnc.genegroup.obo"
    stanzas = [s for s in path.read_text().split("\n\n") if s.startswith("[Term]\nid: hgnc.genegroup:")]
    links = {
        (re.search(r"^id: hgnc.genegroup:(\d+)", s, re.M)[1], parent)
        for s in stanzas
        for parent in re.findall(r"^is_a: hgnc.genegroup:(\d+)", s, re.M)
    }
    names = GeneNames(real_data / "genes" / "human_aliases.tsv.gz")
    kg = load_gene_families(path, genes=names.symbols)
    assert {(a.split(":")[1], b.split(":")[1]) for a, b in pairs(kg, CHILD_OF)} == links
    member = dict(pairs(kg, IN_FAMILY))
    label = kg.nodes("family")["label"]
    assert label[member["KRT18"]] == "Keratins"
    assert label[member["KLF1"]] == "KLF transcription factors"
    assert "TP53" not in member


def test_ids_that_went_through_a_spreadsheet(complete):
    frame = pd.read_csv(complete, sep="\t").assign(gene_group_id=["2.0|9.0", "2.0", None])
    kg = load_gene_families(None, frame.to_csv(complete, sep="\t", index=False) or complete)
    assert ("CYP1B1", "HGNC_GROUP:2") in pairs(kg, IN_FAMILY)
