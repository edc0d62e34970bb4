import pandas as pd
import pytest

from kgnn import KnowledgeGraph
from kgnn.graph import load_cell_ontology
from kgnn.graph.biolink import inverse, model, node_type, plain


def edges(*pairs):
    return pd.DataFrame([tuple(pair) for pair in pairs], columns=["source", "target"])


def found(kg):
    return {
        (kind, where): (count, examples) for kind, where, count, examples, _ in kg.validate().itertuples(index=False)
    }


def test_a_clean_graph_has_no_findings():
    kg = KnowledgeGraph({"gene": ["A", "B"]}, {("gene", "regulates", "gene"): edges("AB")})
    assert kg.validate().empty
    assert kg.validate().columns.tolist() == ["kind", "where", "count", "examples", "remedy"]


def test_names_that_biolink_does_not_know():
    nodes = {"gene": ["A", "B"], "gene_familly": ["F"], "micro_rna": ["m"]}
    kg = KnowledgeGraph(nodes, {
        ("gene", "regulatess", "gene"): edges("AB"),
        ("gene", "member_of", "gene_familly"): edges("AF", "BF"),
        ("micro_rna", "regulates", "gene"): edges("mA"),
    })  # fmt: skip
    table = kg.validate().set_index("where")
    assert table["kind"].to_dict() == {"gene_familly": "unknown category", "gene–regulatess–gene": "unknown predicate"}
    version = model()["version"]
    assert table.loc["gene_familly", "remedy"] == (f"Biolink {version} has no such category; did you mean gene_family?")
    assert "did you mean regulates" in table.loc["gene–regulatess–gene", "remedy"]


def test_the_lists_of_biolink():
    assert {"gene", "disease", "biological_process", "cell"} <= set(model()["categories"])
    assert "association" not in model()["categories"]
    assert inverse("regulates") == "regulated_by"
    assert inverse("regulated_by") == "regulates"
    assert inverse("interacts_with") == "interacts_with"
    assert all(other is None or inverse(other) == name for name, other in model()["predicates"].items())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("biolink:BiologicalProcess", "biological_process"), ("Side Effect", "side_effect"), ("E+", "e+"),
        ("biolink:RNAProduct", "rna_product"), (" off-label use ", "off-label_use"),
        ("ASSOCIATED_WITH", "associated_with"), ("a.b", "a_b"), ("/", ""),
    ],
)  # fmt: skip
def test_names_are_written_one_way(text, name):
    assert plain(text) == name
    assert {node_type(gene) for gene in ("Gene", "gene/protein", "biolink:Gene", "GENE ")} == {"gene"}


def test_relations_that_hold_the_same_edges_turned_round():
    kg = KnowledgeGraph({"gene": list("ABCD"), "drug": list("xyz")}, {
        ("gene", "regulates", "gene"): edges("AB", "BC", "CD"),
        ("gene", "regulated_by", "gene"): edges("BA", "DA"),  # one of two, but inverse by name
        ("gene", "binds", "drug"): edges("Ax", "Bx", "Cy", "Dz"),
        ("drug", "targets", "gene"): edges("xA", "xB", "yC"),  # all of the smaller one
        ("drug", "treats", "gene"): edges("zA", "zD"),  # one of two: no
        ("gene", "same_as", "gene"): edges("AB", "BA"),  # symmetric: its own other way round
    })  # fmt: skip
    inverses = {where: value for (kind, where), value in found(kg).items() if kind == "inverse"}
    assert inverses == {
        "gene–regulates–gene and gene–regulated_by–gene": (1, "A→B"),
        "gene–binds–drug and drug–targets–gene": (3, "A→x, B→x, C→y"),
    }


def test_a_symmetric_relation_is_nobodys_inverse():
    one, both = edges("AB", "CD"), edges("AB", "BA", "CD", "DC")
    relations = {("gene", "regulates", "gene"): one, ("gene", "coexpressed_with", "gene"): both}
    kg = KnowledgeGraph({"gene": list("ABCD")}, relations)
    assert "inverse" not in set(kg.validate()["kind"])


def test_nodes_that_hang_loose_or_have_no_name():
    nodes = pd.DataFrame({"label": ["one", None, "three", None]}, index=["D:1", "D:2", "D:3", "D:4"])
    links = {("gene", "affects", "disease"): edges(("A", "D:1"), ("A", "D:2"))}
    kg = KnowledgeGraph({"gene": ["A", "B"], "disease": nodes}, links)
    assert found(kg) == {
        ("no edge", "gene"): (1, "B"),
        ("no edge", "disease"): (2, "D:3, D:4"),
        ("no name", "disease"): (1, "D:2"),
    }


def test_names_that_differ_in_case_and_marks_alone():
    genes = ["TNF alpha", "TNF-alpha", "tnf_ALPHA", "NKX2-1", "NKX21", "nkx2 1", "CD4", "CD4+", "CD4-"]
    kg = KnowledgeGraph({"gene": genes}, {})
    assert found(kg)["same name", "gene"] == (5, "TNF alpha = TNF-alpha = tnf_ALPHA, NKX2-1 = nkx2 1")
    cells = pd.DataFrame({"label": ["T cell", "T-cell", None, None]}, index=["a", "b", "c", "C"])
    kg = KnowledgeGraph({"cell": cells}, {})
    assert found(kg)["same name", "cell"] == (2, "T cell (a) = T-cell (b)")


def test_obsolete_terms():
    terms = pd.DataFrame(
        {"label": ["new", "obsolete old", "older"], "replaces": ["T:3", "", ""]}, index=["T:1", "T:2", "T:3"]
    )
    kg = KnowledgeGraph({"cell": terms}, {("cell", "subclass_of", "cell"): edges(("T:1", "T:2"), ("T:3", "T:1"))})
    assert found(kg) == {("obsolete", "cell"): (2, "T:2, T:3 (now T:1)")}
    annotated = KnowledgeGraph({"disease": ["T:3", "T:1"]}, {("disease", "affects", "disease"): edges(("T:3", "T:1"))})
    assert ("obsolete", "disease") in found(kg | annotated)


def test_the_cell_ontology(real_data):
    kg = load_cell_ontology(real_data / "kg" / "cl.obo")
    findings = found(kg)
    alone = set(range(len(kg.nodes("cell_type"))))
    for relation in kg.relations:
        alone -= {*kg.edge_arrays(relation)["source"], *kg.edge_arrays(relation)["target"]}
    assert findings["no edge", "cell_type"][0] == len(alone)
    assert "Bm2 B cell (CL:0000962) = Bm2' B cell (CL:0000964)" in findings["same name", "cell_type"][1]
    assert ("obsolete", "cell_type") not in findings
