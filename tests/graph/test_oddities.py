"""What file formats allow, and what is known to happen to files: read right, or told."""

import gzip
import io

import networkx as nx
import numpy as np
import obonet
import pandas as pd
import pytest

import kgnn.graph as g
from kgnn.errors import DataWarning, InputError
from kgnn.graph import Orthologs
from kgnn.graph.obo import read_obo, successors
from kgnn.graph.sources.gene_set_files import read_gmt

MEMBER = ("gene", "member_of", "gene_set")
SIMILAR = ("gene", "shares_gene_sets", "gene")


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# GMT


def test_weights_behind_genes_are_those_of_membership_and_no_part_of_names(write):
    enrichr = "one\t\tTP53,1.0\tMDM2,0.25\tNKX2-1, 3e-1\tTP53,0.5\tGONE,0\t\t\ntwo\tx\tTP53\tMDM2,1\n"
    path = write("e.gmt", enrichr)
    kg = g.load_gene_sets(path, relation="member_of")
    assert {(e.source, e.target): round(e.weight, 6) for e in kg.edges(MEMBER).itertuples()} == {
        ("TP53", "one"): 1,
        ("MDM2", "one"): 0.25,
        ("NKX2-1", "one"): 0.3,
        ("TP53", "two"): 1,
        ("MDM2", "two"): 1,
    }
    assert kg.account[0]["dropped"] == {"gene repeated in its set": 1, "gene of weight 0": 1}
    plain = write("p.gmt", "one\t\tTP53\tMDM2\tNKX2-1\ntwo\tx\tTP53\tMDM2\n")
    assert g.load_gene_sets(path, origin="x").edges(SIMILAR).equals(g.load_gene_sets(plain, origin="x").edges(SIMILAR))


def test_weights_that_cannot_be_and_commas_between_genes_are_told(write):
    with pytest.raises(InputError, match=r"n.gmt:2: the weight of TP53 is -1; it must be 0 or more"):
        g.load_gene_sets(write("n.gmt", "one\t\tA\ntwo\t\tTP53,-1\n"))
    with pytest.warns(DataWarning, match=r"c.gmt: 1 genes have a comma in their name \('TP53,MDM2,MYC'\)"):
        found = read_gmt(write("c.gmt", "one\t\tTP53,MDM2,MYC\tKLF1\n"))
    assert found.sets == {"one": {"TP53,MDM2,MYC": 1, "KLF1": 1}}


# OBO

OBO = """format-version: 1.2

[Term]
id: T:0
name: cell

[Term]
id: T:1
name: T cell
alt_id: T:10
is_a: T:0

[Term]
id: T:2
name: B cell
is_a: T:0

[Term]
id: T:90
is_obsolete: true

[Term]
id: T:91
name: obsolete thymocyte
is_obsolete: true ! long ago
replaced_by: T:10

[Term]
id: T:92
name: obsolete twice
is_obsolete: true
replaced_by: T:91

[Term]
id: T:93
name: obsolete lymphocyte
is_obsolete: true
consider: T:1
consider: T:2
consider: T:90

[Term]
id: T:94
name: obsolete both
is_obsolete: true
replaced_by: T:1
replaced_by: T:2

[Term]
id: T:95
name: obsolete circle
is_obsolete: true
replaced_by: T:95
"""


def test_an_obsolete_term_needs_no_name_and_a_living_one_does(write):
    path = write("t.obo", OBO)
    assert set(read_obo(path)) == set(obonet.read_obo(io.StringIO(OBO), ignore_obsolete=False))
    kg = g.load_cell_ontology(path)
    assert kg.nodes("cell_type").index.tolist() == ["T:0", "T:1", "T:2"]
    (terms,) = [record for record in kg.account if record["relation"] == "terms"]
    assert terms["dropped"] == {"obsolete": 6}
    with pytest.raises(InputError, match=r"n.obo:14: the term T:2 has no name"):
        g.load_cell_ontology(write("n.obo", OBO.replace("name: B cell\n", "")))


def test_what_follows_an_obsolete_term(write):
    replaced, consider = successors(read_obo(write("t.obo", OBO)))
    assert replaced == {"T:91": "T:1", "T:92": "T:1"}
    assert consider == {"T:93": ["T:1", "T:2"], "T:94": ["T:1", "T:2"]}


def test_obsolete_ids_match_what_replaces_them_and_are_told_once(write, tmp_path):
    kg = g.load_cell_ontology(write("t.obo", OBO))
    kg.save(tmp_path / "kg")
    for graph in (kg, g.KnowledgeGraph.load(tmp_path / "kg")):
        with pytest.warns(DataWarning) as caught:
            found = g.Ontology(graph).match(["T:1", "T:91", "T_92", "T:93", "T:95"])
        (told,) = [str(warning.message) for warning in caught]
        assert told == (
            "2 obsolete terms are replaced: T:91 by T cell (T:1), T_92 by T cell (T:1); 1 obsolete terms match none: "
            "T:93 (consider T cell (T:1) or B cell (T:2)); write living terms"
        )
        assert found["term"].tolist() == ["T:1", "T:1", "T:1", None, None]
        assert found["how"].tolist() == ["id", "replaced", "replaced", "obsolete", "none"]
        assert found.loc["T:93", "suggestions"] == "T cell (T:1)|B cell (T:2)"
    ontology = g.Ontology(kg)
    assert ontology.match(["T:10", "t cell"])["how"].tolist() == ["alt_id", "name"]  # nothing to tell
    with pytest.raises(InputError, match=r"T:91 is obsolete; it is replaced by T cell \(T:1\)"):
        ontology.ancestors("T:91")
    with pytest.raises(InputError, match=r"T:93 is obsolete; consider T cell \(T:1\) or B cell \(T:2\)"):
        ontology.depth("T:93")


def test_the_real_ontologys_replacements_are_obonets(real_data):
    path = real_data / "kg" / "cl.obo"
    graph = obonet.read_obo(path, ignore_obsolete=False)
    living = set(obonet.read_obo(path))
    kg = g.load_cell_ontology(path)
    old = {
        term: data["replaced_by"][0]
        for term, data in graph.nodes(data=True)
        if data.get("is_obsolete") == "true" and len(data.get("replaced_by", [])) == 1
    }
    direct = {term: new for term, new in old.items() if new in living and new in kg.nodes("cell_type").index}
    assert len(direct) > 10
    with pytest.warns(DataWarning, match=f"{len(direct)} obsolete terms are replaced"):
        found = g.Ontology(kg).match(direct)
    assert found["term"].to_dict() == direct


def test_gene_sets_of_obsolete_terms_go_to_their_replacement(write):
    ontology = write("t.obo", OBO)
    path = write("s.gmt", "x (T:91)\t\tA\ny (T:93)\t\tB\nT:2\t\tC\n")
    told = r"1 gene sets name 1 obsolete terms that are replaced \(T:91 by T:1\); 1 name 1 obsolete terms that nothing"
    with pytest.warns(DataWarning, match=told):
        kg = g.load_gene_sets(path, relation="member_of", ontology=ontology)
    edges = kg.edges(MEMBER)
    assert {(e.source, e.target) for e in edges.itertuples()} == {
        ("A", "T:1"),
        ("A", "T:0"),
        ("C", "T:2"),
        ("C", "T:0"),
    }
    assert kg.account[0]["replaced"] == 1
    assert kg.account[0]["dropped"] == {"term unknown or obsolete in the ontology": 1}


# bytes and ends of lines

TABLE = "tf\ttarget\tsign\nTP53\tMDM2\t1\nMYC\tTP53\t-1\n"
GMT = "one\t\tA\tB\ntwo\t\tA\tC\n"
FASTA = ">A\nACGTACGT\n>B\nGGGG\n"
NT = "<x:1> <p:r> <x:2> .\n<x:2> <p:r> <x:3> .\n"
NODES, LINKS = "id\tcategory\nA\tbiolink:Gene\nB\tbiolink:Gene\n", "subject\tpredicate\tobject\nA\tregulates\tB\n"
STRING = "protein1 protein2 combined_score\n9.A 9.B 900\n"
ALIASES = "symbol\talias\nTP53\tp53\n"

DOORS = {
    "regulation.tsv": (TABLE, g.load_regulation),
    "table.tsv": (TABLE, lambda path: g.load_table(path, source="tf")),
    "sets.gmt": (GMT, g.load_gene_sets),
    "t.obo": (OBO, g.load_cell_ontology),
    "p.fa": (FASTA, g.load_promoter_sequences),
    "t.nt": (NT, lambda path: g.load_ntriples(path, {"p:r": "r"}, types={"x:": "gene"})),
    "string.txt": (STRING, g.load_interactions),
    "pairs.tsv": ("A\tB\nB\tC\n", g.load_interactions),
    "n.sif": ("A activates B\n", g.load_regulation),
    "aliases.tsv": (ALIASES, lambda path: g.GeneNames(path).map(["p53"])),
    "trrust.tsv": ("A\tB\tActivation\t1\n", g.load_regulation),
}


@pytest.mark.parametrize("change", ["bom", "crlf", "gz", "no last end", "bom crlf gz"])
@pytest.mark.parametrize("name", DOORS)
def test_bytes_before_line_ends_and_compression_change_nothing(write, name, change):
    text, load = DOORS[name]
    content = text.encode()
    if "crlf" in change:
        content = content.replace(b"\n", b"\r\n")
    if change == "no last end":
        content = content.rstrip(b"\n")
    if "bom" in change:
        content = b"\xef\xbb\xbf" + content
    expected = load(write(name, text))
    if "gz" in change:
        name, content = f"{name}.gz", gzip.compress(content)
    found = load(write(f"new_{name}", content))
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
        return
    assert found.node_types == expected.node_types
    for kind in expected.node_types:
        pd.testing.assert_frame_equal(found.nodes(kind), expected.nodes(kind))
    for relation in expected.relations:
        columns = ["source", "target", "weight", "sign"]
        pd.testing.assert_frame_equal(found.edges(relation)[columns], expected.edges(relation)[columns])


@pytest.mark.parametrize("name", ["sets.gmt", "regulation.tsv", "p.fa", "t.obo"])
def test_line_ends_of_old_macs_are_told(write, name):
    text, load = DOORS[name]
    with pytest.raises(InputError, match=r":1: a line end \(\\r\) within the line; save with line ends"):
        load(write(name, text.replace("\n", "\r")))


def test_row_names_and_trailing_tabs_of_headers_are_columns_without_a_name(write):
    text = "\tsource\ttarget\t\t\n0\tA\tB\t\t\n1\tB\tC\t\t\n"
    kg = g.load_table(write("t.tsv", text))
    assert kg.edges(("gene", "interacts", "gene"))[["source", "target"]].to_numpy().tolist() == [["A", "B"], ["B", "C"]]
    with pytest.raises(InputError, match=r"r.tsv:3: 3 fields where the first line has 2"):
        g.load_table(write("r.tsv", "source\ttarget\nA\tB\nB\tC\t\n"))


def test_utf16_as_excel_writes_it_is_told(write):
    with pytest.raises(InputError, match=r"not UTF-8 text .* save the file as UTF-8"):
        g.load_gene_sets(write("u.gmt", GMT.encode("utf-16")))


def test_the_graph_of_the_cell_ontology_is_networkxs(write):
    kg = g.load_cell_ontology(write("t.obo", OBO))
    found = nx.DiGraph(kg.edges(("cell_type", "is_a", "cell_type"))[["source", "target"]].to_numpy().tolist())
    assert set(found.edges) == {("T:1", "T:0"), ("T:2", "T:0")}
    assert np.all(kg.nodes("cell_type")["replaces"] == ["", "T:91|T:92", ""])


def test_commas_within_long_names_are_no_list(write):
    path = write("r.gmt", "one\t\t18S rRNA, 5.8S rRNA, 28S rRNA\tTP53\n")  # as Reactome has it
    assert g.load_gene_sets(path).nodes("gene").index.tolist() == ["18S rRNA, 5.8S rRNA, 28S rRNA", "TP53"]


@pytest.mark.parametrize(("written", "term"), [("A:!3", "A:!3"), ("A:3 ! old", "A:3"), ('A:3 {by="x"} ! old', "A:3")])
def test_comments_behind_an_id_end_it_and_marks_within_do_not(tmp_path, written, term):
    (tmp_path / "o.obo").write_text(f"format-version: 1.2\n\n[Term]\nid: {written}\nis_obsolete: true\n")
    assert list(read_obo(tmp_path / "o.obo").nodes(data="name")) == [(term, term)]


def test_a_table_of_orthologues_without_rows_is_refused(tmp_path):
    (tmp_path / "o.tsv").write_text("human_symbol\tmouse_symbol\n")
    with pytest.raises(InputError, match="no row names a gene of both human and mouse"):
        Orthologs(tmp_path / "o.tsv")
